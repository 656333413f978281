"""Train a network on Street View House Numbers (Table 2), or continue an interrupted run."""

from stn_jax.launch import cli
from stn_jax.launch.svhn import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/svhn.py")
