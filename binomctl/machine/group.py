"""Ranks over torch.distributed: gloo between CPUs, NCCL for the tensors of GPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import binomctl.errors as errors
from binomctl.errors import BinomctlError, ConfigError, RankLost, ResourceError
from binomctl.machine.devices import is_out_of_memory

PATIENCE = "BINOMCTL_RANK_TIMEOUT"
SILENT = 300.0
"""Seconds without a word after which a rank is lost. One that ends is noticed at once: its
connections close. This is for one that is stopped, or whose machine is gone."""
JOINING, OPENING = timedelta(minutes=10), timedelta(days=1)
"""How long the others may take to come; to prepare data, which nobody can foresee."""


class Group:
    """This process among several.

    Words go through gloo, on GPUs too: it notices a process that ends, and NCCL does not.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.first = rank, world, rank == 0
        self._silent, self._lost = _patience(), False
        with self._answered("the other processes of the run did not come"):
            dist.init_process_group("gloo", rank=rank, world_size=world, timeout=JOINING)
            self._words: Any = dist.new_group(backend="gloo", timeout=OPENING)
            self._tensors = self._words

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._lost:  # it would wait for whoever is gone
            dist.destroy_process_group()

    def start(self, device: torch.device) -> None:
        self.most(0)
        limit = timedelta(seconds=self._silent)
        with self._answered():
            self._words = self._tensors = dist.new_group(backend="gloo", timeout=limit)
            if device.type == "cuda":
                self._tensors = dist.new_group(backend="nccl", timeout=limit)

    def mine(self, indices: range) -> range:
        return indices[self.rank :: self.world]

    @contextmanager
    def alike(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not _is_known(error):
                self._exchange(0, error)
            raise
        self._exchange(0)

    def most(self, word: int) -> int:
        return self._exchange(word)

    def tell(self, text: str = "") -> str:
        self._exchange(0)
        return self._broadcast(text, 0)

    def same(self, tensor: Tensor) -> None:
        self._exchange(0)
        group = self._group(tensor)
        with self._answered():
            dist.broadcast(tensor, 0, group=group)

    def sum_(self, tensor: Tensor) -> Tensor:
        with self._answered():
            dist.all_reduce(tensor, group=self._group(tensor))
        return tensor

    def whole(self, own: Tensor, places: Sequence[int], size: int) -> Tensor:
        slots = own.new_zeros(size)
        slots[list(places)] = own  # a value and zeros: the sum is the value
        return self.sum_(slots)

    def _group(self, tensor: Tensor) -> Any:
        return self._tensors if tensor.is_cuda else self._words

    def _exchange(self, word: int, error: Exception | None = None) -> int:
        """The largest word; raises the error of the first rank that has one."""
        failed = 0 if error is None else self.world - self.rank
        seen = torch.tensor([failed, word])
        with self._answered():
            dist.all_reduce(seen, op=dist.ReduceOp.MAX, group=self._words)
        failed, most = seen.tolist()
        if not failed:
            return int(most)
        source = self.world - failed
        told = self._broadcast("" if error is None else _dumped(error, self.rank), source)
        if error is None or source != self.rank:
            found: Exception = _rebuilt(told)
            found.quiet = not self.first  # type: ignore[attr-defined]
        else:
            found = error
            if isinstance(error, BinomctlError):
                error.quiet = not self.first
        found.known = True  # type: ignore[attr-defined]
        raise found

    def _broadcast(self, text: str, source: int) -> str:
        data = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        with self._answered():
            dist.broadcast(length, source, group=self._words)
            if self.rank != source:
                data = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(data, source, group=self._words)
        return data.numpy().tobytes().decode().strip()

    @contextmanager
    def _answered(self, words: str = "") -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            self._lost = True
            reason = " ".join(str(error).split()).partition(" This is typically")[0][:300]
            gone = f"another process of the run ended, or was silent for {self._silent:g} s"
            raise RankLost(
                f"rank {self.rank} of {self.world}: {words or gone}: {reason}",
                "The first error of any rank says why; a rank without one was killed.",
            ) from error


def _patience() -> float:
    text = os.environ.get(PATIENCE, str(SILENT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 1e6:
        raise ConfigError(f"{PATIENCE}={text}: seconds from 1 to 1000000")
    return seconds


def _is_known(error: BaseException | None) -> bool:
    """Whether all ranks know of an error already, or of what it was worded from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # an error may be its own cause
        if isinstance(error, RankLost) or getattr(error, "known", False):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def _dumped(error: Exception, rank: int) -> str:
    """An error as text that makes one of the same class, words and exit code."""
    if isinstance(error, BinomctlError):
        kind, message, hint, code = type(error), str(error), error.hint, error.exit_code
    else:
        broken, disk = isinstance(error, BrokenPipeError), isinstance(error, OSError)
        code = 141 if broken else ResourceError.exit_code if disk or is_out_of_memory(error) else 1
        kind = ResourceError if code == ResourceError.exit_code else BinomctlError
        reason = " ".join(str(error).split())[:300]
        message, hint = f"rank {rank} failed: {type(error).__name__}: {reason}", ""
    said = {"kind": kind.__name__, "message": message, "hint": hint, "code": code}
    return json.dumps(said | {"key": getattr(error, "key", "")})


def _rebuilt(text: str) -> BinomctlError:
    said = json.loads(text)
    kind: Callable[..., BinomctlError] = getattr(errors, said["kind"], BinomctlError)
    if kind is errors.Interrupted:
        return errors.Interrupted(said["message"], said["code"] - 128, said["hint"])
    if kind is ConfigError:
        return ConfigError(said["message"], said["hint"], said["key"])
    made = kind(said["message"], said["hint"])
    made.exit_code = said["code"]
    return made
