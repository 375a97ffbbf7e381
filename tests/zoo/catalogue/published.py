"""Published architectures from torchvision, timm and transformers, at their smallest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Net, ce, integers, named, normal, registrar, three

vision = registrar("torchvision", loss=ce, x=normal(3, 32, 32), y=three, K=2, alpha=0.01,
                   needs="torchvision", heavy=True, sizes=(3, 3))  # fmt: skip
timm = registrar("timm", loss=ce, x=normal(3, 32, 32), y=three, K=2, alpha=0.01, needs="timm",
                 heavy=True, sizes=(3, 3))  # fmt: skip


def of_torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        net: nn.Module = getattr(torchvision.models, name)(num_classes=3, **options)
        return net.eval()

    return make


def by_groups(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


class Clipped(nn.Module):
    """Hardsigmoid from operations that torch derives twice."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(x + 3) / 6


def clipped() -> nn.Module:
    net = of_torchvision("mobilenet_v3_small")()
    for module in net.modules():
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Hardsigmoid):
                setattr(module, name, Clipped())
    return net


vision("resnet18", of_torchvision("resnet18"), K=1)
for name in ("efficientnet_b0", "convnext_tiny", "densenet121"):
    vision(name, of_torchvision(name), K=1, sizes=(2, 2))
vision("mobilenet_v3_small", of_torchvision("mobilenet_v3_small"), twin=clipped, may_refuse=True,
       tolerance=1e-6)  # fmt: skip
vision("squeezenet1_1", of_torchvision("squeezenet1_1"))
vision("shufflenet_v2_x0_5", of_torchvision("shufflenet_v2_x0_5"))
vision(
    "resnet_group_norm",
    lambda: of_torchvision("resnet18", norm_layer=by_groups, width_per_group=64)().train(),
    K=1,
)
vision(
    "resnet_batch_statistics",
    lambda: of_torchvision(
        "resnet18", norm_layer=partial(nn.BatchNorm2d, track_running_stats=False)
    )().train(),
    K=1,
    sizes=(4, 4),
)


def small_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    net = VisionTransformer(16, 8, 2, 2, 8, 12, num_classes=3)
    nn.init.normal_(net.heads.head.weight, std=0.3)  # torchvision's start is zero
    return net.eval()


def small_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer(
        [2, 2], 8, [2, 2], [2, 4], [2, 2], stochastic_depth_prob=0.0, num_classes=3
    ).eval()


vision("small_vit", small_vit, x=normal(3, 16, 16), heavy=False)
vision("small_swin", small_swin, x=normal(3, 16, 16), heavy=False)


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from timm import create_model

        net: nn.Module = create_model(name, pretrained=False, num_classes=3, **options)
        return net.eval()

    return make


timm("timm_test_vit", of_timm("test_vit", img_size=32, patch_size=8, pos_embed="learn"))
timm("timm_test_byobnet", of_timm("test_byobnet"))
timm("timm_test_efficientnet", of_timm("test_efficientnet"))
timm("timm_test_resnet", of_timm("test_resnet"))
timm("timm_test_convnext", of_timm("test_convnext"))


def small_mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(3, img_size=16, patch_size=8, num_blocks=2, embed_dim=16).eval()


timm("timm_mixer", small_mixer, x=normal(3, 16, 16), heavy=False)

language = registrar("transformers", loss=lambda out, y: ce(out.logits, y), y=three, K=2,
                     alpha=0.02, needs="transformers", sizes=(3, 3))  # fmt: skip
TOKENS = named(
    input_ids=integers(20, 6),
    attention_mask=lambda g, n: (torch.arange(6) < integers(7, 1, low=2)(g, n)).long(),
)  # fmt: skip


def tiny_bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=12, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def tiny_gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=20, n_positions=12, n_embd=8, n_layer=2, n_head=2, initializer_range=0.3,
        use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def tiny_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        image_size=8, patch_size=4, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


def tiny_llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=12,
        initializer_range=0.3, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def next_token(out: Any, y: Tensor) -> Tensor:
    return ce(out.logits[:, :-1].flatten(0, 1), y[:, 1:].flatten())


language("tiny_bert", tiny_bert, x=TOKENS)
language("tiny_gpt2", tiny_gpt2, loss=next_token, x=TOKENS, y=integers(20, 6))
language("tiny_hf_vit", tiny_vit, x=named(pixel_values=normal(3, 8, 8)))
language("tiny_llama", tiny_llama, loss=next_token, x=TOKENS, y=integers(20, 6),
         tolerance=1e-6)  # its norms and angles are in float32 whatever the weights  # fmt: skip
language("tiny_bert_tuple", lambda: Net(
    lambda net, **x: net.bert(**x, return_dict=False)[0], bert=tiny_bert()),
    loss=ce, x=TOKENS)  # fmt: skip
