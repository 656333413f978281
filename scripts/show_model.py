"""Show the layers of the network that a config describes, with their numbers of parameters.

python scripts/show_model.py configs/svhn.py:Multi,64px
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tabulate import tabulate

from stn_jax.launch import birds, colocalisation, digits, gtsrb, mnist_3d, svhn
from stn_jax.launch.cli import load_config_module
from stn_jax.models.pure import Model, Variables, count_params

# By the name of the config file.
MODELS: dict[str, Callable[[ConfigDict], Model]] = {
    "distorted_mnist": digits.make_model,
    "mnist_addition": digits.make_model,
    "colocalisation": colocalisation.make_model,
    "mnist_3d": mnist_3d.make_model,
    "svhn": svhn.make_model,
    "gtsrb": gtsrb.make_model,
    "birds": birds.make_model,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG[:SELECTION]", help="the config of one run")
    file, _, selection = parser.parse_args(argv).config.partition(":")
    try:
        if Path(file).stem not in MODELS:
            raise ValueError(f"{file} is none of configs/*.py: there are {', '.join(MODELS)}.")
        config = load_config_module(file).get_config(selection)
        model = MODELS[Path(file).stem](config)
    except (OSError, ValueError) as error:
        sys.exit(f"show_model.py: {error}")
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    total = [["all", "", f"{count_params(params):,}"]]
    print(f"{config.name}\n")
    header = ["layer", "weights", "parameters"]
    print(tabulate([*layers(params), *total], header, tablefmt="github", disable_numparse=True))


def layers(params: Variables, name: str = "") -> list[list[str]]:
    """Return name, shape of the weights and number of parameters, biases too, of each layer."""
    if "kernel" in params:
        shape = "x".join(map(str, params["kernel"].shape))
        return [[name, shape, f"{count_params(params):,}"]]
    return [row for key, part in params.items() for row in layers(part, f"{name} {key}".strip())]


if __name__ == "__main__":
    main()
