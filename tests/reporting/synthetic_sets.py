"""Made-up run records on house numbers, signs and birds, with the settings of their configs."""

import json
from collections.abc import Callable
from functools import partial

from stn_jax.launch.cli import load_config_module

SVHN = load_config_module("configs/svhn.py")
GTSRB = load_config_module("configs/gtsrb.py")
CUB = load_config_module("configs/birds.py")


def write_finished(
    folder, config, error, *, data, trained, tested, fingerprint="0123", loss=1.0, **more
):
    """Write the record of a finished run.

    Args:
      folder: the run's.
      config: the run's.
      error: of the last step.
      data: what the record calls them.
      trained: examples.
      tested: examples.
      fingerprint: of the data.
      loss: of the last step.
      **more: further measures of the last step.
    """
    config = config.to_dict()
    step = config["training"]["num_steps"]
    counts, split = {"train": trained, "test": tested}, config["data"]["evaluate_on"]
    lines = [
        {
            "kind": "run",
            "name": config["name"],
            "config": config,
            "parameters": 1000,
            "data": {"name": data, "fingerprint": fingerprint, **counts},
        },
        {"kind": "session", "step": 0, "code": "abc", "device": {"platform": "cpu", "cpu": "A"}},
        {"kind": "eval", "step": step, "split": split, "loss": [loss], "error": [error], **more},
        {"kind": "timing", "step": step, "seconds": 60.0},
        {"kind": "end", "step": step, "seconds": 60.0},
    ]
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_svhn(folder, selection, error, *, trained=230_754, tested=13_068, **more):
    config = SVHN.get_config(selection)
    write_finished(folder, config, error, data="svhn", trained=trained, tested=tested, **more)


def write_signs(
    folder, selection, error, *, trained=None, tested=12_630, data=None, changes=(), **more
):
    """Write one on traffic signs: by default the originals, as many as the config says."""
    config = GTSRB.get_config(selection)
    config.update_from_flattened_dict(dict(changes))
    data = data or f"gtsrb_{config.data.size}"
    trained = trained or config.data.images or 39_209
    write_finished(folder, config, error, data=data, trained=trained, tested=tested, **more)


def write_birds(
    folder, selection, error, *, trained=5_994, tested=5_794, data="cub_256", changes=(), **more
):
    config = CUB.get_config(selection)
    config.update_from_flattened_dict(dict(changes))
    write_finished(folder, config, error, data=data, trained=trained, tested=tested, **more)


def _config_of(module, experiment, place, recipe):
    """The config of a cell, as a table's reference."""
    words = [word for text in place for word in text.split()]
    words = [word for word in words if any(word in names for names in module.CHOICES.values())]
    return json.loads(json.dumps(module.get_config(",".join([*words, recipe])).to_dict()))


svhn_config: Callable = partial(_config_of, SVHN)
signs_config: Callable = partial(_config_of, GTSRB)
birds_config: Callable = partial(_config_of, CUB)
