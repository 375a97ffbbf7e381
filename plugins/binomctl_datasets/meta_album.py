"""A data set of Meta-Album (Ullah et al. 2022): all of them have one layout."""

from __future__ import annotations

from dataclasses import dataclass

from binomctl.images.own_folder import OwnFolder
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class MetaAlbum(OwnFolder):
    """One data set of Meta-Album (images/* and labels.csv); 64%, 16%, 20% of its classes."""

    name = "meta-album"
    size = 84
    expected = (
        "images/* with labels.csv (FILE_NAME,CATEGORY), as every data set of Meta-Album has them;"
        " --root names its folder"
    )
