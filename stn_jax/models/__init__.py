"""Networks in Flax NNX, used as pure functions through `functional`."""
