"""Train a network of Table 1 on distorted MNIST, or continue a run that was interrupted."""

from stn_jax.launch import cli
from stn_jax.launch.digits import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/distorted_mnist.py")
