"""Train a network of Table 4 on the sums of two digits, or continue an interrupted run."""

from stn_jax.launch import cli
from stn_jax.launch.digits import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/mnist_addition.py")
