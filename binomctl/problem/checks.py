"""Whether the model and the data fit, before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor

from binomctl.curvature.network import Network
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError
from binomctl.options import IMPORT
from binomctl.problem.record import Problem


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


_NETWORK_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)


def _misfit(problem: Problem, batch: EpisodeBatch, error: Exception) -> ConfigError:
    return ConfigError(
        f"the model fails on the data's inputs {list(batch.x_trn[0].shape)}:"
        f" {type(error).__name__}: {error}",
        key=_model_key(problem),
    )


def _model_key(problem: Problem) -> str:
    return "model.import" if problem.config.model.name == IMPORT else "model.name"
