"""What stays alive: bytes that autograd keeps for backward passes, counted as they come and go."""

from __future__ import annotations

import dataclasses
import weakref

import torch

from binomctl.config import load_config
from binomctl.curvature import AutogradEngine
from binomctl.evaluate import evaluate
from binomctl.problem import build_problem


class SavedBytes:
    """Counts bytes saved for backward in this thread: now and at the peak."""

    def __init__(self):
        self.now = self.peak = 0

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda box: box[0])
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _pack(self, tensor):
        class Box(list):
            pass

        box, size = Box([tensor]), tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(box, self._free, size)
        return box

    def _free(self, size):
        self.now -= size


def looped():
    """The glyphs problem on a small network, tasks one after the other in this thread."""
    config, _ = load_config(overrides={"model.filters": 4, "training.meta_batch": 1})
    problem = build_problem(config)
    engine = AutogradEngine(problem.model, problem.dataset.loss, threads=1)
    return dataclasses.replace(problem, engine=engine)


def test_evaluation_keeps_no_graph_however_many_tasks():
    problem = looped()
    peaks = []
    for tasks in (2, 12):
        with SavedBytes() as saved:
            list(evaluate(problem, problem.theta, problem.dataset, "test", tasks, 3))
        peaks.append(saved.peak)
        assert saved.now == 0
    assert peaks[0] == peaks[1] > 0
