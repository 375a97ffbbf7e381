"""A data set of Meta-Album (Ullah et al. 2022): one of its thirty or so, in its one layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

from binomctl.images.recipe import Recipe
from binomctl.images.sources import Shape
from binomctl.options import plugin
from binomctl_datasets.image_folder import ImageFolder


@plugin
@dataclass(frozen=True)
class MetaAlbum(ImageFolder):
    """One data set of Meta-Album (images/* and labels.csv); 64%, 16%, 20% of its classes."""

    @property
    def recipe(self) -> Recipe:
        return replace(
            super().recipe,
            name="meta-album",
            shape=Shape(self.mode, self.image_size or 84, self.invert),
            expected="images/* with labels.csv (FILE_NAME,CATEGORY), as every data set of"
            " Meta-Album has them; --root names its folder",
        )
