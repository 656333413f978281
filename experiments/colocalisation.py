"""Find the digits in sets of images without labels (Table 5), or continue an interrupted run."""

from functools import partial
from pathlib import Path

from stn_jax.launch import cli
from stn_jax.launch.colocalisation import make_problem

# The encoder is a network of distorted MNIST.
ENCODERS = Path(__file__).parents[1] / "configs" / "distorted_mnist.py"

if __name__ == "__main__":
    encoder_config = cli.load_config_module(ENCODERS).get_config
    cli.run(
        partial(make_problem, encoder_config=encoder_config),
        description=__doc__,
        config="configs/colocalisation.py",
    )
