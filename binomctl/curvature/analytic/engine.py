"""The fast engine: gradients and Hessian-vector products by the layer algebra, without autograd."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.block import Block, beside_blocks
from binomctl.curvature.analytic.chain import Chain, Passes, chain_of
from binomctl.curvature.analytic.chain_curvature import ChainCurvature, StoredChainCurvature
from binomctl.curvature.analytic.chunks import Chunks, whole
from binomctl.curvature.analytic.conv import Conv, Method
from binomctl.curvature.analytic.curvature import AnalyticCurvature
from binomctl.curvature.analytic.hessian import Hessian
from binomctl.curvature.analytic.losses import (
    LossFunction,
    has_closed_form,
    known_loss,
    output_loss,
)
from binomctl.curvature.analytic.precision import Precision, check_precision
from binomctl.curvature.analytic.program import converted
from binomctl.curvature.analytic.programs import Programs, channels_last
from binomctl.curvature.analytic.recognise import recognise
from binomctl.curvature.autograd_curvature import Memory, Order
from binomctl.curvature.forward import PlainForward
from binomctl.curvature.network import Network
from binomctl.curvature.supported import check_model
from binomctl.curvature.traits import Traits
from binomctl.curvature.workers import Workers
from binomctl.flat import Layout, trainable

Convolution = Literal["blocks", "per-task", "together", "grouped", "products"]
"""How convolutions with a weight per task are done: as kernels with what follows them (block.py)
where they fit; one per task, tasks side by side in threads, or layer by layer together; as one
grouped convolution; as matrix products."""


class AnalyticEngine:
    """Losses, gradients and curvature of a network that the layer algebra knows.

    Args:
        model: a module, whose own parameters are never touched, or a Network made of one.
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
        model: nn.Module | Network,
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
        self._model = model
        self._made: dict[str, Any] = {"memory": memory, "order": order, "chunk": chunk}
        self._made |= {"threads": threads, "precision": precision, "x": x}
        model = model.module if isinstance(model, Network) else model
        check_model(model)
        first = next(p for _, p in trainable(model))
        check_precision(precision, first.device, first.dtype)
        on_cpu = first.device.type == "cpu"
        self.conv: Convolution = conv or ("blocks" if on_cpu else "grouped")
        conv = self.conv
        method: Method = conv if conv in ("grouped", "products") else "per-task"
        kernels = on_cpu and conv == "blocks" and precision != "bf16"
        self.programs = Programs(lambda x: recognise(model, method, blocks=kernels, x=x), x)
        self.program = self.programs.first
        self.layout = Layout.of(model)
        self.memory = memory
        self.loss = loss
        self.precision = precision
        layers = [n.layer for n in self.program.nodes]
        singles = sum(isinstance(layer, Conv) for layer in layers)
        in_blocks = sum(isinstance(layer, Block) for layer in layers)
        self.convolves = singles + in_blocks > 0
        chain = chain_of(self.program, self.layout)
        self._chains: dict[int, Chain | None] = {id(self.program): chain}
        known = chain is not None and known_loss(loss) is not None and precision == "full"
        self.native = known and native.available(first, "chain")
        rows = self.native or (on_cpu and self.convolves)
        self.order: Order = order or ("rows" if rows else "columns")
        few: int | None = None  # tasks of large images that go together
        compiled = in_blocks > 0 and native.available(first)
        alone = singles > 0 or (in_blocks > 0 and not compiled)  # one thread for a call
        side_by_side = on_cpu and self.convolves and alone and conv in ("blocks", "per-task")
        if side_by_side:
            few = 1
        elif on_cpu and conv == "blocks" and self.convolves:
            few = 2 * torch.get_num_threads()
        count = threads or (torch.get_num_threads() if side_by_side else 1)
        workers = Workers(None, count if on_cpu else 1)
        # Kernels keep neither the interpreter nor torch's threads: a whole task to each thread.
        apart = side_by_side and compiled and in_blocks > singles
        self.chunks = Chunks(chunk, few, workers, apart)

    def done_by(self, conv: Convolution) -> AnalyticEngine:
        """An engine of the same network that does its convolutions in another way."""
        return AnalyticEngine(self._model, self.loss, conv=conv, **self._made)

    @property
    def traits(self) -> Traits:
        beside = self.layout.d if self.native else beside_blocks(self.program.nodes, self.layout)
        return Traits(
            True, self.convolves, True, self.closed_form, beside,
            layers=tuple(self.program.describe()),
        )  # fmt: skip

    @property
    def closed_form(self) -> bool:
        """Whether the loss's derivatives are known, so that autograd is never called."""
        return has_closed_form(self.loss)

    @property
    def forward(self) -> PlainForward:
        """The network itself, by plain autograd."""
        model = self._model
        return PlainForward(model if isinstance(model, Network) else Network(model))

    def curvature(self, x: Tensor, y: Tensor) -> AnalyticCurvature | ChainCurvature:
        """Curvature of the support loss on x [B, N, ...], y [B, N, ...]."""
        passes = self._passes(x, x, y)
        if passes is not None:
            kind = StoredChainCurvature if self.memory == "store" else ChainCurvature
            return kind(passes, self.memory, self.order)
        return AnalyticCurvature(self, x, y)

    def query(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]."""
        passes = self._passes(phi, x, y)
        if passes is not None:
            return passes.gradient(phi, None)
        x = channels_last(x)
        self.programs.of(x)

        def one(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            loss, gradient, hessian = self.linearise(phi[rows], x[rows], y[rows], keep=False)
            return loss, gradient, hessian.output

        loss, gradient, output = (whole(c) for c in zip(*self.chunks.map(one, x), strict=True))
        return loss, gradient, output

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """The model's outputs [B, N, out_dim] at phi [B, d]."""
        x = channels_last(x)
        program = self.programs.of(x)

        def one(rows: slice) -> Tensor:
            output, _ = program.forward(self.layout.unflatten(phi[rows]), x[rows])
            return output

        return whole(self.chunks.map(one, x))

    def linearise(
        self, phi: Tensor, x: Tensor, y: Tensor, *, keep: bool
    ) -> tuple[Tensor, Tensor, Hessian]:
        """Loss [T], gradient [T, d] and Hessian of some tasks at phi [T, d]; without keep the
        Hessian has the outputs alone."""
        program = self.programs.of(x)
        output, point = program.forward(self.layout.unflatten(phi), x)
        loss, go, product = output_loss(self.loss, output, y).at(output, y)
        gradient = self.layout.flatten(program.backward(point, go, keep=keep))
        if keep and self.precision == "bf16":
            point = converted(point, torch.bfloat16)
        how = self.layout, self.loss, self.precision
        return loss, gradient, Hessian(*how, program, point, product, output)

    def _passes(self, phi: Tensor, x: Tensor, y: Tensor) -> Passes | None:
        """The passes at points like phi as native calls, where the network is of that kind."""
        loss = known_loss(self.loss) if self.native else None
        if loss is None:
            return None
        program = self.programs.of(channels_last(x))
        if id(program) not in self._chains:  # `programs` keeps them all
            self._chains[id(program)] = chain_of(program, self.layout)
        chain = self._chains[id(program)]
        if chain is None or not chain.takes(loss, phi, x, y):
            return None
        return Passes(chain, loss, x, y)
