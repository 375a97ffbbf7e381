"""What the sections of a configuration share: strict and frozen; plugins and models by name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Choice(Section):
    """A plugin or model by name; every other key is one of its own options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


Named = Annotated[Choice, BeforeValidator(lambda v: {"name": v} if isinstance(v, str) else v)]
"""A choice, or its name alone."""
