"""The TensorFlow Datasets (TFDS) builder of GTSRB, free of TensorFlow.

It keeps the images in the size that they were published in, with the sign's box; training reads the
arrays of `gtsrb_prepare`. Both read the publisher's files through `gtsrb_files`.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stn_jax.data import gtsrb_files
from stn_jax.data.gtsrb import NUM_CLASSES, SPLITS

RELEASE = "1.0.0"
HOMEPAGE = "https://benchmark.ini.rub.de/gtsrb_dataset.html"
DESCRIPTION = """\
The German Traffic Sign Recognition Benchmark: colour images of 43 signs, of varying size, with the
sign's box. 39,209 for training, frames of tracks that approach a sign each; 12,630 for testing.
Prepared without TensorFlow, as array_record.
"""
CITATION = """\
@inproceedings{stallkamp2011german,
  title={The {G}erman {T}raffic {S}ign {R}ecognition {B}enchmark: A multi-class classification
         competition},
  author={Stallkamp, Johannes and Schlipsing, Marc and Salmen, Jan and Igel, Christian},
  booktitle={IEEE International Joint Conference on Neural Networks},
  pages={1453--1460},
  year={2011}
}
"""


@functools.cache  # TFDS refuses a second class of the same name
def builder_class() -> type:
    """Return the builder class, `stn_gtsrb` to TFDS.

    `builder_class()(data_dir=place).download_and_prepare(file_format="array_record",
    download_config=...)` writes `place/stn_gtsrb/<version>` from the publisher's files in
    `manual_dir` of the download configuration, in any form `stn_jax.data.gtsrb_files.find` knows.

    Boxes are (ymin, xmin, ymax, xmax) as fractions of the image; track is the part of the name
    before the frame's number, "" in test. Images that are missing or damaged are left out; a
    warning says how many.
    """
    import tensorflow_datasets as tfds

    class StnGtsrb(tfds.core.GeneratorBasedBuilder):
        """GTSRB, prepared without TensorFlow."""

        VERSION = tfds.core.Version(RELEASE)
        RELEASE_NOTES = {RELEASE: "First version."}
        MANUAL_DOWNLOAD_INSTRUCTIONS = (
            "Unpack the archives of training images, test images and test annotations: "
            "Final_Training, Final_Test and GT-final_test.csv."
        )
        url_infos = {}

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                        "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                        "bbox": tfds.features.BBoxFeature(),
                        "track": tfds.features.Text(),
                        "name": tfds.features.Text(),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage=HOMEPAGE,
                citation=CITATION,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            source = gtsrb_files.find(Path(dl_manager.manual_dir))
            if source is None:
                raise FileNotFoundError(
                    f"{dl_manager.manual_dir} has neither {gtsrb_files.FOLDERS['train']} nor "
                    "sheets with a train.csv."
                )
            return {split: self._generate_examples(source, split) for split in SPLITS}

        def _generate_examples(
            self, source: gtsrb_files.Source, split: str
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            entries, left_out = gtsrb_files.read_entries(source, split), []
            found = gtsrb_files.images(source, split, entries)
            for number, (entry, image) in enumerate(found):
                if image is None:
                    left_out.append(entry.name)
                    continue
                left, top, right, bottom = entry.box
                width, height = entry.size
                yield (
                    number,
                    {
                        "image": image,
                        "label": entry.label,
                        "bbox": tfds.features.BBox(
                            top / height, left / width, bottom / height, right / width
                        ),
                        "track": entry.track,
                        "name": entry.name,
                    },
                )
            if left_out:
                message = "%s: %d images are missing or damaged, and left out: %s"
                logging.getLogger(__name__).warning(
                    message, source.folder, len(left_out), ", ".join(left_out[:5])
                )

    return StnGtsrb
