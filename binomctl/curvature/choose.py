"""Which engine computes: the layer algebra where it knows the network, autograd otherwise."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.contracts import Engine
from binomctl.curvature.analytic.engine import AnalyticEngine, Convolution
from binomctl.curvature.analytic.precision import Precision
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
    convolution: Convolution | Literal["auto"] = "auto",
    precision: Precision = "full",
    statistics: StepBuffers | None = None,
) -> Engine:
    """The engine for a model under a loss.

    Args:
        x: inputs of one task [N, ...], on which the layer algebra must give what the model gives.
        kind: "auto" takes the layer algebra where it can, and says in a debug line of the logger
            "binomctl" why where it does not.
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
            if batching != "auto":
                raise Unsupported(f"engine.batching = {batching} is the autograd engine's")
            engine = AnalyticEngine(
                model, loss, memory=memory, order=chosen, threads=threads, chunk=task_chunk,
                conv=None if convolution == "auto" else convolution, precision=precision,
            )  # fmt: skip
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
    if precision != "full":
        raise ConfigError(
            f"engine.precision = {precision}: only the layer algebra has it, and this network is"
            " computed by autograd",
            "Use --engine analytic to see why, or engine.precision=full.",
            key="engine.precision",
        )
    return AutogradEngine(
        model, loss, memory=memory, batching=batching, order=chosen or "rows",
        statistics=statistics, threads=threads,
    )  # fmt: skip


def _check_same(engine: AnalyticEngine, model: nn.Module, x: Tensor) -> None:
    """The program must say what the module says, whatever the tracing may have missed: the
    outputs; on a GPU, whose libraries differ by device, also a gradient and a product."""
    first = next(model.parameters())
    if first.dtype not in (torch.float32, torch.float64):
        raise Unsupported(f"parameters of type {first.dtype} are not known")
    theta = engine.layout.flatten({n: p.detach() for n, p in model.named_parameters()})
    phi = theta.unsqueeze(0)
    with torch.no_grad():
        wanted = model(x)
    try:
        found = engine.predict(phi, x.unsqueeze(0))[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise Unsupported(f"inputs of shape {list(x.shape)} do not fit: {error}") from None
    if not isinstance(wanted, Tensor) or found.shape != wanted.shape or not _close(found, wanted):
        raise Unsupported("traced, the network gives other outputs than itself")
    if _on_cpu(model):
        return
    y = torch.ones_like(found)
    sides = []
    for other in (engine.under(F.mse_loss), AutogradEngine(model, F.mse_loss)):
        try:
            at = other.curvature(x.unsqueeze(0), y.unsqueeze(0))
            _, gradient = at.gradient(phi, 0, keep=True)
            sides.append((gradient, at.hvp(phi.unsqueeze(1), [0], gradient.unsqueeze(1))))
        except RuntimeError as error:
            raise Unsupported(f"it fails on {first.device}: {error}") from None
    low = engine.precision != "full"
    for name, one, two in zip(("gradient", "Hessian-vector product"), *sides, strict=True):
        off = float((one - two).norm() / two.norm())
        if not off < (0.2 if low and name != "gradient" else 0.02):
            raise Unsupported(f"on {first.device} its {name} is off by {off:.1e}")


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


def _close(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.abs().max())
    return torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)
