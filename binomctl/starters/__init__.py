"""What a plugin author begins with: a small distribution that works as it is written."""

from binomctl.starters.write import KINDS, used_as, written

__all__ = ["KINDS", "used_as", "written"]
