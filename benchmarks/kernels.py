"""The rate of every map of Conv4's blocks on one core, against a matrix product on that core.

    python benchmarks/kernels.py

Blocks of 5 support and 75 query images of 28x28x1 and 84x84x3 with 32 filters, and of 64 channels,
warm caches, least of 15; FLOPs are the convolutions. Writes benchmarks/results/kernels.json
and docs/speed.md's table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pages import put

from binomctl.curvature.analytic.block import Block
from binomctl.curvature.analytic.layers import Cache
from binomctl.curvature.analytic.norm_block import NormBlock, Pool
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks/results/kernels.json", ROOT / "docs/speed.md"
LAYERS = [(28, 1, 32), (14, 32, 32), (7, 32, 32), (3, 32, 32), (84, 3, 32), (42, 32, 32),
          (21, 32, 32), (10, 32, 32), (42, 64, 64), (21, 64, 64), (10, 64, 64)]  # fmt: skip
"""Side, channels and filters."""
MAPS = ("forward", "backward", "tangent", "tangent backward")


def least(function: Callable[[], object]) -> float:
    times = []
    for _ in range(15):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def rates(N: int, size: int, channels: int, filters: int) -> dict[str, dict[str, float]]:
    """Milliseconds and FLOP/s of the four maps on N images."""
    torch.manual_seed(0)
    x, tx = torch.randn(2, 1, N, size, size, channels)
    p, tp = (
        {"weight": 0.1 * torch.randn(1, filters, channels, 3, 3),
         "gamma": torch.rand(1, filters) + 0.5, "beta": torch.randn(1, filters)}
        for _ in range(2)
    )  # fmt: skip
    inner = channels == filters  # the first layer's input has no gradient and no tangent
    block = Block(NormBlock(1e-5, 0.0, Pool((2, 2), (2, 2))), True)
    cache, wanted, txs = Cache(), [inner], [tx if inner else None]
    ga = torch.randn_like(block.forward(p, [x], cache))
    steps = {
        "forward": lambda: block.forward(p, [x], cache),
        "backward": lambda: block.backward(p, cache, ga, wanted),
        "tangent": lambda: block.tangent(p, tp, cache, txs),
        "tangent backward": lambda: block.tangent_backward(p, tp, cache, ga, ga, wanted),
    }
    convolution = 2.0 * 9 * channels * filters * size * size * N
    count = dict(zip(MAPS, (1, 2, 2, 4) if inner else (1, 1, 1, 1), strict=True))
    out = {}
    for name, step in steps.items():
        step()
        seconds = least(step)
        out[name] = {"ms": 1e3 * seconds, "flops_per_second": count[name] * convolution / seconds}
    return out


def main() -> None:
    tune_allocator()
    torch.set_num_threads(1)
    a = torch.rand(1024, 1024)
    a @ a
    product = 2 * 1024**3 / least(lambda: a @ a)
    rows: list[dict[str, Any]] = [
        {"images": N, "size": size, "channels": channels, "maps": rates(N, size, channels, filters)}
        for size, channels, filters in LAYERS
        for N in (5, 75)
    ]
    report = {
        "schema": "binomctl/kernels/1",
        "environment": environment(),
        "matrix_product_flops_per_second": product,
        "layers": rows,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    put(PAGE, "kernels", table(report))


def table(report: dict[str, Any]) -> str:
    """A row a layer: times, and FLOPs as a share of a matrix product's."""
    product = report["matrix_product_flops_per_second"]
    lines = [
        f"| layer, images | {' | '.join(MAPS)} |",
        "|---|---|---|---|---|",
    ]
    for row in report["layers"]:
        cells = [
            f"{m['ms']:.3g} ms, {m['flops_per_second'] / product:.0%}" for m in row["maps"].values()
        ]
        name = f"{row['size']}x{row['size']}x{row['channels']}, {row['images']}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
