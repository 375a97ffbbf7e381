"""Engines that answer gradients and Hessian-vector products H_k v."""

from binomctl.curvature.autograd import AutogradEngine

__all__ = ["AutogradEngine"]
