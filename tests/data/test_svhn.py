import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_jax.data import archives, digit_struct, svhn, svhn_crops, svhn_files, svhn_prepare
from stn_jax.data.types import DataNotFoundError, fingerprint, resolve_data_dir
from tests.data import svhn_synthetic as synthetic

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_place(monkeypatch, tmp_path, request):
    """Keep the developer's own data out of all tests but the one that wants them."""
    if "already" not in request.node.name:
        monkeypatch.delenv("STN_DATA_DIR", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def source(tmp_path):
    synthetic.write_folder(tmp_path / "source/train", synthetic.random_entries(23))
    synthetic.write_folder(tmp_path / "source/test", synthetic.random_entries(7, seed=1))
    return tmp_path / "source"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place"


def contents(folder):
    """All bytes of what was written, without where it came from."""
    found = {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix == ".npy"
    }
    for path in folder.rglob("info.json"):
        text = re.sub(r'"source": "[^"]*"', "", path.read_text())
        found[str(path.relative_to(folder))] = text.encode()
    return found


def tree(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def assert_crops(numbers, entries, size):
    """Everything again, image by image, from the entries as they were made up."""
    assert [len(array) for array in numbers] == [len(entries)] * 3
    assert [array.dtype for array in numbers] == [np.uint8, np.uint8, np.float32]
    for image, label, box, (name, labels, boxes) in zip(*numbers, entries, strict=True):
        picture = Image.open(io.BytesIO(synthetic.png(name)))
        left, top = np.min(boxes, axis=0)[:2]
        right, bottom = np.max([np.array(b[:2]) + b[2:] for b in boxes], axis=0)
        around = np.array([left, top, right, bottom], float)
        wider = around + 0.15 * np.array([left - right, top - bottom, right - left, bottom - top])
        if size == 128:
            wider = 1.5 * wider - 0.5 * wider[[2, 3, 0, 1]]
        np.testing.assert_array_equal(image, svhn_crops.crop(picture, wider, size=size))
        digits = [label % 10 for label in labels]
        assert label.tolist() == digits + [svhn.NO_DIGIT] * (5 - len(labels))
        half = 32 / 1.3
        expected = size / 2 + np.array([-half, -half, half, half])
        np.testing.assert_allclose(box, expected, rtol=1e-5)


# --- what is written and read


@pytest.mark.parametrize("size", svhn.SIZES)
def test_crops_labels_and_boxes(source, place, size):
    svhn_prepare.prepare(source, place, sizes=[size])
    data = svhn.load(place, size=size)
    assert list(data.splits) == ["train", "test"]
    assert data.name == f"svhn_{size}"
    assert_crops(data.splits["train"], synthetic.random_entries(23), size)
    assert_crops(data.splits["test"], synthetic.random_entries(7, seed=1), size)
    assert isinstance(data.splits["train"].image, np.memmap)
    assert data.counts["train"]["entries"] == data.counts["train"]["written"] == 23
    assert not list((place / "svhn").glob("partial"))


def test_archives_and_folders_and_sizes_together_or_apart_are_the_same(source, tmp_path):
    synthetic.write_folder(source / "extra", synthetic.random_entries(11, seed=2))
    packed = tmp_path / "packed"
    packed.mkdir()
    for split, last in (("train", True), ("test", False), ("extra", True)):
        synthetic.pack(source / split, last=last).rename(packed / f"{split}.tar.gz")
    svhn_prepare.prepare(source, tmp_path / "a", sizes=[64, 128])
    svhn_prepare.prepare(packed, tmp_path / "b", sizes=[128])
    svhn_prepare.prepare(packed, tmp_path / "b", sizes=[64])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 2 * (3 * 3 + 1)
    assert list(svhn.load(tmp_path / "a", size=64).splits) == ["train", "test", "extra"]


def test_finished_splits_are_left_alone(source, place):
    svhn_prepare.prepare(source, place, sizes=[64])
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*.npy")}
    shutil.rmtree(source / "train")
    (source / "train").mkdir()
    (source / "train/digitStruct.mat").write_bytes(b"")  # not even looked at
    synthetic.write_folder(source / "extra", synthetic.random_entries(3))
    svhn_prepare.prepare(source, place, sizes=[64])
    assert before.items() <= {p: p.stat().st_mtime_ns for p in place.rglob("*.npy")}.items()
    assert len(svhn.load(place, size=64).splits["extra"].label) == 3


def test_fingerprints(source, place, tmp_path):
    svhn_prepare.prepare(source, place, sizes=[64])
    data = svhn.load(place, size=64)
    info = json.loads((place / "svhn/64/info.json").read_text())
    assert info["splits"]["test"]["fingerprint"] == fingerprint(*data.splits["test"])
    assert re.fullmatch("[0-9a-f]{16}", data.fingerprint)
    entries = synthetic.random_entries(23)
    entries[5][1][0] = entries[5][1][0] % 10 + 1
    synthetic.write_folder(source / "train", entries)
    svhn_prepare.prepare(source, tmp_path / "other", sizes=[64])
    assert svhn.load(tmp_path / "other", size=64).fingerprint != data.fingerprint


def test_loading_does_not_read_the_images(source, place):
    svhn_prepare.prepare(source, place, sizes=[64])
    path = place / "svhn/64/train_images.npy"
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\0" * 64)
    svhn.load(place, size=64)  # as long as the shape is right


def test_other_counts_than_the_published_are_called_so(source, place, monkeypatch, caplog):
    svhn_prepare.prepare(source, place, sizes=[64])
    with caplog.at_level(logging.WARNING):
        assert "NOT the published SVHN: 23 images in train, not 33402" in (
            svhn.load(place, size=64).source
        )
    assert "NOT the published" in caplog.text
    caplog.clear()
    monkeypatch.setattr(svhn, "PUBLISHED_COUNTS", {"train": 23, "test": 7})
    assert "NOT" not in svhn.load(place, size=64).source
    assert not caplog.records
    (source / "train/3.png").unlink()
    (source / "train/5.png").write_bytes(b"no image")
    shutil.rmtree(place)
    svhn_prepare.prepare(source, place, sizes=[64])
    assert "NOT the published SVHN: 2 images of train are missing or damaged" in (
        svhn.load(place, size=64).source
    )


# --- problems


PROBLEMS = [
    ("no_boxes", [], []),
    ("too_long", [1] * 6, [[i * 6, 3, 5, 9] for i in range(6)]),
    ("bad_label", [3, 11], [[2, 3, 5, 9], [8, 3, 5, 9]]),
    ("no_usable_box", [3], [[80, 3, 5, 9]]),
    ("clipped_box", [3, 4], [[-2, 3, 5, 9], [8, 3, 5, 9]]),
    ("empty_box", [3, 4], [[2, 3, 0, 9], [8, 3, 5, 9]]),
    ("outside_box", [3, 4], [[2, -30, 5, 9], [8, 3, 5, 9]]),
    ("missing_image", [3], [[12, 9, 15, 9]]),
    ("unreadable_image", [3], [[12, 9, 15, 9]]),
    ("unreadable_image", [4], [[12, 9, 15, 9]]),
    ("unreadable_image", [5], [[12, 9, 15, 9]]),
    ("unreadable_image", [6], [[12, 9, 15, 9]]),
]


def miscopied(name):
    """Return an image with one bit of its last chunk's checksum turned; Pillow decodes it."""
    content = bytearray(synthetic.png(name))
    content[-13] ^= 1
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    return bytes(content)


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_each_kind_of_problem_is_counted_and_named(source, place, form):
    entries = synthetic.random_entries(5)
    for i, (_, labels, boxes) in enumerate(PROBLEMS):
        entries.insert(2 * i % 7, (f"p{i}.png", labels, boxes))
    images = {"p7.png": None, "p8.png": b"no image", "p9.png": synthetic.png("p9.png")[:-60]}
    images["p10.png"] = miscopied("p10.png")
    content = synthetic.png("p11.png")
    images["p11.png"] = content[: content.index(b"IDAT") - 4] + content[-12:]  # no pixels
    shutil.rmtree(source / "train")
    synthetic.write_folder(source / "train", entries, images=images)
    if form == "archive":
        synthetic.pack(source / "train")
        shutil.rmtree(source / "train")
    svhn_prepare.prepare(source, place, sizes=[64])

    data = svhn.load(place, size=64)
    kinds = [kind for kind, *_ in PROBLEMS]
    counts = data.counts["train"]
    dropped = sum(kind in svhn_prepare.DROPPED for kind in kinds)
    assert counts["entries"] == 5 + len(PROBLEMS)
    assert counts["written"] == counts["entries"] - dropped == 8
    expected = {k: kinds.count(k) for k in (*svhn_prepare.DROPPED, *svhn_prepare.KEPT)}
    del expected["filled_crop"]
    assert expected.items() <= counts.items()
    assert set(kinds) == expected.keys()

    # Those that are kept stand in their order, with all digits.
    left = [e for e in entries if e[0][0] != "p" or e[0] in ("p4.png", "p5.png", "p6.png")]
    numbers = data.splits["train"]
    assert [label.tolist()[: len(e[1])] for label, e in zip(numbers.label, left, strict=True)] == [
        [label % 10 for label in e[1]] for e in left
    ]
    row = [e[0] for e in left].index("p5.png")
    image = Image.open(io.BytesIO(synthetic.png("p5.png")))
    region = np.array([8 - 0.75, 3 - 1.35, 13 + 0.75, 12 + 1.35])  # of the other box alone
    np.testing.assert_array_equal(numbers.image[row], svhn_crops.crop(image, region, size=64))

    said = "\n".join(svhn_prepare.describe(place / "svhn/64"))
    assert "train: 8 crops of 17 images" in said
    for i, kind in enumerate(kinds):
        fate = "left out" if kind in svhn_prepare.DROPPED else "kept"
        assert re.search(rf"{fate}: \d with {kind} \(.*\): .*p{i}\.png", said)
    assert f"delete {place / 'svhn/64'} to prepare it again once those files are mended" in said


def test_a_crop_that_is_filled_is_counted(source, place):
    entries = [("a.png", [1], [[15, 10, 8, 8]]), ("b.png", [1], [[15, 1, 8, 20]])]
    synthetic.write_folder(source / "train", entries)
    svhn_prepare.prepare(source, place, sizes=[64, 128])
    info = {s: svhn.read_info(place / f"svhn/{s}")["splits"]["train"] for s in svhn.SIZES}
    assert info[64]["problems"]["filled_crop"] == {"count": 1, "examples": ["b.png"]}
    assert info[128]["problems"]["filled_crop"] == {"count": 1, "examples": ["b.png"]}


def test_all_images_missing_is_no_crash(source, place):
    for path in (source / "train").glob("*.png"):
        path.unlink()
    svhn_prepare.prepare(source, place, sizes=[64])
    data = svhn.load(place, size=64)
    assert data.splits["train"].image.shape == (0, 64, 64, 3)
    assert data.counts["train"]["missing_image"] == 23


@pytest.mark.parametrize("keep", [0, 30, 0.3, 0.9, -12])
def test_an_archive_that_is_cut_short_is_refused_and_then_continued(source, place, keep):
    archive = synthetic.pack(source / "train", last=False)
    folder = source / "train"
    shutil.rmtree(folder)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    for _ in range(2):  # not taken for complete the second time either
        with pytest.raises(ValueError, match=f"{archive}: .*(cut short|has no digit)") as caught:
            svhn_prepare.prepare(source, place, sizes=[64])
        assert "\n" not in str(caught.value)
        with pytest.raises(DataNotFoundError):
            svhn.load(place, size=64)
    archive.write_bytes(content)
    svhn_prepare.prepare(source, place, sizes=[64])
    assert_crops(svhn.load(place, size=64).splits["train"], synthetic.random_entries(23), 64)


@pytest.mark.parametrize("what", ["archive", "digitStruct"])
def test_damaged_sources_are_named_by_what_the_user_has(source, place, what):
    if what == "digitStruct":
        path = source / "train/digitStruct.mat"
        path.write_bytes(path.read_bytes()[:3000])
    archive = synthetic.pack(source / "train")
    if what == "archive":
        content = archive.read_bytes()
        archive.write_bytes(content[:-400] + bytes(300) + content[-100:])
    shutil.rmtree(source / "train")
    with pytest.raises(ValueError, match=re.escape(str(archive))) as caught:
        svhn_prepare.prepare(source, place, sizes=[64])
    assert "partial" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_of_something_else(source, place, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/readme.txt").write_text("hello")
    synthetic.pack(tmp_path / "train").replace(source / "train.tar.gz")
    shutil.rmtree(source / "train")
    with pytest.raises(ValueError, match="has no digitStruct.mat"):
        svhn_prepare.prepare(source, place, sizes=[64])


def test_an_image_that_is_described_twice(source, place):
    entries = synthetic.random_entries(4)
    synthetic.write_folder(source / "train", [*entries, entries[2]])
    with pytest.raises(ValueError, match=r"describes 3\.png 2 times"):
        svhn_prepare.prepare(source, place, sizes=[64])


def test_sources_that_lack_what_is_asked_for(source, place, tmp_path):
    with pytest.raises(FileNotFoundError, match="has none of train.tar.gz, test.tar.gz, extra"):
        svhn_prepare.prepare(tmp_path / "nowhere", place, sizes=[64])
    with pytest.raises(FileNotFoundError, match="has none of extra.tar.gz"):
        svhn_prepare.prepare(source, place, sizes=[64], splits=["test", "extra"])
    (source / "train/digitStruct.mat").unlink()
    with pytest.raises(FileNotFoundError, match="train lacks digitStruct.mat"):
        svhn_files.find(source)
    with pytest.raises(ValueError, match="size 32 is not one of 64, 128"):
        svhn_prepare.prepare(source, place, sizes=[32])
    assert not place.exists()


# --- interruptions


class Stop(Exception):
    """Raised in the middle of something."""


@pytest.mark.parametrize("missing", [False, True])
def test_interrupted_anywhere_it_ends_with_the_same_bytes(source, tmp_path, monkeypatch, missing):
    """Every write, move and removal in turn is the last thing that happens."""
    if missing:
        (source / "train/4.png").unlink()
        (source / "train/23.png").unlink()
    monkeypatch.setattr(svhn_prepare, "_COMMIT_EVERY", 5)
    monkeypatch.setattr(svhn_prepare.os, "fsync", lambda _: None)  # slow, and not cut off here
    svhn_prepare.prepare(source, tmp_path / "whole", sizes=[64])
    expected, place = contents(tmp_path / "whole"), tmp_path / "place"
    left = 0

    def counted(function):
        def call(*args, **options):
            nonlocal left
            left -= 1
            if left == 0:
                raise Stop
            return function(*args, **options)

        return call

    for owner, name in (
        (svhn_prepare, "_write_at"),
        (svhn_prepare, "_replace"),
        (svhn_prepare.shutil, "rmtree"),
        (Path, "replace"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    steps = 1
    while True:
        left = steps
        try:
            svhn_prepare.prepare(source, place, sizes=[64])
        except Stop:
            pass
        else:
            break
        left = 0
        if steps % 3:  # often the next call is interrupted, too, and what is there stays
            svhn_prepare.prepare(source, place, sizes=[64])
            assert contents(place) == expected, steps
            assert not (place / "svhn/partial").exists(), steps
            for path in sorted(place.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        steps += 1
    assert steps > 30
    assert contents(place) == expected


def test_killed_it_goes_on_and_ends_with_the_same_bytes(source, tmp_path):
    entries = synthetic.random_entries(150)
    archive = synthetic.pack(synthetic.write_folder(source / "train", entries), last=False)
    shutil.rmtree(source / "train")
    assert archive.is_file()
    svhn_prepare.prepare(source, tmp_path / "whole", sizes=[64])
    place = tmp_path / "place"
    program = f"""
import time
from pathlib import Path
from stn_jax.data import svhn_crops, svhn_prepare
svhn_prepare._COMMIT_EVERY = 20
crop = svhn_crops.crop
def slow(*args, **options):
    time.sleep(0.004)
    return crop(*args, **options)
svhn_crops.crop = slow
svhn_prepare.prepare(Path({str(source)!r}), Path({str(place)!r}), sizes=[64])
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    states = place / "svhn/partial/train-64/states"
    deadline = time.monotonic() + 60
    while not (states.is_file() and np.count_nonzero(np.fromfile(states, np.uint8)) > 30):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = np.fromfile(states, np.uint8)
    assert 30 < np.count_nonzero(done) < 150
    seen = []
    images = svhn_files.images

    def watched(path, wanted):
        seen.append(len(wanted))
        return images(path, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svhn_files, "images", watched)
        svhn_prepare.prepare(source, place, sizes=[64])
    assert seen[0] == 150 - np.count_nonzero(done)
    assert contents(place) == contents(tmp_path / "whole")
    assert tree(place) == tree(tmp_path / "whole")


def test_what_was_begun_from_other_boxes_is_not_continued(source, place, tmp_path, monkeypatch):
    monkeypatch.setattr(svhn_prepare, "_COMMIT_EVERY", 1)
    decode, calls = archives.decode, []

    def stops(content):
        calls.append(content)
        if len(calls) > 9:
            raise Stop
        return decode(content)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(archives, "decode", stops)
        svhn_prepare.prepare(source, place, sizes=[64])
    synthetic.write_folder(source / "train", synthetic.random_entries(23, seed=5))
    svhn_prepare.prepare(source, place, sizes=[64])
    svhn_prepare.prepare(source, tmp_path / "whole", sizes=[64])
    assert contents(place) == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_costs_nothing(source, place, tmp_path, monkeypatch):
    write_at, written = svhn_prepare._write_at, []

    def fills_up(file, offset, content):
        if len(content) == 64 * 64 * 3 and len(written) == 14:
            raise OSError(28, "No space left on device")
        written.append(offset)
        write_at(file, offset, content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(svhn_prepare, "_write_at", fills_up)
        svhn_prepare.prepare(source, place, sizes=[64])
    states = np.fromfile(place / "svhn/partial/train-64/states", np.uint8)
    assert np.count_nonzero(states) == 14
    svhn_prepare.prepare(source, place, sizes=[64])
    svhn_prepare.prepare(source, tmp_path / "whole", sizes=[64])
    assert contents(place) == contents(tmp_path / "whole")


def test_too_little_space_is_told_before_the_work(source, place, monkeypatch):
    usage = shutil.disk_usage(source)._replace(free=200_000)
    monkeypatch.setattr(svhn_prepare.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(svhn_files, "images", None)
    with pytest.raises(OSError, match="0 MB are needed, 0 MB are free"):
        svhn_prepare.prepare(source, place, sizes=[64])


def test_a_nearly_full_disk_takes_a_part_at_a_time():
    class Slow(io.BytesIO):
        def write(self, content):
            return super().write(content[:3])

    file = Slow(b"........")
    svhn_prepare._write_at(file, 1, b"abcdefg")
    assert file.getvalue() == b".abcdefg"


# --- loading


def test_missing_data_fail_at_once_and_say_how_to_get_them(source, place):
    with pytest.raises(DataNotFoundError) as caught:
        svhn.load(place, size=128)
    message = str(caught.value)
    assert "No train and no test split" in message and "STN_DATA_DIR" in message
    assert f"python scripts/prepare_data.py svhn --data-dir {place} --size 128\n" in message
    svhn_prepare.prepare(source, place, sizes=[64], splits=["train"])
    with pytest.raises(DataNotFoundError, match="No test split"):
        svhn.load(place, size=64)
    with pytest.raises(ValueError, match="size 54 is not one of 64, 128"):
        svhn.load(place, size=54)


def test_the_place_of_the_environment(source, place, monkeypatch):
    svhn_prepare.prepare(source, place, sizes=[64])
    monkeypatch.setenv("STN_DATA_DIR", str(place))
    assert str(place) in svhn.load(size=64).source


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["images", "labels", "boxes"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "other shape"])
def test_damaged_files_are_refused_by_name(tmp_path_factory, split, name, damage):
    place = prepared_once(tmp_path_factory)
    path = place / f"svhn/64/{split}_{name}.npy"
    content = path.read_bytes()
    try:
        match damage:
            case "cut":
                path.write_bytes(content[:-5])
            case "emptied":
                path.write_bytes(b"")
            case "removed":
                path.unlink()
            case "other shape":
                np.save(path, np.zeros((2, 2), np.uint8))
        for use in (lambda: svhn.load(place, size=64), lambda: again(place)):
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*prepare it again"):
                use()
    finally:
        path.write_bytes(content)


def again(place):
    svhn_prepare.prepare(place.parent / "source", place, sizes=[64])


def prepared_once(factory, _made=[]):  # noqa: B006
    if not _made:
        folder = factory.mktemp("svhn")
        for split in ("train", "test"):
            synthetic.write_folder(folder / "source" / split, synthetic.random_entries(6))
        again(folder / "place")
        _made.append(folder / "place")
    return _made[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 1, "splits": {"train": {}}}', "damaged"),
        ('{"format": 2, "splits": {}}', "of format 2, but this version reads 1"),
    ],
)
def test_a_damaged_info_is_refused(place, text, reason):
    (place / "svhn/64").mkdir(parents=True)
    (place / "svhn/64/info.json").write_text(text)
    with pytest.raises(ValueError, match=f"info.json: {reason}.*prepare it again"):
        svhn.load(place, size=64)


def test_loading_needs_nothing_but_numpy(tmp_path_factory):
    place = prepared_once(tmp_path_factory)
    program = f"""
import sys
class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in sys.stdlib_module_names | {{"numpy", "stn_jax"}}:
            raise ImportError(name)
sys.meta_path.insert(0, OnlyNumPy())
from stn_jax.data import svhn
print(svhn.load({str(place)!r}, size=64).fingerprint)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == svhn.load(place, size=64).fingerprint


# --- real data, where there are some


@pytest.mark.parametrize("size", svhn.SIZES)
def test_prepared_already(size):
    try:
        data = svhn.load(size=size)
    except DataNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    for split, numbers in data.splits.items():
        written = data.counts[split]["written"]
        assert len(numbers.image) == written >= 0.99 * data.counts[split]["entries"]
        labels = numbers.label.astype(int)
        assert labels.max() <= svhn.NO_DIGIT and (labels[:, 0] < svhn.NO_DIGIT).all()
        # No digit follows where there was none, and digit 0 is neither missing nor first often.
        assert ((labels[:, :-1] < 10) | (labels[:, 1:] == 10)).all()
        shares = np.bincount(labels[labels < 10], minlength=10) / (labels < 10).sum()
        assert shares.min() > 0.03 and shares.argmax() == 1
        assert (labels[:, 0] == 0).mean() < 0.05
        # Digits differ from what is around them more than the rest of the crop does.
        sample = numbers.image[:: max(1, written // 500)].astype(float)
        half = round(float(numbers.box[0, 2]) - size / 2)
        middle = sample[:, size // 2 - half : size // 2 + half, size // 2 - half : size // 2 + half]
        assert (
            middle.std(axis=(1, 2)).mean()
            > 1.2 * sample[:, :, : size // 16].std(axis=(1, 2)).mean()
            or len(sample) < 100
        )
    assert data.source.startswith(f"crops in {resolve_data_dir()}")


def test_boxes_that_are_there_already_equal_a_literal_readers():
    place = os.environ.get("STN_DATA_DIR")
    path = Path(place or "/nowhere") / "svhn/test/digitStruct.mat"
    if not path.is_file():
        pytest.skip(f"no {path}")
    for entry, (name, labels, boxes) in zip(
        digit_struct.read(path), synthetic.read_plainly(path), strict=True
    ):
        assert entry.name == name
        assert entry.labels.tolist() == [label % 10 for label in labels]
        np.testing.assert_array_equal(entry.boxes, boxes)
