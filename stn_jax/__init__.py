"""Spatial transformers for JAX, and a reproduction of Jaderberg et al. (2015)."""

__version__ = "0.1.0"
