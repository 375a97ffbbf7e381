"""The reference engine: Hessian-vector products by double backward, for any nn.Module.

The gradient at phi^k is computed once with its graph (the linearisation); every product with H_k
is then one backward pass through that graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import vmap

from binomctl.curvature.autograd_curvature import AutogradCurvature, Memory, Order
from binomctl.curvature.criterion import Criterion, Loss
from binomctl.curvature.forward import PlainForward
from binomctl.curvature.linearisation import Group, Linearisation, linearised
from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.outputs import Unpacked, rows, together
from binomctl.curvature.supported import (
    StepBuffers,
    check_loss,
    check_model,
    in_words,
)
from binomctl.curvature.traits import Traits
from binomctl.curvature.workers import Workers

Batching = Literal["auto", "vmap", "loop", "alone"]


FEW = 3
"""Tasks up to which one after another is faster than all under vmap, on a CPU: the dispatch of
an operation under vmap takes two to four times its plain dispatch."""


class AutogradEngine:
    """Losses, gradients and curvature of a model under a loss, by torch.autograd.

    Args:
        model: any module mapping x [N, ...] to outputs; it is copied, read and never called. A
            Network made of it serves as well.
        loss: maps one task's outputs and targets, and its parameters by name if it takes them, to
            a scalar.
        memory: "store" keeps each linearisation from the inner loop; "recompute" makes it anew
            when a product needs it, so that one is alive at a time.
        batching: "vmap" runs the B tasks as one; "loop" runs each by itself, a few side by side
            in threads; "alone" each by itself in the caller's thread, with the task's parameters
            in place during backward passes too (gradient checkpointing runs the forward again
            there); "auto" loops where a batched weight would become a grouped convolution
            (several times slower on a CPU), and vmaps otherwise.
        order: the order of evaluation that expansion estimators are told to use: "rows", one
            linearisation at a time, or "columns", one level of the cascade at a time. Columns
            that are recomputed under vmap run all points of a level in parallel, so that the
            peak of memory falls as L grows and P = K - L + 1 shrinks.
        statistics: the buffers that batch norm normalises with at inner step k, by name; None
            where it takes the statistics of the batch at hand.
        threads: tasks side by side under "loop" on a CPU; None takes torch's number of threads.
        allow_unused: parameters that a loss does not depend on have gradient zero; they are
            refused otherwise.

    Raises:
        ConfigError: the model has state or randomness that an inner loop cannot differentiate.
    """

    def __init__(
        self,
        model: nn.Module | Network,
        loss: Loss,
        *,
        memory: Memory = "store",
        batching: Batching = "auto",
        order: Order = "rows",
        statistics: StepBuffers | None = None,
        threads: int | None = None,
        allow_unused: bool = False,
    ) -> None:
        module = model.module if isinstance(model, Network) else model
        check_model(module)
        network = model if isinstance(model, Network) else Network(model)
        self.layout = network.layout
        self.memory = memory
        self.order: Order = order
        self.allow_unused = allow_unused
        self.why = ""
        """Why no faster engine computes, in words; set by whoever chose."""
        self._loss = Criterion.of(loss)
        self._statistics = statistics or (lambda k: {})
        self.on_cpu = on_cpu = next(module.parameters()).device.type == "cpu"
        self.plain_steps = statistics is None
        """Whether every inner step has the same buffers."""
        convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
        self.batching: Batching = batching
        if batching == "auto":
            self.batching = "loop" if convolves and on_cpu else "vmap"
        self._vmap = self.batching == "vmap"
        count = threads or torch.get_num_threads() if self.batching == "loop" and on_cpu else 1
        self._workers = Workers(network, count, network.another)

    def _in_one(self, tasks: int) -> bool:
        """Whether so many tasks run as one call."""
        return self._vmap and tasks >= self.least_together

    @property
    def least_together(self) -> int:
        """How many tasks show what it does with several: from so many on "vmap" makes one call."""
        return (FEW + 1 if self.on_cpu else 2) if self._vmap else 1

    @property
    def traits(self) -> Traits:
        return Traits(slower=self.why)

    @property
    def points_together(self) -> bool:
        """Whether the points of one level are computed in parallel, linearised anew."""
        return self._vmap and self.order == "columns" and self.memory == "recompute"

    @property
    def module(self) -> nn.Module:
        """The calling thread's copy of the module."""
        return self._workers.network.module

    def side_by_side(self, function: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
        """function(*row) for the tasks' rows of the columns, a few at a time under "loop"."""
        return self._workers.map(function, *columns)

    @property
    def forward(self) -> PlainForward:
        return PlainForward(self._workers.network, self._statistics(0))

    def close(self) -> None:
        """End the engine's threads; they start again when it is used again."""
        self._workers.close()

    def refresh(self) -> None:
        """Take over the present values of the model's buffers and frozen parameters."""
        for network in self._workers.networks:
            network.refresh()

    def curvature(self, x: Inputs, y: Any) -> AutogradCurvature:
        """Curvature of the support loss on x [B, N, ...], y [B, N, ...]."""
        return AutogradCurvature(self, x, y)

    def query(self, phi: Tensor, x: Inputs, y: Any) -> tuple[Tensor, Tensor, Any]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]; outputs that are
        no tensor, or of different shapes, as a list of the B tasks'."""
        at = self.linearise(phi, x, y, None, graph=False)
        return at.loss, at.gradient, at.output

    def predict(self, phi: Tensor, x: Inputs) -> Any:
        """The model's outputs [B, N, out_dim] at phi [B, d], without a graph."""
        if self._in_one(len(phi)):
            call, buffers = Unpacked(), self._statistics(None)
            with torch.no_grad(), in_words(self.module):
                each = vmap(lambda p, xb: call.tensors(self._forward(p, xb, buffers)))
                return call.packed(each(self.layout.unflatten(phi), x))
        tasks = [rows(x, b) for b in range(len(phi))]
        return together(self._workers.map(self._predict, phi, tasks))

    def linearise(
        self, phi: Tensor, x: Inputs, y: Any, k: int | None, *, graph: bool
    ) -> Linearisation:
        """Loss and gradient of B tasks at phi [B, d] of step k; with graph, ready for H v."""
        buffers = self._statistics(k)
        if self._in_one(len(phi)):
            one = self._linearise(phi, x, y, buffers, graph)
            return Linearisation(self.layout, self._workers, [one], one.loss, one.output)
        tasks = ([rows(part, b) for b in range(len(phi))] for part in (x, y))
        groups = self._workers.map(
            lambda p, xb, yb: self._linearise(p, xb, yb, buffers, graph), phi, *tasks
        )
        loss = torch.stack([g.loss for g in groups])
        output = together([g.output for g in groups])
        return Linearisation(self.layout, self._workers, groups, loss, output)

    def task(
        self, parameters: Mapping[str, Tensor], x: Inputs, y: Any, loss: Loss | None = None
    ) -> tuple[Tensor, Any]:
        """Loss and output of one task at parameters by name, with their graphs.

        Args:
            loss: another than the engine's own.
        """
        criterion = None if loss is None else Criterion.of(loss)
        with in_words(self.module):
            return self._task(parameters, x, y, self._statistics(None), criterion)

    def _predict(self, phi: Tensor, x: Inputs) -> Any:
        with torch.no_grad(), in_words(self.module):  # grad mode is per thread
            return self._forward(self.layout.unflatten(phi), x, self._statistics(None))

    def _forward(
        self, parameters: Mapping[str, Tensor], x: Inputs, buffers: dict[str, Tensor]
    ) -> Any:
        return self._workers.network(parameters, x, buffers)

    def _task(
        self,
        parameters: Mapping[str, Tensor],
        x: Inputs,
        y: Any,
        buffers: dict[str, Tensor],
        criterion: Criterion | None = None,
    ) -> tuple[Tensor, Any]:
        output = self._forward(parameters, x, buffers)
        loss = (criterion or self._loss)(output, y, parameters)
        check_loss(loss)
        return loss, output

    def _linearise(
        self, phi: Tensor, x: Inputs, y: Any, buffers: dict[str, Tensor], graph: bool
    ) -> Group:
        """One autograd graph: a single task for phi [d], all B tasks under vmap for phi [B, d]."""
        return linearised(
            lambda p, xb, yb: self._task(p, xb, yb, buffers),
            self.layout,
            self._workers.network,
            (phi, x, y),
            graph=graph,
            held=self.batching == "alone",
            allow_unused=self.allow_unused,
        )
