"""Run records made up for the tests, in the format of stn_jax.training.records."""

import copy
import json

CONFIG = {
    "name": "a-name",
    "recipe": "fast",
    "seeds": [0],
    "data": {"digits": "mnist", "distortion": "R", "evaluate_on": "test"},
    "model": {"name": "fcn", "transform": "", "downsample": False, "num_params": 400_000},
    "training": {"num_steps": 2000, "batch_size": 256, "log_every": 500, "eval_every": 1000},
    "optimizer": {"name": "adam", "learning_rate": 0.001, "momentum": 0.9, "multipliers": {}},
    "runtime": {"data_dir": "", "steps_per_call": 10},
}
CONFIG["training"]["eval_batch_size"] = 1000
NAMES = {"FCN": "fcn", "CNN": "cnn", "ST-FCN": "st_fcn", "ST-CNN": "st_cnn"}
TRANSFORMS = {"": "", "Aff": "affine", "Proj": "projective", "TPS": "tps"}
TRANSFORMS |= {"PWA": "piecewise_affine", "Attention": "attention"}
TRANSFORMS |= {"Sim": "rotation_scale_translation"}


def config_of(experiment, place, recipe):
    """The config of a cell, as a table's reference."""
    config = copy.deepcopy(CONFIG)
    distortion, model, transform = place
    config["data"]["distortion"] = distortion
    name = model.removeprefix("2x")
    config["model"] |= {"name": NAMES[name], "transform": TRANSFORMS[transform]}
    config["recipe"] = recipe
    if experiment != "distorted_mnist":  # whose records do not say it
        config["experiment"] = experiment
        config["model"]["num_transformers"] = model.count("ST-") * (2 if name != model else 1)
    if recipe == "quickstart":
        config["data"]["digits"] = "sklearn"
    return config


def write_record(
    folder,
    place=("R", "FCN", ""),
    *,
    experiment="distorted_mnist",
    errors=(1.0,),
    seeds=(0,),
    recipe="fast",
    upto=None,
    end=True,
    fingerprint="ceda791d3e53beaf",
    more=(),
    **changes,
):
    """Write the record of a run that evaluates twice, with twice the final errors at half time.

    Args:
      folder: the run's.
      place: (distortion, model, transform).
      experiment: the config's.
      errors: of the last step, one a seed.
      seeds: the run's.
      recipe: the config's.
      upto: the last step of a run that stopped; by default all.
      end: whether there is an "end" line.
      fingerprint: of the data.
      more: further lines.
      **changes: to the config, with __ for the dots.
    """
    config = config_of(experiment, place, recipe)
    config["seeds"] = list(seeds)
    for name, value in changes.items():
        *parents, last = name.split("__")
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    device = {"platform": "gpu", "kind": "Fast GPU", "count": 1, "cpu": "A CPU", "cores": 2}
    lines = [
        {
            "kind": "run",
            "name": "-".join(filter(None, (*place, recipe))),
            "config": config,
            "parameters": 400_123,
            "data": {"name": "mnist", "fingerprint": fingerprint},
        },
        {"kind": "session", "step": 0, "code": "abc123", "device": device},
    ]
    num_steps = config["training"]["num_steps"]
    for quarter in (1, 2, 3, 4):
        step = num_steps * quarter // 4
        values = {"loss": [5.0 / quarter] * len(seeds), "error": [40.0 / quarter] * len(seeds)}
        lines.append({"kind": "train", "step": step, **values})
        if quarter in (2, 4):
            values = [error * 4 / quarter for error in errors]
            split = config["data"].get("evaluate_on")
            lines.append(
                {"kind": "eval", "step": step, "split": split, "loss": values, "error": values}
            )
        lines.append({"kind": "timing", "step": step, "seconds": 30.0 * quarter})
    lines = [line for line in lines if line.get("step", 0) <= (upto or num_steps)]
    if end and upto is None:
        lines.append({"kind": "end", "step": num_steps, "seconds": 125.0})
    folder.mkdir(parents=True)
    path = folder / "record.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *more]))
    return path
