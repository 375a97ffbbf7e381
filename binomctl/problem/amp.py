"""The query pass in bfloat16: taken where it is faster here and hardly worse, refused otherwise."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from binomctl.contracts import Engine, HasQueryLoss
from binomctl.curvature.outer import OuterLossEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.problem.engines import engine_of
from binomctl.problem.record import Problem

TOLERANCE = 0.1
"""Of the query gradient's relative error. bfloat16 has 8 bits of mantissa, 0.4% a rounding; where a
rounding turns a ReLU or a maximum around, a network's gradient is off by several percent (Conv4 on
glyphs: 4 to 9%). Two meta-batches of one distribution differ by far more."""
TRIES = 7
KEY = "training.amp"


class InBFloat16(nn.Module):
    """A network under torch.autocast; its outputs in the type of its parameters again.

    The context is opened here and not around the engine: autocast is a thread's own, and engines
    have threads.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        like = next(self.network.parameters())
        with torch.autocast(like.device.type, torch.bfloat16):
            out = self.network(*inputs)
        return tree_map(lambda t: t.to(like.dtype) if t.dtype == torch.bfloat16 else t, out)


def in_bfloat16(problem: Problem, *, tried: bool) -> Engine:
    """The problem's engine with its query pass in bfloat16.

    Args:
        tried: whether it is timed and compared first, as where a training starts. One that goes on,
            and one that is scored, are as they began: on another machine, or a busy one.

    Raises:
        ConfigError: it is no faster here, or the query gradient is off by more than 10%, or what is
            asked for beside it excludes it.
    """
    if problem.config.dtype != "float32" or problem.frozen is not None:
        raise ConfigError(
            f"{KEY} = bf16 wants dtype = float32 and no frozen statistics", "Leave it off.", key=KEY
        )
    batch = problem.training_batch(range(problem.config.training.meta_batch))
    own = problem.dataset
    loss = own.query_loss if isinstance(own, HasQueryLoss) else own.loss
    x, y = batch.x_val[0], batch.y_val[0]
    low = engine_of(problem.config, InBFloat16(problem.model), loss, x, y, products=False)
    plain = problem.engine
    if not tried:
        return OuterLossEngine(plain, low)
    full, half, error = compared(plain, low, problem.theta, batch)
    said = f"the query pass takes {1e3 * half:.3g} ms in bfloat16 and {1e3 * full:.3g} ms without"
    if not error <= TOLERANCE:
        raise ConfigError(
            f"{KEY} = bf16: the query gradient is off by {error:.1%}, more than {TOLERANCE:.0%}"
            f" ({said})",
            "Leave it off.",
            key=KEY,
        )
    if half >= full:
        raise ConfigError(f"{KEY} = bf16 is no faster here: {said}", "Leave it off.", key=KEY)
    return OuterLossEngine(plain, low)


def compared(
    plain: Engine, low: Engine, theta: Tensor, batch: EpisodeBatch
) -> tuple[float, float, float]:
    """Seconds of a query pass of each (medians, in turn), the relative error of low's gradient."""
    phi = theta.expand(len(batch), -1)
    both = [plain, low]
    seconds: list[list[float]] = [[], []]
    for _ in range(TRIES):  # in turn: what disturbs the machine meets both
        for own, engine in zip(seconds, both, strict=True):
            own.append(_timed(engine, phi, batch))
    full, half = (statistics.median(own[1:]) for own in seconds)
    wanted, found = (engine.query(phi, batch.x_val, batch.y_val)[1] for engine in both)
    return full, half, float((found - wanted).norm() / wanted.norm())


def _timed(engine: Engine, phi: Tensor, batch: EpisodeBatch) -> float:
    def wait() -> None:
        if phi.device.type == "cuda":
            torch.cuda.synchronize(phi.device)

    wait()
    start = time.perf_counter()
    engine.query(phi, batch.x_val, batch.y_val)
    wait()
    return time.perf_counter() - start
