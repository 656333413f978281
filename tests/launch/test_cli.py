import os
import subprocess
import sys
from pathlib import Path

import pytest

from stn_jax.geometry import TRANSFORMS
from stn_jax.launch.cli import fields, load_config_module, one_line_errors
from stn_jax.training.errors import EXIT_USAGE, Diverged

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "distorted_mnist.py"
CONFIG = ROOT / "configs" / "distorted_mnist.py"


@pytest.fixture(scope="module")
def config_file():
    return load_config_module(CONFIG)


def start(*arguments, **variables):
    """Start the experiment without waiting: importing takes seconds, so tests start several."""
    return subprocess.Popen(
        [sys.executable, EXPERIMENT, *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_mistakes_get_one_line_that_says_what_is_right(tmp_path):
    config = f"--config={CONFIG}:R,FCN"
    workdir = f"--workdir={tmp_path / 'run'}"
    wrong = {
        "there is no 'num_step'. Did you mean \"num_steps\"": (
            *(config, workdir, "--config.training.num_step=3"),
        ),
        "--config.training.num_steps=many: invalid literal": (
            *(config, workdir, "--config.training.num_steps=many"),
        ),
        "no 'ST-FNC' to select. Did you mean ST-FCN?": (f"--config={CONFIG}:R,ST-FNC", workdir),
        "--config and --workdir are needed; --help explains them.": (config,),
        "prepare_data.py mnist": (config, workdir),
    }
    processes = [start(*arguments, STN_DATA_DIR=str(tmp_path)) for arguments in wrong.values()]
    for message, process in zip(wrong, processes, strict=True):
        code, out, err = end(process)
        assert (code, out) == (EXIT_USAGE, "")
        assert message in err and err.startswith("distorted_mnist.py: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_lists_selections_and_fields_from_anywhere(tmp_path, monkeypatch, config_file):
    monkeypatch.chdir(tmp_path)
    code, out, err = end(start("--help"))
    assert (code, err) == (0, "")
    for names in config_file.CHOICES.values():
        assert all(name in out for name in names)
    assert "--workdir DIR" in out
    assert "\n  --config.training.num_steps=20000\n" in out
    assert "\n  --config.optimizer.multipliers.transformer=1.0\n" in out


def test_fields_are_every_field(config_file):
    config = config_file.get_config()
    found = dict(line.split("=", 1) for line in fields(config))

    def leaves(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name, repr(value)

    assert found == dict(leaves(config.to_dict()))
    assert found["data.distortion"] == "'R'"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (ValueError("it's 'quoted'"), "it's 'quoted'"),
        (KeyError("name"), "there is no 'name'."),
        (KeyError("a whole sentence."), "a whole sentence."),
        (AttributeError(KeyError("'a'\nDid you mean b?")), "there is no 'a'. Did you mean b?"),
        (ValueError("failed:\nTraceback ...\nKeyError: the reason: this"), "the reason: this"),
        (OSError(28, "No space left"), "[Errno 28] No space left: free some space, then the"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_become_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as exit_, one_line_errors(Exception, code=7):
        raise error
    assert exit_.value.code == 7
    err = capsys.readouterr().err
    assert f": {line}" in err and err.endswith("\n") and err.count("\n") == 1


def test_errors_of_runs_have_their_own_exit_code_and_others_pass(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors(Exception, code=7):
        raise Diverged("loss nan")
    assert exit_.value.code == 3
    with pytest.raises(TypeError), one_line_errors(ValueError, code=7):
        raise TypeError("a bug")


def test_a_config_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no config file .*none.py"):
        load_config_module(tmp_path / "none.py")


# The config of distorted MNIST


def test_table_1_is_forty_runs_with_a_config_each(config_file):
    """Five distortions; two plain models, and two with each of three transforms."""
    configs = [config_file.get_config(selection) for selection in config_file.sweep()]
    places = {(c.data.distortion, c.model.name, c.model.transform) for c in configs}
    assert len(configs) == len(places) == len({c.name for c in configs}) == 5 * (2 + 2 * 3)
    assert {c.recipe for c in configs} == {"fast"}
    transforms = {"fcn": {""}, "cnn": {""}} | dict.fromkeys(
        ("st_fcn", "st_cnn"), {"affine", "projective", "tps"}
    )
    heads = [(model, transform) for model in transforms for transform in transforms[model]]
    assert places == {(d, *head) for d in ("R", "RTS", "P", "E", "TC") for head in heads}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("R,ST-FCN", ["R,ST-FCN,Aff,fast", "R,ST-FCN,Proj,fast", "R,ST-FCN,TPS,fast"]),
        ("E,P,cnn,paper", ["E,CNN,paper", "P,CNN,paper"]),
        ("tc,st_cnn,attention,FCN", ["TC,FCN,fast", "TC,ST-CNN,Attention,fast"]),
        ("E,pwa,ST-FCN", ["E,ST-FCN,PWA,fast"]),
        ("rts,sim,ST-CNN", ["RTS,ST-CNN,Sim,fast"]),
        ("FCN,R,fast,paper", ["R,FCN,fast", "R,FCN,paper"]),
    ],
)
def test_a_part_of_the_sweep_is_what_a_selection_names(config_file, selection, expected):
    assert sorted(config_file.sweep(selection)) == sorted(expected)


@pytest.mark.parametrize("recipe", ["fast", "paper", "quickstart"])
def test_every_recipe_has_configs_for_all_of_its_sweep(config_file, recipe):
    selections = config_file.sweep(recipe)
    assert selections
    for selection in selections:
        config = config_file.get_config(selection)
        assert config.recipe == recipe and config.name.endswith(recipe)
        assert config_file.sweep(selection) == [selection]


def test_selections_are_read_in_any_order_and_case(config_file):
    assert config_file.get_config("tps,e,stfcn") == config_file.get_config("E,ST-FCN,TPS,fast")
    assert config_file.get_config() == config_file.get_config("R,ST-FCN,Aff,fast")


def test_every_transform_of_images_can_be_selected_and_none_else(config_file):
    of_images = {name for name, transform in TRANSFORMS.items() if transform.dims == 2}
    assert sorted(config_file.CHOICES["transform"].values()) == sorted(of_images)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("R,RTS", "one run takes one distortion, got R, RTS"),
        ("FCN,CNN", "one run takes one model, got FCN, CNN"),
        ("fast,paper", "one run takes one recipe, got fast, paper"),
        ("CNN,TPS", "CNN has no transformer: leave TPS out"),
        ("FCN,Aff", "FCN has no transformer: leave Aff out"),
        ("projj", "no 'projj' to select. Did you mean Proj?"),
        ("qqqqqq", r"no 'qqqqqq' to select. There are distortion: R RTS P E TC; model: ST-FCN"),
    ],
)
def test_selections_that_make_no_run_are_explained(config_file, selection, message):
    with pytest.raises(ValueError, match=message):
        config_file.get_config(selection)
