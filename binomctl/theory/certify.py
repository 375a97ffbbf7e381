"""A search for Hessians that violate a bound: projected gradient ascent over small matrices.

Nothing is claimed that a reader cannot multiply out: a witness is a sequence H_0 .. H_{K-1} of
symmetric matrices whose eigenvalues obey the theorem's assumption, and its factor is computed
anew from the saved numbers in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from binomctl.theory.bounds import METHODS, THEOREMS, Curve, Method, Setting, Theorem

Array = NDArray[np.float64]
RESTARTS, ITERATIONS, DIMENSIONS = 24, 400, (2, 3)
MARGIN = 1e-9  # how far beyond a bound a re-computed factor must be to count as a violation


@dataclass(frozen=True)
class Finding:
    """The worst error factor found for a method at one L, its Hessians [K, d, d] beside it."""

    theorem: Theorem
    method: Method
    L: int
    factor: float
    paper: float
    corrected: float
    hessians: Array
    witness: Path | None = None
    """The file that they were saved to."""

    @property
    def name(self) -> str:
        return f"witness-{self.theorem}-{self.method}-L{self.L}.npz"

    @property
    def violates_paper(self) -> bool:
        return self.factor > self.paper * (1 + MARGIN) + MARGIN

    @property
    def violates_corrected(self) -> bool:
        return self.factor > self.corrected * (1 + MARGIN) + MARGIN


@dataclass(frozen=True)
class Search:
    """For the worst sequence of a method at order L, whose bounds are known."""

    theorem: Theorem
    method: Method
    L: int
    paper: float
    corrected: float


def searches(s: Setting, found: list[Curve]) -> list[Search]:
    """One for every method and L of the curves found.

    FOMAML's error is the same at every L and is listed at the first; L = K, where Trunc and Binom
    are exact, is left out.
    """
    out = []
    for theorem in dict.fromkeys(c.theorem for c in found):
        sources = {c.source: c for c in found if c.theorem == theorem}
        paper, corrected = sources["paper"], sources.get("corrected", sources["paper"])
        for method in METHODS:
            for i, L in enumerate(paper.L):
                if (method == "fomaml" and i) or (method != "fomaml" and L == s.K):
                    continue
                printed, mended = (float(getattr(c, method)[i]) for c in (paper, corrected))
                order = 0 if method == "fomaml" else L
                out.append(Search(theorem, method, order, printed, mended))
    return out


def certify(s: Setting, found: list[Curve], seed: int = 0) -> list[Finding]:
    """What all searches find."""
    return [worst(s, search, seed) for search in searches(s, found)]


def worst(s: Setting, of: Search, seed: int = 0) -> Finding:
    """The worst sequence that a search finds."""
    low, high = spectrum_limits(of.theorem, s)
    H = _search(of.method, of.L, s, low, high, seed)
    factor = verified_factor(of.method, of.L, s, of.theorem, H)
    return Finding(of.theorem, of.method, of.L, factor, of.paper, of.corrected, H)


def spectrum_limits(theorem: Theorem, s: Setting) -> tuple[Array, Array]:
    """The smallest and largest eigenvalue allowed at each step, [K] each."""
    low = np.full(s.K, 0.0 if theorem == "3.8" else -s.H)
    if theorem == "3.10":
        low[s.K - s.M :] = s.h
    return low, np.full(s.K, s.H)


def verified_factor(method: Method, L: int, s: Setting, theorem: Theorem, H: Array) -> float:
    """|error operator|_2 of a sequence [K, d, d], after checking that it is allowed.

    Raises:
        ValueError: a matrix is not symmetric or its eigenvalues leave the allowed range.
    """
    if not np.array_equal(H, np.swapaxes(H, 1, 2)):
        raise ValueError("a Hessian is not symmetric")
    low, high = spectrum_limits(theorem, s)
    eigenvalues = np.linalg.eigvalsh(H)
    slack = 1e-12 * max(abs(low).max(), abs(high).max())
    if (eigenvalues < low[:, None] - slack).any() or (eigenvalues > high[:, None] + slack).any():
        raise ValueError("an eigenvalue leaves the range that the theorem assumes")
    return float(np.linalg.norm(_error(method, L, s.alpha, H), 2))


def _error(method: Method, L: int, alpha: float, H: Array) -> Array:
    """The error operators of sequences [*batch, K, d, d], [*batch, d, d]."""
    return _operator(method, L, alpha, torch.from_numpy(H)).numpy()


def _operator(method: Method, L: int, alpha: float, H: Tensor) -> Tensor:
    """prod_k (I - alpha H_k) minus the estimator's operator, [*batch, d, d]."""
    K, d = H.shape[-3], H.shape[-1]
    eye = torch.eye(d, dtype=H.dtype).expand(*H.shape[:-3], d, d)
    product = tail = eye
    S = eye.unsqueeze(-3).repeat_interleave(L + 1, -3)  # [j]: of the tail's order <= j in alpha
    for k in reversed(range(K)):
        Hk = alpha * H[..., k, :, :]
        product = product - Hk @ product
        tail = product if k == K - L else tail
        if method == "binommaml":
            above = S[..., 1:, :, :] - Hk.unsqueeze(-3) @ S[..., :-1, :, :]
            S = torch.cat([S[..., :1, :, :], above], -3)
    return product - {"fomaml": eye, "truncmaml": tail, "binommaml": S[..., L, :, :]}[method]


def _search(method: Method, L: int, s: Setting, low: Array, high: Array, seed: int) -> Array:
    """The worst sequence [K, d, d] of all restarts and dimensions."""
    best: tuple[float, Array] | None = None
    for d in DIMENSIONS:
        random = np.random.default_rng([seed, d, L])
        H = _ascend(method, L, s.alpha, _start(random, low, high, d), low, high)
        norms = np.linalg.norm(_error(method, L, s.alpha, H), 2, axis=(-2, -1))
        worst = int(norms.argmax())
        if best is None or norms[worst] > best[0]:
            best = (float(norms[worst]), H[worst])
    assert best is not None
    return best[1]


def _start(random: np.random.Generator, low: Array, high: Array, d: int) -> Array:
    """RESTARTS sequences of random rotations with extreme eigenvalues, [R, K, d, d]."""
    K = len(low)
    basis = np.linalg.qr(random.standard_normal((RESTARTS, K, d, d)))[0]
    top = random.integers(0, 2, (RESTARTS, K, d)).astype(float)
    values = low[:, None] + (high - low)[:, None] * top
    # Constant sequences are the known worst cases of some bounds: have them among the starts.
    values[0], values[1] = low[:, None], high[:, None]
    values[2] = high[:, None]
    values[2, K // 2 :] = low[K // 2 :, None]
    return _symmetric((basis * values[..., None, :]) @ np.swapaxes(basis, -1, -2))


def _ascend(method: Method, L: int, alpha: float, H: Array, low: Array, high: Array) -> Array:
    """Projected gradient ascent on the spectral norm of the error; keeps each restart's best."""
    best, value = H, np.linalg.norm(_error(method, L, alpha, H), 2, axis=(-2, -1))
    step = np.full(len(H), 0.5)
    for _ in range(ITERATIONS):
        gradient = _gradient(method, L, alpha, best)
        scale = np.sqrt((gradient**2).sum(axis=(-3, -2, -1), keepdims=True))
        move = step[:, None, None, None] * gradient / np.maximum(scale, 1e-300)
        trial = _project(best + move * float(high.max()), low, high)
        found = np.linalg.norm(_error(method, L, alpha, trial), 2, axis=(-2, -1))
        better = found > value
        best = np.where(better[:, None, None, None], trial, best)
        value = np.where(better, found, value)
        step = np.where(better, np.minimum(step * 1.3, 1.0), step * 0.5)
        if step.max() < 1e-10:
            break
    return best


def _gradient(method: Method, L: int, alpha: float, H: Array) -> Array:
    """d |E|_2 / dH_k [R, K, d, d]: the symmetric part of d (u^T E v) / dH_k, u and v the first
    singular vectors. One pair of them where the norm is attained twice: torch's own derivative of
    the norm would take the mean of all, which is no direction of ascent there."""
    moving = torch.from_numpy(H).requires_grad_()
    E = _operator(method, L, alpha, moving)
    left, _, right = np.linalg.svd(E.detach().numpy())
    u, v = torch.from_numpy(left[..., :, 0]), torch.from_numpy(right[..., 0, :])
    (gradient,) = torch.autograd.grad(E, moving, u.unsqueeze(-1) * v.unsqueeze(-2))
    return _symmetric(gradient.numpy())


def _project(H: Array, low: Array, high: Array) -> Array:
    """The nearest allowed sequence: eigenvalues clipped."""
    values, vectors = np.linalg.eigh(_symmetric(H))
    values = np.clip(values, low[:, None], high[:, None])
    return _symmetric((vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def _symmetric(H: Array) -> Array:
    out: Array = (H + np.swapaxes(H, -1, -2)) / 2
    return out


def save_witness(path: Path, s: Setting, finding: Finding) -> None:
    """A finding as npz: H [K, d, d] and everything needed to multiply it out."""
    np.savez(
        path,
        allow_pickle=False,
        H=finding.hessians,
        alpha=s.alpha,
        bound_H=s.H,
        bound_h=s.h,
        M=s.M,
        L=finding.L,
        theorem=finding.theorem,
        method=finding.method,
        factor=finding.factor,
        paper=finding.paper,
        corrected=finding.corrected,
    )


def verify_witness(path: Path) -> float:
    """The factor of a saved witness, computed anew from its matrices.

    Raises:
        ValueError: the matrices are not allowed, or do not violate the paper's bound.
    """
    with np.load(path, allow_pickle=False) as file:
        H = file["H"]
        s = Setting(
            len(H),
            float(file["alpha"]),
            float(file["bound_H"]),
            float(file["bound_h"]),
            int(file["M"]),
        )
        theorem = next(t for t in THEOREMS if t == str(file["theorem"]))
        method = next(m for m in METHODS if m == str(file["method"]))
        factor = verified_factor(method, int(file["L"]), s, theorem, H)
        if factor <= float(file["paper"]) * (1 + MARGIN):
            raise ValueError(f"{path} does not violate the paper's bound: {factor}")
    return factor
