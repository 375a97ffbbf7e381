"""Does a rule, an inner optimiser keep what its contract promises?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.contracts import (
    Adaptation,
    Directs,
    Draws,
    Linear,
    Starts,
)
from binomctl.errors import BinomctlError
from binomctl.flat import Layout
from binomctl.pairs import check_step
from binomctl.testing.exact import check_exact
from binomctl.testing.small import (
    ALPHA,
    Identity,
    K,
    built,
    close,
    doubled,
    promise,
    small_problem,
)


def check_rule(
    cls: type, options: Mapping[str, Any] | None = None, network: nn.Module | None = None
) -> None:
    """Check an adaptation rule on a small regression problem.

    Options with a sentence each; meta-parameters that are finite and the same twice; u = M gamma
    linear with M^T its transpose, for any leading axes, or a direction that is pure and sees one
    task; the meta-gradient of exact MAML under it, with respect to theta and m, against
    backpropagation through the whole inner loop. A rule that starts tasks elsewhere than at theta
    meets a small classification problem besides, and may refuse one of the two.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.
        network: where the rule needs one of its own: from inputs [N, 2] to the logits of three
            classes, the problem is small classification then. It is only read.

    Raises:
        AssertionError: a promise is broken.
        ConfigError: the options are wrong, or a step is not pure.
    """
    rule: Any = built(cls, options)
    plain = rule.plain
    model = small_problem(torch.float64)[0] if network is None else doubled(network)
    layout = Layout.of(model)
    m = rule.initial(layout)
    promise(m.dim() == 1 and m.is_floating_point(), f"m has shape {list(m.shape)}, not [n]")
    promise(bool(torch.isfinite(m).all()), "m starts with numbers that are not finite")
    promise(torch.equal(m, rule.initial(layout)), "m starts elsewhere the second time")
    promise(isinstance(plain, bool), "plain is neither true nor false")
    promise(
        isinstance(rule, Linear | Directs | Draws),
        "it offers neither apply and apply_transpose nor direction",
    )
    random = torch.Generator().manual_seed(3)
    m = m.double() + 0.1 * torch.randn(len(m), generator=random, dtype=torch.float64)
    if isinstance(rule, Linear):
        _check_linear(rule, plain, m, layout)
    check_step(Adaptation(K, ALPHA, rule, m, layout))
    if not isinstance(rule, Starts) or network is not None:
        check_exact(rule, m, None, network=network)
        return
    refusals = []
    for classes in (False, True):
        try:
            check_exact(rule, m, None, classes=classes)
        except BinomctlError as error:
            refusals.append(error)
    if len(refusals) == 2:
        raise refusals[-1]


def check_update(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check an inner optimiser on a small regression problem.

    Options with a sentence each; a pure step of the declared shape; finite derivatives where a
    gradient is exactly 0; `plain` true only where the step is phi - alpha u; the meta-gradient of
    exact MAML under it against backpropagation through the whole inner loop.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
        ConfigError: the options are wrong, or the step is not pure.
    """
    update: Any = built(cls, options)
    model, _ = small_problem(torch.float64)
    layout = Layout.of(model)
    promise(isinstance(update.slots, int) and update.slots >= 0, f"slots = {update.slots!r}")
    promise(isinstance(update.shifts, str), "shifts is no sentence")
    check_step(Adaptation(K, ALPHA, Identity(), torch.empty(0), layout, update=update))
    random = torch.Generator().manual_seed(3)
    s = torch.zeros(update.slots + 1, 5, dtype=torch.float64)
    s[0] = torch.randn(5, generator=random, dtype=torch.float64)
    zero = torch.zeros(5, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda u: update.step(0, s, u, ALPHA))(zero)
    promise(bool(torch.isfinite(jacobian).all()), "its derivative at a gradient of 0 is not finite")
    u = torch.randn(5, generator=random, dtype=torch.float64)
    if update.plain:
        stepped = update.step(0, s[:1], u, ALPHA)[0]
        promise(torch.equal(stepped, torch.sub(s[0], u, alpha=ALPHA)), "it is not plain")
    else:
        check_exact(Identity(), torch.empty(0, dtype=torch.float64), update)


def _check_linear(rule: Linear, plain: bool, m: Tensor, layout: Layout) -> None:
    random = torch.Generator().manual_seed(4)
    v, w = torch.randn(2, 3, layout.d, generator=random, dtype=torch.float64)
    Mv, Mw = rule.apply(m, v, layout), rule.apply(m, w, layout)
    promise(Mv.shape == v.shape, f"M v has shape {list(Mv.shape)} for v {list(v.shape)}")
    close(rule.apply(m, 2 * v - 3 * w, layout), 2 * Mv - 3 * Mw, 1e-10, "M is not linear")
    left, right = (Mv * w).sum(), (v * rule.apply_transpose(m, w, layout)).sum()
    close(left, right, 1e-10, "apply_transpose is not the transpose: <M v, w> is not <v, M^T w>")
    close(rule.apply(m, v[0], layout), Mv[0], 1e-12, "a vector alone is mapped elsewhere")
    if plain:
        promise(torch.equal(Mv, v) and not m.numel(), "it is declared plain, and M is not I")
