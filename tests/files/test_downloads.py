"""Downloads against a loopback server that cuts, stalls, lies and errs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import layouts
import numpy as np
import pytest
from binomctl_datasets.fc100 import FC100
from binomctl_datasets.mini_imagenet import MiniImageNet
from command import in_a_process

from binomctl.errors import (
    DamagedFile,
    DataError,
)
from binomctl.files import download
from binomctl.files.download import Remote, fetch
from binomctl.images.acquire import acquire
from binomctl.images.prepare import prepare

pytestmark = pytest.mark.promise(
    13, fault="a loopback server that stalls, cuts, lies about sizes, answers 404 or HTML"
)


class Server:
    """A loopback web server whose answers a test scripts: by path, a list of behaviours in turn."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.answer(self)

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.stop = threading.Event()
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.stop.set()
        self.httpd.shutdown()
        self.httpd.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        name = request.path.strip("/")
        turns = self.script.get(name, [])
        how = turns.pop(0) if turns else "whole"
        body = self.files.get(name)
        if body is None or how == "404":
            request.send_error(404)
            return
        if how == "503":
            request.send_error(503)
            return
        kind = "application/octet-stream"
        if how == "html":
            body, kind = b"<!DOCTYPE html><p>Too many users have viewed this file", "text/html"
        if how == "disguised html":
            body = b"<html><p>Sign in"
        if how == "flipped":
            body = bytes([body[0] ^ 1]) + body[1:]
        start = 0
        tag = f'"{hashlib.md5(self.files[name]).hexdigest()}"'
        if wanted and request.headers.get("If-Range") == tag and how != "no ranges":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            first = start + 7 if how == "another part" else start
            request.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        request.send_header("Content-Type", kind)
        if how != "no length":
            request.send_header("Content-Length", str(len(body) - start))
        request.send_header("ETag", tag)
        request.end_headers()
        part = body[start:]
        if how in ("cut", "stalled"):
            request.wfile.write(part[: len(part) // 2])
            request.wfile.flush()
            if how == "stalled":
                self.stop.wait(20)
            request.close_connection = True
            return
        request.wfile.write(part)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


BODY = np.random.default_rng(3).bytes(300_000)


def remote(server: Server, **more) -> Remote:
    server.files.setdefault("x.bin", BODY)
    return Remote("sub/x.bin", (f"{server.url}/x.bin",), **more)


def nothing_final(root: Path) -> None:
    assert not (root / "sub" / "x.bin").exists()


def test_a_file_is_fetched_whole_and_once(server, tmp_path):
    seen = []
    file = remote(server, md5=hashlib.md5(BODY).hexdigest())
    path = fetch(file, tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    fetch(file, tmp_path)
    assert len(server.requests) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.bin"]


def test_a_cut_download_is_resumed(server, tmp_path):
    server.script["x.bin"] = ["cut"]
    path = fetch(remote(server), tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests[1][1] == f"bytes={2 * download.BLOCK}-"  # of 150,000 that came


def test_what_arrived_is_kept_for_the_next_run(server, tmp_path):
    server.script["x.bin"] = ["cut", "cut"]
    with pytest.raises(DataError, match=r"the connection was cut|cut off") as caught:
        fetch(remote(server), tmp_path)
    assert caught.value.exit_code == 3
    nothing_final(tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.requests[2][1] == f"bytes={3 * download.BLOCK}-"


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    server.script["x.bin"] = ["cut", "no ranges"]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_another_part_than_was_asked_for_is_not_put_behind_it(server, tmp_path):
    server.script["x.bin"] = ["cut", "another part"]
    with pytest.raises(DataError, match="another part than was asked for"):
        fetch(remote(server), tmp_path)
    nothing_final(tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_an_answer_without_an_end_is_not_trusted(server, tmp_path):
    server.script["x.bin"] = ["no length", "no length"]
    with pytest.raises(DataError, match="does not say how long"):
        fetch(remote(server), tmp_path)
    nothing_final(tmp_path)
    known = remote(server, md5=hashlib.md5(BODY).hexdigest())
    assert fetch(known, tmp_path).read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_not_patched_together(server, tmp_path):
    server.script["x.bin"] = ["cut", "cut"]
    with pytest.raises(DataError):
        fetch(remote(server), tmp_path)
    server.files["x.bin"] = BODY[::-1]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY[::-1]


def test_a_stalled_download_is_given_up(server, tmp_path):
    server.script["x.bin"] = ["stalled", "stalled"]
    begin = time.monotonic()
    with pytest.raises(DataError, match="stalled"):
        fetch(remote(server), tmp_path, stall=0.5)
    assert time.monotonic() - begin < 10
    nothing_final(tmp_path)


@pytest.mark.parametrize(
    ("script", "words", "requests"),
    [
        (["404"], "HTTP 404", 1),
        (["503", "503"], "HTTP 503", 2),
        (["html"], "a web page instead of the file", 1),
        (["disguised html"], "a web page instead of the file", 1),
        (["flipped", "flipped"], "md5 .*, expected", 2),
    ],
)
def test_a_wrong_answer_is_named_and_never_kept(server, tmp_path, script, words, requests):
    server.script["x.bin"] = list(script)
    with pytest.raises(DataError, match=words) as caught:
        fetch(remote(server, md5=hashlib.md5(BODY).hexdigest()), tmp_path)
    assert f"{server.url}/x.bin" in str(caught.value)
    nothing_final(tmp_path)
    assert len(server.requests) == requests


@pytest.mark.parametrize("passing", ["503", "flipped"])
def test_a_passing_fault_is_tried_again(server, tmp_path, passing):
    server.script["x.bin"] = [passing]
    path = fetch(remote(server, md5=hashlib.md5(BODY).hexdigest()), tmp_path)
    assert path.read_bytes() == BODY


def test_the_next_address_is_asked(server, tmp_path):
    file = remote(server)
    file = Remote(file.name, (f"{server.url}/gone", *file.urls))
    assert fetch(file, tmp_path).read_bytes() == BODY


def fc100_on(server: Server, folder: Path) -> None:
    layouts.fc100(folder)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    server.files["fc100.zip"] = packed.getvalue()


def test_prepare_fetches_what_learn2learn_would(server, tmp_path):
    """--mirror stands before learn2learn's own addresses, which no test can reach."""
    fc100_on(server, tmp_path / "there")
    server.script["fc100.zip"] = ["cut"]
    command = ["data", "prepare", "fc100", "--root", str(tmp_path / "here"), "--mirror", server.url,
               "--json"]  # fmt: skip
    done = in_a_process(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["splits"]["train"]["classes"] == 8
    assert result["sources"][0]["file"].endswith("fc100.zip")
    assert result["sources"][0]["sha256"] == hashlib.sha256(server.files["fc100.zip"]).hexdigest()
    assert "fetching fc100.zip" in done.stderr
    here = sorted(p.name for p in (tmp_path / "here").iterdir())
    assert here == ["fc100.zip", "prepared"]


def test_a_damaged_file_is_put_aside_and_fetched_once_more(server, tmp_path):
    fc100_on(server, tmp_path / "there")
    here = tmp_path / "here"
    here.mkdir()
    (here / "fc100.zip").write_bytes(server.files["fc100.zip"][:-300])
    told: list[str] = []
    recipe = FC100(root=str(here)).recipe
    acquire(recipe, here, source="FC100", mirrors=[server.url], tell=told.append)
    assert (here / "fc100.zip.quarantined").exists()
    assert any("put aside" in line for line in told)

    # The second copy is damaged too: then it is the end.
    shutil.rmtree(here)
    server.files["fc100.zip"] = server.files["fc100.zip"][:-300]
    with pytest.raises(DataError) as caught:
        acquire(recipe, here, source="FC100", mirrors=[server.url], tell=told.append)
    assert caught.value.exit_code == 3
    assert len([p for p, _ in server.requests if p == "/fc100.zip"]) == 3


def test_is_html():
    assert download.is_html(b"\n <!DOCTYPE HTML>")
    assert not download.is_html(b"\x80\x02}q\x00")


def test_damage_inside_an_archive_is_the_archive_s(server, tmp_path):
    fc100_on(server, tmp_path / "there")
    here = tmp_path / "here"
    here.mkdir()
    with zipfile.ZipFile(here / "fc100.zip", "w") as archive:
        for path in sorted((tmp_path / "there").iterdir()):
            data = path.read_bytes()
            archive.writestr(path.name, data[:-500] if "val" in path.name else data)
    recipe = FC100(root=str(here)).recipe
    with pytest.raises(DamagedFile) as caught:
        prepare(recipe, here)
    assert caught.value.path == here / "fc100.zip"
    acquire(recipe, here, source="FC100", mirrors=[server.url])
    assert (here / "fc100.zip.quarantined").exists()


def test_nothing_is_fetched_for_an_error_that_fetching_does_not_mend(server, tmp_path):
    layouts.folders(tmp_path, size=12)
    (tmp_path / "test" / "n10000000").mkdir()
    for path in (tmp_path / "train" / "n10000000").iterdir():
        shutil.copy(path, tmp_path / "test" / "n10000000")
    with pytest.raises(DataError, match="share 1 class"):
        acquire(MiniImageNet(root=str(tmp_path)).recipe, tmp_path, source="MiniImagenet",
                mirrors=[server.url])  # fmt: skip
    assert not server.requests
