"""Losses in closed form against torch's own, at outputs of any shape."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from test_layers_known import _one_thread, agree  # noqa: F401
from torch import nn
from torch.nn import functional as F

from binomctl.curvature.analytic.losses import AnyLoss, has_closed_form, output_loss

WIDE = torch.float64
WEIGHT = torch.tensor([0.5, 2.0, 1.0], dtype=WIDE)
KNOWN = {
    "cross-entropy": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "smoothed": partial(F.cross_entropy, label_smoothing=0.1),
    "weighted": partial(F.cross_entropy, weight=WEIGHT),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "ignoring 1": partial(F.cross_entropy, ignore_index=1),
    "everything": nn.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.2),
    "everything, sum": partial(
        F.cross_entropy, weight=WEIGHT, label_smoothing=0.2, reduction="sum"
    ),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_cross_entropy(name, shape):
    torch.manual_seed(1)
    loss = KNOWN[name]
    o = torch.randn(2, 5, 3, *shape, dtype=WIDE)
    y = torch.randint(0, 3, (2, 5, *shape))
    if "ignor" not in name and name != "everything":
        y[:, 1] = -100
    known = output_loss(loss, o, y)
    assert has_closed_form(loss)
    assert not isinstance(known, AnyLoss)
    to = torch.randn_like(o)
    value, gradient, product = known.at(o, y)
    value_, gradient_, product_ = AnyLoss(loss).at(o, y)
    torch.testing.assert_close(value, value_, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, gradient_, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(product(to), product_(to), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("loss", [F.mse_loss, nn.MSELoss(), nn.MSELoss(reduction="sum")])
def test_squared_error(loss):
    o, y, to = torch.randn(3, 2, 5, 3, 4, dtype=WIDE)
    known, other = output_loss(loss, o, y), AnyLoss(loss)
    assert not isinstance(known, AnyLoss)
    for one, two in zip(known.at(o, y)[:2], other.at(o, y)[:2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(known.at(o, y)[2](to), other.at(o, y)[2](to))


OTHERS = {
    "probabilities": (F.cross_entropy, lambda o: torch.rand_like(o).softmax(2)),
    "other shape": (F.cross_entropy, lambda o: torch.zeros(2, 4).long()),
    "broadcast": (F.mse_loss, lambda o: torch.zeros(2, 5, 1, dtype=WIDE)),
    "no reduction": (partial(F.mse_loss, reduction="none"), torch.zeros_like),
    "other loss": (F.huber_loss, torch.zeros_like),
    "a subclass": (type("Mine", (nn.MSELoss,), {})(), torch.zeros_like),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_targets_and_losses_are_torch_s(name):
    loss, y = OTHERS[name]
    o = torch.randn(2, 5, 3, dtype=WIDE)
    assert isinstance(output_loss(loss, o, y(o)), AnyLoss)


SEGMENT = {
    "images": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Conv2d(4, 3, 1)),
               (2, 6, 7), (4, 5)),
    "vectors": (lambda: nn.Linear(4, 3), (4,), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", SEGMENT)
@pytest.mark.parametrize("loss", ["cross-entropy", "everything"])
def test_labels_of_every_output(name, loss):
    torch.manual_seed(2)
    build, shape, places = SEGMENT[name]
    agree(
        build(), torch.randn(2, 4, *shape, dtype=WIDE), KNOWN[loss],
        lambda x: torch.randint(0, 3, (2, x.shape[1], *places)),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [F.smooth_l1_loss, lambda o, y: (o.sum() - y.sum()).cosh().log()])
def test_any_loss_of_any_output(loss):
    torch.manual_seed(3)
    agree(
        nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
        torch.randn(2, 4, 4, dtype=WIDE),
        loss,
        tolerance=1e-10,
    )
    agree(nn.Conv2d(2, 3, 3), torch.randn(2, 4, 2, 5, 5, dtype=WIDE), loss, tolerance=1e-10)
