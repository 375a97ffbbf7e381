"""The same meta-gradients in JAX, each form jitted; benchmarks/speed.py times the faster form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

Parameters = list[Array]
FORMS = ("vmap", "map")
"""Tasks together in every operation, or one after another within the compiled step."""


def perceptron(p: Parameters, x: Array) -> Array:
    """Linear layers with ReLUs between: weights [O, I] and biases [O] in turn."""
    for i in range(0, len(p), 2):
        x = x @ p[i].T + p[i + 1]
        x = jax.nn.relu(x) if i + 2 < len(p) else x
    return x


def conv4(p: Parameters, x: Array) -> Array:
    """Four blocks of 3 x 3 convolution, batch norm by the batch, ReLU, 2 x 2 max-pool; a head.
    x [N, C, H, W]. Convolutions are products of patches: XLA's own are slower on a CPU."""
    x = x.transpose(0, 2, 3, 1)
    for i in range(0, 16, 4):
        weight, bias, gamma, beta = p[i : i + 4]
        x = _convolved(x, weight) + bias
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5) * gamma + beta)
        N, H, W, C = x.shape
        x = x[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, C).max((2, 4))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return x @ p[16].T + p[17]


def _convolved(x: Array, weight: Array) -> Array:
    _, H, W, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + H, j : j + W] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(shifts, -1)  # [N, H, W, 9 C]
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return patches @ matrix


def meta_gradient(
    kind: str, named: list[np.ndarray], batch: list[np.ndarray], K: int, alpha: float,
    *, first_order: bool, form: str,
) -> Callable[[], Any]:  # fmt: skip
    """A step: the sum of the tasks' meta-gradients, flat.

    Args:
        kind: "mlp" under squared error, or "conv4" under cross-entropy.
        named: the parameters in the model's order.
        batch: x_trn, y_trn, x_val, y_val.
        form: one of FORMS.
    """
    network = perceptron if kind == "mlp" else conv4
    theta, data = [jnp.asarray(p) for p in named], [jnp.asarray(part) for part in batch]

    def loss(p: Parameters, x: Array, y: Array) -> Array:
        output = network(p, x)
        if kind == "mlp":
            return jnp.square(output - y).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(output), y[:, None], 1).mean()

    def outer(p: Parameters, x: Array, y: Array, x_val: Array, y_val: Array) -> Array:
        for _ in range(K):  # unrolled
            g = jax.grad(loss)(p, x, y)
            g = jax.lax.stop_gradient(g) if first_order else g
            p = [a - alpha * b for a, b in zip(p, g, strict=True)]
        return loss(p, x_val, y_val)

    gradient = jax.grad(outer)

    def step(theta: Parameters, data: list[Array]) -> Array:
        if form == "vmap":
            rows = jax.vmap(gradient, (None, 0, 0, 0, 0))(theta, *data)
        else:
            rows = jax.lax.map(lambda task: gradient(theta, *task), tuple(data))
        return jnp.concatenate([r.sum(0).reshape(-1) for r in rows])

    compiled = jax.jit(step)
    return lambda: compiled(theta, data).block_until_ready()


def contestants(kind: str, model: Any, batch: Any, K: int, alpha: float) -> dict[str, Any]:
    """Steps by label, as torch tensors."""
    named = [p.detach().cpu().numpy() for p in model.parameters()]
    data = [t.cpu().numpy() for t in (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)]

    def step(first_order: bool, form: str) -> Callable[[], torch.Tensor]:
        made = meta_gradient(kind, named, data, K, alpha, first_order=first_order, form=form)
        return lambda: torch.from_dlpack(made())

    return {
        f"JAX {'FOMAML' if first_order else 'MAML'}, {form}": step(first_order, form)
        for form in FORMS
        for first_order in (False, True)
    }
