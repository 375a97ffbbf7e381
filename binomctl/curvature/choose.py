"""Which engine computes: a ladder of them, from the fastest to the one that computes anything.

1. algebra: layer by layer, without autograd, where every layer is known or can be derived alone;
2. vmap: autograd, all tasks in one call;
3. loop: autograd, task by task, a few side by side in threads;
4. alone: autograd, task by task, with the task's parameters in place in backward passes too.

The last is plain `torch.autograd.grad` on the module. What stands above it is believed after it
gave the same outputs, gradients and product; the next rung is taken by itself otherwise.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from binomctl.contracts import Engine
from binomctl.curvature.agreement import (
    answers,
    asymmetry,
    difference,
    directions,
    nonlinearity,
    perturbed,
)
from binomctl.curvature.analytic.engine import AnalyticEngine, Convolution
from binomctl.curvature.analytic.losses import AnyLoss, output_loss
from binomctl.curvature.analytic.precision import Precision
from binomctl.curvature.analytic.recognise import Unsupported
from binomctl.curvature.autograd import AutogradEngine, Batching, Memory, Order
from binomctl.curvature.criterion import Loss, takes_parameters
from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.observe import Observed, check_inside, observe
from binomctl.curvature.supported import StepBuffers, check_model
from binomctl.errors import ConfigError

Kind = Literal["auto", "analytic", "autograd"]
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
RUNGS: tuple[Batching, ...] = ("vmap", "loop", "alone")


def choose_engine(
    model: nn.Module | Network,
    loss: Loss,
    x: Inputs,
    y: Any = None,
    *,
    kind: Kind = "auto",
    memory: Memory = "store",
    order: Literal["auto", "rows", "columns"] = "auto",
    batching: Batching = "auto",
    threads: int | None = None,
    task_chunk: int | None = None,
    convolution: Convolution | Literal["auto"] = "auto",
    precision: Precision = "full",
    statistics: StepBuffers | None = None,
    allow_unused: bool = False,
    products: bool = True,
) -> Engine:
    """The engine for a model under a loss.

    Args:
        model: a module, which is copied and never called, or a Network made of one.
        x: inputs of one task [N, ...], on which engines are compared.
        y: its targets; None: engines of autograd are not compared under the loss itself.
        kind: "auto" takes the layer algebra where it can, and says in a debug line of the logger
            "binomctl" why where it does not.
        statistics: constants for batch norm, which the layer algebra does not know.
        products: whether Hessian-vector products will be asked for.
        others: as the engines have them; batching is autograd's alone.

    Raises:
        ConfigError: kind is "analytic", and a layer is not known: by its path; or no engine can
            compute the network.
    """
    chosen: Order | None = None if order == "auto" else order
    why = ""
    if not isinstance(model, Network):
        check_model(model)
        model = Network(model)
    check_model(model.module)
    seen = observe(model, x)
    if y is not None:
        _check_loss(model, loss, x, y, seen.output, statistics)
    subject = _Subject.of(model, x)
    unsymmetric = _checked(model, subject, seen) if products else None
    if kind != "autograd":
        try:
            if statistics is not None:
                raise Unsupported("batch norm on constants (adaptation.statistics) is not known")
            if batching != "auto":
                raise Unsupported(f"engine.batching = {batching} is the autograd engine's")
            if not isinstance(x, Tensor):
                raise Unsupported("inputs are more than one tensor")
            if not isinstance(y, Tensor | None):
                raise Unsupported("targets are more than one tensor")
            if takes_parameters(loss):
                raise Unsupported("the loss takes the parameters")
            if seen.hidden:
                raise Unsupported(seen.hidden[0])
            if unsymmetric:
                raise Unsupported(unsymmetric)

            def make(network: Network, data: Tensor, loss: Loss) -> AnalyticEngine:
                made = AnalyticEngine(
                    network.module, loss, memory=memory, order=chosen, threads=threads,
                    chunk=task_chunk, conv=None if convolution == "auto" else convolution,
                    precision=precision if network is model else "full", x=data,
                )  # fmt: skip
                network.reset()
                return made

            engine = make(model, x, loss)
            if kind == "auto":
                _check_worth(engine, x)
            _check_algebra(engine, model, x, seen, subject, make)
            if y is not None:
                _check_closed_form(loss, seen.output.detach(), y)
            return engine
        except Unsupported as error:
            if kind == "analytic":
                raise ConfigError(
                    f"the analytic engine cannot compute this network: {error}",
                    "Use --engine auto or autograd, which computes any network.",
                    key="engine.kind",
                ) from None
            _LOG.debug("autograd engine: %s", error)
            why = str(error)
    if precision != "full":
        raise ConfigError(
            f"engine.precision = {precision}: only the layer algebra has it, and this network is"
            " computed by autograd",
            "Use --engine analytic to see why, or engine.precision=full.",
            key="engine.precision",
        )

    def autograd(batching: Batching) -> AutogradEngine:
        made = AutogradEngine(
            model, loss, memory=memory, batching=batching, order=chosen or "rows",
            statistics=statistics, threads=threads, allow_unused=allow_unused,
        )  # fmt: skip
        made.why = why
        return made

    first = autograd(batching)
    if y is None:
        return first
    _LOG.debug("autograd engine, %s first", first.batching)
    return _first_that_agrees(first, autograd, model, x, y, products, fixed=batching != "auto")


@dataclass(frozen=True)
class _Subject:
    """A network, a point and inputs to compare engines on: in float64 where that runs."""

    network: Network
    phi: Tensor
    x: Any
    exact: bool

    @classmethod
    def of(cls, network: Network, x: Inputs) -> _Subject:
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


def _times(part: Any, T: int) -> Any:
    return tree_map(lambda t: torch.stack([t] * T) if isinstance(t, Tensor) else t, part)


def _square(output: Tensor, T: int) -> Tensor:
    """Targets [T, ...] for a squared error, which knows every output from every other."""
    generator = torch.Generator(output.device).manual_seed(2)
    return torch.randn(
        T, *output.shape, generator=generator, dtype=output.dtype, device=output.device
    )


def _checked(network: Network, at: _Subject, seen: Observed) -> str | None:
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
    x, y = _times(at.x, len(at.phi)), _square(output, len(at.phi)).to(at.phi.dtype)
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
                "Use a first-order estimator (fomaml).",
            )
        return f"{seen.hidden[0]}: its gradients are not those of its outputs"
    raise ConfigError(
        f"torch's second derivatives of {type(network.module).__name__} are not symmetric (u.Hv and"
        f" v.Hu differ by {off:.1e}), so that one of its operations has a wrong one",
        "Use a first-order estimator (fomaml), or write the operation out.",
    )


MANY = 100
"""Operations of a program from which the interpreter's share is more than autograd's own: an LSTM
over ten places has 150 and took 1.35 times the plain loop (vmap 0.63), a transformer of two layers
60 and 0.42."""
WIDE = 300
"""Parameters per input number from which vectors of all parameters cost more than the layers:
torchvision's resnet18 on five images of 32 x 32 took 2.2 times the plain loop."""


def _check_worth(engine: AnalyticEngine, x: Tensor) -> None:
    """Leave to autograd what it does faster, by the sizes of things: never by a stopwatch, which
    could fall otherwise tomorrow."""
    count, d = len(engine.program.nodes), engine.layout.d
    if count > MANY:
        raise Unsupported(f"autograd is faster on {count} small operations")
    if d > LARGE and d > WIDE * x.numel():
        raise Unsupported(f"autograd is faster on {d:,} parameters that see {x.numel():,} numbers")


def _check_algebra(
    engine: AnalyticEngine, network: Network, x: Tensor, seen: Observed, at: _Subject, make: Any
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
        raise Unsupported(f"inputs of shape {list(x.shape)} do not fit: {error}") from None
    if found.shape != wanted.shape or not _close(found, wanted.detach()):
        raise Unsupported("traced, the network gives other outputs than itself")
    sides = [(at, 1e-9 if at.exact else 2e-3)]
    if theta.device.type != "cpu":  # whose libraries differ by device
        here = perturbed(theta, network.layout, _points(network))
        sides.append((_Subject(network, here, x, False), 2e-2))
    for side, tolerance in sides:
        low = side.network is network and engine.precision != "full"
        loose = 0.2 if low else tolerance
        y = _square(wanted, len(side.phi)).to(side.phi.dtype)
        inputs = _times(side.x, len(side.phi))
        try:
            reference = AutogradEngine(
                side.network, F.mse_loss, batching="alone", allow_unused=True
            )
            right = answers(reference, side.phi, inputs, y)
        except ConfigError as error:
            raise Unsupported(f"autograd has no product to compare with: {error}") from None
        try:
            other = make(side.network, side.x, F.mse_loss)
            left = answers(other, side.phi, inputs, y)
        except _FAILURES as error:
            raise Unsupported(f"it fails on {theta.device}: {error}") from None
        if said := difference(left, right, loose):
            raise Unsupported(f"compared with autograd on {theta.device}, {said}")


def _check_closed_form(loss: Loss, output: Tensor, y: Any) -> None:
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
            raise Unsupported(f"the loss fails on these targets: {error}") from None
    if difference(sides[0], sides[1], 1e-9):
        raise Unsupported("the loss by formula is another one than by autograd")


def _first_that_agrees(
    first: AutogradEngine,
    make: Any,
    network: Network,
    x: Inputs,
    y: Any,
    products: bool,
    *,
    fixed: bool,
) -> AutogradEngine:
    """The first rung from `first` on that computes and says what the last one says."""
    phi = perturbed(network.parameters(), network.layout, 2 if first.batching == "vmap" else 1)
    xs, ys = _times(x, len(phi)), _times(y, len(phi))
    last = make("alone")
    right = answers(last, phi, xs, ys, product=products)
    tolerance = 1e-10 if phi.dtype == torch.float64 else 2e-3
    for rung in RUNGS[RUNGS.index(first.batching) :]:
        engine = first if rung == first.batching else make(rung)
        if rung == "alone":
            return engine
        try:
            left = answers(engine, phi, xs, ys, product=products)
            said = difference(left, right, tolerance)
        except ConfigError as error:
            said = str(error)
        engine.close()
        if said is None:
            return engine
        if fixed:
            raise ConfigError(
                f"engine.batching = {rung} cannot compute this network: {said}",
                "Use engine.batching=auto, which finds a way.",
                key="engine.batching",
            )
        _LOG.info("autograd %s is not used: %s", rung, said)
    raise AssertionError("the last rung returns")


def _check_loss(
    network: Network, loss: Loss, x: Inputs, y: Any, output: Any, statistics: StepBuffers | None
) -> None:
    """Refuse a loss that uses the user's own parameters, or compares by broadcasting."""
    engine = AutogradEngine(network, loss, batching="alone", statistics=statistics)
    leaves = network.layout.unflatten(network.parameters())
    leaves = {n: p.detach().requires_grad_() for n, p in leaves.items()}
    with torch.enable_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = engine.loss_of(leaves, x, y)
        except ConfigError as error:
            if "Target" in str(error) and "out of bounds" in str(error):
                classes = output.shape[1] if isinstance(output, Tensor) and output.dim() > 1 else 1
                raise ConfigError(
                    f"a label does not fit: {str(error).partition('Error: ')[2]} The outputs are"
                    f" {classes} classes, 0 to {classes - 1}",
                    "Relabel the classes of each task, or give the model more outputs.",
                ) from None
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
