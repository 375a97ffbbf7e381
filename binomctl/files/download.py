"""Fetches a file over HTTP: whole or not at all, resumed where it broke off, checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from binomctl.errors import DataError
from binomctl.files.atomic import disk_full
from binomctl.files.small import read_object

CONNECT, STALL = 10.0, 30.0  # seconds until a server counts as unreachable, as stalled
TRIES = 2  # per address
BLOCK = 2**16  # bytes; what a broken connection may cost

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and, where the server said so, those there will be."""


@dataclass(frozen=True)
class Remote:
    """A file to fetch: `name` is its path under the data folder, `urls` the addresses that have
    it, in order of preference; `md5` in hexadecimal where it is known."""

    name: str
    urls: tuple[str, ...]
    md5: str | None = None


def fetch(
    remote: Remote,
    root: Path,
    progress: Progress = lambda done, total: None,
    stall: float = STALL,
) -> Path:
    """Fetch a file to root / name, unless it is there; its final name appears when it is whole.

    Every address is tried twice, the second time from where the first broke off. What turns out
    to be wrong (another hash, a web page instead of data) is kept beside it as NAME.refused.

    Raises:
        DataError: no address gave the file; the message has what each of them answered.
        ResourceError: the disk is full.
    """
    target = root / remote.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    answers = []
    for url in remote.urls:
        for _ in range(TRIES):
            try:
                _attempt(url, target, remote.md5, progress, stall)
                return target
            except _Failed as failure:
                answers.append(f"{url}: {failure}")
                if not failure.again:
                    break
    listed = "\n  ".join(dict.fromkeys(answers))
    raise DataError(
        f"could not fetch {remote.name}:\n  {listed}",
        f"Fetch it another way and put it at {target}, or try again later: what has arrived is"
        " kept.",
    )


class _Failed(Exception):
    """One try failed; `again`: whether another at the same address makes sense."""

    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def _attempt(url: str, target: Path, md5: str | None, progress: Progress, stall: float) -> None:
    import requests

    part = target.with_name(f"{target.name}.part")
    note = target.with_name(f"{target.name}.part.json")  # which version of the file it is part of
    have, headers = _resume_point(part, note, url)
    try:
        with requests.get(
            url,
            stream=True,
            timeout=(CONNECT, stall),
            headers={"Accept-Encoding": "identity"} | headers,
        ) as answer:
            if answer.status_code == 416:  # what is there does not fit what they have
                part.unlink(missing_ok=True)
                raise _Failed("HTTP 416, starting over")
            if answer.status_code not in (200, 206):
                passing = answer.status_code >= 500 or answer.status_code in (408, 429)
                raise _Failed(f"HTTP {answer.status_code} {answer.reason}", again=passing)
            if answer.status_code == 200:
                have = 0
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _Failed("another part than was asked for, starting over")
            chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
            if "Content-Length" not in answer.headers and not chunked and md5 is None:
                # Without an end that can be told from a broken connection, half looks like whole.
                raise _Failed("the server does not say how long the file is", again=False)
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            with disk_full(part):
                note.write_text(json.dumps({"url": url, "version": version}))
                with part.open("ab" if have else "wb") as file:
                    for block in answer.iter_content(BLOCK):
                        file.write(block)
                        have += len(block)
                        progress(have, total)
                    file.flush()
                    os.fsync(file.fileno())
            page = "html" in answer.headers.get("Content-Type", "")
    except requests.RequestException as error:
        raise _Failed(_worded(error)) from error
    if total is not None and have != total:
        raise _Failed(f"cut off after {have:,} of {total:,} bytes")
    with part.open("rb") as file:
        page = page or is_html(file.read(512))
    if page:
        _refuse(part, note, target)
        raise _Failed("a web page instead of the file", again=False)
    if md5 is not None and (found := _md5(part)) != md5:
        _refuse(part, note, target)
        raise _Failed(f"md5 {found}, expected {md5}")
    os.replace(part, target)
    note.unlink(missing_ok=True)


def _resume_point(part: Path, note: Path, url: str) -> tuple[int, dict[str, str]]:
    """How many bytes are there already, and the header that asks for the rest of the same file."""
    try:
        kept = read_object(note)
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, {}
    if kept.get("url") != url or not kept.get("version") or not size:
        return 0, {}
    return size, {"Range": f"bytes={size}-", "If-Range": str(kept["version"])}


def is_html(start: bytes) -> bool:
    """Whether a file that starts so is a web page; servers send one where the data should be."""
    return start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _refuse(part: Path, note: Path, target: Path) -> None:
    os.replace(part, target.with_name(f"{target.name}.refused"))
    note.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _worded(error: Exception) -> str:
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return f"no answer within {CONNECT:g} s"
    if isinstance(error, requests.ReadTimeout) or "timed out" in str(error).lower():
        return "stalled: nothing came for a while"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached (no network?)"
    return f"{type(error).__name__}"


def wanted(remotes: Sequence[Remote], root: Path) -> str:
    """Which files are missing and where each has to lie, a line each."""
    return "\n".join(
        f"  {root / r.name}" + (f"  from {r.urls[0]}" if r.urls else "")
        for r in remotes
        if not (root / r.name).exists()
    )
