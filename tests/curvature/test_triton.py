"""The meta-step compiled for a GPU that is not there: torch writes its Triton source, and
Triton's makes machine code of the largest kernels in it; nothing is run.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from fake_gpu import K, batch_of, made, meta_gradient, on_fake_gpu
from torch import Tensor
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils import _triton

from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.episodes import EpisodeBatch

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed: torch without CUDA", allow_module_level=True)

H100 = DeviceProperties(
    "cuda", 0, multi_processor_count=132, cc=90, major=9, regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32,
)  # fmt: skip
ASKED = SimpleNamespace(**H100._asdict(), name="NVIDIA H100", minor=0, total_memory=80 * 2**30)
KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)'''", re.DOTALL)
SIZES = {"XBLOCK": 16, "YBLOCK": 16, "ZBLOCK": 16}
"""Of blocks, which are tuned on the device where the source does not say them."""


def source(kind: str, estimator: str, options: dict[str, int]) -> str:
    """What torch's compiler writes for a meta-step on that device."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        model = on_fake_gpu(made(kind))
        engine = AnalyticEngine(model, F.mse_loss if kind == "mlp" else F.cross_entropy)
        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
        batch = batch_of(kind, "cuda")

        def step(theta: Tensor, *sets: Tensor) -> Tensor:
            on = EpisodeBatch(*sets)
            return meta_gradient(engine, model, estimator, options, on, "cuda", theta).mean(0)

        given = (theta, batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        pure = functionalize(step, remove="mutations_and_views")  # the path is written in place
        graph = make_fx(pure, decomposition_table=select_decomp_table())(*given)
        lowered = GraphLowering(graph, example_inputs=list(given))
        with (
            mock.patch.object(DeviceProperties, "create", return_value=H100),
            mock.patch.object(_triton, "triton_hash_with_backend", return_value=""),
            mock.patch("torch.cuda.get_device_properties", return_value=ASKED),
            mock.patch("torch.cuda.get_device_capability", return_value=(9, 0)),
            mock.patch("torch.cuda.current_device", return_value=0),
            mock.patch("torch._inductor.scheduler.has_triton", return_value=True),
            V.set_graph_handler(lowered),
            V.set_fake_mode(fake),
            V.set_debug_handler(DebugContext()),
        ):
            lowered.run(*given)
            return str(lowered.codegen()[0].value)


def machine_code(name: str, text: str, folder: Path) -> str:
    """The PTX of a kernel, and proof that an assembler takes it: Triton fails where it does not."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    meta = text[text.index("triton_meta=") + len("triton_meta=") : text.index("inductor_meta=")]
    meta = re.sub(r"DeviceProperties\([^)]*\)", "None", meta.strip().rstrip(","))
    signature = ast.literal_eval(meta)["signature"]
    decorator = re.compile(r"@triton_heuristics\..*?(?=@triton\.jit)", re.DOTALL)
    plain = decorator.sub("", text).replace("triton_helpers.set_driver_to_gpu()", "")
    path = folder / f"{name}.py"
    path.write_text(plain, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    constants = {key: SIZES.get(key, 64) for key, kind in signature.items() if kind == "constexpr"}
    made = triton.compile(
        ASTSource(getattr(module, name), signature, constants), target=GPUTarget("cuda", 90, 32)
    )
    assert len(made.asm["cubin"]) > 0
    return str(made.asm["ptx"])


@pytest.mark.parametrize(
    ("kind", "estimator", "options"),
    [
        ("mlp", "binom", {"L": 2}),
        pytest.param("mlp", "maml", {}, marks=pytest.mark.slow),
        pytest.param("conv4", "binom", {"L": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
@pytest.mark.long
def test_a_meta_step_becomes_machine_code(kind, estimator, options, tmp_path):
    text = source(kind, estimator, options)
    kernels = dict(KERNEL.findall(text))
    assert len(kernels) > K
    assert "cpp_fused" not in text  # nothing is left to the host
    assert "_local_scalar_dense" not in text
    assert ".item()" not in text
    biggest = sorted(kernels, key=lambda name: -len(kernels[name]))[:4]
    for name in biggest:
        assert ".target sm_90" in machine_code(name, kernels[name], tmp_path)
