"""The smallest run that is still one of images."""

from __future__ import annotations

GLYPHS = {
    "dataset.name": "glyphs",
    "dataset.image_size": 16,
    "dataset.ways": 3,
    "dataset.queries": 2,
    "model.filters": 2,
    "training.meta_batch": 2,
    "training.steps": 2,
}
