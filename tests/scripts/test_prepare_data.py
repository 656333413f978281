import contextlib
import gzip
import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scripts import prepare_data
from stn_jax.data import cub, cub_files, gtsrb, mnist, mnist_builder, svhn, svhn_files
from tests.data import cub_synthetic, gtsrb_synthetic, svhn_synthetic

SCRIPT = Path(prepare_data.__file__)
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_idx(folder, *, gz=False):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, shape in zip(NAMES, [(12, 28, 28), (12,), (5, 28, 28), (5,)], strict=True):
        values = rng.integers(0, 10, shape, np.uint8)
        data = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + values.tobytes()
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """An empty place, also for what no --data-dir is given to."""
    monkeypatch.setenv("STN_DATA_DIR", str(tmp_path / "place"))
    return tmp_path / "place"


@contextlib.contextmanager
def served(folder):
    """Serve a folder's files on this machine; gives the URL that their names follow."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def publisher(monkeypatch, tmp_path):
    """A server with small files, of which the builder knows the checksums."""
    folder = tmp_path / "published"
    write_idx(folder, gz=True)

    with served(folder) as url:
        known = {
            url + path.name: type(info)(
                size=path.stat().st_size,
                checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
                filename=path.name,
            )
            for path in folder.iterdir()
            for info in [next(iter(mnist_builder.builder_class().url_infos.values()))]
        }
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(mnist_builder, "URL", url)
        monkeypatch.setattr(mnist_builder.builder_class(), "url_infos", known)
        yield folder


def test_from_local_files_then_says_that_it_is_there(tmp_path, place, capsys):
    write_idx(tmp_path / "idx")
    arguments = ["mnist", "--data-dir", str(tmp_path / "chosen"), "--from", str(tmp_path / "idx")]
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    expected = mnist.load(tmp_path / "idx").fingerprint
    assert f"from {tmp_path / 'idx'}" in said
    assert "12 + 5 digits" in said and f"fingerprint {expected}" in said
    assert mnist.load(tmp_path / "chosen").fingerprint == expected
    assert not place.exists()

    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "chosen").rglob("*")}
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    assert said.startswith("Already there, nothing done: mnist, 12 + 5 digits")
    assert "Prepar" not in said
    assert written == {p: p.stat().st_mtime_ns for p in (tmp_path / "chosen").rglob("*")}


def test_downloads_into_the_place_of_the_environment(publisher, place, capsys):
    prepare_data.main(["mnist"])
    assert mnist.load(place).fingerprint == mnist.load(publisher).fingerprint
    assert str(place / "stn_mnist/1.0.0") in capsys.readouterr().out


def test_a_download_with_another_checksum_is_refused(publisher, place):
    path = publisher / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\x09"))
    with pytest.raises(SystemExit, match="t10k-labels-idx1-ubyte.gz.* wrong checksum") as caught:
        prepare_data.main(["mnist"])
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        mnist.load(place)


@pytest.mark.parametrize("answers", [False, True])
def test_without_a_network_fails_within_seconds(monkeypatch, place, answers):
    """Nobody listens, or somebody accepts the connection and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(mnist_builder, "URL", f"http://127.0.0.1:{port}/")
        monkeypatch.setattr(prepare_data, "CONNECT_TIMEOUT", 0.5)
        start = time.perf_counter()
        with pytest.raises(
            SystemExit, match=r"^prepare_data.py mnist: cannot download .*--from DIR"
        ) as e:
            prepare_data.main(["mnist"])
    assert time.perf_counter() - start < 3
    assert "\n" not in str(e.value)
    assert not place.exists()


def test_from_a_folder_without_the_files(tmp_path):
    with pytest.raises(SystemExit, match=f"--from {tmp_path} has none of train-images-idx3-ubyte"):
        prepare_data.main(["mnist", "--from", str(tmp_path)])


def test_an_incomplete_place_is_reported_not_prepared_around(tmp_path, place):
    write_idx(tmp_path / "idx")
    write_idx(place)
    (place / NAMES[2]).unlink()
    with pytest.raises(SystemExit, match=f"lacks {NAMES[2]}"):
        prepare_data.main(["mnist", "--from", str(tmp_path / "idx")])
    assert not (place / "stn_mnist").exists()


def test_damaged_source_leaves_nothing_prepared(tmp_path, place):
    write_idx(tmp_path / "idx")
    (tmp_path / "idx" / NAMES[3]).write_bytes(b"")
    with pytest.raises(SystemExit, match=NAMES[3]):
        prepare_data.main(["mnist", "--from", str(tmp_path / "idx")])
    with pytest.raises(FileNotFoundError):
        mnist.load(place)


# --- SVHN


@pytest.fixture
def numbers(tmp_path):
    """A folder with the three splits, unpacked and packed."""
    for split, count in (("train", 9), ("test", 5), ("extra", 7)):
        entries = svhn_synthetic.random_entries(count)
        folder = svhn_synthetic.write_folder(tmp_path / "numbers" / split, entries)
        svhn_synthetic.pack(folder)
    return tmp_path / "numbers"


def test_svhn_from_local_files_then_says_that_it_is_there(tmp_path, place, numbers, capsys):
    (numbers / "train/4.png").unlink()
    arguments = ["svhn", "--from", str(numbers), "--size", "64", "128"]
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    assert "train: 8 crops of 9 images" in said
    assert "left out: 1 with missing_image (there is no such image): 4.png" in said
    for size in svhn.SIZES:
        assert list(svhn.load(place, size=size).splits) == list(svhn.SPLITS)
        assert svhn.load(place, size=size).fingerprint in said
    written = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    assert said.startswith("Already there, nothing done:") and "missing_image" in said
    assert "Prepar" not in said
    assert written == {p: p.stat().st_mtime_ns for p in place.rglob("*")}


def test_svhn_without_extra(place, numbers):
    prepare_data.main(["svhn", "--from", str(numbers), "--no-extra"])
    assert list(svhn.load(place, size=64).splits) == ["train", "test"]
    with pytest.raises(FileNotFoundError):
        svhn.load(place, size=128)
    prepare_data.main(["svhn", "--from", str(numbers)])
    assert list(svhn.load(place, size=64).splits) == list(svhn.SPLITS)


def test_svhn_without_a_broken_extra(place, numbers):
    (numbers / "extra/digitStruct.mat").unlink()
    (numbers / "extra.tar.gz").unlink()
    prepare_data.main(["svhn", "--from", str(numbers), "--no-extra"])
    assert list(svhn.load(place, size=64).splits) == ["train", "test"]
    with pytest.raises(SystemExit, match="extra lacks digitStruct.mat"):
        prepare_data.main(["svhn", "--from", str(numbers)])


def test_svhn_is_not_looked_for_in_a_folder_without_it(place, numbers, tmp_path):
    prepare_data.main(["svhn", "--from", str(numbers)])
    with pytest.raises(SystemExit, match="nowhere has none of train.tar.gz, test.tar.gz, extra"):
        prepare_data.main(["svhn", "--from", str(tmp_path / "nowhere")])


def test_svhn_that_lacks_a_needed_split_is_not_begun(place, numbers):
    shutil.rmtree(numbers / "test")
    (numbers / "test.tar.gz").unlink()
    with pytest.raises(SystemExit, match="has none of test.tar.gz, nor their folders"):
        prepare_data.main(["svhn", "--from", str(numbers)])
    assert not (place / "svhn").exists()


@pytest.mark.parametrize("name", ["svhn", "gtsrb"])
def test_a_place_is_prepared_by_one_process_at_a_time(tmp_path, place, numbers, name):
    signs = gtsrb_synthetic.write_official(tmp_path / "signs")
    source = {"svhn": numbers, "gtsrb": signs}[name]
    busy = pytest.raises(SystemExit, match=f"another process is preparing {name} in")
    with prepare_data.alone(place, name), busy:
        prepare_data.main([name, "--from", str(source)])
    prepare_data.main([name, "--from", str(source)])


def test_svhn_of_two_sources_is_not_mixed(place, numbers, tmp_path):
    """A part of SVHN is there; the rest is not put beside it from elsewhere."""
    prepare_data.main(["svhn", "--from", str(numbers), "--no-extra"])
    other = shutil.copytree(numbers, tmp_path / "other")
    for words in (["svhn", "--from", str(other)], ["svhn"]):
        with pytest.raises(SystemExit, match=r"images of train from .*: delete .*/64 to replace"):
            prepare_data.main(words)
    assert list(svhn.load(place, size=64).splits) == ["train", "test"]


def test_svhn_is_downloaded_once(place, numbers, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with served(numbers) as url:
        monkeypatch.setattr(svhn_files, "URL", url)
        known = {
            split: (0, hashlib.sha256((numbers / f"{split}.tar.gz").read_bytes()).hexdigest())
            for split in svhn.SPLITS
        }
        monkeypatch.setattr(svhn_files, "CHECKSUMS", known)
        prepare_data.main(["svhn"])
    assert {p.name for p in (place / "svhn/archives").iterdir()} == {
        f"{split}.tar.gz" for split in svhn.SPLITS
    }
    assert len(svhn.load(place, size=64).splits["extra"].label) == 7
    prepare_data.main(["svhn", "--size", "128"])  # nobody answers any more


def test_svhn_without_a_network_or_files(tmp_path, place, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        port = listener.getsockname()[1]
        monkeypatch.setattr(svhn_files, "URL", f"http://127.0.0.1:{port}/")
        monkeypatch.setattr(prepare_data, "CONNECT_TIMEOUT", 0.3)
        with pytest.raises(SystemExit, match=r"cannot download .*train.tar.gz .*--from DIR") as e:
            prepare_data.main(["svhn"])
    assert "\n" not in str(e.value)
    assert [path for path in place.rglob("*") if path.is_file()] == [place / "svhn/lock"]
    with pytest.raises(SystemExit, match="has none of train.tar.gz, test.tar.gz, nor their"):
        prepare_data.main(["svhn", "--from", str(tmp_path)])


def test_svhn_failures_are_one_line(numbers, place):
    (numbers / "test/digitStruct.mat").write_bytes(b"")
    with pytest.raises(SystemExit, match="^prepare_data.py svhn: .*digitStruct.mat") as e:
        prepare_data.main(["svhn", "--from", str(numbers)])
    assert "\n" not in str(e.value)


def test_help_explains_itself():
    def help_of(*words):
        return subprocess.run(
            [sys.executable, SCRIPT, *words, "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert all(name in help_of() for name in (*prepare_data.PREPARE, "--from", "STN_DATA_DIR"))
    assert "four idx files" in help_of("mnist")
    assert "extra.tar.gz" in help_of("svhn")


def test_unknown_data_set_names_the_known(capsys):
    with pytest.raises(SystemExit):
        prepare_data.main(["cifar"])
    assert "choose from" in capsys.readouterr().err


# GTSRB


def test_gtsrb_from_local_files_then_says_that_it_is_there(tmp_path, place, capsys):
    files = gtsrb_synthetic.write_official(tmp_path / "signs")
    (files / "Final_Test/Images/00003.ppm").unlink()
    arguments = ["gtsrb", "--from", str(files), "--size", "16", "8"]
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    assert "16 train: 18 of 18 images\n" in said
    assert "8 test: 6 of 7 images, 1 missing or damaged" in said
    for size in (16, 8):
        assert gtsrb.load(place, size=size).fingerprint in said
    prepare_data.main(arguments[:1] + arguments[3:])
    assert capsys.readouterr().out.startswith("Already there, nothing done:")


def test_gtsrb_from_other_pixels_than_what_is_there(tmp_path, place):
    """Sheets were prepared first: the originals must not be taken for done."""
    sheets = gtsrb_synthetic.write_sheets(tmp_path / "sheets")
    originals = gtsrb_synthetic.write_official(tmp_path / "originals")
    prepare_data.main(["gtsrb", "--from", str(sheets), "--size", "16"])
    message = r"16 was made from images of 32x32 in .*sheets, and .*originals has the original"
    with pytest.raises(SystemExit, match=message + ".*: delete .*16 to replace it"):
        prepare_data.main(["gtsrb", "--from", str(originals), "--size", "16"])
    shutil.rmtree(gtsrb.folder_of(place, 16))
    prepare_data.main(["gtsrb", "--from", str(originals), "--size", "16"])
    assert gtsrb.load(place, size=16).name == "gtsrb_16"


def test_gtsrb_without_files(tmp_path, place):
    with pytest.raises(SystemExit, match=r"^prepare_data.py gtsrb: get the archives at https://"):
        prepare_data.main(["gtsrb"])
    with pytest.raises(SystemExit, match="has neither a folder Final_Training nor sheets"):
        prepare_data.main(["gtsrb", "--from", str(tmp_path)])
    files = gtsrb_synthetic.write_sheets(tmp_path / "sheets")
    (files / "train_00.webp").unlink()
    with pytest.raises(SystemExit, match="^prepare_data.py gtsrb: there is no .*webp") as e:
        prepare_data.main(["gtsrb", "--from", str(files)])
    assert "\n" not in str(e.value)


# CUB


def test_cub_from_local_files_then_says_that_it_is_there(tmp_path, place, capsys):
    files = cub_synthetic.write(tmp_path / "birds")
    (files / "images" / cub_synthetic.entries()[0][1]).unlink()
    arguments = ["cub", "--from", str(files), "--size", "16", "20"]
    prepare_data.main(arguments)
    said = capsys.readouterr().out
    assert "16 train: 12 of 12 images\n" in said and "20 test: 5 of 6 images\n" in said
    assert "left out: 1 (listed, but not there): 002.Grey_Bird/Bird_0007_1.jpg\n" in said
    for size in (16, 20):
        assert cub.load(place, size=size).fingerprint in said
    written = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    prepare_data.main([*arguments[:1], *arguments[3:]])
    assert capsys.readouterr().out.startswith("Already there, nothing done:")
    assert written == {p: p.stat().st_mtime_ns for p in place.rglob("*")}


def test_cub_that_lies_in_the_data_folder_is_not_downloaded(place):
    cub_synthetic.write(place)
    prepare_data.main(["cub", "--size", "16"])
    assert len(cub.load(place, size=16).train.id) == 12


def test_cub_is_downloaded_once(tmp_path, place, monkeypatch):
    archive = cub_synthetic.pack(cub_synthetic.write(tmp_path / "birds"))

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with served(archive.parent) as url:
        monkeypatch.setattr(cub_files, "URL", f"{url}{archive.name}")
        with pytest.raises(SystemExit, match="has the SHA-256 sum .*: deleted"):
            prepare_data.main(["cub", "--size", "16"])
        checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(cub_files, "SHA256", checksum)
        prepare_data.main(["cub", "--size", "16"])
    assert [p.name for p in (place / "cub/archives").iterdir()] == ["CUB_200_2011.tgz"]
    prepare_data.main(["cub", "--size", "16", "20"])  # nobody answers any more
    assert len(cub.load(place, size=20).train.id) == 12


def test_cub_without_a_network_or_files(tmp_path, place, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cub_files, "URL", f"http://127.0.0.1:{port}/CUB_200_2011.tgz")
    with pytest.raises(SystemExit, match=r"cannot download .*CUB_200_2011.tgz .*--from DIR") as e:
        prepare_data.main(["cub"])
    assert "\n" not in str(e.value)
    assert [path for path in place.rglob("*") if path.is_file()] == [place / "cub/lock"]
    with pytest.raises(SystemExit, match="has no CUB_200_2011.tgz, no folder CUB_200_2011"):
        prepare_data.main(["cub", "--from", str(tmp_path)])
    files = cub_synthetic.write(tmp_path / "birds")
    (files / "classes.txt").unlink()
    with pytest.raises(SystemExit, match=r"^prepare_data.py cub: there is no .*classes.txt") as e:
        prepare_data.main(["cub", "--from", str(files)])
    assert "\n" not in str(e.value)
