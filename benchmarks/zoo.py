"""The zoo's networks: which engine computes each, how exact it is, and what it costs.

    python benchmarks/zoo.py [NAME ...]    these only, to the screen
    python benchmarks/zoo.py --page        the page again from the last result

Exact MAML through MetaGradient against the plain double-backward loop of tests/zoo/oracle.py, in
the same type, on two tasks. Time is the median of the second and later calls of one object over the
median of the loop, the two by turns; three rounds. Writes
benchmarks/results/zoo.json and docs/models.md. On a machine that was busy with other work the page
leaves the times out.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from zoo.catalogue import ENTRIES  # noqa: E402
from zoo.entry import Entry  # noqa: E402
from zoo.oracle import oracle, tasks_of, worst_error  # noqa: E402

import binomctl  # noqa: E402
from binomctl.errors import BinomctlError  # noqa: E402
from binomctl.machine.environment import environment  # noqa: E402

RESULT, PAGE = ROOT / "benchmarks/results/zoo.json", ROOT / "docs/models.md"
OPTIONAL = ("torchvision", "timm", "transformers")
HEAD = """# Models

Networks and losses that the project did not design (`tests/zoo/`), each as a user would hand it to
`binomctl.meta_gradient`. *Rung* is what computed it: `algebra`, the layer algebra; `vmap`, autograd
of all tasks at once; `loop`, autograd task by task in threads; `alone`, one after another. *Error*
is the worst parameter's relative error against a plain double-backward loop. *Time* is that of a
second call over that loop's: below 1 is faster than the loop. The networks are tiny, two tasks
each, so that fixed costs dominate and the times say nothing about training.

"""


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measured(entry: Entry) -> dict[str, Any]:
    """One network's row."""
    row: dict[str, Any] = {
        "model": entry.name, "kind": entry.kind, "seed": entry.seed, "K": entry.K,
        "alpha": entry.alpha, "dtype": str(entry.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in entry.build_plain().parameters() if p.requires_grad),
        "allowed_error": entry.allowed,
    }  # fmt: skip
    episodes, model = entry.episodes(), entry.build()
    try:
        product = binomctl.MetaGradient(
            model, entry.loss, estimator="maml", K=entry.K, alpha=entry.alpha,
            allow_unused=entry.allow_unused,
        )  # fmt: skip
        found = product(episodes)
    except BinomctlError as error:
        return {**row, "refused": str(error)}
    except Exception as error:
        return {**row, "failed": f"{type(error).__name__}: {error}"}
    row |= {"rung": product.rung, "error": worst_error(found, oracle(entry, ("maml",))["maml"])}
    tasks, ours, plain = tasks_of(entry), [], []
    with sdpa_kernel(SDPBackend.MATH):
        for _ in range(3):
            plain.append(seconds(lambda: [task.unrolled() for task in tasks]))
            ours.append(seconds(lambda: product(episodes)))
    row |= {"seconds": statistics.median(ours), "plain_seconds": statistics.median(plain)}
    row["time"] = row["seconds"] / row["plain_seconds"]
    return row


def quiet(report: dict[str, Any]) -> bool:
    """Whether nothing but the benchmark was running: its own load is 1."""
    load = report.get("load_average")
    return load is not None and max(load) < 1.5


def _slower(done: list[dict[str, Any]]) -> str:
    """How many take longer than the plain loop, and by how much, in words."""
    over = [row for row in done if row["time"] > 1.1]
    if not over:
        return "none takes more than 1.1 times the plain loop."
    more = sorted(1e3 * (row["seconds"] - row["plain_seconds"]) for row in over)
    slow = [row for row in over if row["seconds"] - row["plain_seconds"] > 1e-3]
    return (
        f"{len(over)} take more than 1.1 times the plain loop, by {statistics.median(more):.1f} ms"
        f" in the middle and {more[-1]:.0f} ms at most: at two tasks of a few points the calls"
        f" of Python are the time. {len(slow)} of them take more than 1 ms longer, which is what is"
        " aimed at and missed there: convolutions in float64 with learned weights that no layer has"
        " (transposed, one- and three-dimensional, weight norm), long chains of tiny operations"
        " (recurrent networks), and gradients of tens of millions of bytes, which are copied once"
        " into the flat vector. Tried: one backward pass through the whole loop for few tasks,"
        " closed forms where torch.func was called on one function (attention with a learned bias,"
        " slower than the plain loop before and faster after), sending networks with many such"
        " functions to that one pass by a count of them (given up: the same count makes small"
        " transformers and mixers slower than the plain loop)."
    )


def page(report: dict[str, Any]) -> str:
    rows, where = report["models"], report["environment"]
    timed = quiet(report)
    done = [row for row in rows if "rung" in row]
    right = [row for row in done if row["error"] < row["allowed_error"]]
    rungs = {rung: sum(row["rung"] == rung for row in done) for rung in
             ("algebra", "vmap", "loop", "alone")}  # fmt: skip
    packages = ", ".join(
        f"{name} {number}"
        for name, number in where["packages"].items()
        if name in ("binomctl", "torch", *OPTIONAL)
    )
    text = (
        f"{len(rows)} networks: {len(right)} of {len(done)} computed ones within the error allowed"
        " (1e-8 in float64, 1e-4 in float32, 1e-6 where torch itself falls back to float32);"
        f" {', '.join(f'{n} {rung}' for rung, n in rungs.items())};"
        f" {sum('refused' in row for row in rows)} refused in words;"
        f" {sum('failed' in row for row in rows)} failed. "
        + (
            f"Median time ratio {statistics.median(row['time'] for row in done):.2g};"
            f" {_slower(done)}\n\n"
            if timed
            else "The machine was busy, so the times are left out.\n\n"
        )
        + f"Measured {where['date'][:10]} on {where['cpu']}, {where['cores']} cores,"
        f" torch on one thread; {packages}. Every network and its episodes come from a"
        " seed of their own, in `benchmarks/results/zoo.json`, with K and alpha.\n"
    )
    for kind in dict.fromkeys(row["kind"] for row in rows):
        text += f"\n## {kind.capitalize()}\n\n| model | parameters | rung | error | time |\n"
        text += "|---|---|---|---|---|\n"
        for row in (row for row in rows if row["kind"] == kind):
            if "rung" in row:
                cells = f"{row['rung']} | {row['error']:.0e} | "
                cells += f"{row['time']:.2g}" if timed else "-"
            else:
                why = " ".join((row.get("refused") or row["failed"]).split()).replace("|", "/")
                word = "refused" if "refused" in row else "failed"
                cells = f"{word}: {why[:110]} | - | -"
            text += f"| {row['model']} | {row['parameters']} | {cells} |\n"
    return HEAD + text


def main() -> None:
    if sys.argv[1:] == ["--page"]:
        PAGE.write_text(page(json.loads(RESULT.read_text())), encoding="utf-8")
        return
    torch.set_num_threads(1)
    load = [os.getloadavg()[0]]
    wanted = [e for e in ENTRIES.values() if e.refused is None and not e.missing]
    if len(sys.argv) > 1:
        wanted = [e for e in wanted if e.name in sys.argv[1:]]
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' advice
        for entry in wanted:
            rows.append(measured(entry))
            print(entry.name, rows[-1].get("rung", "-"), rows[-1].get("error", "-"), flush=True)
    load.append(os.getloadavg()[0])
    report = {
        "schema": "binomctl/zoo/1",
        "environment": environment(),
        "load_average": load,
        "models": rows,
    }
    for name in OPTIONAL:
        try:
            report["environment"]["packages"][name] = version(name)
        except PackageNotFoundError:
            report["environment"]["packages"][name] = None
    if len(sys.argv) > 1:
        print(page(report))
        return
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
