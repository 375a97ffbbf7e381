"""A network as a file that other programs read, with a card that says what it is."""

from __future__ import annotations

import copy
import io
import re
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from binomctl.errors import ConfigError, MissingDependencyError
from binomctl.files.atomic import write_atomic
from binomctl.learner.card import card
from binomctl.learner.exported import Exported
from binomctl.learner.source import source_of
from binomctl.models.backbones import timm_arguments
from binomctl.models.imported import arguments_of, find_network
from binomctl.options import IMPORT, NAMING
from binomctl.problem.tasks import scaled
from binomctl.runs.checkpoints import as_bytes
from binomctl.settings.config import Config

Format = Literal["state-dict", "safetensors", "onnx"]
SUFFIX: dict[Format, tuple[str, ...]] = {
    "state-dict": (".pt", ".pth", ".bin"), "safetensors": (".safetensors",), "onnx": (".onnx",),
}  # fmt: skip


def places(path: Path, kind: Format, config: Config) -> list[Path]:
    """The files that an export writes: the network, its card and, for weights alone of a network of
    this package, its source.

    Raises:
        ConfigError: the suffix is another format's.
    """
    if path.suffix not in SUFFIX[kind]:
        raise ConfigError(
            f"{path} does not end in {' or '.join(SUFFIX[kind])}, as a file of --format {kind}"
            " must",
            f"Name it {path.with_suffix(SUFFIX[kind][0]).name}.",
        )
    if kind != "onnx" and _own(config) and not path.stem.isidentifier():
        raise ConfigError(
            f"{path.name}: the network's source goes beside it, and Python imports no"
            f" {path.stem}.py",
            f"Name it {re.sub(r'[^0-9a-zA-Z_]', '_', f'network_{path.stem}')}{path.suffix}.",
        )
    out = [path, path.with_suffix(".md")]
    return [*out, path.with_suffix(".py")] if kind != "onnx" and _own(config) else out


def export(what: Exported, kind: Format, path: Path, licence: str) -> list[Path]:
    """Write a network; the files that were written.

    Raises:
        ConfigError: it cannot be written in this format.
        MissingDependencyError: onnx is not installed.
    """
    files = places(path, kind, what.config)
    module = _checked_in_eval(what)
    if what.averages and what.config.model.name == IMPORT and kind != "onnx":
        raise ConfigError(
            "the network's own class has no place for batch norm's averages",
            "Take --format onnx, which has the whole network.",
        )
    if kind == "onnx":
        data, loading = _onnx(module, what), _LOAD_ONNX.format(file=path.name)
    else:
        data, loading = _weights(module, kind), _loading(what, kind, path)
    text = card(what, kind, path.name, loading, licence)
    write_atomic(path, data)
    write_atomic(files[1], text.encode())
    if len(files) > 2:
        title = f"{what.config.model.name} for inputs {list(what.in_shape)}, plain PyTorch."
        write_atomic(files[2], source_of(module, title).encode())
    return files


def example(what: Exported, n: int = 4) -> Tensor:
    """Inputs [n, *in_shape] as the network takes them."""
    like = next(what.module.parameters())
    random = torch.Generator().manual_seed(0)
    x = torch.rand(n, *what.in_shape, generator=random)
    return scaled(x.to(like), what.config.pixels, like)


def _checked_in_eval(what: Exported) -> nn.Module:
    """The module in eval mode, as whoever loads it has it, if it says the same there."""
    module, x = copy.deepcopy(what.module).eval(), example(what)
    with torch.no_grad():
        same = torch.allclose(module(x), what.module(x), rtol=1e-4, atol=1e-6)
    if not same:
        raise ConfigError(
            "the network says something else in eval mode than in training, where it was learned",
            "Set it to eval mode where it is made, and train again.",
        )
    return module


def _weights(module: nn.Module, kind: Format) -> bytes:
    if kind == "safetensors":
        return as_bytes(module.state_dict())
    buffer = io.BytesIO()
    torch.save({n: t.detach().cpu() for n, t in module.state_dict().items()}, buffer)
    return buffer.getvalue()


def _onnx(module: nn.Module, what: Exported) -> bytes:
    """The network as ONNX, for any number of examples at once, in float32."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"--format onnx needs onnx and onnxscript: {error}", "pip install onnx onnxscript"
        ) from error
    x = example(what).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecations
        try:
            program = torch.onnx.export(
                module.float(), (x,), dynamo=True, verbose=False, input_names=["x"],
                output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("n", min=2)},),
            )  # fmt: skip
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"torch cannot write this network as ONNX: {type(error).__name__}: {reason}",
                "Take --format safetensors.",
            ) from error
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        program.save(Path(folder) / "it.onnx")
        return (Path(folder) / "it.onnx").read_bytes()


def _own(config: Config) -> bool:
    return config.model.name not in NAMING


def _loading(what: Exported, kind: Format, path: Path) -> str:
    """Lines of Python that load the weights in plain PyTorch."""
    name, options = what.config.model.name, what.config.model.options
    lines, making = ["import torch"], "network()"
    if _own(what.config):
        lines.append(f"from {path.stem} import network")
    elif name == IMPORT:
        module, _, made = str(options[IMPORT]).partition(":")
        own = {k: v for k, v in options.items() if k != IMPORT}
        target = str(options[IMPORT])
        taken = arguments_of(target, find_network(target), own, what.in_shape, what.out_dim)
        given = ", ".join(f"{k}={v!r}" for k, v in taken.items())
        lines.append(f"from {module} import {made}")
        making = f"{made}({given})"
    elif name == "timm":
        lines.append("import timm")
        known = timm_arguments(options["timm"], what.in_shape, what.out_dim)
        given = ", ".join(f"{k}={v!r}" for k, v in known.items())
        making = f'timm.create_model("{options["timm"]}", {given})'
    else:
        lines.append("import torchvision")
        making = (
            f'torchvision.models.get_model("{options["torchvision"]}", num_classes={what.out_dim})'
        )
    double = ".double()" if what.config.dtype == "float64" else ""
    lines.append(f"model = {making}{double}")
    if not _own(what.config) and not what.averages and options.get("norm", "batch") == "batch":
        lines += [
            "for layer in model.modules():",
            '    if hasattr(layer, "track_running_stats"):',
            "        layer.track_running_stats, layer.running_mean, layer.running_var,"
            " layer.num_batches_tracked = False, None, None, None",
        ]
    if kind == "safetensors":
        lines.insert(1, "from safetensors.torch import load_file")
        lines.append(f'model.load_state_dict(load_file("{path.name}"))')
    else:
        lines.append(f'model.load_state_dict(torch.load("{path.name}", weights_only=True))')
    lines.append("model.eval()")
    return "\n".join(lines)


_LOAD_ONNX = """import onnxruntime
session = onnxruntime.InferenceSession("{file}")
(logits,) = session.run(None, {{"x": x}})  # x: float32 [n, ...]"""
