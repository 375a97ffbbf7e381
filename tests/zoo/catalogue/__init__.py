"""Networks and losses by kind; importing this registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from zoo.entry import ENTRIES, Entry

for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")

__all__ = ["ENTRIES", "Entry"]
