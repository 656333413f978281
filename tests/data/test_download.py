import contextlib
import hashlib
import http.server
import threading

import numpy as np
import pytest

from stn_jax.data import download

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, np.uint8).tobytes()

SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves one file; `plan` says after how many bytes each answer breaks off."""

    def __init__(self):
        self.content, self.tag, self.plan, self.requests = CONTENT, '"one"', [], []
        self.ranges = True

    def handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                asked = self.headers.get("Range")
                server.requests.append(asked)
                if self.path != "/file":
                    self.send_error(404)
                    return
                start = 0
                if asked and server.ranges and self.headers["If-Range"] == server.tag:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= len(server.content):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(server.content)}")
                        self.end_headers()
                        return
                    self.send_response(206)
                    last, total = len(server.content) - 1, len(server.content)
                    self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(server.content) - start))
                if server.tag:
                    self.send_header("ETag", server.tag)
                self.end_headers()
                body = server.content[start:]
                if server.plan:
                    body = body[: server.plan.pop(0)]
                self.wfile.write(body)
                self.close_connection = True

        return Handler


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0)
    server = Server()
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), server.handler())
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_port}/file"
    yield server
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_file_and_nothing_else(server, tmp_path):
    path = tmp_path / "folder/file"
    download.fetch(server.url, path, timeout=5, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert server.requests == [None]


def test_goes_on_where_the_connection_broke(server, tmp_path):
    server.plan = [300_000, 0, 100_000, 0, 0]
    download.fetch(server.url, tmp_path / "file", timeout=5, sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == [None, *["bytes=300000-"] * 2, *["bytes=400000-"] * 3]


def test_a_later_call_goes_on(server, tmp_path):
    server.plan = [300_000] + [0] * 6
    with pytest.raises(ConnectionError, match="300,000 bytes are in .*file.part, call again"):
        download.fetch(server.url, tmp_path / "file", timeout=5, sha256=SHA256)
    assert not (tmp_path / "file").exists()
    server.requests.clear()
    server.plan.clear()
    download.fetch(server.url, tmp_path / "file", timeout=5, sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-"]


@pytest.mark.parametrize("change", ["other file", "no ranges", "no tag"])
def test_starts_again_where_it_cannot_go_on(server, tmp_path, change):
    if change == "no tag":
        server.tag = ""
    server.plan = [300_000] + [0] * 6
    with contextlib.suppress(ConnectionError):
        download.fetch(server.url, tmp_path / "file", timeout=5, sha256=SHA256)
    server.plan.clear()
    if change == "other file":
        server.content, server.tag = CONTENT[::-1], '"two"'
    server.ranges = change != "no ranges"
    expected = hashlib.sha256(server.content).hexdigest()
    download.fetch(server.url, tmp_path / "file", timeout=5, sha256=expected)
    assert (tmp_path / "file").read_bytes() == server.content


@pytest.mark.parametrize("there", [len(CONTENT), len(CONTENT) + 50])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, there):
    (tmp_path / "file.part").write_bytes((CONTENT + bytes(50))[:there])
    (tmp_path / "file.part.version").write_text('"one"')
    download.fetch(server.url, tmp_path / "file", timeout=5, sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_the_server_refuses_is_not_tried_again(server, tmp_path):
    with pytest.raises(ConnectionError, match="404"):
        download.fetch(server.url + "s", tmp_path / "file", timeout=5, sha256=SHA256)
    assert len(server.requests) == 1


def test_another_file_than_expected_is_deleted(server, tmp_path):
    with pytest.raises(OSError, match="has the SHA-256 sum .*, not 00: deleted"):
        download.fetch(server.url, tmp_path / "file", timeout=5, sha256="00")
    assert not (tmp_path / "file").exists() and not (tmp_path / "file.part").exists()
