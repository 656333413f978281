"""Train a network on fine-grained birds (Table 3), or continue an interrupted run."""

from stn_jax.launch import cli
from stn_jax.launch.birds import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/birds.py")
