"""Kernels for blocks of layers say what the layers say, at every width of the machine."""

from __future__ import annotations

import platform

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.block import Block
from binomctl.curvature.analytic.conv import Conv
from binomctl.curvature.analytic.layers import Cache, Norm
from binomctl.curvature.analytic.norm_block import NormBlock, Pool

NARROWER = [(), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx")]


@pytest.mark.parametrize("flags", NARROWER, ids=["native", "256 bits", "128 bits"])
def test_blocks_say_what_the_layers_say(flags, monkeypatch):
    """The kernels against the torch operations, whatever varies and whatever is wanted."""
    if flags and platform.machine() != "x86_64":
        pytest.skip("narrower vectors are tested on x86_64 alone")
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, *flags))
    native._library.cache_clear()
    try:
        assert native.compiled(), "no C compiler here, or the kernels do not compile"
        check_blocks(20 if flags else 150)
    finally:
        native._library.cache_clear()


def check_blocks(examples):
    @given(
        T=st.integers(1, 3), N=st.integers(1, 3), H=st.integers(1, 19), W=st.integers(1, 19),
        I=st.sampled_from([0, 1, 3, 5, 16, 20]), C=st.sampled_from([1, 5, 16, 20, 32, 48, 64]),
        k=st.integers(1, 3), slope=st.sampled_from([0.0, 0.1, 1.0]),
        fixed=st.sets(st.sampled_from(["weight", "gamma", "beta", "input"])),
        seed=st.integers(0, 999),
    )  # fmt: skip
    @settings(max_examples=examples, deadline=None)
    def check(T, N, H, W, I, C, k, slope, fixed, seed):
        if k > min(H, W) or N * H * W == 1:
            return
        torch.manual_seed(seed)
        norm_block = NormBlock(1e-5, slope, Pool((k, k), (k, k)))
        shapes = {"gamma": (C,), "beta": (C,)}
        if I:
            shapes |= {"weight": (C, I, 3, 3), "bias": (C,)}
        p, tp = (
            {n: torch.randn(T, *shape, dtype=torch.float64) for n, shape in shapes.items()}
            for _ in range(2)
        )
        tp = {n: v for n, v in tp.items() if n not in fixed}
        varies = I not in (1, 3) and "input" not in fixed
        x, tx = torch.randn(2, T, N, H, W, I or C, dtype=torch.float64)
        ga, tga = torch.randn(2, T, N, H // k, W // k, C, dtype=torch.float64)
        given_ = (p, tp, x, tx if varies else None, ga, tga, [varies or not I])
        conv = Conv(padding=(1, 1), bias=False) if I else Same()
        wanted = maps_of_layers(conv, Norm(norm_block), *given_)
        found = maps_of_block(Block(norm_block, bool(I)), *given_)
        for one, two in zip(leaves(found), leaves(wanted), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)

    check()


def maps_of_block(block, p, tp, x, tx, ga, tga, wanted):
    cache = Cache()
    return [
        block.forward(p, [x], cache),
        block.backward(p, cache, ga, wanted),
        block.tangent(p, tp, cache, [tx]),
        block.tangent_backward(p, tp, cache, ga, tga, wanted),
    ]


def maps_of_layers(conv, norm, p, tp, x, tx, ga, tga, wanted):
    roles = {"weight": "gamma", "bias": "beta"}
    mine, along = ({r: v[n] for r, n in roles.items() if n in v} for v in (p, tp))
    at_conv, at_norm = Cache(), Cache()
    a = norm.forward(mine, [conv.forward(p, [x], at_conv)], at_norm)
    (gz,), g_norm = norm.backward(mine, at_norm, ga, [True])
    gx, g_conv = conv.backward(p, at_conv, gz, wanted)
    ta = norm.tangent(mine, along, at_norm, [conv.tangent(p, tp, at_conv, [tx])])
    (tgz,), tg_norm = norm.tangent_backward(mine, along, at_norm, ga, tga, [True])
    tgx, tg_conv = conv.tangent_backward(p, tp, at_conv, gz, tgz, wanted)

    def named(of_conv, of_norm):
        return of_conv | {n: of_norm[r] for r, n in roles.items()}

    return [a, (gx, named(g_conv, g_norm)), ta, (tgx, named(tg_conv, tg_norm))]


class Same:
    """No convolution in front: the maps of the identity."""

    def forward(self, p, xs, cache):
        return xs[0]

    def backward(self, p, cache, gy, wanted):
        return [gy], {}

    def tangent(self, p, tp, cache, txs):
        return txs[0]

    def tangent_backward(self, p, tp, cache, gy, tgy, wanted):
        return [tgy], {}


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for name in sorted(tree) for t in leaves(tree[name])]
    return [t for part in tree if part is not None for t in leaves(part)]
