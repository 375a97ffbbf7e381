"""The engine section of a configuration: how gradients and products are computed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from binomctl.settings.section import Section


class EngineSection(Section):
    """How gradients and Hessian-vector products are computed."""

    kind: Literal["auto", "analytic", "autograd"] = Field(
        "auto", description="the layer algebra, autograd, or the first where it knows the network"
    )
    memory: Literal["store", "recompute"] = Field(
        "store", description="keep the linearisations of the inner loop, or make them anew"
    )
    order: Literal["auto", "rows", "columns"] = Field(
        "auto",
        description="one linearisation at a time, or one level of the cascade at a time; auto:"
        " rows on a CPU; columns on a GPU where the layer algebra runs",
    )
    batching: Literal["auto", "vmap", "loop", "alone"] = Field(
        "auto",
        description="autograd: the tasks of a meta-batch as one, one by one in threads, or alone"
        " (parameters in place in backward passes too); auto: the first that agrees with the last",
    )
    convolution: Literal["auto", "blocks", "per-task", "together", "grouped", "products"] = Field(
        "auto", description="of the layer algebra; auto: measured once per machine and shape"
    )
    precision: Literal["full", "tf32", "bf16"] = Field(
        "full", description="of Hessian-vector products alone; error-analysis prints its cost"
    )
    task_chunk: int | None = Field(
        None, ge=1, description="tasks through the layer algebra together; null: by their size"
    )
    threads: int | None = Field(
        None, ge=1, description="chunks of tasks side by side on a CPU; null: as it suits them"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="torch.compile the meta-step of a network without convolutions; auto: from"
        " 20,000 meta-steps on, when it pays for itself",
    )
    capture: Literal["auto", "on", "off"] = Field(
        "auto",
        description="the meta-step as a CUDA graph; auto: where the layer algebra runs on a GPU",
    )
    deterministic: bool = Field(
        False,
        description="nothing is chosen by a measurement, and CUDA runs its deterministic"
        " algorithms: the same bits on machines of one kind",
    )
    allocator: Literal["tuned", "system"] = Field(
        "tuned", description="tuned: glibc keeps freed blocks; see binomctl/machine/allocator.py"
    )

    @field_validator("compile", "capture", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        """YAML reads on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value
