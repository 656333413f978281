"""Train a network on extruded digits in volumes (A.3), or continue an interrupted run."""

from stn_jax.launch import cli
from stn_jax.launch.mnist_3d import make_problem

if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/mnist_3d.py")
