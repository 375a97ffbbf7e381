"""The engine's own network: a copy of the user's module, called with parameters handed in.

The user's module is read and never called, so nothing that its forward does can change it. What a
forward assigns (a counter, a buffer, an activation kept for later) happens on the copy and is
dropped: every call starts from the state that the user's module has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.curvature.adjusted import adjust
from binomctl.curvature.copying import Copier
from binomctl.curvature.watched import Watched, snapshot
from binomctl.flat import Layout, trainable

Inputs = Any
"""x of one task: a tensor, a tuple of them (by position) or a dict (by keyword)."""


class Network:
    """A copy of a module.

    Args:
        model: is only read.
        dtype: of the copy's floating tensors; None: the model's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        copier = Copier(dtype)
        self.module: nn.Module = copier(model)
        adjust(self.module)
        self._dtype = dtype
        self._of = dict(trainable(model))  # the user's parameters by name
        self.layout = Layout.of(model)
        names = {id(p): name for name, p in self._of.items()}
        copies = {id(new): names[id(old)] for old, new in copier.tensors if id(old) in names}
        self._slots: list[tuple[Any, Any, str]] = []
        for _, container in copier.containers:
            items = snapshot(container).items()
            self._slots += [(container, key, copies[id(v)]) for key, v in items if id(v) in copies]
        self._own = [container[key] for container, key, _ in self._slots]
        self._holding = False
        self._constants = [(old, new) for old, new in copier.tensors if id(old) not in names]
        self._versions = [new._version for _, new in self._constants]
        self._state = Watched([c for _, c in copier.containers])
        self._seen = Watched([c for c, _ in copier.containers])
        self._kinds = [(p.requires_grad, p.dtype, p.device, p.shape) for p in model.parameters()]
        self._buffers: dict[str, tuple[Any, str]] = {}
        self.generators = copier.generators
        self.outside = {id(p) for p in (*model.parameters(), *self.module.parameters())}
        """By id: parameters that no output may depend on, for they are not those handed in."""

    def another(self) -> Network:
        """One more copy of the same module, for another thread."""
        return Network(self.module, self._dtype)

    def parameters(self) -> Tensor:
        """The user's parameters as they are now, theta [d], detached, in the copy's type."""
        with torch.no_grad(), torch.inference_mode(False):
            theta = self.layout.flatten({n: p.detach() for n, p in self._of.items()})
            return theta if self._dtype is None else theta.to(self._dtype)

    def is_copy_of(self, model: nn.Module) -> bool:
        """Whether the module is still what was copied: its parts, attributes, hooks and flags;
        the values of its tensors are read anew by `refresh`."""
        return self._seen.same() and self._kinds == [
            (p.requires_grad, p.dtype, p.device, p.shape) for p in model.parameters()
        ]

    def refresh(self) -> None:
        """Take over the values of the user's buffers and frozen parameters."""
        with torch.no_grad(), torch.inference_mode(False):
            for old, new in self._constants:
                new.copy_(old.detach())
        self._versions = [new._version for _, new in self._constants]

    def __call__(
        self, parameters: Mapping[str, Tensor], x: Inputs, buffers: Mapping[str, Tensor] = {}
    ) -> Any:
        """The module's output at these parameters; buffers replace those of the same name."""
        with self.holding(parameters, buffers):
            return self.forward(x)

    def forward(self, x: Inputs) -> Any:
        """The module's output at the parameters it holds."""
        with matrix_attention():
            if isinstance(x, tuple):
                return self.module(*x)
            if isinstance(x, dict):
                return self.module(**x)
            return self.module(x)

    @contextmanager
    def holding(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor] = {}
    ) -> Iterator[None]:
        """The copy holds these parameters inside the block, and its own state after it."""
        nested = self._holding
        old = [container[key] for container, key, _ in self._slots] if nested else self._own
        places = [(*self._buffer(name), value) for name, value in buffers.items()]
        replaced = [container[key] for container, key, _ in places]
        try:
            self._holding = True
            for container, key, name in self._slots:
                container[key] = parameters[name]
            for container, key, value in places:
                container[key] = value
            yield
        finally:
            # Its own parameters first: what then differs, a forward has changed.
            with suppress(IndexError):  # of a list that a forward has shortened: reset restores it
                self._put(self._own)
            if not nested:
                for (container, key, _), value in zip(places, replaced, strict=True):
                    container[key] = value
            self.reset()
            if nested:
                self._put(old)
                for (container, key, _), value in zip(places, replaced, strict=True):
                    container[key] = value
            self._holding = nested

    def _put(self, values: list[Any]) -> None:
        for (container, key, _), value in zip(self._slots, values, strict=True):
            container[key] = value

    def changes(self) -> list[str]:
        """Names of what a forward has changed on the copy and `reset` has not yet put back."""
        named = {id(m.__dict__): path for path, m in self.module.named_modules()}
        named |= {id(m._buffers): path for path, m in self.module.named_modules()}
        out = []
        slots = {(id(container), key) for container, key, _ in self._slots}
        for container, before, now in self._state.changed():
            for key, value in now.items():
                moved = key not in before or before[key] is not value
                if moved and (id(container), key) not in slots:
                    out.append(f"{named.get(id(container), '')}.{key}".lstrip("."))
        buffers = {id(b): name for name, b in self.module.named_buffers()}
        for (_, new), version in zip(self._constants, self._versions, strict=True):
            if new._version != version:
                out.append(buffers.get(id(new), "a tensor"))
        return out

    def reset(self) -> None:
        """Undo what a forward did to the copy's state."""
        self._state.restore()
        if [new._version for _, new in self._constants] != self._versions:
            self.refresh()

    def _buffer(self, name: str) -> tuple[Any, str]:
        if name not in self._buffers:
            path, _, key = name.rpartition(".")
            self._buffers[name] = (self.module.get_submodule(path)._buffers, key)
        return self._buffers[name]


_LOCK = threading.Lock()
_inside = 0
_found: tuple[bool, ...] = ()


@contextmanager
def matrix_attention() -> Iterator[None]:
    """Attention as plain matrix products: torch's fused kernels have no second derivative.

    torch keeps the choice in globals of the process; they are as before when the last of nested
    or parallel blocks ends.
    """
    global _inside, _found
    cuda: Any = torch.backends.cuda
    mha: Any = torch.backends.mha
    with _LOCK:
        _inside += 1
        if _inside == 1:
            _found = (
                cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
                cuda.cudnn_sdp_enabled(), cuda.math_sdp_enabled(), mha.get_fastpath_enabled(),
            )  # fmt: skip
            _choose(False, False, False, True, False)
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _choose(*_found)


def _choose(flash: bool, efficient: bool, cudnn: bool, math: bool, fastpath: bool) -> None:
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.backends.cuda.enable_mem_efficient_sdp(efficient)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    torch.backends.cuda.enable_math_sdp(math)
    torch.backends.mha.set_fastpath_enabled(fastpath)
