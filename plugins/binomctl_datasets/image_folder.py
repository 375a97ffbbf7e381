"""Any folder of images: one sub-folder a class."""

from __future__ import annotations

from dataclasses import dataclass

from binomctl.images.own_folder import OwnFolder
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class ImageFolder(OwnFolder):
    """Images of yours: {train,val,test}/<class>/*, <class>/*, or images/* with labels in a CSV."""

    name = "image-folder"
    expected = (
        "folders {train,val,test}/<class>/*, or <class>/*, or images/* with {train,val,test}.csv or"
        " labels.csv of filename,label"
    )
