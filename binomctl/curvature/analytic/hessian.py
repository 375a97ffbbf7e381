"""The Hessians of some tasks as what products with them need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from binomctl.curvature.analytic.losses import LossFunction, LossProduct, output_loss
from binomctl.curvature.analytic.precision import Precision, tensor_cores
from binomctl.curvature.analytic.program import Point, Program, join
from binomctl.flat import Layout


@dataclass(frozen=True)
class Hessian:
    """The Hessians of some tasks, each at its own parameters, ready for products."""

    layout: Layout
    loss: LossFunction
    precision: Precision
    program: Program
    point: Point
    loss_product: LossProduct
    output: Tensor

    @staticmethod
    def joined(parts: list[Hessian], y: Tensor) -> Hessian:
        """Several of them, of the same tasks with targets y, as one."""
        first, output = parts[0], torch.cat([p.output for p in parts])
        targets = repeated(len(parts), y)
        _, _, product = output_loss(first.loss, output, targets).at(output, targets)
        point = join([p.point for p in parts])
        return replace(first, point=point, loss_product=product, output=output)

    def times(self, v: Tensor) -> Tensor:
        """H v for v [T, d]."""
        layout, precision = self.layout, self.precision
        product = partial(self.program.product, self.point)
        if precision == "full":
            return layout.flatten(product(layout.unflatten(v), self.loss_product))
        if precision == "tf32":
            with tensor_cores():
                return layout.flatten(product(layout.unflatten(v), self.loss_product))

        def loss_product(to: Tensor) -> Tensor:
            return self.loss_product(to.to(v.dtype)).bfloat16()

        return layout.flatten(product(layout.unflatten(v.bfloat16()), loss_product)).to(v.dtype)


def repeated(P: int, rows: Tensor) -> Tensor:
    """The same tasks for every one of P points, point by point."""
    return rows.repeat(P, *[1] * (rows.dim() - 1))
