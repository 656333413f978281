"""What can end a run early, and the exit codes that launchers read."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DIVERGED = 3
# EX_TEMPFAIL of sysexits.h: call again and the run continues.
EXIT_INTERRUPTED = 75


class RunError(Exception):
    """Ends a run with a message for the user instead of a traceback."""

    exit_code = EXIT_FAILED


class ConfigError(RunError):
    """A config that cannot be trained as it stands, or that does not fit the work directory."""

    exit_code = EXIT_USAGE


class Diverged(RunError):
    """The loss or the gradient became NaN or infinite."""

    exit_code = EXIT_DIVERGED


class Interrupted(RunError):
    """The run was asked to stop; its state is saved."""

    exit_code = EXIT_INTERRUPTED
