"""What the commands of `binomctl data` take, and the data set that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from binomctl.contracts import Dataset

Name = Annotated[str, typer.Argument(metavar="NAME", help="Data set; see 'binomctl data list'.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder of its files, or of its prepared form; $BINOMCTL_DATA.")
]
Size = Annotated[int | None, typer.Option(help="Height and width in pixels.")]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any option: dataset.mode=L; repeatable."),
]


def dataset_of(
    name: str,
    root: Path | None,
    size: int | None,
    assign: list[str] | None,
    more: dict[str, Any] | None = None,
) -> Dataset:
    """The data set of a name with its options, not prepared."""
    from binomctl.problem.datasets import build_dataset
    from binomctl.settings.layers import Given, Places, load_config

    overrides: dict[str, Any] = {"dataset.name": name, **(more or {})}
    check_of_dataset(assign)
    places = Places(_TYPED)
    with places.naming():
        if root is not None and _has(name, "root"):
            overrides["dataset.root"] = str(root.expanduser().absolute())
    if size is not None:
        overrides["dataset.image_size"] = size
    config, found = load_config(overrides=Given(overrides, _TYPED), assignments=assign)
    with found.naming():
        return build_dataset(config)


_TYPED = {"dataset.name": "NAME", "dataset.root": "--root", "dataset.image_size": "--size",
          "dataset.ways": "--ways", "dataset.shots": "--shots"}  # fmt: skip


def check_of_dataset(assign: list[str] | None) -> None:
    """Refuse a --set of anything but the data set.

    Raises:
        ConfigError: naming it.
    """
    from binomctl.errors import ConfigError

    for one in assign or []:
        if not one.startswith("dataset."):
            raise ConfigError(
                f"--set {one} is no option of the data set",
                "Write --set dataset.KEY=VALUE; 'binomctl plugins' lists the keys.",
            )


def _has(name: str, option: str) -> bool:
    from binomctl.options import has_option
    from binomctl.settings import registry

    registry.ask("dataset", name)
    return has_option(
        registry.load("dataset", registry.split_name("dataset", name)["name"]), option
    )
