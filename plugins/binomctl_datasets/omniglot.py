"""Omniglot (Lake et al. 2015): handwritten characters of 50 alphabets, 20 drawings each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from binomctl.images.divide import at_random, by_group
from binomctl.images.fewshot import FewShotImages
from binomctl.images.layouts.folders import NestedFolders
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.images.store import ClassInfo, Index
from binomctl.options import option, plugin

PARTS = {"background": "images_background", "evaluation": "images_evaluation"}
FRACTIONS = (1100 / 1623, 100 / 1623, 423 / 1623)
VALIDATION_ALPHABETS = 1 / 6  # of the background alphabets: 5 of 30


@plugin
@dataclass(frozen=True)
class Omniglot(FewShotImages):
    """Omniglot: 1,623 characters of 20 drawings, 28x28, white on black."""

    division: Literal["characters", "alphabets"] = option(
        "characters",
        "characters: 1,100 train, 100 validate, 423 test, at random, as most papers do; alphabets:"
        " train and validate on the background alphabets, test on the evaluation alphabets",
    )
    split_seed: int = option(0, "seed of the random division")

    learn2learn: ClassVar[str] = "FullOmniglot"
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "dataset": {"turn": True},
            "model": {"name": "conv4", "filters": 64},
            "adaptation": {"K": 5, "alpha": 0.1},
            "evaluation": {"steps": 10},
        }
    )

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="omniglot",
            layouts=(NestedFolders(PARTS, ("omniglot-py", "omniglot")),),
            shape=Shape("L", self.image_size or 28, invert=True),
            archives=tuple(f"{name}.zip" for name in PARTS.values())
            + tuple(f"omniglot-py/{name}.zip" for name in PARTS.values()),
            md5={
                "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
                "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
            },
            per_class=20,
            reference={"background": (964, 19280), "evaluation": (659, 13180)},
            expected="omniglot-py/images_{background,evaluation}/<alphabet>/<character>/*.png, or"
            " images_background.zip and images_evaluation.zip",
        )

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        background, evaluation = index.splits["background"], index.splits["evaluation"]
        if self.division == "alphabets":
            train, validation = by_group(background, VALIDATION_ALPHABETS, self.split_seed)
            return {"train": train, "validation": validation, "test": evaluation}
        return at_random((*background, *evaluation), FRACTIONS, self.split_seed)
