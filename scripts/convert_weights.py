"""Convert public ImageNet weights of Inception networks into one file that training loads quickly.

  python scripts/convert_weights.py tf_slim_inception_v2 inception_v2.ckpt inception_v2.npz
  python scripts/convert_weights.py pytorch_bn_inception bn_inception.pth bn_inception.npz
  python scripts/convert_weights.py torchvision_inception_v3 inception_v3.pth inception_v3.npz
  python scripts/convert_weights.py folded_inception_v3 --partial FOLDED.npz inception_v3_2015.npz

The first is TensorFlow-Slim's inception_v2_2016_08_28.tar.gz, unpacked; the second what
pretrainedmodels loads as bninception; the third torchvision's inception_v3_google-0cc3c7bd.pth; the
last Inception-v3 of 2015 as arrays `LAYER/kernel` and `LAYER/bias`, batch normalisation folded in.

Nothing is downloaded. A file that lacks tensors, or has others than its source should, is refused
with their names; --partial accepts one that lacks some, and says which. PyTorch's files need
PyTorch (pip install 'stn-jax[bench]'); TensorFlow's checkpoints need nothing.
"""

import argparse
import hashlib
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from stn_jax.models.pretrained import save_weights
from stn_jax.models.public_weights import SOURCES, convert
from stn_jax.models.tensorflow_checkpoint import read_checkpoint


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", choices=SOURCES, help=" ".join(SOURCES))
    parser.add_argument("file", metavar="FILE", type=Path, help="as it was published")
    parser.add_argument("out", metavar="OUT", type=Path, help="the .npz file to write")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="accept that tensors are missing: networks that end before them, by model.last, can "
        "start from the rest",
    )
    args = parser.parse_args(argv)
    try:
        tensors = READERS[args.source](args.file)
        weights = convert(SOURCES[args.source], tensors, partial=args.partial)
        header = {"source": args.source, "file": args.file.name, "sha256": sha256(args.file)}
        weights = replace(weights, header=weights.header | header)
        save_weights(args.out, weights)
    except (OSError, ValueError) as error:
        sys.exit(f"convert_weights.py: {error}")
    count = sum(array.size for array in weights.tensors.values())
    print(f"Wrote {args.out}: {len(weights.tensors)} tensors, {count:,} values.")
    print(f"Networks: model.architecture={weights.header['architecture']}")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz archive."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(f"{path} is no npz archive.") from error


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read a PyTorch state dict."""
    try:
        import torch
    except ImportError as error:
        raise ValueError(f"{path} needs PyTorch: pip install 'stn-jax[bench]'.") from error
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (AttributeError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no PyTorch state dict.") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 sum of a file, in hex digits; of a checkpoint's index if it is several."""
    path = path if path.is_file() else path.with_name(f"{path.name}.index")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "tf_slim_inception_v2": read_checkpoint,
    "pytorch_bn_inception": read_torch,
    "torchvision_inception_v3": read_torch,
    "folded_inception_v3": read_npz,
}


if __name__ == "__main__":
    main()
