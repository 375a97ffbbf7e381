"""What is printed where: one JSON object, narrow terminals, pipes that close, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from command import in_a_process as binomctl
from faults.runs import SMALL

COMMANDS = [
    ["plugins"],
    ["bounds", "--json"],
    ["runs", "ls", "."],
    ["train", *SMALL, "--steps", "2", "--out", "run"],
    ["error-analysis", "--batches", "2", "--json"],
]


@pytest.mark.promise(19, fault="stdout closed by its reader; /dev/full as stdout; stderr closed")
@pytest.mark.parametrize(
    "command",
    [["plugins"], ["bounds", "--json"], ["--help"], ["train", *SMALL, "--steps", "1"]],
    ids=lambda c: c[0],
)
@pytest.mark.parametrize("how", ["closed", "full", "no-stderr"])
def test_an_output_that_cannot_be_written(command, how, tmp_path):
    words = " ".join([sys.executable, "-m", "binomctl", *command])
    pipe = {"closed": "| true", "full": "> /dev/full", "no-stderr": "2>&- > out.txt"}[how]
    done = subprocess.run(
        ["bash", "-c", f"{words} {pipe}"], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    if how == "full":
        assert done.returncode in (6, 141)
    else:
        assert done.returncode == 0


@pytest.mark.promise(19, fault="COLUMNS=40, NO_COLOR, no terminal")
@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda c: c[0])
def test_narrow_and_without_colour(command):
    done = binomctl(*command, COLUMNS="40", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "\x1b[" not in done.stdout + done.stderr
    if command[0] != "train":
        assert all(len(line) <= 40 for line in done.stdout.splitlines() if "{" not in line)


@pytest.mark.promise(19, fault="--json of every command that has it")
@pytest.mark.promise(20, fault="no network: name resolution and connections fail")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_one_object_and_no_network(command, tmp_path):
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import socket\n"
        "def refused(*a, **k): raise OSError('this machine has no network')\n"
        "socket.getaddrinfo = socket.create_connection = refused\n"
        "socket.socket.connect = refused\n"
    )
    json_flag = [] if "--json" in command else ["--json"]
    path = os.pathsep.join([str(guard), os.environ.get("PYTHONPATH", "")])
    done = binomctl(*command, *json_flag, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert isinstance(json.loads(line), dict)
