"""Every method on letters, each under exact MAML, FOMAML and BinomMAML of order 2.

    python benchmarks/comparison.py [--jobs 2] [--seeds 0 1 2]
    python benchmarks/comparison.py --page        docs/comparison.md from the kept JSON

The cells are those of configs/comparison-glyphs.yaml. First a meta-step of every method is timed, a
setting at a time and interleaved, with one op thread on an otherwise idle machine. Then every cell
trains, and is tested twice on its setting's test tasks: after all its meta-steps, and after as many
as it can take in the seconds in which exact MAML takes half of its own. Every finished cell is kept
in benchmarks/results/comparison_glyphs.json at once; called again it does what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cells import dumps, tested
from orderings import orderings, table
from pages import put
from turns import milliseconds

from binomctl.comparison.methods import labels, methods, reference_of
from binomctl.comparison.report import Scored, Section, compared
from binomctl.comparison.shared import shared_tasks
from binomctl.comparison.tables import details, markdown, overview
from binomctl.episodes import ACCURACY
from binomctl.machine.environment import environment
from binomctl.problem.build import resolved
from binomctl.settings.config import Config
from binomctl.sweeps.grid import read_grid

ROOT = Path(__file__).parents[1]
GRID = ROOT / "configs/comparison-glyphs.yaml"
KEPT = ROOT / "benchmarks/results/comparison_glyphs.json"
PAGE = ROOT / "docs/comparison.md"
ROUNDS, WARM_UP = 5, 2
SEEDS = [0, 1, 2]
TEST_SEED = 0


def setting_of(config: Config) -> str:
    """What a column is called."""
    options = config.dataset.options
    return f"glyphs {options['ways']}-way {options['shots']}-shot"


def cells(seeds: list[int]) -> dict[str, dict[tuple[str, int], Config]]:
    """Configurations by setting, label and seed, in the grid's order of methods."""
    found: dict[str, list[Config]] = {}
    for cell in read_grid(GRID):
        if cell.config.seed in seeds:
            config = resolved(cell.config)
            found.setdefault(setting_of(config), []).append(config)
    return {
        setting: {
            (label, config.seed): config
            for label, config in zip(labels(configs), configs, strict=True)
        }
        for setting, configs in found.items()
    }


def training(config: Config) -> tuple[Any, Any, Iterator[Any]]:
    """The problem, its state and the meta-steps of a configuration, without validation."""
    import torch

    torch.set_num_threads(1)
    from binomctl.problem.build import build_problem
    from binomctl.training.loop import meta_train
    from binomctl.training.state import MetaState

    problem = build_problem(config)
    state = MetaState(problem)
    return problem, state, meta_train(problem, state)


def changed(config: Config, values: dict[str, Any]) -> Config:
    """The configuration with other values by dotted key."""
    data = config.model_dump()
    for key, value in values.items():
        section, _, name = key.partition(".")
        data[section][name] = value
    return Config.model_validate(data)


def step_times(of: dict[tuple[str, int], Config]) -> dict[str, dict[str, float]]:
    """ms of a meta-step by label, all methods of a setting in turn; of what is annealed, a step
    after its end."""
    after = {"training.order_annealing": [], "adaptation.annealing_steps": 1}
    loops = {
        label: training(changed(config, after))[2]
        for (label, seed), config in of.items()
        if seed == 0
    }
    return milliseconds(loops, ROUNDS, WARM_UP)


def measure(job: tuple[str, str, Config, int]) -> dict[str, Any]:
    """Train a cell and test it, at the step that the seconds allow and at the end."""
    setting, label, config, affordable = job
    problem, state, loop = training(config)
    steps, tasks = config.evaluation.steps, config.evaluation.tasks
    assert steps is not None
    stops = (affordable, config.training.steps)
    return {
        "setting": setting, "label": label, "seed": config.seed, "adaptation_steps": steps,
        **tested(problem, state, loop, stops, (TEST_SEED, tasks, steps)),
        "config": config.model_dump(mode="json", exclude_defaults=True),
    }  # fmt: skip


def affordable(times: dict[str, dict[str, float]], label: str, reference: str, steps: int) -> int:
    """Meta-steps in the seconds of half of the reference's, not more than all."""
    ratio = times[reference]["median_ms"] / times[label]["median_ms"]
    return max(1, min(steps, round(steps / 2 * ratio)))


def run_all(seeds: list[int], jobs: int) -> None:
    """Time, train, test and keep what is not kept yet."""
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {
        "schema": "binomctl-benchmarks/comparison/1", "command": "python benchmarks/comparison.py",
        "environment": environment(), "step_times": {}, "runs": [],
    }  # fmt: skip
    grid = cells(seeds)
    for setting, of in grid.items():
        if setting not in kept["step_times"]:
            kept["step_times"][setting] = step_times(of)
            print(setting, kept["step_times"][setting], flush=True)
            KEPT.write_text(dumps(kept))
    have = {(r["setting"], r["label"], r["seed"]) for r in kept["runs"]}
    todo = []
    for seed in seeds:
        for setting, of in grid.items():
            times, first = kept["step_times"][setting], next(iter(of))[0]
            for (label, at), config in of.items():
                if at == seed and (setting, label, seed) not in have:
                    steps = affordable(times, label, first, config.training.steps)
                    todo.append((setting, label, config, steps))
    print(f"{len(todo)} cells are left", flush=True)
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=20) as pool:
        for run in pool.imap_unordered(measure, todo):
            kept["runs"].append(run)
            KEPT.write_text(dumps(kept))
            means = {k: round(sum(v) / len(v), 3) for k, v in run["scores"].items()}
            print(
                run["setting"], run["label"], run["seed"], means, run.get("failure", ""), flush=True
            )


def section(setting: str, kept: dict[str, Any], equal_seconds: bool) -> Section:
    """The methods of a setting against exact MAML, at equal steps or at equal seconds."""
    order = list(kept["step_times"][setting])
    runs = sorted(
        (r for r in kept["runs"] if r["setting"] == setting and "failure" not in r),
        key=lambda r: (order.index(r["label"]), r["seed"]),
    )
    configs, scores = {}, {}
    for run in runs:
        path = Path(f"{run['label']} {run['seed']}")
        configs[path] = Config.model_validate(run["config"])
        at = (min if equal_seconds else max)(run["scores"], key=int)
        ms = kept["step_times"][setting][run["label"]]["median_ms"]
        scores[path] = Scored(
            run["scores"][at], ms * int(at) / 1000, int(at), run["adaptation_steps"]
        )
    found = methods(list(configs.items()))
    shared, _ = shared_tasks(configs.values(), "test", None, None, TEST_SEED)
    report = compared(found, reference_of(found, None), scores, ACCURACY, shared)
    return Section(setting, found, report)


def failures(kept: dict[str, Any]) -> str:
    """Which cells came to no end, in a sentence."""
    found: dict[str, list[str]] = {}
    for run in (r for r in kept["runs"] if "failure" in r):
        short = run["setting"].removeprefix("glyphs ")
        found.setdefault(run["label"], []).append(f"{short} seed {run['seed']}")
    if not found:
        return "No run diverged."
    listed = "; ".join(f"{label} ({', '.join(cells)})" for label, cells in found.items())
    return f"Diverged, and left out: {listed}."


def write_page() -> None:
    """The tables of docs/comparison.md."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    have, wanted = len(kept["runs"]), sum(map(len, cells(SEEDS).values()))
    if have < wanted:
        put(PAGE, "diverged", f"{have} of {wanted} cells are kept so far; the tables want all.")
        return
    kept["orderings"] = orderings(kept)
    KEPT.write_text(dumps(kept), encoding="utf-8")
    for mark, text in tables(kept).items():
        put(PAGE, mark, text)


def tables(kept: dict[str, Any]) -> dict[str, str]:
    """Of whole results, by their marks in docs/comparison.md."""
    out = {"diverged": failures(kept), "orderings": table(kept["orderings"])}
    for name, equal_seconds in (("steps", False), ("seconds", True)):
        found = [section(setting, kept, equal_seconds) for setting in kept["step_times"]]
        out[f"equal {name}"] = markdown("", overview(found))
        out[f"details, equal {name}"] = "\n".join(
            markdown(f"{s.label}, equal {name}", details(s)) for s in found
        )
    return out


def main() -> None:
    """Measure, or write the page."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--page", action="store_true")
    given = options.parse_args()
    if given.page:
        write_page()
    else:
        run_all(given.seeds, given.jobs)


if __name__ == "__main__":
    main()
