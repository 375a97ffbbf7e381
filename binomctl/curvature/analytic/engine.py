"""The fast engine: gradients and Hessian-vector products by the layer algebra, without autograd."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.block import Block
from binomctl.curvature.analytic.conv import Conv, Method
from binomctl.curvature.analytic.losses import (
    LossFunction,
    LossProduct,
    has_closed_form,
    output_loss,
)
from binomctl.curvature.analytic.precision import Precision, check_precision, tensor_cores
from binomctl.curvature.analytic.program import Point, Program, converted, join
from binomctl.curvature.analytic.recognise import recognise
from binomctl.curvature.autograd import Memory, Order
from binomctl.curvature.supported import check_model
from binomctl.curvature.traits import Traits
from binomctl.curvature.workers import Workers
from binomctl.flat import Layout, trainable

T = TypeVar("T")
Kind = tuple[torch.Size, torch.dtype]
Convolution = Literal["blocks", "per-task", "together", "grouped", "products"]
"""How convolutions with a weight per task are done: as kernels with what follows them (block.py)
where they fit; one per task, tasks side by side in threads, or layer by layer together; as one
grouped convolution; as matrix products."""
FEW_PLACES = 8000  # pixels of all of a task's images; measured: 5 x 28x28 together, 25 x 28x28 not


class AnalyticEngine:
    """Losses, gradients and curvature of a network that the layer algebra knows.

    Args:
        model: its own parameters are never touched.
        loss: maps one task's outputs and targets to a scalar.
        memory: "store" keeps what each inner step left behind; "recompute" makes it anew, so that
            one linearisation (or one level's) is alive at a time.
        order: what expansion estimators are told to use; None takes rows for convolutions on a
            CPU, columns (fewer and larger operations) otherwise.
        chunk: tasks that go through the layers together. None takes all of them; of large images
            two for each of torch's threads where kernels do everything, one otherwise.
        conv: how convolutions are done; None takes blocks on a CPU, grouped ones elsewhere.
        threads: chunks side by side on a CPU, each with one op thread; None takes torch's number
            of threads where single convolutions run per task, and 1 otherwise: kernels use
            torch's threads by themselves.
        precision: of products with Hessians; see precision.py.
        x: inputs of one task [N, ...], by which far more networks are known; inputs of another
            shape are looked at when they come. None: layers that do the same to any inputs.

    Raises:
        Unsupported: a layer the algebra does not know, by its path.
        ConfigError: the model has state or randomness that an inner loop cannot differentiate.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        *,
        memory: Memory = "store",
        order: Order | None = None,
        chunk: int | None = None,
        conv: Convolution | None = None,
        threads: int | None = None,
        precision: Precision = "full",
        x: Tensor | None = None,
    ) -> None:
        check_model(model)
        first = next(p for _, p in trainable(model))
        check_precision(precision, first.device, first.dtype)
        on_cpu = first.device.type == "cpu"
        conv = conv or ("blocks" if on_cpu else "grouped")
        method: Method = conv if conv in ("grouped", "products") else "per-task"
        kernels = on_cpu and conv == "blocks" and precision != "bf16"
        self._recognise = partial(recognise, model, method, blocks=kernels)
        self.program: Program = self._recognise(x=x)
        self._programs: dict[Kind, Program] | None = None
        if x is not None:
            self._programs = {_kind(channels_last(x.unsqueeze(0))): self.program}
        self.layout = Layout.of(model)
        self.memory = memory
        self.loss = loss
        self.precision = precision
        layers = [n.layer for n in self.program.nodes]
        single = any(isinstance(layer, Conv) for layer in layers)
        self.convolves = single or any(isinstance(layer, Block) for layer in layers)
        self.order: Order = order or ("rows" if on_cpu and self.convolves else "columns")
        self._chunk = chunk
        # Tasks of large images that go together, None for all of them.
        self._few: int | None = None
        alone = single or (kernels and not native.threaded())  # one thread for a call
        side_by_side = on_cpu and self.convolves and alone and conv in ("blocks", "per-task")
        if side_by_side:
            self._few = 1
        elif on_cpu and conv == "blocks" and self.convolves:
            self._few = 2 * torch.get_num_threads()
        count = threads or (torch.get_num_threads() if side_by_side else 1)
        self._workers = Workers(None, count if on_cpu else 1)

    def under(self, loss: LossFunction) -> AnalyticEngine:
        """The same engine under another loss."""
        other = copy.copy(self)
        other.loss = loss
        return other

    @property
    def traits(self) -> Traits:
        return Traits(True, self.convolves, layers=tuple(self.program.describe()))

    @property
    def closed_form(self) -> bool:
        """Whether the loss's derivatives are known, so that autograd is never called."""
        return has_closed_form(self.loss)

    def curvature(self, x: Tensor, y: Tensor) -> AnalyticCurvature:
        """Curvature of the support loss on x [B, N, ...], y [B, N, ...]."""
        return AnalyticCurvature(self, x, y)

    def query(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]."""
        x = channels_last(x)
        self.program_for(x)

        def one(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            loss, gradient, hessian = self.linearise(phi[rows], x[rows], y[rows], keep=False)
            return loss, gradient, hessian.output

        loss, gradient, output = (_cat(c) for c in zip(*self.map(one, x), strict=True))
        return loss, gradient, output

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """The model's outputs [B, N, out_dim] at phi [B, d]."""
        x = channels_last(x)
        program = self.program_for(x)

        def one(rows: slice) -> Tensor:
            output, _ = program.forward(self.layout.unflatten(phi[rows]), x[rows])
            return output

        return _cat(self.map(one, x))

    def chunk(self, x: Tensor) -> int:
        """How many tasks of such inputs [B, N, ...] go through the layers together.

        Small images: one operation for all tasks beats threads that wait for the interpreter.
        Large ones: what is alive at a time is bounded.
        """
        if self._chunk is not None:
            return self._chunk
        large = math.prod(x.shape[1:-1]) > FEW_PLACES
        return self._few if large and self._few else len(x)

    def linearise(
        self, phi: Tensor, x: Tensor, y: Tensor, *, keep: bool
    ) -> tuple[Tensor, Tensor, Hessian]:
        """Loss [T], gradient [T, d] and Hessian of some tasks at phi [T, d]; without keep the
        Hessian has the outputs alone."""
        program = self.program_for(x)
        output, point = program.forward(self.layout.unflatten(phi), x)
        loss, go, product = output_loss(self.loss, output, y).at(output, y)
        gradient = self.layout.flatten(program.backward(point, go, keep=keep))
        if keep and self.precision == "bf16":
            point = converted(point, torch.bfloat16)
        return loss, gradient, Hessian(self, program, point, product, output)

    def program_for(self, x: Tensor) -> Program:
        """The program for inputs [B, N, ...], images channels last: sizes may be built into it.

        Raises:
            Unsupported: the network does to inputs of this shape what the algebra does not know.
        """
        if self._programs is None:
            return self.program
        kind = _kind(x)
        if kind not in self._programs:
            task = x[0].movedim(-1, 1) if x.dim() == 5 else x[0]
            self._programs[kind] = self._recognise(x=task)
        return self._programs[kind]

    def map(self, function: Callable[[slice], T], x: Tensor) -> list[T]:
        """function(rows) for every chunk of the tasks whose inputs are x, a few side by side."""
        count, size = len(x), self.chunk(x)
        chunks = [slice(i, min(i + size, count)) for i in range(0, count, size)]

        def quiet(rows: slice) -> T:
            with torch.no_grad():  # per thread: grad mode is not inherited
                return function(rows)

        return self._workers.map(quiet, chunks)


@dataclass(frozen=True)
class Hessian:
    """The Hessians of some tasks, each at its own parameters, ready for products."""

    engine: AnalyticEngine
    program: Program
    point: Point
    loss_product: LossProduct
    output: Tensor

    @classmethod
    def joined(cls, parts: list[Hessian], y: Tensor) -> Hessian:
        """Several of them, of the same tasks with targets y, as one."""
        engine, output = parts[0].engine, torch.cat([p.output for p in parts])
        targets = _times(len(parts), y)
        _, _, product = output_loss(engine.loss, output, targets).at(output, targets)
        return cls(engine, parts[0].program, join([p.point for p in parts]), product, output)

    def times(self, v: Tensor) -> Tensor:
        """H v for v [T, d]."""
        layout, precision = self.engine.layout, self.engine.precision
        product = partial(self.program.product, self.point)
        if precision == "full":
            return layout.flatten(product(layout.unflatten(v), self.loss_product))
        if precision == "tf32":
            with tensor_cores():
                return layout.flatten(product(layout.unflatten(v), self.loss_product))

        def loss_product(to: Tensor) -> Tensor:
            return self.loss_product(to.to(v.dtype)).bfloat16()

        return layout.flatten(product(layout.unflatten(v.bfloat16()), loss_product)).to(v.dtype)


class AnalyticCurvature:
    """Gradients and Hessian-vector products of B support losses."""

    def __init__(self, engine: AnalyticEngine, x: Tensor, y: Tensor) -> None:
        self._engine = engine
        self._x, self._y = channels_last(x), y
        self._program = engine.program_for(self._x)
        self._phi: dict[int, Tensor] = {}
        self._kept: dict[int, list[Hessian | None]] = {}  # by step, then by chunk of tasks
        self.order: Order = engine.order

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d]."""
        store = keep and self._engine.memory == "store"
        self.place(k, phi)

        def one(rows: slice) -> tuple[Tensor, Tensor, Hessian | None]:
            x, y = self._x[rows], self._y[rows]
            loss, gradient, hessian = self._engine.linearise(phi[rows], x, y, keep=store)
            return loss, gradient, hessian if store else None

        losses, gradients, hessians = zip(*self._engine.map(one, self._x), strict=True)
        if store:
            self._kept[k] = list(hessians)
        return _cat(losses), _cat(gradients)

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [B, d] from now on."""
        self._phi[k] = phi
        self._kept.pop(k, None)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; V [B, P, d] -> the same."""
        if self.order == "columns" and len(ks) > 1:
            return self._all_points(ks, V)

        def one(rows: slice) -> Tensor:
            columns: list[Tensor] = [V[rows, 0]] * len(ks)
            for k in sorted(set(ks)):
                at = self._at(k, rows)
                for p in (p for p, kp in enumerate(ks) if kp == k):
                    columns[p] = at.times(V[rows, p])
                del at  # recomputed: one linearisation a thread is alive at a time
            return torch.stack(columns, 1) if len(columns) > 1 else columns[0].unsqueeze(1)

        return _cat(self._engine.map(one, self._x))

    def _at(self, k: int, rows: slice) -> Hessian:
        """A chunk's Hessians at phi^k: kept by the inner loop, or made now and kept if allowed."""
        size, count = self._engine.chunk(self._x), len(self._x)
        chunk = rows.start // size
        kept = self._kept[k][chunk] if k in self._kept else None
        if kept is None:
            x, y = self._x[rows], self._y[rows]
            _, _, kept = self._engine.linearise(self._phi[k][rows], x, y, keep=True)
            if self._engine.memory == "store":
                empty: list[Hessian | None] = [None] * -(-count // size)
                self._kept.setdefault(k, empty)[chunk] = kept
        return kept

    def _all_points(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """All points of a level in one pass, a chunk of tasks at a time: depth L, not L P."""
        P = len(ks)

        def one(rows: slice) -> Tensor:
            x, y = self._x[rows], self._y[rows]
            if self._engine.memory == "store":
                at = Hessian.joined([self._at(k, rows) for k in ks], y)
            else:
                points = torch.cat([self._phi[k][rows] for k in ks])
                seen = x if self._program.shares_input else _times(P, x)
                _, _, at = self._engine.linearise(points, seen, _times(P, y), keep=True)
            v = V[rows].transpose(0, 1)
            return at.times(v.flatten(0, 1)).view_as(v).transpose(0, 1)

        return _cat(self._engine.map(one, self._x))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """The chunks' rows one after another; a single chunk without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _kind(x: Tensor) -> Kind:
    """What a program of its own belongs to: one task's shape and type."""
    return x.shape[1:], x.dtype


def _times(P: int, rows: Tensor) -> Tensor:
    """The same tasks for every one of P points, point by point."""
    return rows.repeat(P, *[1] * (rows.dim() - 1))


def channels_last(x: Tensor) -> Tensor:
    """Images [B, N, C, H, W] as [B, N, H, W, C]; other inputs as they are."""
    if x.dim() != 5:
        return x
    B, N, C, H, W = x.shape
    # One channel: the same memory, but with the strides by which torch knows the format.
    return x.reshape(B, N, H, W, 1) if C == 1 else x.movedim(2, -1).contiguous()
