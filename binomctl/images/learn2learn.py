"""The one place that runs learn2learn: its tasks and data sets, from local files.

learn2learn fetches without looking at the answer and unpickles what comes. Here it does neither:
fetching (files/download.py) and reading (files/pickles/) are ours.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import pickle
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from binomctl.errors import DataError, MissingDependencyError, unknown
from binomctl.files.pickles.plain_values import text
from binomctl.files.pickles.unpickle import read_pickle

INSTALL = (
    "pip install torchvision gym requests && pip install --no-deps learn2learn==0.2.0"
    ' --config-settings="--build-option=build_ext"   (needs a C compiler)'
)
_LOCK = threading.Lock()


def load() -> Any:
    """The package learn2learn.

    Raises:
        MissingDependencyError: it is not installed, or does not import.
    """
    try:
        # gym greets with a notice on stderr, and both warn of their own imports.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module("learn2learn")
    except Exception as error:  # a torchvision of another build raises RuntimeError
        raise MissingDependencyError(
            f"learn2learn cannot be loaded: {type(error).__name__}: {error}",
            f"Install it with: {INSTALL}",
        ) from error


def tasksets(name: str, root: Path, ways: int, samples: int) -> Any:
    """The train, validation and test tasks of one of learn2learn's benchmarks, from local files.

    Raises:
        DataError: no such benchmark, one that leaks, or files that are missing or unreadable.
    """
    l2l = load()
    known = sorted(l2l.vision.benchmarks.list_tasksets())
    if name == "omniglot":
        raise DataError(
            "learn2learn 0.2.0's omniglot tasks sample all three splits from all 1,623 classes, so"
            " its test classes were seen in training",
            "Use --dataset omniglot, or --dataset learn2learn:FullOmniglot.",
        )
    if name not in known:
        raise DataError(unknown("taskset of learn2learn", name, known))
    # Its miniImageNet alone keeps pixels of 0..255 unless asked; here floats are in [0, 1].
    unit = {"data_augmentation": "normalize"} if name == "mini-imagenet" else {}
    with _guarded(name, root):
        return l2l.vision.benchmarks.get_tasksets(
            name, train_ways=ways, train_samples=samples, test_ways=ways, test_samples=samples,
            root=str(root), **unit,
        )  # fmt: skip


def dataset(name: str, root: Path, mode: str) -> Any:
    """A data set of learn2learn.vision.datasets wrapped in its MetaDataset, from local files;
    one without splits is the same whatever the mode.

    Raises:
        DataError: no such data set, or files that are missing or unreadable.
    """
    l2l = load()
    known = [n for n, v in vars(l2l.vision.datasets).items() if isinstance(v, type)]
    if name not in known:
        raise DataError(unknown("data set of learn2learn", name, known))
    cls = getattr(l2l.vision.datasets, name)
    with _guarded(name, root):
        return l2l.data.MetaDataset(cls(str(root), **({"mode": mode} if has_splits(name) else {})))


def has_splits(name: str) -> bool:
    """Whether a data set of learn2learn comes in train, validation and test."""
    cls = getattr(load().vision.datasets, name, None)
    return cls is not None and "mode" in inspect.signature(cls).parameters


class _SafePickle:
    """Stands in for the pickle module where learn2learn reads files."""

    UnpicklingError = pickle.UnpicklingError
    dump = staticmethod(pickle.dump)

    @staticmethod
    def load(file: Any, **_: Any) -> Any:
        data = read_pickle(Path(file.name)).data
        return (
            {text(k) if isinstance(k, bytes) else k: v for k, v in data.items()}
            if isinstance(data, dict)
            else data
        )

    class _Unpickler:
        encoding = "latin1"

        def __init__(self, file: Any) -> None:
            self.load = lambda: _SafePickle.load(file)


class _NoArchives:
    """Stands in for zipfile and tarfile: what is packed is unpacked by files/archives.py alone."""

    def __getattr__(self, name: str) -> Any:
        raise DataError("an archive is to be unpacked first")


class _Nowhere:
    """An attribute that cannot be set and is not there."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AttributeError

    def __set__(self, instance: Any, value: Any) -> None:
        pass


@contextlib.contextmanager
def _guarded(name: str, root: Path) -> Iterator[None]:
    """Keep learn2learn from fetching and from unpickling by itself, and word what it lacks."""

    def refuse(*_: Any, **__: Any) -> None:
        raise DataError("a file is missing")

    modules = [
        module for key, module in list(sys.modules.items())
        if key.startswith(("learn2learn.vision.datasets.", "learn2learn.data."))
    ]  # fmt: skip
    stand_ins = {
        "pickle": _SafePickle,
        "zipfile": _NoArchives(),
        "tarfile": _NoArchives(),
        "download_file": refuse,
        "download_file_from_google_drive": refuse,
    }
    with contextlib.ExitStack() as stack, _LOCK:
        for module in modules:
            for attribute, stand_in in stand_ins.items():
                if hasattr(module, attribute):
                    stack.enter_context(mock.patch.object(module, attribute, stand_in))
        for cls in vars(load().vision.datasets).values():
            if isinstance(cls, type):  # no file of labels beside the data, read or written
                stack.enter_context(
                    mock.patch.object(cls, "_bookkeeping_path", _Nowhere(), create=True)
                )
        stack.enter_context(contextlib.redirect_stdout(None))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise DataError(
                f"learn2learn cannot load '{name}' from {root}: {type(error).__name__}: {error}",
                "Put its files there; 'binomctl data prepare NAME --download' fetches them.",
            ) from error
