"""Which set a config evaluates on."""

from ml_collections import ConfigDict

from stn_jax.training.errors import ConfigError

SPLITS = ("test", "validation")


def evaluated_split(config: ConfigDict) -> str:
    """Return `data.evaluate_on`: "test", or "validation", where recipes are chosen.

    Raises:
      ConfigError: if it is neither.
    """
    split = config.data.evaluate_on
    if split not in SPLITS:
        raise ConfigError(f"data.evaluate_on={split!r} is neither 'test' nor 'validation'.")
    return split
