"""Does a tracker keep what its contract promises?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from binomctl.contracts import Tracker
from binomctl.settings.config import Config
from binomctl.testing.small import built, promise

REPORT = {"steps": 4, "seconds": 1.0, "best": {"step": 4, "metric": "mse", "unit": "number",
                                               "value": 0.5}}  # fmt: skip


def check_tracker(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check a tracker on a run that stops, goes on and ends: it writes in its own folder alone.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
    """
    tracker: Tracker = built(cls, options)
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        folder = run / "trackers"
        folder.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
        before = _seen(run, folder)
        # Steps 1 to 3, of which the last was not saved; then on from step 2 to the end.
        for begun, steps, report in ((0, (1, 2, 3), None), (2, (3, 4), REPORT)):
            config = Config().model_dump(mode="json")
            tracking = tracker.start(run, folder, config, begun)
            promise(config == Config().model_dump(mode="json"), "start changes the configuration")
            for step in steps:
                values = {"train_loss": 1.0 / step, "seconds": float(step)}
                tracking.log(step, values)
                promise(len(values) == 2, "log changes the numbers that it is given")
            tracking.finish(report)
        promise(_seen(run, folder) == before, "it writes into the run outside of its own folder")


def _seen(run: Path, without: Path) -> dict[str, bytes]:
    """Every file of the run but for those of trackers."""
    files = (p for p in run.rglob("*") if p.is_file() and not p.is_relative_to(without))
    return {str(path): path.read_bytes() for path in files}
