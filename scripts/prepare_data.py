"""Prepare a data set once, so that training reads it from disk and never downloads.

  python scripts/prepare_data.py mnist                        # download from the publisher
  python scripts/prepare_data.py mnist --from ~/idx_files     # from files you have: no network

Data go to --data-dir, else $STN_DATA_DIR, else ~/.cache/stn_jax; training looks there in the same
order. What is already there is left alone. No TensorFlow is needed.
"""

import argparse
import inspect
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from stn_jax.data import idx, mnist, mnist_builder
from stn_jax.data.types import DataNotFoundError, Digits, resolve_data_dir

CONNECT_TIMEOUT = 10  # seconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="data_set", metavar="DATA_SET", required=True)
    for name, prepare in PREPARE.items():
        subparser = subparsers.add_parser(
            name,
            help=prepare.__doc__.splitlines()[0],
            description=inspect.getdoc(prepare),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.add_argument(
            "--data-dir",
            metavar="DIR",
            help="where to put it (default: $STN_DATA_DIR, else ~/.cache/stn_jax)",
        )
        subparser.add_argument(
            "--from",
            dest="source",
            metavar="DIR",
            type=Path,
            help="folder with the publisher's files; nothing is downloaded",
        )
    args = parser.parse_args(argv)
    try:
        PREPARE[args.data_set](resolve_data_dir(args.data_dir), args.source)
    except (OSError, ValueError) as error:
        sys.exit(f"prepare_data.py {args.data_set}: {error}")


def prepare_mnist(place: Path, source: Path | None) -> None:
    """Prepare MNIST: 60,000 + 10,000 digits, 11 MB to download, 27 MB when prepared.

    --from takes the four idx files (train-images-idx3-ubyte and so on), gzipped or not. Training
    also reads these as they are: putting them into the data folder will do, too.
    """
    try:
        digits = mnist.load(place)
    except DataNotFoundError:
        pass
    else:
        print(f"Already there, nothing done: {describe(digits)}")
        return
    if source and not idx.find(source):
        raise DataNotFoundError(
            f"--from {source} has none of {', '.join(idx.FILES.values())} (.gz or not)."
        )
    if not source:
        url = f"{mnist_builder.URL}{next(iter(mnist_builder.CHECKSUMS))}"
        check_connection(url, otherwise="get the four idx files elsewhere and use --from DIR")
    print(f"Preparing MNIST in {place} from {source or mnist_builder.URL}", flush=True)
    prepare_with_tfds(mnist_builder.builder_class(), place, source)
    print(f"Prepared: {describe(mnist.load(place))}")


def describe(digits: Digits) -> str:
    """Say what was loaded, from where, with its fingerprint."""
    return (
        f"{digits.name}, {len(digits.train_labels)} + {len(digits.test_labels)} digits, "
        f"{digits.source}, fingerprint {digits.fingerprint}"
    )


def check_connection(url: str, *, otherwise: str) -> None:
    """Fail within seconds if a file cannot be had: TFDS may try for minutes."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ConnectionError(f"cannot download {url} ({error}); {otherwise}") from error


def prepare_with_tfds(builder_class: type, place: Path, source: Path | None) -> None:
    """Download, unless `source` has the files, and write the prepared folder into `place`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, downloader

    downloader.MAX_RETRIES = 2  # TFDS's ten take minutes
    try:
        builder_class(data_dir=place).download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False),
        )
    except (tfds.download.DownloadError, download_manager.NonMatchingChecksumError) as error:
        raise OSError(" ".join(str(error).split())) from error


PREPARE = {"mnist": prepare_mnist}


if __name__ == "__main__":
    main()
