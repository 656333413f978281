"""TFDS builders, run on files at hand."""


def prepare(builder, manual_dir=None):
    """Let a builder prepare its data set from the files in a folder; returns it."""
    import tensorflow_datasets as tfds  # takes seconds

    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False),
    )
    return builder
