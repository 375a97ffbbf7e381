"""What is believed of a user's network and loss, and what is checked before: in outputs,
gradients and a product, at parameters with every entry perturbed, in float64 where that runs."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from binomctl.curvature.agreement import (
    answers,
    asymmetry,
    difference,
    directions,
    nonlinearity,
    perturbed,
)
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.losses import AnyLoss, output_loss
from binomctl.curvature.analytic.recognise import Unsupported
from binomctl.curvature.autograd import AutogradEngine
from binomctl.curvature.criterion import Loss
from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.observe import Observed, check_inside
from binomctl.curvature.supported import StepBuffers
from binomctl.errors import ConfigError

_LOG = logging.getLogger("binomctl")
_FAILURES = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
)
"""What a program may end in on inputs that it does not fit."""
LARGE = 2_000_000
"""Parameters from which a comparison at a second point is not worth its memory."""


@dataclass(frozen=True)
class Subject:
    """A network, a point and inputs to compare engines on: in float64 where that runs."""

    network: Network
    phi: Tensor
    x: Any
    exact: bool

    @classmethod
    def of(cls, network: Network, x: Inputs) -> Subject:
        theta = network.parameters()
        if theta.dtype in (torch.float32, torch.float16, torch.bfloat16):
            try:
                wide = Network(network.module, torch.float64)
                inputs = _wide(x)
                with torch.no_grad():
                    wide(wide.layout.unflatten(wide.parameters()), inputs)
                phi = perturbed(wide.parameters(), wide.layout, _points(network))
                return cls(wide, phi, inputs, True)
            except Exception as error:  # a type that the forward insists on
                _LOG.debug("not compared in float64: %s", error)
        phi = perturbed(theta, network.layout, _points(network))
        return cls(network, phi, x, theta.dtype == torch.float64)


def _wide(part: Any) -> Any:
    return tree_map(
        lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, part
    )


def _points(network: Network) -> int:
    """Engines are compared at two tasks' points; at one where a vector is large."""
    return 2 if network.layout.d < LARGE else 1


def repeated(part: Any, T: int) -> Any:
    return tree_map(lambda t: torch.stack([t] * T) if isinstance(t, Tensor) else t, part)


def _square(output: Tensor, T: int) -> Tensor:
    """Targets [T, ...] for a squared error, which knows every output from every other."""
    generator = torch.Generator(output.device).manual_seed(2)
    return torch.randn(
        T, *output.shape, generator=generator, dtype=output.dtype, device=output.device
    )


def check_symmetry(network: Network, at: Subject, seen: Observed) -> str | None:
    """Whether second derivatives are those of a function: u.Hv = v.Hu.

    Returns:
        Why they are not, where the network itself changes its gradients; None where they are.

    Raises:
        ConfigError: they are not, for no reason that the network gives.
    """
    output = seen.output
    if not at.exact or not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    reference = AutogradEngine(at.network, F.mse_loss, batching="alone", allow_unused=True)
    x, y = repeated(at.x, len(at.phi)), _square(output, len(at.phi)).to(at.phi.dtype)
    try:
        off = asymmetry(reference, at.phi, x, y)
    except ConfigError:
        return None  # no product can be had: whoever asks for one is told
    if off < 1e-7:
        return None
    if seen.hidden:
        if nonlinearity(reference, at.phi, x, y) > 1e-7:
            raise ConfigError(
                f"{type(network.module).__name__} has a backward pass that is not linear"
                f" ({seen.hidden[0]}): there is no matrix of second derivatives to multiply by",
                "Use a first-order estimator.",
            )
        return f"{seen.hidden[0]}: its gradients are not those of its outputs"
    raise ConfigError(
        f"torch's second derivatives of {type(network.module).__name__} are not symmetric (u.Hv and"
        f" v.Hu differ by {off:.1e}), so that one of its operations has a wrong one",
        "Use a first-order estimator, or write the operation out.",
    )


def check_algebra(
    engine: AnalyticEngine, network: Network, x: Tensor, seen: Observed, at: Subject, make: Any
) -> None:
    """The program must say what the module says, whatever the tracing may have missed."""
    theta, wanted = network.parameters(), seen.output
    if theta.dtype not in (torch.float32, torch.float64):
        raise Unsupported(f"parameters of type {theta.dtype} are not known")
    if not isinstance(wanted, Tensor) or not wanted.is_floating_point():
        raise Unsupported("the output is not one tensor of real numbers")
    try:
        found = engine.predict(theta.unsqueeze(0), x.unsqueeze(0))[0]
    except _FAILURES as error:
        raise Unsupported(f"inputs of shape {list(x.shape)} do not fit: {error}") from error
    if found.shape != wanted.shape or not _close(found, wanted.detach()):
        raise Unsupported("traced, the network gives other outputs than itself")
    sides = [(at, 1e-9 if at.exact else 2e-3)]
    if theta.device.type != "cpu":  # whose libraries differ by device
        here = perturbed(theta, network.layout, _points(network))
        sides.append((Subject(network, here, x, False), 2e-2))
    for side, tolerance in sides:
        low = side.network is network and engine.precision != "full"
        loose = 0.2 if low else tolerance
        y = _square(wanted, len(side.phi)).to(side.phi.dtype)
        inputs = repeated(side.x, len(side.phi))
        try:
            reference = AutogradEngine(
                side.network, F.mse_loss, batching="alone", allow_unused=True
            )
            right = answers(reference, side.phi, inputs, y)
        except ConfigError as error:
            raise Unsupported(f"autograd has no product to compare with: {error}") from error
        try:
            other = make(side.network, side.x, F.mse_loss)
            left = answers(other, side.phi, inputs, y)
        except _FAILURES as error:
            raise Unsupported(f"it fails on {theta.device}: {error}") from error
        if said := difference(left, right, loose):
            raise Unsupported(f"compared with autograd on {theta.device}, {said}")


def check_closed_form(loss: Loss, output: Tensor, y: Any) -> None:
    """A loss's derivatives by formula must be those of automatic differentiation."""
    o = output.unsqueeze(0).double() if output.is_floating_point() else output.unsqueeze(0)
    o = o + 0.1 * directions(o)
    targets = _wide(y).unsqueeze(0) if isinstance(y, Tensor) else y
    form, any_loss = output_loss(loss, o, targets), AnyLoss(loss)
    if isinstance(form, AnyLoss):
        return
    sides = []
    for side in (form, any_loss):
        try:
            value, gradient, product = side.at(o, targets)
            sides.append({"v": value, "g": gradient, "p": product(directions(gradient))})
        except (RuntimeError, ValueError, IndexError, TypeError, ConfigError) as error:
            raise Unsupported(f"the loss fails on these targets: {error}") from error
    if difference(sides[0], sides[1], 1e-9):
        raise Unsupported("the loss by formula is another one than by autograd")


def check_loss(
    network: Network, loss: Loss, x: Inputs, y: Any, output: Any, statistics: StepBuffers | None
) -> None:
    """Refuse a loss that uses the user's own parameters, or compares by broadcasting."""
    engine = AutogradEngine(network, loss, batching="alone", statistics=statistics)
    leaves = network.layout.unflatten(network.parameters())
    leaves = {n: p.detach().requires_grad_() for n, p in leaves.items()}
    with torch.enable_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, _ = engine.task(leaves, x, y)
        except ConfigError as error:
            if "Target" in str(error) and "out of bounds" in str(error):
                classes = output.shape[1] if isinstance(output, Tensor) and output.dim() > 1 else 1
                raise ConfigError(
                    f"a label does not fit: {str(error).partition('Error: ')[2]} The outputs are"
                    f" {classes} classes, 0 to {classes - 1}",
                    "Relabel the classes of each task, or give the model more outputs.",
                ) from error
            raise
    for warning in caught:
        message = str(warning.message)
        if "target size" in message and "broadcast" in message:
            raise ConfigError(
                f"outputs and targets differ in shape: {message.split('. ')[0]}",
                "Give the targets the shape of the outputs, y.unsqueeze(-1) say.",
            )
    check_inside(network, [value], "the loss")


def _close(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.abs().max()) if wanted.numel() else 0.0
    return torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)
