"""What is learned about a model under a loss, kept from call to call."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from binomctl.contracts import Engine
from binomctl.curvature.autograd import AutogradEngine, Batching
from binomctl.curvature.autograd_curvature import Memory
from binomctl.curvature.choose import RUNGS, Kind, choose_engine
from binomctl.curvature.criterion import Loss
from binomctl.curvature.network import Network, matrix_attention
from binomctl.curvature.outer import OuterLossEngine
from binomctl.curvature.outputs import rows
from binomctl.curvature.supported import check_model
from binomctl.curvature.traits import threads_for
from binomctl.episodes import EpisodeBatch
from binomctl.errors import BinomctlError, ConfigError
from binomctl.machine.allocator import tune_allocator

Schedule = Literal["auto", "rows", "columns"]

_KEPT_BY_GLIBC = 2**25
"""Bytes of a block above which glibc gives it back when it is freed, and fetches it anew."""
_FEW = 8  # shapes of tasks whose engines are kept
_FEW_LOSSES = 4  # (loss, options) per model; a loss made anew at every call must not grow the store


class Prepared:
    """An engine for a model's episodes of one shape, made once and made anew when the model is
    another than it was. It holds copies of the model, never the model.

    Args:
        loss: of one task.
        others: as `choose_engine` has them.
    """

    def __init__(
        self,
        loss: Loss,
        *,
        kind: Kind,
        memory: Memory,
        batching: Batching,
        order: Schedule,
        allow_unused: bool,
        products: bool,
    ) -> None:
        self.loss = loss
        self._how: dict[str, Any] = {
            "memory": memory,
            "order": order,
            "allow_unused": allow_unused,
            "products": products,
        }
        self._kind: Kind = kind
        self._batching: Batching = batching
        self._network: Network | None = None
        self._engines: dict[Any, Engine] = {}
        self._lock = threading.RLock()
        self._last: Engine | None = None

    @property
    def rung(self) -> str:
        """Of the engine that computed last; "" before there was one."""
        return "" if self._last is None else rung_of(self._last)

    def threads(self, tasks: int) -> AbstractContextManager[None]:
        """Torch's threads for all of a call, by the engine that computed last: a few operations
        of theirs before and after the kernels' work take longer than it does on a perceptron."""
        return nullcontext() if self._last is None else threads_for(self._last, tasks)

    def compute(
        self, model: nn.Module, batch: EpisodeBatch, function: Callable[[Engine, Tensor], Any]
    ) -> Any:
        """function(engine, theta), with the next rung where one fails on these very data."""
        with self._lock, torch.inference_mode(False), matrix_attention():
            network = self._fresh(model)
            theta = network.parameters()
            if theta.device.type == "cpu" and len(batch) * theta.nbytes > _KEPT_BY_GLIBC:
                tune_allocator()
            shapes = tuple((t.shape[1:], t.dtype) for t in tree_leaves(batch.x_trn))
            if shapes not in self._engines:
                while len(self._engines) >= _FEW:  # tasks of ever new sizes must not add up
                    self._engines.pop(next(iter(self._engines)))
                x, y = rows(batch.x_trn, 0), rows(batch.y_trn, 0)
                self._engines[shapes] = choose_engine(
                    network, self.loss, x, y, kind=self._kind, batching=self._batching, **self._how
                )
            chosen = self._engines[shapes]
            while True:
                engine = self._engines[shapes]
                self._last = engine
                try:
                    return function(engine, theta)
                except (RuntimeError, ValueError, IndexError, TypeError, ConfigError) as error:
                    lower = self._lower(network, rung_of(engine))
                    if lower is None:
                        self._engines[shapes] = chosen  # the data are at fault, not the engine
                        if isinstance(error, BinomctlError | torch.OutOfMemoryError):
                            raise
                        raise ConfigError(f"{type(error).__name__}: {error}") from error
                    self._engines[shapes] = lower
                finally:
                    close = getattr(engine, "close", None)
                    if close is not None:
                        close()
                    network.reset()

    def _fresh(self, model: nn.Module) -> Network:
        network = self._network
        if network is None or not network.is_copy_of(model):
            check_model(model)
            network = self._network = Network(model)
            self._engines.clear()
        network.refresh()
        for engine in self._engines.values():
            if isinstance(engine, AutogradEngine):
                engine.refresh()
        return network

    def _lower(self, network: Network, rung: str) -> Engine | None:
        """The next rung, or None where the caller asked for this one or it is the last."""
        asked = self._kind == "analytic" or self._batching != "auto"
        if asked or rung == RUNGS[-1]:
            return None
        after = RUNGS[RUNGS.index(rung) + 1] if rung in RUNGS else RUNGS[0]
        how = {k: v for k, v in self._how.items() if k != "products"}
        how["order"] = "rows" if how["order"] == "auto" else how["order"]
        return AutogradEngine(network, self.loss, batching=after, **how)


def rung_of(engine: Engine) -> str:
    """Which rung of the ladder an engine is: "algebra", "vmap", "loop" or "alone"."""
    if isinstance(engine, OuterLossEngine):  # nearly all of the work is the inner one's
        engine = engine.inner
    return engine.batching if isinstance(engine, AutogradEngine) else "algebra"


_KEPT: weakref.WeakKeyDictionary[nn.Module, dict[Any, Prepared]] = weakref.WeakKeyDictionary()


def prepared(
    model: nn.Module,
    loss: Loss,
    engine: Kind,
    memory: Memory,
    batching: Batching,
    order: Schedule,
    allow_unused: bool,
    products: bool,
) -> Prepared:
    """What is kept of a model under a loss, or is from now on, as long as the model lives."""
    kept = _KEPT.setdefault(model, {})
    key = (id(loss), engine, memory, batching, order, allow_unused, products)
    found = kept.pop(key, None)
    if found is None or found.loss is not loss:
        found = Prepared(
            loss, kind=engine, memory=memory, batching=batching, order=order,
            allow_unused=allow_unused, products=products,
        )  # fmt: skip
    kept[key] = found
    while len(kept) > _FEW_LOSSES:
        kept.pop(next(iter(kept)))
    return found
