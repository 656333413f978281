import argparse
import re
from pathlib import Path

import pytest

from stn_jax.launch.profile import FLAGS, Profile, add_flags, read_profile

TOML = """
partition = "gpu"
minutes = 120
gpus = 1
memory_gb = 16
setup = ["module load cuda"]
[more]
constraint = "a100"
"""


def read(*argv, minutes=None, workers=None):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    args = parser.parse_args(argv)
    args.minutes, args.workers = minutes, workers
    return read_profile(args)


def test_a_file_is_read_and_flags_go_before_it(tmp_path):
    (tmp_path / "p.toml").write_text(TOML)
    file = ("--profile", str(tmp_path / "p.toml"))
    expected = {"partition": "gpu", "minutes": 120, "gpus": 1, "memory_gb": 16}
    others = {"setup": ["module load cuda"], "more": {"constraint": "a100"}}
    assert read(*file) == Profile(**expected, **others)
    changed = {**expected, "partition": "low", "minutes": 5, "gpus": 0}
    assert read(*file, "--partition", "low", "--gpus", "0", minutes=5.2) == Profile(
        **changed, **others
    )
    assert read() == Profile()
    assert read(workers=2, minutes=10) == Profile(workers=2, minutes=10)


def test_every_flag_is_a_field():
    assert {flag.replace("-", "_") for flag in FLAGS} <= set(vars(Profile()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partitoin = "gpu"', "no 'partitoin' in a profile; it has partition, account"),
        ('minutes = "2h"', "minutes='2h' is not of type int"),
        ("gpus = true", "gpus=True is not of type int"),
        ("minutes = 0", "minutes=0 of the profile must be 1 or more"),
        ("nodes = 2\npack = 3", "2 tasks train one run together: pack and workers must be 1"),
        ("minutes 3", "p.toml: Expected '='"),
        ("gpus = -1", "gpus=-1 of the profile must be 0 or more"),
        ("memory_gb = -0.5", "memory_gb=-0.5 of the profile must be 0 or more"),
        ("minutes = 1", "grace=90 seconds of the profile are no less than its minutes=1"),
        ("nodes = 2\ngpus = 4", "each of tasks_per_node=1 trains on one GPU, but gpus=4"),
        ("gpus = 4\nworkers = 4", "workers=4 would all train on the first of gpus=4"),
        ('[more]\njob-name = "x"\ntime = 3', "job_name, time cannot stand in [more]"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read("--profile", str(tmp_path / "p.toml"))
    with pytest.raises(FileNotFoundError):
        read("--profile", str(Path("nowhere.toml")))
