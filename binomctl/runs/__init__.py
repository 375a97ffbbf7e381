"""Run folders: configuration, environment, metrics, checkpoints, report."""

from binomctl.runs.checkpoints import Checkpoint
from binomctl.runs.directory import RunDirectory

__all__ = ["Checkpoint", "RunDirectory"]
