"""Whether the model and the data fit, before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor

from binomctl.adapt import support_of
from binomctl.contracts import Starts
from binomctl.contracts.abilities import has
from binomctl.curvature.network import Network
from binomctl.curvature.supported import advice, in_short
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.options import IMPORT
from binomctl.problem.record import Problem
from binomctl.starting import started


def check_runs(problem: Problem, batch: EpisodeBatch) -> None:
    """Run the network once before anything is written.

    Raises:
        ConfigError: what does not fit; for a user's own network its own error is named.
    """
    network = Network(problem.model)
    theta = network.layout.unflatten(network.parameters())
    try:
        with torch.no_grad():
            network(theta, batch.x_trn[0])
    except _NETWORK_ERRORS as error:
        raise _misfit(problem, batch, error) from error


def check_network(problem: Problem, batch: EpisodeBatch) -> None:
    """Run the engine once: shapes, unreached parameters; raises ConfigError as `check_runs`."""
    theta = problem.theta.unsqueeze(0)
    try:
        _, _, output = problem.engine.query(theta, batch.x_val[:1], batch.y_val[:1])
    except _NETWORK_ERRORS as error:
        raise _misfit(problem, batch, error) from error
    wanted = (batch.y_val.shape[1], problem.dataset.out_dim)
    # What is no tensor is the data set's metric's to read.
    if isinstance(output, Tensor) and tuple(output.shape[1:]) != wanted:
        raise ConfigError(
            f"the model's outputs have shape {list(output.shape[1:])}, the data want"
            f" {list(wanted)}",
            key=_model_key(problem),
        )
    if isinstance(output, Tensor) and isinstance(batch.y_val, Tensor):
        _check_broadcast(problem, output[0], batch.y_val[0])


def check_start(problem: Problem, batch: EpisodeBatch) -> None:
    """Let a rule that makes phi^0 of the support set make one: what it refuses, it refuses now."""
    if has(problem.rule, Starts):
        how = problem.adaptation(batch, problem.m)
        started(how, problem.theta, support_of(problem.engine, batch), len(batch))


def _check_broadcast(problem: Problem, output: Tensor, y: Tensor) -> None:
    """Refuse targets [N] beside outputs [N, 1] where a loss or metric pairs every output with every
    target: it gives a number, of another question."""
    if not y.is_floating_point() or output.shape != (*y.shape, 1):
        return
    random = torch.Generator().manual_seed(0)
    trial = torch.randn(output.shape, generator=random, dtype=torch.float64).to(output)
    for what in ("loss", "metric"):
        function = getattr(problem.dataset, what)
        found, meant = function(trial, y), function(trial, y.unsqueeze(-1))
        if not torch.allclose(torch.as_tensor(found), torch.as_tensor(meant), rtol=1e-4):
            raise ConfigError(
                f"targets have shape {list(y.shape)} beside outputs {list(output.shape)}: the data"
                f" set's {what} compares every output with every target",
                "Give the targets the shape of the outputs, y.unsqueeze(-1).",
                key="dataset.name",
            )


_NETWORK_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)


def _misfit(problem: Problem, batch: EpisodeBatch, error: Exception) -> ConfigError:
    return ConfigError(
        f"the model fails on the data's inputs {list(batch.x_trn[0].shape)}: {in_short(error)}",
        advice(str(error)),
        key=_model_key(problem),
    )


def _model_key(problem: Problem) -> str:
    return "model.import" if problem.config.model.name == IMPORT else "model.name"
