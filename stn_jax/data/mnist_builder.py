"""The TensorFlow Datasets (TFDS) builder of MNIST that needs no TensorFlow to prepare it.

TFDS's own `mnist` hands NumPy images to TensorFlow for encoding; this one hands over PIL images.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stn_jax.data import idx
from stn_jax.data.mnist import PREPARED_FOLDERS

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
# Published file -> bytes, SHA-256.
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": (
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
DESCRIPTION = """\
The MNIST handwritten digits, 28x28 pixels with ink 255 on 0, in the order of the published idx
files: 60,000 for training, 10,000 for testing. Same images and labels as TFDS's `mnist`, which
shuffles them. Prepared without TensorFlow, as array_record.
"""
CITATION = """\
@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE},
  volume={86},
  number={11},
  pages={2278--2324},
  year={1998}
}
"""


@functools.cache  # TFDS refuses a second class of the same name
def builder_class() -> type:
    """Return the builder class, `stn_mnist` to TFDS.

    `builder_class()(data_dir=place).download_and_prepare(file_format="array_record")` writes
    `place/stn_mnist/<version>`. If `manual_dir` of the download configuration holds the four idx
    files, in any form `stn_jax.data.idx.find` knows, they are used and nothing is downloaded.
    """
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core.download.checksums import UrlInfo

    class StnMnist(tfds.core.GeneratorBasedBuilder):
        """MNIST, prepared without TensorFlow."""

        VERSION = tfds.core.Version(PREPARED_FOLDERS["stn_mnist"])
        RELEASE_NOTES = {"1.0.0": "First version."}
        MANUAL_DOWNLOAD_INSTRUCTIONS = (
            f"Optional: {', '.join(idx.FILES.values())}, gzipped or not, instead of a download."
        )
        # Stands in for TFDS's checksums.tsv, which all builders of this folder would share.
        url_infos = {
            URL + name: UrlInfo(size=size, checksum=checksum, filename=name)
            for name, (size, checksum) in CHECKSUMS.items()
        }

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(
                            shape=(*idx.IMAGE_SHAPE, 1), encoding_format="png"
                        ),
                        "label": tfds.features.ClassLabel(num_classes=10),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="http://yann.lecun.com/exdb/mnist/",
                citation=CITATION,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            try:
                paths = idx.find(dl_manager.manual_dir)
            except AssertionError:  # TFDS's way of saying that it is not there, or empty
                paths = None
            if paths is None:
                paths = dl_manager.download(
                    {part: f"{URL}{name}.gz" for part, name in idx.FILES.items()}
                )
            return {
                "train": self._generate_examples(paths["train_images"], paths["train_labels"]),
                "test": self._generate_examples(paths["test_images"], paths["test_labels"]),
            }

        def _generate_examples(
            self, images_path: Path, labels_path: Path
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            images, labels = idx.read_digits(images_path, labels_path)
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": Image.fromarray(image[..., 0]), "label": int(label)}

    return StnMnist
