"""Records what TFDS's own builders write in their default format, TFRecord.

  pip install tensorflow-cpu tensorflow-datasets importlib_resources opencv-python-headless
  python -m tests.data.record_tfrecord

CUB of the made-up birds in the publisher's layout, and MNIST of `digit_arrays`: what is downloaded
otherwise. Tests read both without TensorFlow.
"""

import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from PIL import Image

from tests.data import cub_synthetic
from tests.data.idx_synthetic import NAMES, digit_arrays, idx_bytes

FOLDER = Path(__file__).with_name("tfrecord")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        record_birds(Path(folder))
        record_digits(Path(folder))


def record_birds(folder: Path) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification.caltech_birds import CaltechBirds2011

    root = cub_synthetic.write(folder)
    archive = cub_synthetic.pack(root)
    masks = folder / "segmentations"
    for _, path, _, _, size in cub_synthetic.entries():
        (masks / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save((masks / path).with_suffix(".png"))

    class Manager(tfds.download.DownloadManager):
        def download(self, urls):
            return [archive]

        def download_and_extract(self, urls):
            return [folder, masks]

    prepare(CaltechBirds2011, Manager)


def record_digits(folder: Path) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import mnist

    arrays = digit_arrays()
    for name, array in zip(NAMES, arrays, strict=True):
        (folder / name).write_bytes(idx_bytes(array))

    class Manager(tfds.download.DownloadManager):
        def download_and_extract(self, urls):
            return {key: folder / Path(url).stem for key, url in urls.items()}

    counts = {"_TRAIN_EXAMPLES": len(arrays[1]), "_TEST_EXAMPLES": len(arrays[3])}
    with mock.patch.multiple(mnist, **counts):
        prepare(mnist.MNIST, Manager)


def prepare(builder_class: type, manager: type) -> None:
    import tensorflow_datasets as tfds

    builder = builder_class(data_dir=FOLDER)
    with mock.patch.object(tfds.download, "DownloadManager", manager):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    path = Path(builder.data_dir) / "dataset_info.json"
    info = json.loads(path.read_text())
    del info["citation"], info["description"]  # texts of others
    path.write_text(json.dumps(info, indent=2) + "\n")


if __name__ == "__main__":
    main()
