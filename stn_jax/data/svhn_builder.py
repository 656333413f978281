"""The TensorFlow Datasets (TFDS) builder of SVHN's full numbers, free of TensorFlow.

It keeps the images as they were published, of varying size, with a box a digit; training reads the
crops of `svhn_prepare`. Both read the publisher's files through `svhn_files`.
"""

import functools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stn_jax.data import archives, svhn_crops, svhn_files
from stn_jax.data.digit_struct import BAD_LABEL
from stn_jax.data.svhn import NEEDED, SPLITS

RELEASE = "1.0.0"
DESCRIPTION = """\
Street View House Numbers, the full numbers: colour images of varying size, with label and bounding
box of each digit, left to right. 33,402 for training, 13,068 for testing, 202,353 extra, less
difficult ones. For non-commercial use only. Prepared without TensorFlow, as array_record.
"""
CITATION = """\
@inproceedings{netzer2011reading,
  title={Reading Digits in Natural Images with Unsupervised Feature Learning},
  author={Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and
          Ng, Andrew Y.},
  booktitle={NIPS Workshop on Deep Learning and Unsupervised Feature Learning},
  year={2011}
}
"""

# What the digits of an image may have against them -> what becomes of them.
CHANGED = {
    svhn_crops.CLIPPED: "a box that reaches beyond it, and is clipped",
    svhn_crops.EMPTY: "a box without width or height",
    svhn_crops.OUTSIDE: "a box outside it, which has no area now",
    "bad_label": "a digit whose label is none of 1 to 10, and is -1 now",
}


@functools.cache  # TFDS refuses a second class of the same name
def builder_class() -> type:
    """Return the builder class, `stn_svhn` to TFDS.

    `builder_class()(data_dir=place).download_and_prepare(file_format="array_record")` writes
    `place/stn_svhn/<version>`. If `manual_dir` of the download configuration holds the publisher's
    files, in any form `stn_jax.data.svhn_files.find` knows, they are used and nothing is
    downloaded; extra may then be missing.

    Boxes are (ymin, xmin, ymax, xmax) as fractions of the image, clipped to it. A digit whose label
    is not one has label -1, TFDS's "no label". Images that are missing or damaged are left out.
    Warnings say how many images that was done to.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    class StnSvhn(tfds.core.GeneratorBasedBuilder):
        """SVHN, the full numbers, prepared without TensorFlow."""

        VERSION = tfds.core.Version(RELEASE)
        RELEASE_NOTES = {RELEASE: "First version."}
        MANUAL_DOWNLOAD_INSTRUCTIONS = (
            "Optional: train.tar.gz, test.tar.gz and extra.tar.gz, or their folders, instead of a "
            "download."
        )
        # Stands in for TFDS's checksums.tsv, which all builders of this folder would share.
        url_infos = {
            f"{svhn_files.URL}{split}.tar.gz": UrlInfo(
                size=size, checksum=checksum, filename=f"{split}.tar.gz"
            )
            for split, (size, checksum) in svhn_files.CHECKSUMS.items()
        }

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                        "digits": tfds.features.Sequence(
                            {
                                "label": tfds.features.ClassLabel(num_classes=10),
                                "bbox": tfds.features.BBoxFeature(),
                            }
                        ),
                        "name": tfds.features.Text(),
                    }
                ),
                homepage=svhn_files.URL,
                citation=CITATION,
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            try:
                paths = svhn_files.find(dl_manager.manual_dir)
            except AssertionError:  # TFDS's way of saying that it is not there, or empty
                paths = {}
            if not paths:
                paths = dl_manager.download(
                    {split: f"{svhn_files.URL}{split}.tar.gz" for split in SPLITS}
                )
            if missing := [split for split in NEEDED if split not in paths]:
                raise FileNotFoundError(f"{dl_manager.manual_dir} lacks {' and '.join(missing)}.")
            return {split: self._generate_examples(Path(paths[split])) for split in paths}

        def _generate_examples(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
            with tempfile.TemporaryDirectory() as scratch:
                entries = svhn_files.read_entries(path, scratch=Path(scratch))
            left, changed = {entry.name: entry for entry in entries}, Counter()
            for name, content in svhn_files.images(path, list(left)):
                image = archives.decode(content)
                if image is None:
                    continue
                entry = left.pop(name)
                changed.update(svhn_crops.digits_box(entry.boxes, image.size)[1])
                changed.update(["bad_label"] if BAD_LABEL in entry.labels else [])
                boxes = relative_boxes(entry.boxes, image.size)
                digits = zip(entry.labels.tolist(), boxes, strict=True)
                yield (
                    name,
                    {
                        "image": image,
                        "digits": [{"label": label, "bbox": box} for label, box in digits],
                        "name": name,
                    },
                )
            log = logging.getLogger(__name__)
            for kind, meaning in CHANGED.items():
                if changed[kind]:
                    log.warning("%s: %d images have %s.", path, changed[kind], meaning)
            if left:
                names = ", ".join(list(left)[:5])
                message = "%s: %d images are missing or damaged, and left out: %s"
                log.warning(message, path, len(left), names)

    return StnSvhn


def relative_boxes(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return boxes as TFDS has them.

    Args:
        boxes: [n, 4], left, top, width, height in pixels.
        image_size: width and height.

    Returns:
        float64 [n, 4], ymin, xmin, ymax, xmax, in 0 to 1; a box outside the image or without a
        size, or one that is not finite, has no area.
    """
    first = np.nan_to_num(boxes[:, :2])
    second = first + np.maximum(np.nan_to_num(boxes[:, 2:]), 0)
    corners = np.concatenate([first, second], axis=1) / np.tile(image_size, 2)
    return np.clip(corners, 0, 1)[:, [1, 0, 3, 2]]
