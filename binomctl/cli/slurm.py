"""What a job of a cluster is given, from the options of `binomctl sweep`."""

from __future__ import annotations

from typing import Any


def slurm_options(
    partition: str | None, minutes: int | None, gpus: int | None, cpus: int | None,
    memory: int | None, more: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    """By submitit's names; None are left to it."""
    from binomctl.errors import ConfigError

    out: dict[str, Any] = {
        "timeout_min": minutes, "gpus_per_node": gpus, "cpus_per_task": cpus, "mem_gb": memory,
        "slurm_partition": partition,
    }  # fmt: skip
    extra: dict[str, str] = {}
    for text in more or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--slurm {text}: expected KEY=VALUE", "For example account=lab.")
        extra[key.lstrip("-")] = value
    if extra:
        out["slurm_additional_parameters"] = extra
    return {key: value for key, value in out.items() if value is not None}


def check_local(given: dict[str, Any]) -> None:
    """Refuse for cells that run here what only Slurm listens to.

    Raises:
        ConfigError: naming the options.
    """
    from binomctl.errors import ConfigError

    named = {"slurm_partition": "--partition", "cpus_per_task": "--cpus", "mem_gb": "--ram",
             "slurm_additional_parameters": "--slurm"}  # fmt: skip
    if said := [option for name, option in named.items() if name in given]:
        raise ConfigError(
            f"{', '.join(said)}: only Slurm listens to that, and the cells are to run here",
            "Say --executor slurm, or leave it out.",
        )
