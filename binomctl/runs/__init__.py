"""Run folders: configuration, environment, metrics, checkpoints, report."""

from binomctl.runs.checkpoints import Checkpoint
from binomctl.runs.directory import RunDirectory
from binomctl.runs.written import Elsewhere, Written

__all__ = ["Checkpoint", "Elsewhere", "RunDirectory", "Written"]
