"""Engines that answer gradients and Hessian-vector products H_k v."""

from binomctl.curvature.autograd import AutogradEngine
from binomctl.curvature.choose import choose_engine

__all__ = ["AutogradEngine", "choose_engine"]
