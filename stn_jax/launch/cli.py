"""The command line that all experiments share."""

import contextlib
import errno
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from absl import app, flags, logging
from jax.errors import JaxRuntimeError
from ml_collections import ConfigDict, config_flags

from stn_jax.launch.memory import keep_freed_memory
from stn_jax.training import Problem, fit
from stn_jax.training.errors import EXIT_FAILED, EXIT_USAGE, RunError
from stn_jax.training.processes import join

LONGEST = 2000  # characters of an error's line; JAX's list all that lies in a full memory


def run(make_problem: Callable[[ConfigDict], Problem], *, description: str, config: str) -> None:
    """Train from the command line, and exit with a code that launchers understand.

    Exit codes: 0 finished; 1 failed, with one line on stderr; 2 wrong command line or config;
    3 diverged; 75 interrupted but saved: the same command continues.

    Args:
      make_problem: builds what the config describes.
      description: the first lines of --help.
      config: the experiment's config file, relative to the folder above its own, for --help.
    """
    config_flag = config_flags.DEFINE_config_file("config", help_string="FILE[:SELECTION]")
    workdir_flag = flags.DEFINE_string("workdir", None, "The run's own directory.")
    distributed_flag = flags.DEFINE_bool("distributed", False, "Join other processes of the run.")
    place_flags = (
        flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes."),
        flags.DEFINE_integer("num_processes", None, "How many processes train the run."),
        flags.DEFINE_integer("process_id", None, "Which of them this is, from 0."),
    )

    def parse(argv: list[str]) -> list[str]:
        if {"--help", "-help", "-h", "--helpshort"} & set(argv):
            print(_help(description, config))
            sys.exit(0)
        with one_line_errors(Exception, code=EXIT_USAGE):
            rest = flags.FLAGS(argv)
            if config_flag.value is None or workdir_flag.value is None:
                raise ValueError("--config and --workdir are needed; --help explains them.")
            config_flag.value.to_dict()  # A config file that failed to load complains only here.
            if rest[1:]:
                raise ValueError(f"unexpected argument {rest[1]!r}; --help lists what there is.")
        return rest

    def main(_: list[str]) -> None:
        keep_freed_memory()
        logging.set_verbosity(logging.FATAL)  # Orbax logs what it raises, with long tracebacks.
        run_config, workdir = config_flag.value, Path(workdir_flag.value)
        # What is wrong with config or data shows while the problem is built. A part of it may be
        # trained there, such as an encoder: that is interrupted like any run.
        usage = (ValueError, KeyError, OSError, ImportError, RuntimeError, RunError)
        with one_line_errors(*usage, code=EXIT_USAGE):
            if distributed_flag.value:
                join(*(flag.value for flag in place_flags))
            problem = make_problem(run_config)
        # JAX's are those of the device, such as that its memory is full.
        with one_line_errors(RunError, OSError, JaxRuntimeError, code=EXIT_FAILED):
            fit(run_config, problem, workdir, name=run_config.name)

    app.run(main, flags_parser=parse)


def load_config_module(path: str | Path) -> ModuleType:
    """Import a config file by its path.

    Raises:
      FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}.")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _help(description: str, config: str) -> str:
    module = load_config_module(Path(sys.argv[0]).parent / ".." / config)
    defaults = "\n".join(f"  --config.{line}" for line in fields(module.get_config()))
    return (
        f"{description.strip()}\n\n"
        f"  --config FILE[:SELECTION]   {config}: see below\n"
        "  --workdir DIR               the run's own directory; continued if it exists\n"
        "  --config.FIELD=VALUE        override a field\n"
        "  --distributed               train together with other processes; the environment tells\n"
        "                              which (Slurm, MPI, TPU pod), or --coordinator HOST:PORT,\n"
        "                              --num_processes N and --process_id I\n\n"
        f"{config}\n\n{module.__doc__.strip()}\n\nFields and defaults:\n\n{defaults}\n"
    )


def fields(config: ConfigDict, prefix: str = "") -> list[str]:
    """Return "section.field=value" of every field."""
    lines = []
    for name, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            lines += fields(value, f"{prefix}{name}.")
        else:
            shown = {} if isinstance(value, ConfigDict) else value
            lines.append(f"{prefix}{name}={shown!r}")
    return lines


@contextlib.contextmanager
def one_line_errors(*kinds: type[Exception], code: int) -> Iterator[None]:
    """Turn errors of some kinds into one line on stderr and an exit code.

    Args:
      *kinds: what is caught.
      code: the exit code; a `RunError` has its own.
    """
    try:
        yield
    except kinds as error:
        print(f"{Path(sys.argv[0]).name}: {_one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, RunError) else code)


def _one_line(error: Exception) -> str:
    message = str(error)
    if isinstance(error, KeyError | AttributeError):
        # ConfigDict wraps a KeyError of the name, with its "Did you mean", into another error.
        while error.args and isinstance(error.args[0], Exception):
            error = error.args[0]
        name, _, hint = str(error.args[0] if error.args else "").partition("\n")
        name = name.strip("'")
        message = name if " " in name else f"there is no {name!r}. {hint}"
    elif "Traceback" in message:  # config_flags puts that of a config file into its message.
        message = message.strip().splitlines()[-1].partition(": ")[2]
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        message += ": free some space, then the same command continues."
    line = " ".join(message.split()) or type(error).__name__
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
