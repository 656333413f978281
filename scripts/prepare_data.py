"""Prepare a data set once, so that training reads it from disk and never downloads.

  python scripts/prepare_data.py mnist                        # download from the publisher
  python scripts/prepare_data.py mnist --from ~/idx_files     # from files you have: no network
  python scripts/prepare_data.py svhn --size 64 128           # call it again to continue
  python scripts/prepare_data.py gtsrb --from ~/GTSRB         # from the unpacked archives
  python scripts/prepare_data.py cub --size 256 512           # call it again to continue

Data go to --data-dir, else $STN_DATA_DIR, else ~/.cache/stn_jax; training looks there in the same
order. What is already there is left alone. No TensorFlow is needed.
"""

import argparse
import contextlib
import inspect
import os
import sys
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

from stn_jax.data import (
    cub,
    cub_files,
    cub_prepare,
    download,
    gtsrb,
    gtsrb_builder,
    gtsrb_files,
    gtsrb_prepare,
    idx,
    mnist,
    mnist_builder,
    svhn,
    svhn_files,
    svhn_prepare,
)
from stn_jax.data.types import DataNotFoundError, Digits, resolve_data_dir
from stn_jax.launch.files import BusyError, exclusive

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
            help="folder with the publisher's files (CUB: or its archive); nothing is downloaded",
        )
        OPTIONS.get(name, lambda _: None)(subparser)
    args = parser.parse_args(argv)
    try:
        PREPARE[args.data_set](resolve_data_dir(args.data_dir), args)
    except (OSError, ValueError, BusyError) as error:
        sys.exit(f"prepare_data.py {args.data_set}: {error}")


def prepare_mnist(place: Path, args: argparse.Namespace) -> None:
    """Prepare MNIST: 60,000 + 10,000 digits, 11 MB to download, 27 MB when prepared.

    --from takes the four idx files (train-images-idx3-ubyte and so on), gzipped or not. Training
    also reads these as they are: putting them into the data folder will do, too.
    """
    source = args.source
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


def alone(place: Path, name: str) -> contextlib.AbstractContextManager[None]:
    """Let one process at a time prepare a data set in a place.

    Raises:
      BusyError: if another one does.
    """
    busy = f"another process is preparing {name} in {place}: call this again when it is done."
    return exclusive(place / name / "lock", busy=busy)


def say(
    data_set: ModuleType,
    describe: Callable[[Path], Iterable[str]],
    place: Path,
    sizes: Sequence[int],
    *,
    done: bool,
) -> None:
    """Print what has been prepared of a data set in each size."""
    print("Prepared:" if done else "Already there, nothing done:")
    for size in sizes:
        print(*describe(data_set.folder_of(place, size)), sep="\n")
        loaded = data_set.load(place, size=size)
        print(f"{loaded.name}, {loaded.source}, fingerprint {loaded.fingerprint}")


def prepare_svhn(place: Path, args: argparse.Namespace) -> None:
    """Prepare SVHN, whole numbers: about 2.6 GB to download, 3 GB when prepared (128x128: 12 GB).

    --from takes train.tar.gz, test.tar.gz and extra.tar.gz as published, or the folders in them;
    extra may be missing. Without it they are downloaded into svhn/archives of the data folder, and
    may be deleted when all is prepared. Interrupted, it goes on when called again. Images that
    cannot be used are counted, and the first of each kind named.
    """
    folders = [svhn.folder_of(place, size) for size in args.size]
    splits = svhn.NEEDED if args.no_extra else svhn.SPLITS
    missing = [
        split
        for split in splits
        if not all(svhn_prepare.is_finished(folder, split) for folder in folders)
    ]
    found = svhn_files.find(args.source, splits) if args.source else {}
    if args.source:
        lacking = [split for split in missing if split in svhn.NEEDED and split not in found]
        if lacking or not found:
            names = ", ".join(f"{split}.tar.gz" for split in lacking or splits)
            raise DataNotFoundError(f"--from {args.source} has none of {names}, nor their folders.")
        missing = [split for split in missing if split in found]
    check_svhn_source(folders, splits, found)
    if missing:
        with alone(place, "svhn"):
            source = args.source or fetch_svhn(place / "svhn" / "archives", missing)
            print(f"Preparing SVHN in {place} from {source}", flush=True)
            svhn_prepare.prepare(source, place, sizes=args.size, splits=missing)
    say(svhn, svhn_prepare.describe, place, args.size, done=bool(missing))


def check_svhn_source(
    folders: Sequence[Path], splits: Sequence[str], found: dict[str, Path]
) -> None:
    """Check that what is there of some splits is not going to be mixed with other files.

    Raises:
      ValueError: if a split is there that is not the published one, but was made from other files
        than those `found`, or the published ones are wanted, and none are.
    """
    for folder in folders:
        prepared = (svhn.read_info(folder) or {"splits": {}})["splits"]
        for split, record in prepared.items():
            if split not in splits:
                continue
            same = split in found and Path(record["source"]).resolve() == found[split].resolve()
            if record["entries"] != svhn.PUBLISHED_COUNTS[split] and not same:
                raise ValueError(
                    f"{folder} has {record['entries']:,} images of {split} from "
                    f"{record['source']}, which are not all that are published: delete {folder} to "
                    "replace them, or use another --data-dir."
                )


def add_svhn_options(parser: argparse.ArgumentParser) -> None:
    """Add what only SVHN needs."""
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        choices=svhn.SIZES,
        default=[64],
        help="of the crops: 64, or 128 for twice the surroundings, or both (default: 64)",
    )
    parser.add_argument(
        "--no-extra",
        action="store_true",
        help="without the 202,353 images of extra, three quarters of the download",
    )


def fetch_svhn(folder: Path, splits: Sequence[str]) -> Path:
    """Download the archives of some splits, unless they are there, and return the folder."""
    for split in splits:
        url, path = f"{svhn_files.URL}{split}.tar.gz", folder / f"{split}.tar.gz"
        if not path.is_file():
            check_connection(url, otherwise=f"get {path.name} elsewhere and use --from DIR")
            _, checksum = svhn_files.CHECKSUMS[split]
            download.fetch(url, path, timeout=CONNECT_TIMEOUT, sha256=checksum)
    return folder


def prepare_gtsrb(place: Path, args: argparse.Namespace) -> None:
    """Prepare GTSRB, traffic signs: 51,839 images, 360 MB when prepared (32x32: 160 MB).

    --from takes the folder that the publisher's archives of training images, test images and test
    annotations were unpacked into (Final_Training, Final_Test, GT-final_test.csv), or sheets of
    32x32 tiles with train.csv and test.csv. Nothing is downloaded. Images that are missing or
    cannot be decoded are counted and left out. Images that are there already, but of another
    number of pixels than those of --from, are an error.
    """
    source = gtsrb_files.find(args.source) if args.source else None
    if args.source and source is None:
        raise DataNotFoundError(
            f"--from {args.source} has neither a folder {gtsrb_files.FOLDERS['train']} nor "
            "sheets with a train.csv."
        )
    missing = []
    for size in args.size:
        folder = gtsrb.folder_of(place, size)
        info = gtsrb.read_info(folder)
        if info is None:
            missing.append(size)
        elif source and info["pixels"] != source.pixels:
            raise ValueError(
                f"{folder} was made from {_pixels(info['pixels'])} in {info['source']}, and "
                f"{source.folder} has {_pixels(source.pixels)}: delete {folder} to replace it."
            )
    if missing:
        if source is None:
            raise DataNotFoundError(
                f"get the archives at {gtsrb_builder.HOMEPAGE}, unpack them, and use --from DIR."
            )
        print(f"Preparing GTSRB in {place} from {source.folder}", flush=True)
        with alone(place, "gtsrb"):
            for size in missing:
                gtsrb_prepare.prepare(source, place, size=size)
    say(gtsrb, gtsrb_prepare.describe, place, args.size, done=bool(missing))


def _pixels(side: int | None) -> str:
    return f"images of {side}x{side}" if side else "the original images"


def add_gtsrb_options(parser: argparse.ArgumentParser) -> None:
    """Add what only GTSRB needs."""
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        default=[48],
        help="side of the images in pixels; one or several (default: 48, as published)",
    )


def prepare_cub(place: Path, args: argparse.Namespace) -> None:
    """Prepare CUB-200-2011, birds: 1.2 GB to download, 3 GB when prepared (512 px: 12 GB).

    --from takes CUB_200_2011.tgz as published, the folder in it (some of the classes will do), or a
    folder that TFDS has prepared: stn_cub, or caltech_birds2011, which has no parts and no numbers
    of images. Without it they are looked for in the data folder; else the archive is downloaded
    into cub/archives there, and may be deleted when all is prepared. Interrupted, it goes on when
    called again. Images that are missing or cannot be decoded are counted and left out.
    """
    missing = [size for size in args.size if not cub.read_info(cub.folder_of(place, size))]
    if missing:
        try:
            source = cub_prepare.find(args.source or place)
        except ValueError as error:  # what happens to lie there is no reason to stop
            if args.source:
                raise
            print(f"Passed over {error}")
            source = None
        if source is None and args.source:
            raise DataNotFoundError(
                f"--from {args.source} has no {cub_files.ARCHIVE}, no folder {cub_files.FOLDER} "
                "and nothing that TFDS has prepared."
            )
        with alone(place, "cub"):
            source = source or cub_files.archive(fetch_cub(place / "cub" / "archives"))
            print(f"Preparing CUB-200-2011 in {place} from {source.path}", flush=True)
            for size in missing:
                cub_prepare.prepare(source, place, size=size, workers=args.workers)
    say(cub, cub_prepare.describe, place, args.size, done=bool(missing))


def add_cub_options(parser: argparse.ArgumentParser) -> None:
    """Add what only CUB needs."""
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        default=[256],
        help="shorter side of the images in pixels; one or several (default: 256, which 224 px are "
        "cropped from; 512 for 448 px; less for smaller networks)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count(),
        help="processes that decode images (default: one for each core, %(default)s)",
    )


def fetch_cub(folder: Path) -> Path:
    """Download the archive, unless it is there, and return its path."""
    path = folder / cub_files.ARCHIVE
    if not path.is_file():
        check_connection(cub_files.URL, otherwise=f"get {path.name} elsewhere and use --from DIR")
        download.fetch(cub_files.URL, path, timeout=CONNECT_TIMEOUT, sha256=cub_files.SHA256)
    return path


PREPARE = {
    "mnist": prepare_mnist,
    "svhn": prepare_svhn,
    "gtsrb": prepare_gtsrb,
    "cub": prepare_cub,
}
# Of one data set only.
OPTIONS = {"svhn": add_svhn_options, "gtsrb": add_gtsrb_options, "cub": add_cub_options}


if __name__ == "__main__":
    main()
