"""The TensorFlow Datasets (TFDS) builder of CUB-200-2011 that needs no TensorFlow to prepare it.

It keeps the JPEG files as they were published, with numbers, boxes and parts; training reads the
arrays of `cub_prepare`, which can be made from either. TFDS's own `caltech_birds2011` needs
TensorFlow, and has no parts.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stn_jax.data import archives, cub_files
from stn_jax.data.cub import NUM_CLASSES, PARTS, SPLITS
from stn_jax.data.cub_files import Listed, Source
from stn_jax.data.cub_tfds import FOLDERS

HOMEPAGE = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
DESCRIPTION = f"""\
Caltech-UCSD Birds 200-2011: photographs of 200 species of birds, of varying size. 5,994 for
training, 5,794 for testing. With the bird's box (left, top, right, bottom) and 15 parts (x, y), in
pixels: {", ".join(PARTS)}. For non-commercial use only.
Prepared without TensorFlow, as array_record.
"""
CITATION = """\
@techreport{wah2011caltech,
  title={The {C}altech-{UCSD} {B}irds-200-2011 Dataset},
  author={Wah, Catherine and Branson, Steve and Welinder, Peter and Perona, Pietro and
          Belongie, Serge},
  institution={California Institute of Technology},
  number={CNS-TR-2011-001},
  year={2011}
}
"""


@functools.cache  # TFDS refuses a second class of the same name
def builder_class() -> type:
    """Return the builder class, `stn_cub` to TFDS.

    `builder_class()(data_dir=place).download_and_prepare(file_format="array_record")` writes
    `place/stn_cub/<version>`. If `manual_dir` of the download configuration holds the publisher's
    folder or archive, in any form `stn_jax.data.cub_files.find` knows, it is used and nothing is
    downloaded.

    `id` is the image's number in the publisher's lists; parts that are not visible are at (0, 0).
    Images that are missing or damaged are left out; a warning says how many.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    class StnCub(tfds.core.GeneratorBasedBuilder):
        """CUB-200-2011, prepared without TensorFlow."""

        VERSION = tfds.core.Version(FOLDERS["stn_cub"])
        RELEASE_NOTES = {FOLDERS["stn_cub"]: "First version."}
        MANUAL_DOWNLOAD_INSTRUCTIONS = (
            f"Optional: {cub_files.ARCHIVE}, or the folder in it, instead of a download."
        )
        # Stands in for TFDS's checksums.tsv, which all builders of this folder would share.
        url_infos = {
            cub_files.URL: UrlInfo(
                size=cub_files.SIZE, checksum=cub_files.SHA256, filename=cub_files.ARCHIVE
            )
        }

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                        "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                        "id": tfds.features.Scalar(np.int32),
                        "name": tfds.features.Text(),
                        "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                        "part": tfds.features.Tensor(shape=(len(PARTS), 2), dtype=np.float32),
                        "part_visible": tfds.features.Tensor(shape=(len(PARTS),), dtype=np.bool_),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage=HOMEPAGE,
                citation=CITATION,
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            try:
                source = cub_files.find(Path(dl_manager.manual_dir))
            except AssertionError:  # TFDS's way of saying that it is not there, or empty
                source = None
            if source is None:
                source = cub_files.archive(Path(dl_manager.download(cub_files.URL)))
            listed = source.read_lists()
            return {split: self._generate_examples(source, listed, split) for split in SPLITS}

        def _generate_examples(
            self, source: Source, listed: Listed, split: str
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            rows = np.flatnonzero(listed.train == (split == "train"))
            left = {listed.name[row]: row for row in rows.tolist()}
            for name, content in source.images(list(left)):
                if archives.decode(content) is None:
                    continue
                row = left.pop(name)
                yield (
                    int(listed.id[row]),
                    {
                        "image": content,
                        "label": int(listed.number[row]) - 1,
                        "id": listed.id[row],
                        "name": name,
                        "box": listed.box[row],
                        "part": np.nan_to_num(listed.part[row]),
                        "part_visible": listed.part_visible[row],
                    },
                )
            if left:
                message = "%s: %d images are missing or damaged, and left out: %s"
                names = ", ".join(list(left)[:5])
                logging.getLogger(__name__).warning(message, source.path, len(left), names)

    return StnCub
