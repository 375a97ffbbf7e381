"""From a torch module to a Program without inputs at hand: few layers are known by name alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from binomctl.curvature.analytic.activations import SIGMOID, TANH, Leaky
from binomctl.curvature.analytic.block import with_blocks
from binomctl.curvature.analytic.conv import Conv, Method
from binomctl.curvature.analytic.fuse import fused
from binomctl.curvature.analytic.layer import Layer
from binomctl.curvature.analytic.layers import (
    FLATTEN,
    GLOBAL_AVERAGE,
    SAME,
    Linear,
    MaxPool,
    Norm,
    Sum,
)
from binomctl.curvature.analytic.norm_block import NormBlock, Pool
from binomctl.curvature.analytic.program import CLOSED, Constant, Node, Program
from binomctl.curvature.analytic.refused import Unsupported, check_modules
from binomctl.flat import trainable


def by_names(model: nn.Module, conv: Method, *, blocks: bool) -> Program:
    """The program of a module of layers that do the same to inputs of any shape.

    Args:
        conv: how convolutions are done.
        blocks: take the kernels of block.py where they fit.

    Raises:
        Unsupported: naming the first layer that is not known, and why.
    """
    check_modules(model)
    try:
        whole = nn.Sequential(model)  # so that a single layer is looked up like any other
        graph = fx.Tracer().trace(whole)
    except Exception as error:  # control flow on values, *args, anything a forward may do
        raise Unsupported(
            f"{type(model).__name__} cannot be traced: {type(error).__name__}: {error}"
        ) from error
    names = {id(p): n for n, p in trainable(model)}
    places: dict[fx.Node, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            if places:
                raise Unsupported(f"{type(model).__name__} takes more than one input")
            places[node] = 0
        elif node.op == "output":
            _check_output(node, places, len(nodes))
        else:
            layer, module = _layer(node, whole, conv)
            own, constants = _parameters(module, names)
            inputs = tuple(places[a] for a in node.all_input_nodes)
            label = type(module).__name__ if module is not None else _path(node)
            nodes.append(Node(layer, inputs, own, constants, _path(node), label, CLOSED))
            places[node] = len(nodes)
    reached = {name for n in nodes for name in n.names.values()}
    if missing := sorted(set(names.values()) - reached):
        raise Unsupported(f"the output does not depend on parameter '{missing[0]}'")
    nodes = fused(nodes)
    if blocks:
        nodes = with_blocks(nodes, {n: p.shape for n, p in model.named_parameters()})
    return Program(tuple(nodes))


def _check_output(node: fx.Node, places: dict[fx.Node, int], count: int) -> None:
    (value,) = node.args
    if not isinstance(value, fx.Node) or places.get(value) != count:
        raise Unsupported("the output is not that of the last layer")


def _path(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    if node.op in ("call_module", "get_attr"):
        return str(node.target).removeprefix("0").removeprefix(".")
    return f"{name} ({node.name})"


def _parameters(
    module: nn.Module | None, names: dict[int, str]
) -> tuple[dict[str, str], dict[str, Constant]]:
    """A layer's parameters: those in the flat vector by name, buffers and missing ones as such."""
    own: dict[str, str] = {}
    constants: dict[str, Constant] = {}
    for role in ("weight", "bias"):
        value = getattr(module, role, None) if module is not None else None
        if value is not None and id(value) in names:
            own[role] = names[id(value)]
        elif isinstance(value, Tensor):
            constants[role] = value.detach()
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        for role, fill in (("weight", 1.0), ("bias", 0.0)):
            if role not in own and role not in constants:
                constants[role] = torch.full((module.num_features,), fill)
    return own, constants


def _layer(node: fx.Node, model: nn.Module, conv: Method) -> tuple[Layer, nn.Module | None]:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return _of_module(module, _path(node), conv), module
    if node.op == "call_function" and node.target in _FUNCTIONS:
        _check_inputs(node, 2 if _FUNCTIONS[node.target] is _sum else 1)
        return _FUNCTIONS[node.target](node), None
    if node.op == "call_method" and node.target in _METHODS:
        return _METHODS[str(node.target)](node), None
    raise Unsupported(f"the algebra does not know {_path(node)}")


def _of_module(module: nn.Module, path: str, conv: Method) -> Layer:
    what = f"{type(module).__name__} at '{path}'"
    if type(module) is nn.Linear:
        return Linear()
    if type(module) is nn.Conv2d:
        return _conv(module, what, conv)
    if type(module) is nn.BatchNorm2d:
        if module.track_running_stats or module.running_mean is not None:
            raise Unsupported(f"{what} uses running statistics")
        return Norm(NormBlock(module.eps))
    if type(module) is nn.ReLU:
        return Leaky(0.0)
    if type(module) is nn.LeakyReLU:
        return _leaky(module.negative_slope, what)
    if type(module) is nn.Tanh:
        return TANH
    if type(module) is nn.Sigmoid:
        return SIGMOID
    if type(module) is nn.MaxPool2d:
        return _pool(
            module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode
        )
    if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
        return GLOBAL_AVERAGE
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return FLATTEN
    if type(module) is nn.Identity:
        return SAME
    if isinstance(module, nn.modules.dropout._DropoutNd):
        if module.p == 0 or not module.training:
            return SAME
        raise Unsupported(f"{what} draws at random")
    raise Unsupported(f"the algebra does not know {what}")


def _conv(module: nn.Conv2d, what: str, method: Method) -> Conv:
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise Unsupported(f"{what} has groups, a padding by name, or one that is not of zeros")
    stride, padding, dilation = (_pair(v) for v in (module.stride, module.padding, module.dilation))
    return Conv(stride, padding, dilation, method=method)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _pool(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> MaxPool:
    kernel = _pair(kernel)
    stride = kernel if stride in (None, []) else _pair(stride)
    return MaxPool(Pool(kernel, stride, _pair(padding), _pair(dilation), bool(ceil_mode)))


def _leaky(slope: float, what: str) -> Leaky:
    if slope < 0:
        raise Unsupported(f"{what} has a negative slope")
    return Leaky(float(slope))


def _check_inputs(node: fx.Node, count: int) -> None:
    if len(node.all_input_nodes) != count or node.kwargs.get("inplace", False):
        raise Unsupported(f"{_path(node)} has other inputs than the algebra expects")


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _sum(node: fx.Node) -> Layer:
    if len(node.args) != 2 or node.kwargs:
        raise Unsupported(f"{_path(node)} is not a plain sum of two values")
    return Sum()


def _function_flatten(node: fx.Node) -> Layer:
    if (_argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)) != (1, -1):
        raise Unsupported(f"{_path(node)} flattens other than all but the first dimension")
    return FLATTEN


def _function_pool(node: fx.Node) -> Layer:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    kernel, stride, padding, dilation, ceil = (
        _argument(node, i, n, d)
        for i, (n, d) in enumerate(zip(names, (None, None, 0, 1, False), strict=True), 1)
    )
    if _argument(node, 6, "return_indices", False):
        raise Unsupported(f"{_path(node)} returns indices")
    return _pool(kernel, stride, padding, dilation, ceil)


_FUNCTIONS: dict[Any, Callable[[fx.Node], Layer]] = {
    operator.add: _sum,
    torch.add: _sum,
    torch.relu: lambda node: Leaky(0.0),
    F.relu: lambda node: Leaky(0.0),
    F.leaky_relu: lambda node: _leaky(_argument(node, 1, "negative_slope", 0.01), _path(node)),
    torch.tanh: lambda node: TANH,
    torch.sigmoid: lambda node: SIGMOID,
    torch.flatten: _function_flatten,
    F.max_pool2d: _function_pool,
}
_METHODS: dict[str, Callable[[fx.Node], Layer]] = {
    "relu": lambda node: Leaky(0.0),
    "tanh": lambda node: TANH,
    "flatten": _function_flatten,
}
