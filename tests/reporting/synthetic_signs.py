"""Run records on traffic signs, made up for the tests, with configs/gtsrb.py's settings."""

import json

from stn_jax.launch.cli import load_config_module

GTSRB = load_config_module("configs/gtsrb.py")


def write_signs(
    folder, selection, error, *, trained=None, tested=12_630, data=None, fingerprint="0123", **more
):
    """Write the record of a finished run.

    Args:
      folder: the run's.
      selection: of its config.
      error: of the last step.
      trained: examples; by default as many as the config says.
      tested: examples.
      data: what the record calls them; by default as the originals are called.
      fingerprint: of the data.
      **more: further measures of the last step.
    """
    config = GTSRB.get_config(selection).to_dict()
    step = config["training"]["num_steps"]
    description = {
        "name": data or f"gtsrb_{config['data']['size']}",
        "fingerprint": fingerprint,
        "train": trained or config["data"]["images"] or 39_209,
        "test": tested,
    }
    lines = [
        {
            "kind": "run",
            "name": config["name"],
            "config": config,
            "parameters": 1000,
            "data": description,
        },
        {"kind": "session", "step": 0, "code": "abc", "device": {"platform": "cpu", "cpu": "A"}},
        {"kind": "eval", "step": step, "split": "test", "loss": [1.0], "error": [error], **more},
        {"kind": "timing", "step": step, "seconds": 60.0},
        {"kind": "end", "step": step, "seconds": 60.0},
    ]
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def signs_config(experiment, place, recipe):
    """The config of a cell, as a table's reference."""
    words = [word for text in place for word in text.split()]
    words = [word for word in words if any(word in names for names in GTSRB.CHOICES.values())]
    return json.loads(json.dumps(GTSRB.get_config(",".join([*words, recipe])).to_dict()))
