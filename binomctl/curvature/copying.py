"""A copy of a module that shares no state with it, and a record of where everything lies.

`copy.deepcopy` is not enough: functions are shared by it, so that a hook or a patched forward which
closes over the module would go on working on the original; and a lock anywhere makes it fail.
"""

from __future__ import annotations

import builtins
import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ATOMS = (
    int, float, complex, bool, str, bytes, type(None), type, range, slice, type(Ellipsis),
    types.ModuleType, types.BuiltinFunctionType, torch.dtype, torch.device, torch.Size,
    torch.memory_format,
)  # fmt: skip
CONTAINERS = (list, dict, set)


class Copier:
    """Copies a module with all that hangs on it.

    Args:
        dtype: what floating tensors become; None: what they are.

    Attributes:
        containers: (original, copy) of every dict and list met, a module's own `__dict__` among
            them; by these a change of the original, or of the copy, is found.
        tensors: (original, copy) of every tensor.
        generators: the copies of torch's generators.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self._dtype = dtype
        self._memo: dict[int, Any] = {}
        self._alive: list[Any] = []  # ids in the memo stay theirs
        self.containers: list[tuple[Any, Any]] = []
        self.tensors: list[tuple[Tensor, Tensor]] = []
        self.generators: list[torch.Generator] = []

    def __call__(self, value: Any) -> Any:
        """The copy of a value; the same one for the same value."""
        if isinstance(value, ATOMS):
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        self._alive.append(value)
        copied = self._new(value)
        self._memo[id(value)] = copied
        return copied

    def _new(self, value: Any) -> Any:
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, torch.Generator):
            self.generators.append(torch.Generator(value.device))
            return self.generators[-1].set_state(value.get_state())
        if type(value) is tuple:
            return tuple(self(v) for v in value)
        if isinstance(value, CONTAINERS) and type(value).__module__ in ("builtins", "collections"):
            return self._container(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self(value.__func__), self(value.__self__))
        if type(value) is functools.partial:
            keywords = {k: self(v) for k, v in value.keywords.items()}
            return functools.partial(self(value.func), *map(self, value.args), **keywords)
        return self._other(value)

    def _module(self, module: nn.Module) -> nn.Module:
        cls = type(module)
        new: nn.Module = cls.__new__(cls)
        self._memo[id(module)] = new  # before its parts: they may point back
        own, mine = module.__dict__, new.__dict__
        self.containers.append((own, mine))
        for key, value in own.items():
            mine[key] = self(value)
        return new

    def _tensor(self, tensor: Tensor) -> Tensor:
        with torch.no_grad(), torch.inference_mode(False):
            # Channels-last weights stay so; a tensor made under inference mode becomes an ordinary
            # one, of which autograd may take note.
            new = tensor.detach().clone()
            if self._dtype is not None and new.is_floating_point():
                new = new.to(self._dtype)
            elif self._dtype == torch.float64 and new.is_complex():
                new = new.to(torch.complex128)
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        self.tensors.append((tensor, new))
        return new

    def _container(self, value: Any) -> Any:
        new = copy.copy(value)
        self._memo[id(value)] = new
        new.clear()
        if isinstance(value, dict):
            for key, item in value.items():
                new[self(key)] = self(item)
            self.containers.append((value, new))
        elif isinstance(value, list):
            new.extend(map(self, value))
            self.containers.append((value, new))
        else:
            new.update(map(self, value))
        return new

    def _function(self, function: types.FunctionType) -> Callable[..., Any]:
        """The function itself, or one bound to the copies of what it closes over."""
        self._memo[id(function)] = function
        cells = function.__closure__ or ()
        contents = [_content(cell) for cell in cells]
        copies = [self._reference(content) for content in contents]
        used = _names(function.__code__)
        outside = {
            name: self._memo[id(value)]
            for name in used
            if (value := function.__globals__.get(name)) is not None
            and isinstance(value, nn.Module | Tensor)
            and id(value) in self._memo
        }
        same = all(a is b for a, b in zip(contents, copies, strict=True))
        if same and not outside:
            return function
        new = types.FunctionType(
            function.__code__,
            {**function.__globals__, **outside} if outside else function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(types.CellType(c) if c is not _EMPTY else types.CellType() for c in copies),
        )
        new.__kwdefaults__ = function.__kwdefaults__
        new.__dict__.update(function.__dict__)
        return new

    def _reference(self, value: Any) -> Any:
        """What a closure holds: copied where it is, or may hold, a part of the module."""
        held = (nn.Module, Tensor, *CONTAINERS, tuple, types.FunctionType, types.MethodType)
        return self(value) if isinstance(value, held) else value

    def _other(self, value: Any) -> Any:
        """Any other object: a deep copy where Python can make one, itself otherwise (a lock)."""
        memo = dict(self._memo)
        try:
            new = copy.deepcopy(value, memo)
        except Exception:
            return value
        self._memo.update(memo)
        return new


_EMPTY = object()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _names(code: types.CodeType) -> set[str]:
    """The names that a function and the functions inside it look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names - set(dir(builtins))
