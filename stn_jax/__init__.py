"""Spatial transformers for JAX, and a reproduction of Jaderberg et al. (2015)."""
