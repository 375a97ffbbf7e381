from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
from command import end_forking, known_memory

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Runs and pictures of a test land in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def as_many_op_threads_as_before():
    """A test that asks for more leaves none to the next: two workers of two threads each wait for
    one another on two cores, and tiny networks then take five times as long."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_op_thread():
    """Tiny networks: threads cost them more than they give, and bits do not depend on how many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def memory_known():
    with known_memory():
        yield


def pytest_addoption(parser):
    parser.addoption("--part", metavar="I/N", default="0/1",
                     help="the I-th of N parts of the tests, I from 0")  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """One part of many: which it is does not depend on the order or on other tests."""
    part, parts = map(int, config.getoption("--part").split("/"))
    mine, left_out = [], []
    for item in items:
        (mine if zlib.crc32(item.nodeid.encode()) % parts == part else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = mine


def share_a_worker(item):
    """Tests that share what is made once for their module or folder: or each worker makes it."""
    scopes = {fixtures[-1].scope for fixtures in item._fixtureinfo.name2fixturedefs.values()}
    where = {"package": item.path.parent, "module": item.path}
    if (scope := next((s for s in where if s in scopes), None)) is not None:
        item.add_marker(pytest.mark.xdist_group(where[scope].relative_to(TESTS).as_posix()))


def pytest_itemcollected(item):
    """Promises travel with a test's reports, from whatever process runs it."""
    share_a_worker(item)
    for mark in item.iter_markers("promise"):
        item.user_properties.append(("promise", (mark.args[0], mark.kwargs["fault"])))


def pytest_sessionfinish():
    end_forking()
