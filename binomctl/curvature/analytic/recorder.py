"""A torch mode that records the functions a forward pass calls, and refuses what it would lose."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

from binomctl.curvature.analytic.calls import Call, Constant, Input, Parameter, Ref, Result
from binomctl.curvature.analytic.functions import HARMLESS, name_of, opened
from binomctl.curvature.analytic.refused import REFUSED, Unsupported


@dataclass
class _Seen:
    """A tensor object that lives as long as the recording, so that its id stays its own."""

    tensor: Tensor
    ref: Ref
    stale: bool = False
    """Another view of the same memory was changed in place."""


class Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, names: dict[int, str], known: frozenset[str]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self._known = known
        self._seen: dict[int, _Seen] = {}
        self._modules = {id(m): (path, m) for path, m in model.named_modules()}
        self._inside: list[Any] = []
        self._input = 0
        parameters = {id(p): p for p in model.parameters()}
        self._dtype = next(parameters[i].dtype for i in names)
        for i, name in names.items():
            self._seen[i] = _Seen(parameters[i], Parameter(parameters[i].detach(), name))

    def start(self, x: Tensor) -> None:
        self._seen[id(x)] = _Seen(x, Input(x.detach()))
        self._input = x.untyped_storage().data_ptr()

    def ref(self, tensor: Tensor) -> Ref:
        """What a tensor is known as; one never seen before is a constant of the module's."""
        seen = self._seen.get(id(tensor))
        if seen is None:
            if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
                self._refuse("transforms of torch.func are not known")
            if tensor.requires_grad:
                self._refuse("a tensor with a graph comes from a place that tracing does not see")
            constant = Constant(tensor.detach(), lambda: tensor, True)
            self._seen[id(tensor)] = seen = _Seen(tensor, constant)
        if seen.stale:
            self._refuse("a value is read after a view of it was changed in place")
        ref = seen.ref
        if isinstance(ref, Constant) and not ref.live:  # its tensor may yet be filled
            value = ref.example.clone()
            return Constant(value, lambda: value, False)
        return ref

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name in HARMLESS:
            return func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        refs = [self.ref(t) for t in tensors]
        varies = any(not isinstance(r, Constant) for r in refs)
        live = varies or any(isinstance(r, Constant) and r.live for r in refs)
        if live and name in REFUSED:
            self._refuse(f"{name} is not known")
        if varies and self._can_enter(func, name):
            self._inside.append(func)
            try:
                with self:
                    return opened(func)(*args, **kwargs)
            finally:
                self._inside.pop()
        if varies:
            self._check_modes(name, tensors)
        versions = [t._version for t in tensors]
        out = func(*args, **kwargs)
        changed = [t for t, v in zip(tensors, versions, strict=True) if t._version != v]
        leaves, _ = tree_flatten(out)
        outs = [t for t in leaves if isinstance(t, Tensor)]
        if live and not outs and tensors:
            self._refuse(f"{name} reads values, on which the forward pass may decide")
        if changed and live:
            self._check_change(name, changed, outs, varies, tensors)
        known = {id(t): r for t, r in zip(tensors, refs, strict=True)}
        if varies:
            self._record(func, name, args, kwargs, outs, known)
        else:
            self._record_constants(func, args, kwargs, outs, live, known)
        return out

    def _record(
        self, func: Callable[..., Any], name: str, args: Any, kwargs: Any, outs: list[Tensor],
        known: dict[int, Ref],
    ) -> None:  # fmt: skip
        results = []
        for t in outs:
            if (t.is_floating_point() or t.is_complex()) and t.dtype != self._dtype:
                self._refuse(f"{name} computes in {t.dtype}, the parameters are {self._dtype}")
            results.append(Result(t.detach()))
        path, label = self._place(name)
        args, kwargs = tree_map_only(Tensor, lambda t: known[id(t)], (tuple(args), kwargs))
        self.calls.append(Call(func, name, args, kwargs, results, path, label))
        for t, result in zip(outs, results, strict=True):
            self._seen[id(t)] = _Seen(t, result)

    def _record_constants(
        self, func: Callable[..., Any], args: Any, kwargs: Any, outs: list[Tensor], live: bool,
        known: dict[int, Ref],
    ) -> None:  # fmt: skip
        given = tree_map_only(Tensor, lambda t: known[id(t)], (tuple(args), kwargs))
        for i, t in enumerate(outs):
            read = _again(func, given, i) if live else (lambda t=t: t)
            self._seen[id(t)] = _Seen(t, Constant(t.detach(), read, live))

    def _check_modes(self, name: str, tensors: list[Tensor]) -> None:
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            self._refuse(f"{name} runs without gradient")
        if torch.is_autocast_enabled(tensors[0].device.type):
            self._refuse(f"{name} runs under autocast")

    def _check_change(
        self, name: str, changed: list[Tensor], outs: list[Tensor], varies: bool,
        tensors: list[Tensor],
    ) -> None:  # fmt: skip
        """In place is fine where it makes a value of its own, and no other view is read again."""
        one = changed[0]
        seen = self._seen[id(one)]
        memory = one.untyped_storage().data_ptr()
        if (
            len({id(t) for t in changed}) > 1
            or not varies
            or one is not tensors[0]
            or all(t is not one for t in outs)
            or not isinstance(seen.ref, Result)
            or memory == self._input
        ):
            self._refuse(f"{name} changes a tensor in place")
        for other in self._seen.values():
            if other.tensor is not one and other.tensor.untyped_storage().data_ptr() == memory:
                other.stale = True

    def _can_enter(self, func: Callable[..., Any], name: str) -> bool:
        return (
            isinstance(func, types.FunctionType)
            and func.__module__ in ("torch.nn.functional", "torch.functional", "torch._tensor")
            and "<locals>.fn" not in func.__qualname__
            and name not in self._known
            and func not in self._inside
        )

    def _place(self, name: str) -> tuple[str, str]:
        """The innermost module whose code is running: its path, and how to call what it does."""
        frame: types.FrameType | None = sys._getframe(2)
        while frame is not None:
            owner = frame.f_locals.get("self")
            found = self._modules.get(id(owner))
            if found is not None and found[1] is owner:
                path, module = found
                of_torch = type(module).__module__.startswith("torch.nn")
                return path, type(module).__name__ if of_torch else name
            frame = frame.f_back
        return "", name

    def _refuse(self, reason: str) -> None:
        path, _ = self._place("")
        self.refused.append(reason + (f" (in '{path}')" if path else ""))
        raise Unsupported(self.refused[0])


def _again(func: Callable[..., Any], given: tuple[Any, Any], i: int) -> Callable[[], Tensor]:
    """A constant that is computed from others, anew at every reading."""

    def read() -> Tensor:
        args, kwargs = tree_map_only(Constant, lambda c: c.read(), given)
        with torch.no_grad():
            leaves, _ = tree_flatten(func(*args, **kwargs))
        value: Tensor = [t for t in leaves if isinstance(t, Tensor)][i]
        return value

    return read
