"""Where the files of image data sets can be fetched: addresses.json, which says where from it is.

A test looks every address up in the text of the installed packages.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from binomctl.errors import DataError, unknown
from binomctl.files.download import Remote


@cache
def known() -> dict[str, tuple[Remote, ...]]:
    """The files by the class of learn2learn.vision.datasets that fetches them."""
    table = json.loads(files("binomctl.images").joinpath("addresses.json").read_text())
    return {
        source: tuple(
            Remote(name, tuple(at["urls"]), at.get("md5")) for name, at in remotes.items()
        )
        for source, remotes in table["files"].items()
    }


def files_of(source: str) -> tuple[Remote, ...]:
    """The files that a class of learn2learn.vision.datasets fetches, with their addresses.

    Raises:
        DataError: no address of its files is known.
    """
    found = known()
    if source not in found:
        raise DataError(
            unknown("source of files", source, found),
            "Put its files into the folder by hand, or name another source.",
        )
    return found[source]
