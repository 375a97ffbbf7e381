"""Which engine computes: a ladder of them, from the fastest to the one that computes anything.

1. algebra: layer by layer, without autograd, where every layer is known or can be derived alone;
2. vmap: autograd, all tasks in one call;
3. loop: autograd, task by task, a few side by side in threads;
4. alone: autograd, task by task, with the task's parameters in place in backward passes too.

The last is plain `torch.autograd.grad` on the module. What stands above it is believed after it
gave the same outputs, gradients and product; the next rung is taken by itself otherwise.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn

from binomctl.contracts import Engine
from binomctl.curvature.agreement import answers, difference, perturbed
from binomctl.curvature.analytic.engine import AnalyticEngine, Convolution
from binomctl.curvature.analytic.precision import Precision
from binomctl.curvature.analytic.recognise import Unsupported
from binomctl.curvature.autograd import AutogradEngine, Batching
from binomctl.curvature.autograd_curvature import Memory, Order
from binomctl.curvature.believed import (
    Subject,
    check_algebra,
    check_closed_form,
    check_loss,
    check_symmetry,
    repeated,
)
from binomctl.curvature.criterion import Loss, takes_parameters
from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.observe import observe
from binomctl.curvature.supported import StepBuffers, check_model
from binomctl.curvature.worth import check_worth
from binomctl.errors import ConfigError

Kind = Literal["auto", "analytic", "autograd"]
_LOG = logging.getLogger("binomctl")
RUNGS: tuple[Batching, ...] = ("vmap", "loop", "alone")


def choose_engine(
    model: nn.Module | Network,
    loss: Loss,
    x: Inputs,
    y: Any = None,
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
    allow_unused: bool = False,
    products: bool = True,
) -> Engine:
    """The engine for a model under a loss.

    Args:
        model: a module, which is copied and never called, or a Network made of one.
        x: inputs of one task [N, ...], on which engines are compared.
        y: its targets; None: engines of autograd are not compared under the loss itself.
        kind: "auto" takes the layer algebra where it can, and says in a debug line of the logger
            "binomctl" why where it does not.
        statistics: constants for batch norm, which the layer algebra does not know.
        products: whether Hessian-vector products will be asked for.
        others: as the engines have them; batching is autograd's alone.

    Raises:
        ConfigError: kind is "analytic", and a layer is not known: by its path; or no engine can
            compute the network.
    """
    chosen: Order | None = None if order == "auto" else order
    why = ""
    if not isinstance(model, Network):
        check_model(model)
        model = Network(model)
    check_model(model.module)
    seen = observe(model, x)
    if y is not None:
        check_loss(model, loss, x, y, seen.output, statistics)
    subject = Subject.of(model, x)
    unsymmetric = check_symmetry(model, subject, seen) if products else None
    if kind != "autograd":
        try:
            if statistics is not None:
                raise Unsupported("batch norm on constants (adaptation.statistics) is not known")
            if batching != "auto":
                raise Unsupported(f"engine.batching = {batching} is the autograd engine's")
            if not isinstance(x, Tensor):
                raise Unsupported("inputs are more than one tensor")
            if not isinstance(y, Tensor | None):
                raise Unsupported("targets are more than one tensor")
            if takes_parameters(loss):
                raise Unsupported("the loss takes the parameters")
            if seen.hidden:
                raise Unsupported(seen.hidden[0])
            if unsymmetric:
                raise Unsupported(unsymmetric)

            def make(network: Network, data: Tensor, loss: Loss) -> AnalyticEngine:
                made = AnalyticEngine(
                    network, loss, memory=memory, order=chosen, threads=threads,
                    chunk=task_chunk, conv=None if convolution == "auto" else convolution,
                    precision=precision if network is model else "full", x=data,
                )  # fmt: skip
                network.reset()
                return made

            engine = make(model, x, loss)
            if kind == "auto":
                check_worth(engine, x)
            check_algebra(engine, model, x, seen, subject, make)
            if y is not None:
                check_closed_form(loss, seen.output.detach(), y)
            return engine
        except Unsupported as error:
            if kind == "analytic":
                raise ConfigError(
                    f"the analytic engine cannot compute this network: {error}",
                    "Use --engine auto or autograd, which computes any network.",
                    key="engine.kind",
                ) from error
            _LOG.debug("autograd engine: %s", error)
            why = str(error)
    if precision != "full":
        raise ConfigError(
            f"engine.precision = {precision}: only the layer algebra has it, and this network is"
            " computed by autograd",
            "Use --engine analytic to see why, or engine.precision=full.",
            key="engine.precision",
        )

    def autograd(batching: Batching) -> AutogradEngine:
        made = AutogradEngine(
            model, loss, memory=memory, batching=batching, order=chosen or "rows",
            statistics=statistics, threads=threads, allow_unused=allow_unused,
        )  # fmt: skip
        made.why = why
        return made

    first = autograd(batching)
    if y is None:
        return first
    _LOG.debug("autograd engine, %s first", first.batching)
    return _first_that_agrees(first, autograd, model, x, y, products, fixed=batching != "auto")


def _first_that_agrees(
    first: AutogradEngine,
    make: Any,
    network: Network,
    x: Inputs,
    y: Any,
    products: bool,
    *,
    fixed: bool,
) -> AutogradEngine:
    """The first rung from `first` on that computes and says what the last one says."""
    phi = perturbed(network.parameters(), network.layout, first.least_together)
    xs, ys = repeated(x, len(phi)), repeated(y, len(phi))
    last = make("alone")
    right = answers(last, phi, xs, ys, product=products)
    tolerance = 1e-10 if phi.dtype == torch.float64 else 2e-3
    for rung in RUNGS[RUNGS.index(first.batching) :]:
        engine = first if rung == first.batching else make(rung)
        if rung == "alone":
            return engine
        try:
            left = answers(engine, phi, xs, ys, product=products)
            said = difference(left, right, tolerance)
        except ConfigError as error:
            said = str(error)
        engine.close()
        if said is None:
            return engine
        if fixed:
            raise ConfigError(
                f"engine.batching = {rung} cannot compute this network: {said}",
                "Use engine.batching=auto, which finds a way.",
                key="engine.batching",
            )
        _LOG.info("autograd %s is not used: %s", rung, said)
    raise AssertionError("the last rung returns")
