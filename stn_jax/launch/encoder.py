"""The encoder of co-localisation: a CNN of distorted MNIST, trained where there is none."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from stn_jax.data.types import Digits
from stn_jax.launch import digits
from stn_jax.launch.saved import open_state
from stn_jax.models.colocaliser import Encoder, descriptor
from stn_jax.models.pure import functional
from stn_jax.reporting.runs import FILE_NAME, Run, read_run
from stn_jax.training import fit
from stn_jax.training.errors import ConfigError
from stn_jax.training.loop import CHECKPOINTS
from stn_jax.training.processes import several

SMALL = ("R", "P", "E")  # distortions in 28x28 pixels, the size of crops
BALANCE = 1000  # training digits that the encoder's layers are balanced on


def open_encoder(
    config: ConfigDict, encoder_config: Callable[[str], ConfigDict], loaded: Digits
) -> tuple[Callable[[jax.Array], jax.Array], Run]:
    """Open the CNN in the encoder's work directory, or train it there if there is none.

    Returns:
      e of Eq. 8, from crops [N, 28, 28, 1] to descriptors [N, K], and the CNN's run.

    Raises:
      ConfigError: if no such network can be an encoder, if the directory holds another one, one
        that saw other digits, or a record without a checkpoint, or if there is none and several
        processes would have to train it.
    """
    folder = Path(config.runtime.encoder_workdir)
    wanted = encoder_config(config.encoder.selection)
    if not _can_encode(wanted):
        raise ConfigError(
            f"the encoder has to be a CNN for 28x28 images ({', '.join(SMALL)}); "
            f"encoder.selection={config.encoder.selection!r} is {wanted.name}."
        )
    if wanted.data.digits != config.data.digits:
        raise ConfigError(
            f"data.digits={config.data.digits!r}, and the encoder {wanted.name} is trained on "
            f"{wanted.data.digits!r}: choose another encoder.selection."
        )
    wanted.runtime.data_dir = config.runtime.data_dir
    if config.encoder.num_steps:
        wanted.training.num_steps = config.encoder.num_steps
        wanted.training.eval_every = config.encoder.num_steps
        wanted.runtime.checkpoint_every = min(
            wanted.runtime.checkpoint_every, config.encoder.num_steps
        )
    folder.mkdir(parents=True, exist_ok=True)
    # One of several processes trains it, the others wait.
    with (folder / "encoder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / FILE_NAME
        if not path.exists() or read_run(path, relative_to=folder).status != "finished":
            if several():
                raise ConfigError(
                    f"there is no encoder in {folder}, and one process trains it: call once "
                    "without --distributed."
                )
            print(f"There is no encoder in {folder}: it is trained there first.", flush=True)
            fit(wanted, digits.make_problem(wanted), folder, name=f"encoder {wanted.name}")
    run = read_run(path, relative_to=folder)
    if run.experiment != "distorted_mnist" or not _can_encode(ConfigDict(run.config)):
        raise ConfigError(
            f"the encoder has to be a CNN for 28x28 images ({', '.join(SMALL)}); "
            f"{folder} holds {run.name}."
        )
    if run.fingerprint != loaded.fingerprint:
        raise ConfigError(
            f"the encoder in {folder} was trained on digits {run.fingerprint}, and this run is on "
            f"{loaded.fingerprint}."
        )
    if (run.config["name"], run.num_steps) != (wanted.name, wanted.training.num_steps):
        raise ConfigError(
            f"the encoder in {folder} is {run.config['name']} of {run.num_steps} steps; "
            f"encoder.selection and encoder.num_steps ask for {wanted.name} of "
            f"{wanted.training.num_steps}. Set them to what is there, or give another "
            "runtime.encoder_workdir."
        )
    if not (folder / CHECKPOINTS).is_dir():
        raise ConfigError(
            f"{folder} holds the record of an encoder, but no checkpoint: remove it, and one is "
            "trained there, or give another runtime.encoder_workdir."
        )
    build = digits.make_network(ConfigDict(run.config))
    params = open_state(functional(build), run.config, folder).params
    encoder = functional(lambda rngs: Encoder(build(rngs).classifier))

    def activations(images: jax.Array) -> list[jax.Array]:
        return encoder.apply(params, {}, images)[0]

    balance = jnp.asarray(loaded.train_images[:BALANCE]).astype(jnp.float32) / 255
    encode = descriptor(jax.jit(activations), balance)
    return encode, run


def _can_encode(config: ConfigDict) -> bool:
    return config.model.name == "cnn" and config.data.distortion in SMALL
