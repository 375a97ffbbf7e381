"""Which engine computes: the layer algebra where it knows the network, autograd otherwise."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from binomctl.contracts import Engine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.recognise import Unsupported
from binomctl.curvature.autograd import AutogradEngine, Batching, Loss, Memory, Order, StepBuffers
from binomctl.errors import ConfigError

Kind = Literal["auto", "analytic", "autograd"]
_LOG = logging.getLogger("binomctl")


def choose_engine(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    *,
    kind: Kind = "auto",
    memory: Memory = "store",
    order: Literal["auto", "rows", "columns"] = "auto",
    batching: Batching = "auto",
    threads: int | None = None,
    task_chunk: int | None = None,
    statistics: StepBuffers | None = None,
) -> Engine:
    """The engine for a model under a loss.

    Args:
        x: inputs of one task [N, ...], on which the layer algebra must give what the model gives.
        kind: "auto" takes the layer algebra where it can, on a CPU, and says in a debug line of the
            logger "binomctl" why where it does not.
        statistics: constants for batch norm, which the layer algebra does not know.
        others: as the engines have them; batching is autograd's alone.

    Raises:
        ConfigError: kind is "analytic", and a layer is not known: by its path.
    """
    chosen: Order | None = None if order == "auto" else order
    if kind != "autograd":
        try:
            if statistics is not None:
                raise Unsupported("batch norm on constants (adaptation.statistics) is not known")
            on = next(model.parameters()).device.type
            if kind == "auto" and on != "cpu":
                raise Unsupported(f"it was never measured on {on}; engine.kind = analytic takes it")
            if batching != "auto":
                raise Unsupported(f"engine.batching = {batching} is the autograd engine's")
            engine = AnalyticEngine(
                model, loss, memory=memory, order=chosen, threads=threads, chunk=task_chunk
            )
            _check_same(engine, model, x)
            return engine
        except Unsupported as error:
            if kind == "analytic":
                raise ConfigError(
                    f"the analytic engine cannot compute this network: {error}",
                    "Use --engine auto or autograd, which computes any network.",
                    key="engine.kind",
                ) from None
            _LOG.debug("autograd engine: %s", error)
    return AutogradEngine(
        model, loss, memory=memory, batching=batching, order=chosen or "rows",
        statistics=statistics, threads=threads,
    )  # fmt: skip


def _check_same(engine: AnalyticEngine, model: nn.Module, x: Tensor) -> None:
    """The program must say what the module says: whatever the tracing may have missed."""
    dtype = next(model.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise Unsupported(f"parameters of type {dtype} are not known")
    theta = engine.layout.flatten({n: p.detach() for n, p in model.named_parameters()})
    with torch.no_grad():
        wanted = model(x)
    try:
        found = engine.predict(theta.unsqueeze(0), x.unsqueeze(0))[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise Unsupported(f"inputs of shape {list(x.shape)} do not fit: {error}") from None
    scale = float(wanted.abs().max()) if isinstance(wanted, Tensor) else 0.0
    if (
        not isinstance(wanted, Tensor)
        or found.shape != wanted.shape
        or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)
    ):
        raise Unsupported("traced, the network gives other outputs than itself")
