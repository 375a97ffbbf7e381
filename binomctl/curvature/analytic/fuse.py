"""Layers in a row that are computed as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from binomctl.curvature.analytic.activations import Leaky
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.layer import Layer
from binomctl.curvature.analytic.layers import MaxPool, Norm
from binomctl.curvature.analytic.norm_block import NormBlock, Pool
from binomctl.curvature.analytic.program import Node


def fused(nodes: Sequence[Node]) -> list[Node]:
    """Batch norm, ReLU and max-pool in a row become one block; a convolution whose only reader is
    batch norm drops its bias."""
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        for j in node.inputs:
            readers.setdefault(j, []).append(i)

    def follower(value: int) -> int | None:
        return readers[value][0] if len(readers.get(value, [])) == 1 else None

    out: list[Node] = []
    place = {0: 0}
    skip: set[int] = set()
    for i, node in enumerate(nodes):
        if i in skip:
            continue
        layer, end = node.layer, i
        if isinstance(layer, Conv):
            after = follower(i + 1)
            if after is not None and isinstance(nodes[after].layer, Norm):
                layer = replace(layer, bias=False)
        if isinstance(layer, Norm):
            slope, pool = 1.0, Pool()
            after = follower(end + 1)
            if after is not None and (found := _slope_of(nodes[after].layer)) is not None:
                slope, end = found, after
                skip.add(after)
                after = follower(end + 1)
                next_layer = nodes[after].layer if after is not None else None
                if after is not None and isinstance(next_layer, MaxPool):
                    pool, end = next_layer.pool, after
                    skip.add(after)
            layer = Norm(NormBlock(layer.block.eps, slope, pool))
        inputs = tuple(place[j] for j in node.inputs)
        out.append(replace(node, layer=layer, inputs=inputs))
        place[end + 1] = len(out)
    return out


def _slope_of(layer: Layer) -> float | None:
    return layer.slope if isinstance(layer, Leaky) else None
