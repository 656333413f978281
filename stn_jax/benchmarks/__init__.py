"""Time and memory of samplers, grids and training steps, beside PyTorch and other JAX samplers."""
