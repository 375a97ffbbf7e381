"""Whether two engines say the same: outputs, gradients and a Hessian-vector product.

An engine is believed only after this, at parameters of which every entry was moved (a head that
starts at zero hides whatever is behind it), in float64 where the network runs in it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Engine
from binomctl.flat import Layout


def perturbed(theta: Tensor, layout: Layout, T: int) -> Tensor:
    """T points [T, d] around theta [d]: every entry moved by a tenth of its tensor's size."""
    generator = torch.Generator(theta.device).manual_seed(0)
    parts = []
    for part in torch.split(theta, layout.sizes):
        size = float(part.square().mean().sqrt()) if part.numel() else 0.0
        noise = torch.randn(
            T, len(part), generator=generator, dtype=theta.dtype, device=theta.device
        )
        parts.append(part + 0.1 * (size or 1.0) * noise)
    return torch.cat(parts, 1)


def directions(like: Tensor) -> Tensor:
    """Random vectors, the same every time."""
    generator = torch.Generator(like.device).manual_seed(1)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def answers(
    engine: Engine, phi: Tensor, x: Any, y: Any, *, product: bool = True
) -> dict[str, Tensor]:
    """Loss [T], gradient [T, d] and H v [T, d] of an engine at phi [T, d]."""
    at = engine.curvature(x, y)
    loss, gradient = at.gradient(phi, 0, keep=product)
    found = {"loss": loss, "gradient": gradient}
    if product:
        v = directions(phi)
        found["Hessian-vector product"] = at.hvp([0], v.unsqueeze(1))[:, 0]
    return found


def difference(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> str | None:
    """What differs by more than the tolerance, and by how much, in words; None: nothing."""
    for name, right in wanted.items():
        if name not in found:
            continue
        size = float(right.norm())
        off = float((found[name] - right).norm())
        if not off <= tolerance * size + 1e-300 and not (size == 0 and off < tolerance):
            return f"its {name} is off by {off / (size or 1):.1e}"
    return None


def nonlinearity(engine: Engine, phi: Tensor, x: Any, y: Any) -> float:
    """|J(c v) - c J v| / |c J v| of the product with a vector: 0 up to rounding, unless a backward
    pass of the network's own is not linear in what comes in (one that clips it, say)."""
    at = engine.curvature(x, y)
    at.gradient(phi, 0, keep=True)
    v, c = directions(phi), 1e-3
    one, scaled = (at.hvp([0], w.unsqueeze(1))[:, 0] for w in (v, c * v))
    return float((scaled - c * one).norm() / (c * one).norm().clamp_min(1e-300))


def asymmetry(engine: Engine, phi: Tensor, x: Any, y: Any) -> float:
    """|u.Hv - v.Hu| / (|u| |Hv|), the largest of the tasks: 0 up to rounding for a Hessian."""
    at = engine.curvature(x, y)
    at.gradient(phi, 0, keep=True)
    v = directions(phi)
    u = v.flip(1) * 0.5 + v.roll(1, 1)
    Hv, Hu = (at.hvp([0], w.unsqueeze(1))[:, 0] for w in (v, u))
    off = ((u * Hv).sum(1) - (v * Hu).sum(1)).abs()
    size = u.norm(dim=1) * Hv.norm(dim=1)
    return float((off / size.clamp_min(1e-300)).nan_to_num().max())
