import gzip
import hashlib
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stn_jax.data import idx, mnist, mnist_builder
from stn_jax.data.types import DataNotFoundError, fingerprint, resolve_data_dir
from tests.data.idx_synthetic import NAMES, digit_arrays, idx_bytes
from tests.data.record_tfrecord import FOLDER as RECORDED

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def write_idx(folder, arrays, *, spelling="-idx", gz=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, arrays, strict=True):
        data = idx_bytes(array)
        path = folder / (name.replace("-idx", spelling) + (".gz" if gz else ""))
        path.write_bytes(gzip.compress(data) if gz else data)


def prepare(builder_class, place, manual_dir, **options):
    import tensorflow_datasets as tfds

    builder_class(data_dir=place).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False),
        **{"file_format": "array_record", **options},
    )


def assert_same(digits, arrays):
    np.testing.assert_array_equal(digits.train_images, arrays[0][..., None])
    np.testing.assert_array_equal(digits.train_labels, arrays[1])
    np.testing.assert_array_equal(digits.test_images, arrays[2][..., None])
    np.testing.assert_array_equal(digits.test_labels, arrays[3])
    assert digits.train_images.dtype == digits.test_images.dtype == np.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int32
    assert digits.name == "mnist"


@pytest.fixture
def arrays():
    return digit_arrays()


@pytest.fixture(autouse=True)
def no_place(monkeypatch, tmp_path, request):
    """Keep the developer's own data out of all tests but the one that wants them."""
    if "published" not in request.node.name:
        monkeypatch.delenv("STN_DATA_DIR", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))


# --- idx files


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("subfolder", [".", "mnist"])
def test_reads_idx_files(tmp_path, arrays, gz, spelling, subfolder):
    write_idx(tmp_path / subfolder, arrays, spelling=spelling, gz=gz)
    digits = mnist.load(tmp_path)
    assert_same(digits, arrays)
    assert str(tmp_path / subfolder) in digits.source


def test_compression_is_told_by_content_not_name(tmp_path, arrays):
    write_idx(tmp_path, arrays)
    for i, name in enumerate(NAMES):
        path = tmp_path / name
        if i % 2:
            path.rename(tmp_path / f"{name}.gz")
        else:
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert_same(mnist.load(tmp_path), arrays)


def test_other_digits_than_the_published_ones_are_called_so(tmp_path, arrays, caplog):
    write_idx(tmp_path, arrays)
    with caplog.at_level(logging.WARNING):
        digits = mnist.load(tmp_path)
    assert "NOT the published MNIST" in digits.source
    assert digits.fingerprint in caplog.text


def test_published_digits_are_not_warned_about(tmp_path, arrays, monkeypatch, caplog):
    write_idx(tmp_path, arrays)
    monkeypatch.setattr(mnist, "PUBLISHED_FINGERPRINT", mnist.load(tmp_path).fingerprint)
    caplog.clear()
    assert "NOT" not in mnist.load(tmp_path).source
    assert not caplog.records


@pytest.mark.parametrize("part", range(4))
def test_a_missing_file_is_named(tmp_path, arrays, part):
    write_idx(tmp_path, arrays, gz=True)
    (tmp_path / f"{NAMES[part]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {NAMES[part]} "):
        mnist.load(tmp_path)


DAMAGES = {
    "empty": (0, lambda data: b"", r"starts with bytes ''"),
    "not idx": (0, lambda data: b"<!DOCTYPE html>" + data, r"bytes '3c 21 44 4f'.*'00 00 08 03'"),
    "labels for images": (
        0,
        lambda data: b"\0\0\x08\x01" + data[4:],
        r"'00 00 08 01'.*'00 00 08 03'",
    ),
    "images for labels": (
        1,
        lambda data: b"\0\0\x08\x03" + data[4:],
        r"'00 00 08 03'.*'00 00 08 01'",
    ),
    "floats": (0, lambda data: b"\0\0\x0d\x03" + data[4:], r"'00 00 0d 03'"),
    "header cut": (0, lambda data: data[:10], r"10 bytes are less than the header's 16"),
    "pixels cut": (0, lambda data: data[:-1], r"shape \(23, 28, 28\), 18032 bytes, but 18031 "),
    "pixels added": (0, lambda data: data + b"\0", r"18032 bytes, but 18033 follow"),
    "labels cut": (3, lambda data: data[:-2], r"shape \(7,\), 7 bytes, but 5 follow"),
    "gzip cut": (2, lambda data: gzip.compress(data)[:-20], r"damaged gzip file"),
    "gzip bits": (
        2,
        lambda data: (z := gzip.compress(data))[:500] + bytes([z[500] ^ 255]) + z[501:],
        r"damaged gzip file",
    ),
    "27 columns": (
        0,
        lambda data: idx_bytes(np.zeros((23, 28, 27), np.uint8)),
        r"images of shape \(28, 27\), not \(28, 28\)",
    ),
    "no images": (2, lambda data: idx_bytes(np.zeros((0, 28, 28), np.uint8)), r"holds no images"),
    "more labels": (1, lambda data: idx_bytes(np.zeros(24, np.uint8)), r"23 images, but 24 labels"),
    "fewer labels": (3, lambda data: idx_bytes(np.zeros(6, np.uint8)), r"7 images, but 6 labels"),
    "label 10": (
        1,
        lambda data: idx_bytes(np.array([9] * 22 + [10], np.uint8)),
        r"label 10 at 22, not in 0 to 9",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_by_name(tmp_path, arrays, damage):
    part, change, message = DAMAGES[damage]
    write_idx(tmp_path, arrays)
    path = tmp_path / NAMES[part]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        mnist.load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- prepared folders


def test_all_forms_give_the_same_digits(tmp_path, arrays):
    """Stock TFDS shuffles by a hash of the index; the published order must come back."""
    write_idx(tmp_path / "idx", arrays)
    from_idx = mnist.load(tmp_path / "idx")
    assert from_idx.fingerprint == fingerprint(
        arrays[0][..., None],
        arrays[1].astype(np.int32),
        arrays[2][..., None],
        arrays[3].astype(np.int32),
    )

    import tensorflow_datasets as tfds

    class Mnist(mnist_builder.builder_class(), skip_registration=True):
        """Ours with the name, version and order of TFDS's own, which needs TensorFlow."""

        name = "mnist"
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            ours = super()._info()
            return tfds.core.DatasetInfo(builder=self, features=ours.features)

    prepare(mnist_builder.builder_class(), tmp_path / "ours", tmp_path / "idx")
    prepare(Mnist, tmp_path / "stock", tmp_path / "idx")
    stock = tmp_path / "stock/mnist/3.0.1"

    def stored_labels(folder):
        return [
            int(e["label"]) for e in tfds.builder_from_directory(folder).as_data_source("train")
        ]

    assert stored_labels(tmp_path / "ours/stn_mnist/1.0.0") == arrays[1].tolist()
    assert stored_labels(stock) != arrays[1].tolist()

    for place, folder in (
        (tmp_path / "ours", tmp_path / "ours/stn_mnist/1.0.0"),
        (tmp_path / "ours/stn_mnist/1.0.0",) * 2,
        (tmp_path / "stock", stock),
        (stock, stock),
    ):
        digits = mnist.load(place)
        assert_same(digits, arrays)
        assert digits.fingerprint == from_idx.fingerprint
        assert f"TFDS folder {folder}" in digits.source


def test_what_tfds_prepared_as_tfrecord_is_read_without_tensorflow(arrays):
    """As TFDS's own class stored it: shuffled by its keys, in its default format."""
    digits = mnist.load(RECORDED)
    assert_same(digits, arrays)
    assert f"TFDS folder {RECORDED}/mnist/3.0.1" in digits.source


def test_idx_files_come_before_a_prepared_folder(tmp_path, arrays):
    write_idx(tmp_path / "other", digit_arrays(train=11))
    prepare(mnist_builder.builder_class(), tmp_path, tmp_path / "other")
    assert len(mnist.load(tmp_path).train_labels) == 11
    write_idx(tmp_path / "mnist", arrays)
    assert len(mnist.load(tmp_path).train_labels) == 23


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "bit flipped", "no features"])
def test_a_damaged_prepared_folder_is_refused_by_name(tmp_path, arrays, damage):
    write_idx(tmp_path / "idx", arrays)
    prepare(mnist_builder.builder_class(), tmp_path, tmp_path / "idx")
    folder = tmp_path / "stn_mnist/1.0.0"
    record = next(folder.glob("*test*"))
    data = record.read_bytes()
    match damage:
        case "cut":
            record.write_bytes(data[: len(data) // 2])
        case "emptied":
            record.write_bytes(b"")
        case "removed":
            record.unlink()
        case "bit flipped":
            at = data.index(b"IDAT") + 20  # among the pixels of the first image
            record.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        case "no features":
            (folder / "features.json").unlink()
    with pytest.raises(ValueError, match=f"^{re.escape(str(folder))}: damaged .*prepare it again"):
        mnist.load(tmp_path)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ('{"name": "mnist", "fileFormat": "parquet"}', "in format parquet, not array_record or "),
        ('{"name": "svhn", "fileFormat": "array_record"}', "describes svhn, not stn_mnist or "),
        ('{"name": "mnist", ', "damaged: "),
    ],
)
def test_folders_that_cannot_be_read_are_listed_with_the_reason(tmp_path, info, reason):
    folder = tmp_path / "mnist/3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(info)
    with pytest.raises(DataNotFoundError) as caught:
        mnist.load(tmp_path)
    assert f"{folder}/dataset_info.json ({reason}" in str(caught.value)


# --- the place and the fingerprint


@pytest.mark.parametrize("part", range(4))
def test_fingerprint_sees_each_value_and_the_order(arrays, part):
    original = fingerprint(*arrays)
    assert re.fullmatch("[0-9a-f]{16}", original)
    assert fingerprint(*(a.copy() for a in arrays)) == original
    for change in (lambda a: a ^ (np.arange(a.size) == 5).reshape(a.shape), lambda a: a[::-1]):
        changed = list(arrays)
        changed[part] = change(arrays[part])
        assert fingerprint(*changed) != original


def test_argument_then_variable_then_home(tmp_path, monkeypatch):
    assert resolve_data_dir() == tmp_path / "home/.cache/stn_jax"
    monkeypatch.setenv("STN_DATA_DIR", "")
    assert resolve_data_dir() == tmp_path / "home/.cache/stn_jax"
    monkeypatch.setenv("STN_DATA_DIR", "~/data")
    assert resolve_data_dir() == tmp_path / "home/data"
    assert resolve_data_dir(tmp_path / "given") == tmp_path / "given"


def test_a_given_place_without_data_is_not_replaced_by_another(tmp_path, arrays, monkeypatch):
    write_idx(tmp_path / "filled", arrays)
    monkeypatch.setenv("STN_DATA_DIR", str(tmp_path / "filled"))
    assert_same(mnist.load(), arrays)
    with pytest.raises(DataNotFoundError):
        mnist.load(tmp_path / "empty")


def test_missing_data_fail_at_once_and_say_where_they_should_be(tmp_path):
    place = tmp_path / "nowhere"
    start = time.perf_counter()
    with pytest.raises(DataNotFoundError) as caught:
        mnist.load(place)
    assert time.perf_counter() - start < 0.5
    message = str(caught.value)
    assert "STN_DATA_DIR" in message
    assert f"python scripts/prepare_data.py mnist --data-dir {place}\n" in message
    for path in (
        *(f"{place}{sub}/{{{','.join(NAMES)}}}" for sub in ("", "/mnist")),
        *(f"{place}{sub}/dataset_info.json" for sub in ("", "/stn_mnist/1.0.0", "/mnist/3.0.1")),
    ):
        assert path in message
    assert not place.exists()


def test_idx_files_need_nothing_but_numpy(tmp_path, arrays):
    """A bare GPU node: every import of another package fails."""
    write_idx(tmp_path, arrays, gz=True)
    program = f"""
import sys
class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in sys.stdlib_module_names | {{"numpy", "stn_jax"}}:
            raise ImportError(name)
sys.meta_path.insert(0, OnlyNumPy())
for name in ("jax", "tensorflow_datasets"):
    assert name not in sys.modules
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError("the blockade does not work")
from stn_jax.data import mnist
print(mnist.load({str(tmp_path)!r}).fingerprint)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == mnist.load(tmp_path).fingerprint


# --- the builder


def test_builder_describes_what_it_downloads(tmp_path):
    builder = mnist_builder.builder_class()(data_dir=tmp_path)
    assert builder.info.full_name == "stn_mnist/1.0.0"
    assert "10,000 for testing" in builder.info.description
    assert "Gradient-based learning" in builder.info.citation
    assert {f"{mnist_builder.URL}{name}.gz" for name in NAMES} == builder.url_infos.keys()

    # TFDS keeps the sums of the same files for its own builder.
    import tensorflow_datasets as tfds

    path = tfds.core.tfds_path("url_checksums/mnist.txt")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert {url: (int(size), checksum) for url, size, checksum, _ in lines} == {
        url: (info.size, info.checksum) for url, info in builder.url_infos.items()
    }


# --- the published files, where there are some


def test_published_mnist():
    try:
        digits = mnist.load()
    except DataNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    assert digits.train_images.shape == (60_000, 28, 28, 1)
    assert digits.test_images.shape == (10_000, 28, 28, 1)
    assert digits.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(digits.train_labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert digits.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert digits.train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert digits.fingerprint == mnist.PUBLISHED_FINGERPRINT
    assert "NOT" not in digits.source

    # The labels that TFDS's own builder is known to begin with.
    stored = digits.train_labels[mnist._tfds_order("train", 60_000)]
    assert stored[:10].tolist() == [4, 1, 0, 7, 8, 1, 2, 7, 1, 6]


def test_published_files_have_the_published_md5():
    place = resolve_data_dir()
    paths = idx.find(place) or idx.find(place / "mnist")
    if not paths or {p.name for p in paths.values()} != PUBLISHED_MD5.keys():
        pytest.skip(f"no gzipped idx files in {place}")
    for path in paths.values():
        assert hashlib.md5(path.read_bytes()).hexdigest() == PUBLISHED_MD5[path.name]
