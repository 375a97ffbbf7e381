"""`model.import` takes networks and nothing else."""

from __future__ import annotations

import sys

import pytest
from torch import nn

import binomctl
from binomctl.errors import ConfigError
from binomctl.models.imported import build_imported, find_network

NETS = """
import os
from collections import OrderedDict
from os import system
from pathlib import Path

from torch import nn

import binomctl


class Net(nn.Module):
    def __init__(self, width, out_dim):
        super().__init__()
        self.head = nn.Linear(width, out_dim)


@binomctl.model
def small(out_dim):
    return Net(3, out_dim)


def unmarked(command):
    Path(command).touch()
    return nn.Linear(1, 1)


@binomctl.model
def nothing():
    return 3


net = Net(1, 1)
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "imported_nets.py").write_text(NETS)
    yield tmp_path
    sys.modules.pop("imported_nets", None)


def test_a_class_and_a_marked_function_are_taken(nets):
    assert build_imported("imported_nets:Net", {"width": 2}, (1,), 5).head.out_features == 5
    assert build_imported("imported_nets:small", {}, (1,), 7).head.out_features == 7
    assert binomctl.model is find_network.__globals__["model"]


@pytest.mark.promise(22, fault="model.import names a callable that is no network")
@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("os:system", "os is a part of Python"),
        ("subprocess:run", "is a part of Python"),
        ("imported_nets:system", "was not called"),
        ("imported_nets:unmarked", "was not called"),
        ("imported_nets:Path", "not derived from torch.nn.Module"),
        ("imported_nets:OrderedDict", "not derived"),
        ("imported_nets:os", "is no network but a module"),
        ("imported_nets:net", "is no network but a Net"),
        ("imported_nets:nothing", "gives int"),
        ("imported_nets:os.system", "not of the form"),
        ("../imported_nets:Net", "not of the form"),
        ("imported_nets:", "not of the form"),
        ("", "not of the form"),
        ("torch:load", "is no network but a function"),
    ],
)
def test_nothing_else_is_called(nets, target, word):
    with pytest.raises(ConfigError, match=word) as error:
        build_imported(target, {"command": "touch ran"} if ":n" not in target else {}, (1,), 5)
    assert error.value.key == "model.import"
    assert not (nets / "ran").exists()
    assert not (nets / "touch ran").exists()


@pytest.mark.promise(22, fault="a module of Python's that acts when imported")
def test_a_part_of_python_is_refused_before_its_import(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with pytest.raises(ConfigError, match="a part of Python"):
        find_network("this:Zen")
    assert "this" not in sys.modules


@pytest.mark.promise(22, fault="files of the working folder named like modules imported later")
def test_the_working_folder_stands_in_for_no_other_module(nets):
    find_network("imported_nets:Net")
    assert sys.path[0] != str(nets)
    assert sys.path[-1] == str(nets)


def test_a_class_without_options_of_its_own():
    assert isinstance(build_imported("torch.nn:Identity", {}, (1,), 5), nn.Identity)
