"""From a command line to runs: flags and errors of an entrypoint, sweeps over many runs."""
