"""Does an estimator keep what its contract promises?"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from binomctl.contracts import Diagnosing, ExactAtOrder, LearnsRule, Remembers
from binomctl.testing.small import B, K, adapted_by, backpropagated, built, close, promise


def check_estimator(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check an estimator on a small regression problem, 3 tasks and 4 inner steps.

    Shape, finiteness, determinism, untouched inputs, the same rows for one task as among others,
    float32 against float64, no Hessian asked for beyond `steps`, options with a sentence each; and
    what it declares besides: exactness (`exact`), `adjoints`, `diagnose`.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
        ConfigError: the options are wrong.
    """
    estimator: Any = built(cls, options)
    promise(
        all(0 <= k <= K for k in estimator.steps(K)), f"steps({K}) goes beyond 0..{K}, H_0..H_K"
    )
    adapted, asked = adapted_by(estimator, torch.float64)
    g, phi = adapted.g.clone(), adapted.trajectory.phi.clone()
    rows = estimator.meta_gradient(adapted).clone()  # it may be adapted.g itself
    promise(
        torch.equal(adapted.g, g) and torch.equal(adapted.trajectory.phi, phi),
        "it changed what it was given",
    )
    d = adapted.trajectory.adaptation.layout.d
    promise(tuple(rows.shape) == (B, d), f"the estimate has shape {list(rows.shape)}, not [B, d]")
    promise(bool(torch.isfinite(rows).all()), "the estimate is not finite")
    promise(asked <= set(estimator.steps(K)), f"it asked for H_k outside steps({K}): {asked}")
    promise(torch.equal(estimator.meta_gradient(adapted), rows), "two calls give two results")
    for b in range(B):
        alone, _ = adapted_by(estimator, torch.float64, only=b)
        close(
            estimator.meta_gradient(alone)[0], rows[b], 1e-10, "a task's row depends on the others"
        )
    single, _ = adapted_by(estimator, torch.float32)
    close(estimator.meta_gradient(single).double(), rows, 1e-3, "float32 is far from float64")
    if isinstance(estimator, LearnsRule):
        w = estimator.adjoints(adapted)
        promise(tuple(w.shape) == (B, K + 1, d), f"adjoints have shape {list(w.shape)}")
        close(w[:, 0], rows, 1e-10, "adjoint 0 is not the meta-gradient")
    if isinstance(estimator, Remembers):
        before = estimator.init_state(adapted.trajectory.adaptation.layout)
        kept = {name: t.clone() for name, t in before.items()}
        one, after = estimator.advance(adapted, before)
        two, _ = estimator.advance(adapted, before)
        promise(torch.equal(one, two), "two calls from one state give two results")
        promise(set(after) == set(before), f"the state's names change: {sorted(after)}")
        promise(all(torch.equal(before[n], t) for n, t in kept.items()), "it changed its state")
    if isinstance(estimator, Diagnosing):
        for name, value in estimator.diagnose(adapted, rows).items():
            promise(tuple(value.shape) == (B,), f"diagnostic '{name}' is not one figure a task")
    if issubclass(cls, ExactAtOrder):
        own = isinstance(inspect.getattr_static(cls, "exact"), classmethod)
        promise(own, "exact is called on the class: make it a classmethod")
        exact, _ = adapted_by(cls.exact(K), torch.float64)
        close(
            cls.exact(K).meta_gradient(exact),
            backpropagated(),
            1e-9,
            f"exact({K}) is not the gradient by backpropagation through the inner loop",
        )
