"""The configuration of what is measured side by side: an error analysis or a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from binomctl.errors import CheckpointError
from binomctl.machine.devices import choose_device
from binomctl.settings.config import Config
from binomctl.settings.layers import Places, load_config

ERROR_ANALYSIS: dict[str, Any] = {
    "dataset": {"name": "sinusoid"},
    "training": {"meta_batch": 10},
    "dtype": "float64",
}
PROFILE_ON_A_CPU: dict[str, Any] = {"profile": {"seconds": 2.0}}
PROFILE_ON_A_GPU: dict[str, Any] = {"dataset": {"name": "random-images"}}
"""The workload of the paper's Figure 4: images 84x84x3, 5-way 1-shot, Conv4, K = 5."""

SectionName = Literal["analysis", "profile"]
FIXED_BY_A_RUN = ("dataset", "model", "rule")


def settings_of(
    where: SectionName,
    files: Path | Sequence[Path] | None,
    given: Mapping[str, Any],
    assignments: list[str] | None = None,
    run: tuple[Path, Config] | None = None,
) -> tuple[Config, Places]:
    """The configuration: the section's own defaults or a run, files, the command line.

    Args:
        where: an analysis has the defaults of the paper's Figure 3b, a profile on a GPU those of
            its Figure 4.
        run: whose checkpoints are measured, its folder and its configuration.

    Raises:
        CheckpointError: another data set, model or rule is asked for than the run's.
        ConfigError: as `load_config`; no such device.
    """
    if run is not None:
        return _of_a_run(*run, files, given, assignments)
    below = ERROR_ANALYSIS if where == "analysis" else PROFILE_ON_A_CPU
    settings, places = load_config(files, given, assignments, below=below)
    if where == "profile" and choose_device(settings.device).type == "cuda":
        return load_config(files, given, assignments, below=PROFILE_ON_A_GPU)
    return settings, places


def _of_a_run(
    path: Path,
    own: Config,
    files: Path | Sequence[Path] | None,
    given: Mapping[str, Any],
    assignments: list[str] | None,
) -> tuple[Config, Places]:
    for section in FIXED_BY_A_RUN:
        key, name = f"{section}.name", getattr(own, section).name
        if given.get(key) not in (None, name):
            raise CheckpointError(
                f"{path} was trained with {key} = {name}, not {given[key]}",
                f"Leave the option out, or train a run with {given[key]}.",
            )
    below = own.model_dump(mode="json")
    below["training"]["meta_batch"] = ERROR_ANALYSIS["training"]["meta_batch"]
    below["dtype"] = ERROR_ANALYSIS["dtype"]
    below["training"]["amp"] = "off"  # a training's; here everything is in dtype
    settings, places = load_config(files, given, assignments, below=below)
    for section in FIXED_BY_A_RUN:
        asked, trained = getattr(settings, section), getattr(own, section)
        same = asked.name == trained.name if section == "dataset" else asked == trained
        if not same:
            raise CheckpointError(
                f"{path} was trained with {section} {trained.model_dump()}, not"
                f" {asked.model_dump()}",
                f"Leave {section} out, or train a run with it.",
            )
    return settings, places
