"""Blocks of a network as kernels for a CPU: (convolution,) batch norm, (leaky) ReLU, max-pool.

The layers of layers.py and conv.py pass whole images from one to the next; a block's kernel has
the rows of a convolution used by batch norm while they are in the cache, and no gradient of its
output is ever written to memory. kernels/block.c has the maps, norm_block.py the algebra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile

import torch
from torch import Tensor

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.layer import Cache, Parameters
from binomctl.curvature.analytic.layers import Linear, LinearMap, Norm
from binomctl.curvature.analytic.norm_block import NormBlock
from binomctl.curvature.analytic.program import KERNEL, Node
from binomctl.flat import Layout

WIDEST = 128
"""Channels up to which a kernel's weights stay in the cache; measured: a meta-step of Conv4
with 80, 96 and 128 filters takes 0.6, 0.8 and 0.9 of the time with torch's convolutions, one of a
residual network with 160 filters more."""


@dataclass(frozen=True)
class Block:
    """One node; parameters are `weight` and `bias` of the convolution, `gamma` and `beta`."""

    block: NormBlock
    convolves: bool

    @property
    def shares_input(self) -> bool:
        """Whether several points of a task may share one input; see Program."""
        return self.convolves

    def forward(self, p: Parameters, xs: Sequence[Tensor], cache: Cache) -> Tensor:
        (x,) = xs
        x = native.packed(x)
        if self.convolves:
            w = native.packed(p["weight"])
            if x.shape[-1] != w.shape[2]:
                raise ValueError(f"{x.shape[-1]} channels meet a convolution of {w.shape[2]}")
            z = x.new_empty(len(w), *x.shape[1:4], w.shape[1])
            kept = {"x": x, "w": w, "z": z}
        else:
            z, kept = x, {"z": x}
        T, N, H, W, C = z.shape
        k = self.block.pool.tiles or 1
        a = z.new_empty(T, N, H // k, W // k, C)
        kept |= {
            "a": a,
            "xh": torch.empty_like(a),
            "arg": torch.empty_like(a, dtype=torch.uint8),
            "mu": z.new_empty(T, C),
            "inv": z.new_empty(T, C),
            "gamma": native.packed(p["gamma"]),
        }
        native.call("forward", self._shape(kept), beta=native.packed(p["beta"]), **kept)
        cache.primal = kept
        return a

    def backward(
        self, p: Parameters, cache: Cache, gy: Tensor, wanted: Sequence[bool]
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        kept: Parameters = cache.primal
        shape, gx, out = self._shape(kept), *self._out(kept, wanted[0], "")
        native.call("backward", shape, ga=native.packed(gy), **(kept | gx | out))
        kept |= {"ggamma": out["ggamma"], "gbeta": out["gbeta"]}
        return [next(iter(gx.values()), None)], self._named(p, out, "")

    def tangent(
        self, p: Parameters, tp: Parameters, cache: Cache, txs: Sequence[Tensor | None]
    ) -> Tensor | None:
        kept: Parameters = cache.primal
        z, (tx,) = kept["z"], txs
        along = {"t" + n: native.packed(tp[n]) for n in ("gamma", "beta") if n in tp}
        if self.convolves:
            along["tz"] = torch.empty_like(z)
            if "weight" in tp:
                along["tw"] = native.packed(tp["weight"])
            if tx is not None:
                along["tx"] = native.packed(tx)
        else:
            along["tz"] = torch.zeros_like(z) if tx is None else native.packed(tx)
        along |= {n: torch.empty_like(kept[n[1:]]) for n in ("txh", "tmu", "tinv")}
        ta = torch.empty_like(kept["a"])
        native.call("tangent", self._shape(kept), ta=ta, **kept, **along)
        cache.tangent = along
        return ta

    def tangent_backward(
        self,
        p: Parameters,
        tp: Parameters,
        cache: Cache,
        gy: Tensor,
        tgy: Tensor,
        wanted: Sequence[bool],
    ) -> tuple[Sequence[Tensor | None], Parameters]:
        kept: Parameters = cache.primal
        shape, tgx, out = self._shape(kept), *self._out(kept, wanted[0], "t")
        ga, tga = native.packed(gy), native.packed(tgy)
        native.call(
            "tangent_backward", shape, ga=ga, tga=tga, **kept, **cache.tangent, **tgx, **out
        )
        return [next(iter(tgx.values()), None)], self._named(p, out, "t")

    def _out(self, kept: Parameters, wanted: bool, t: str) -> tuple[Parameters, Parameters]:
        """Tensors for the gradient of the input, if there is to be one, and of the parameters;
        with the prefix t their tangents."""
        out = {f"{t}g{n}": torch.empty_like(kept["mu"]) for n in ("gamma", "beta")}
        if not self.convolves:
            return {f"{t}gz": torch.empty_like(kept["z"])}, out
        out[f"{t}gw"] = torch.empty_like(kept["w"], memory_format=torch.contiguous_format)
        x, T = kept["x"], len(kept["z"])
        return {f"{t}gx": x.new_empty(T, *x.shape[1:])} if wanted else {}, out

    def _named(self, p: Parameters, out: Parameters, t: str) -> Parameters:
        named = {n: out[f"{t}g{n}"] for n in ("gamma", "beta")}
        if self.convolves:
            named["weight"] = out[f"{t}gw"]
            if "bias" in p:  # batch norm takes it away
                named["bias"] = torch.zeros_like(p["bias"])
        return named

    def _shape(self, kept: Parameters) -> native.Shape:
        T, N, H, W, C = kept["z"].shape
        channels, X = (kept["x"].shape[-1], len(kept["x"])) if self.convolves else (0, T)
        k = self.block.pool.tiles or 1
        return native.Shape(T, N, H, W, channels, C, k, X, self.block.eps, self.block.slope)


def with_blocks(nodes: Sequence[Node], shapes: Mapping[str, torch.Size]) -> list[Node]:
    """The nodes with every batch norm that a kernel can do, and the convolution before it where
    nobody else reads that, as a Block; shapes are the parameters'."""
    if not any(isinstance(node.layer, Norm) for node in nodes):
        return list(nodes)  # the kernels need not be compiled
    kernels = native.compiled()
    readers = [sum(node.inputs.count(value) for node in nodes) for value in range(len(nodes) + 1)]
    out: list[Node] = []
    place = [0]  # of every value of the old nodes among the new ones
    for node in nodes:
        layer = node.layer
        inputs = tuple(place[j] for j in node.inputs)
        if kernels and isinstance(layer, Norm) and (layer.block.pool.tiles or 16) < 16:
            names = {_ROLES[r]: n for r, n in node.names.items()}
            constants = {_ROLES[r]: c for r, c in node.constants.items()}
            before = node.inputs[0] - 1  # the node whose value batch norm takes; -1: the input's
            made = nodes[before] if before >= 0 else None
            if (
                made is not None
                and readers[before + 1] == 1
                and _fits(made, shapes)
                and place[before + 1] == len(out)
            ):
                out.pop()
                names, constants = made.names | names, made.constants | constants
                made_of = tuple(place[j] for j in made.inputs)
                whole = Block(layer.block, True)
                out.append(Node(whole, made_of, names, constants, made.path, made.label, KERNEL))
            else:
                block = Block(layer.block, False)
                out.append(Node(block, inputs, names, constants, node.path, node.label, KERNEL))
        else:
            out.append(replace(node, inputs=inputs))
        place.append(len(out))
    return out


def beside_blocks(nodes: Sequence[Node], layout: Layout) -> int | None:
    """With how many of a task's parameters layers of torch's operations compute where blocks do all
    that is done to whole images; None where they do not."""
    behind = list(dropwhile(lambda node: isinstance(node.layer, Block), nodes))
    plain = all(isinstance(node.layer, Linear | LinearMap) for node in behind)
    if len(behind) == len(nodes) or not plain:
        return None
    return sum(layout.shape(name).numel() for node in behind for name in node.names.values())


_ROLES = {"weight": "gamma", "bias": "beta"}


def _fits(node: Node, shapes: Mapping[str, torch.Size]) -> bool:
    """Whether the kernels can do a convolution: 3 x 3, of not too many channels."""
    conv = node.layer
    if not isinstance(conv, Conv) or conv.bias or "weight" not in node.names:
        return False
    O, I, *size = shapes[node.names["weight"]]
    plain = (tuple(size), conv.stride, conv.padding, conv.dilation)
    return plain == ((3, 3), (1, 1), (1, 1), (1, 1)) and max(O, I) <= WIDEST
