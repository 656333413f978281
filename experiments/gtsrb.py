"""Train a network on German traffic signs, or continue an interrupted run."""

from stn_jax.launch import cli
from stn_jax.launch.gtsrb import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/gtsrb.py")
