"""Attention: torch's modules and one's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import Net, ce, integers, normal, parameter, registrar, several, three, uniform

add = registrar("attention", loss=ce, x=normal(5, 4), y=three)


def heads(**options: Any) -> Callable[[], nn.Module]:
    return lambda: Net(
        lambda net, x: net.head(net.mix(x, x, x, need_weights=False)[0].mean(1)),
        mix=nn.MultiheadAttention(4, 2, batch_first=True, **options),
        head=nn.Linear(4, 3),
    )


add("mha", heads())
add("mha_eval", lambda: heads()().eval())
add("mha_no_bias", heads(bias=False))
add("mha_bias_kv", heads(add_bias_kv=True))
add("mha_zero_attention", heads(add_zero_attn=True))
add("mha_weights_returned", lambda: Net(
    lambda net, x: (lambda out, w: net.head(torch.cat([out.mean(1), w.mean(1)], -1)))(
        *net.mix(x, x, x)),
    mix=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(9, 3)))  # fmt: skip
add("mha_cross", lambda: Net(
    lambda net, a, b: net.head(net.mix(a, b, b, need_weights=False)[0].mean(1)),
    mix=nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True), head=nn.Linear(4, 3)),
    ce, several(normal(5, 4), normal(6, 3)))  # fmt: skip
add("mha_causal", lambda: Net(
    lambda net, x: net.head(net.mix(x, x, x, attn_mask=net.mask, need_weights=False)[0].mean(1)),
    mix=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, 3),
    mask=nn.Buffer(torch.ones(5, 5).triu(1).bool())))  # fmt: skip
add("mha_padding_mask", lambda: Net(
    lambda net, x, length: net.head(net.mix(
        x, x, x, key_padding_mask=torch.arange(5)[None] >= length[:, None],
        need_weights=False)[0].mean(1)),
    mix=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, 3)),
    ce, several(normal(5, 4), integers(6, low=1)))  # fmt: skip


def encoder(eval_mode: bool = False, layers: int = 1, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        layer = nn.TransformerEncoderLayer(
            4, 2, 6, batch_first=True, dropout=0.1 if eval_mode else 0.0, **options
        )
        body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        net = Net(lambda net, x: net.head(net.body(x).mean(1)), body=body, head=nn.Linear(4, 3))
        return net.eval() if eval_mode else net

    return make


add("encoder_train", encoder())
add("encoder_eval", encoder(eval_mode=True))
add("encoder_two_layers", encoder(layers=2))
add("encoder_norm_first_gelu", encoder(norm_first=True, activation="gelu"))
add("encoder_float32", encoder(), dtype=torch.float32)
add("decoder_layer", lambda: Net(
    lambda net, a, b: net.head(net.body(a, b).mean(1)),
    body=nn.TransformerDecoderLayer(4, 2, 6, dropout=0.0, batch_first=True),
    head=nn.Linear(4, 3)), ce, several(normal(3, 4), normal(5, 4)))  # fmt: skip
add("whole_transformer", lambda: Net(
    lambda net, a, b: net.head(net.body(a, b).mean(1)),
    body=nn.Transformer(4, 2, 1, 1, 6, dropout=0.0, batch_first=True),
    head=nn.Linear(4, 3)), ce, several(normal(4, 4), normal(3, 4)))  # fmt: skip


def own(mix: Callable[[Any, Tensor, Tensor, Tensor], Tensor]) -> Callable[[], nn.Module]:
    def forward(net: Any, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in net.qkv(x).chunk(3, -1))
        return net.head(x.mean(1) + mix(net, q, k, v).transpose(1, 2).flatten(2).mean(1))

    return lambda: Net(forward, qkv=nn.Linear(4, 12), head=nn.Linear(4, 3), bias=parameter(2, 5, 5))


def rotated(t: Tensor) -> Tensor:
    angle = torch.arange(t.shape[-2], dtype=t.dtype)[:, None] / 3.0
    a, b = t.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def causal_mask() -> Tensor:
    return torch.ones(5, 5).tril().bool()


sdpa = F.scaled_dot_product_attention
used_bias = {
    "sdpa_relative_bias": lambda net, q, k, v: sdpa(q, k, v, net.bias),
    "attention_by_hand": lambda net, q, k, v: (q @ k.mT / math.sqrt(2) + net.bias).softmax(-1) @ v,
    "attention_linear": lambda net, q, k, v: (
        (F.elu(q) + 1) @ ((F.elu(k) + 1).mT @ v) / 5 + net.bias.mean() * v
    ),
    "attention_sigmoid": lambda net, q, k, v: torch.sigmoid(q @ k.mT + net.bias) @ v,
    "attention_einsum": lambda net, q, k, v: torch.einsum(
        "bhij,bhjd->bhid", (torch.einsum("bhid,bhjd->bhij", q, k) + net.bias).softmax(-1), v
    ),
    "attention_masked_fill": lambda net, q, k, v: (
        (q @ k.mT + net.bias).masked_fill(~causal_mask(), float("-inf")).softmax(-1) @ v
    ),
}
unused_bias = {
    "sdpa": lambda net, q, k, v: sdpa(q, k, v),
    "sdpa_causal": lambda net, q, k, v: sdpa(q, k, v, is_causal=True),
    "sdpa_boolean_mask": lambda net, q, k, v: sdpa(q, k, v, causal_mask()),
    "sdpa_scaled": lambda net, q, k, v: sdpa(q, k, v, scale=0.3),
    "sdpa_rotary": lambda net, q, k, v: sdpa(rotated(q), rotated(k), v),
}
for name, mix in used_bias.items():
    add(name, own(mix))
for name, mix in unused_bias.items():
    add(name, own(mix), allow_unused=True)
add("attention_perceiver", lambda: Net(
    lambda net, x: net.head(sdpa(net.latent.expand(len(x), 2, 4), net.k(x), net.v(x)).flatten(1)),
    latent=parameter(1, 2, 4), k=nn.Linear(4, 4), v=nn.Linear(4, 4),
    head=nn.Linear(8, 3)))  # fmt: skip
add("attention_over_points", lambda: Net(
    lambda net, x: net.head(sdpa(net.q(x)[None], net.k(x)[None], x[None])[0]),
    q=nn.Linear(4, 4), k=nn.Linear(4, 4), head=nn.Linear(4, 3)), ce, uniform(4))  # fmt: skip
