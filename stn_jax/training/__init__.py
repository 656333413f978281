"""One training loop for every experiment; it knows neither a model nor a data set by name."""

from stn_jax.training.loop import Problem, fit
from stn_jax.training.streaming import Streamed

__all__ = ["Problem", "Streamed", "fit"]
