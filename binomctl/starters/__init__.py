"""What a plugin author begins with: a small distribution that works as it is written."""

from binomctl.starters.write import KINDS, written

__all__ = ["KINDS", "written"]
