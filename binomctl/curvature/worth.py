"""What autograd computes faster than the layer algebra, by the sizes of things: never by a
stopwatch, which could fall otherwise tomorrow."""

from __future__ import annotations

from torch import Tensor

from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.of_linear import DerivedLinear
from binomctl.curvature.analytic.program import GENERIC, Program, depends_on_parameters
from binomctl.curvature.analytic.recognise import Unsupported

MANY = 200
"""Operations of a program from which the interpreter's share is more than autograd's own: recurrent
networks of 150 to 170 took 0.8 to 1.1 of autograd's time under vmap, one of 334 took 1.13."""
LARGE = 2_000_000
WIDE = 300
"""Parameters per input number from which vectors of all parameters cost more than the layers:
torchvision's resnet18 on five images of 32 x 32 took 2.2 times the plain loop."""
TINY = 50_000
"""Parameters, and input numbers, under which a network's time is that of its calls."""


def check_worth(engine: AnalyticEngine, x: Tensor) -> None:
    """Leave to autograd what it does faster.

    Raises:
        Unsupported: with the reason.
    """
    count, d = len(engine.program.nodes), engine.layout.d
    if count > MANY:
        raise Unsupported(f"autograd is faster on {count} small operations")
    if d > LARGE and d > WIDE * x.numel():
        raise Unsupported(f"autograd is faster on {d:,} parameters that see {x.numel():,} numbers")
    derived = _derived(engine.program)
    # Of 88 small networks with such layers this line leaves the fewest on the slower side.
    if max(d, x.numel()) < TINY and 5 * derived > 0.2 * count + 2:
        raise Unsupported(f"autograd is faster: torch.func derives {derived} of {count} operations")


def _derived(program: Program) -> int:
    """Layers that torch.func derives at every call: those whose inputs have gradients."""
    depends = depends_on_parameters(program.nodes)
    return sum(
        (node.way == GENERIC or isinstance(node.layer, DerivedLinear))
        and any(depends[j] for j in node.inputs)
        for node in program.nodes
    )
