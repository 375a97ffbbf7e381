"""`binomctl profile`: what it counts, measures (against an independent reading) and survives."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from command import Forked, binomctl
from torch import nn

from binomctl.analysis.errors import analyse
from binomctl.errors import ResourceError
from binomctl.models.conv4 import Conv4
from binomctl.problem.build import build_problem
from binomctl.problem.cases import Case, cases_of
from binomctl.profiling import fresh, observed
from binomctl.profiling.measure import measure, prepare, spread
from binomctl.profiling.session import rates_and_work, report_of
from binomctl.profiling.work import Work
from binomctl.settings import registry
from binomctl.settings.layers import load_config

SMALL = {
    "model.filters": 8, "training.meta_batch": 2, "dataset.queries": 2, "adaptation.K": 3,
    "profile.seconds": 0.05, "profile.L": "1-2",
}  # fmt: skip
PHASES = ("data", "adaptation", "query", "meta_gradient", "outer")
QUICK = [f"--set={key}={value}" for key, value in SMALL.items()]


def problem(**more):
    config, _ = load_config(overrides=SMALL | {k.replace("__", "."): v for k, v in more.items()})
    return build_problem(config)


# Work -------------------------------------------------------------------------------------------


def test_work_is_the_formulas_on_conv4():
    """Conv4-32 on 84x84x3: F = 54.69 MFLOP of convolutions; per task at K = 5, 5-way 1-shot, GFLOP
    of convolutions: FOMAML 15.19, MAML 22.17, Binom(2) 26.36, counted by hand."""
    model = Conv4(filters=32).build((3, 84, 84), 5)
    work = Work.of(model, torch.rand(5, 3, 84, 84))
    head = 2 * 800 * 5
    assert work.forward - head == pytest.approx(54.69e6, rel=1e-3)
    assert work.first == 2 * 9 * 3 * 32 * 84 * 84
    convolutions = Work(work.forward - head, work.first)
    for products, wanted in ((0, 15.19), (5, 22.17), (8, 26.36)):
        assert convolutions.step(5, 1, 5, 75, products) / 1e9 == pytest.approx(wanted, rel=1e-3)


def test_work_of_a_network_whose_input_is_flattened_first():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3))
    work = Work.of(model, torch.rand(4, 3, 4))
    assert (work.forward, work.first) == (2 * (12 * 7 + 7 * 3), 2 * 12 * 7)


@pytest.mark.parametrize(
    ("name", "options", "products", "depth"),
    [
        ("maml", {}, 3, 3), ("fomaml", {}, 0, 0), ("trunc", {"L": 2}, 2, 2),
        ("binom", {"L": 1}, 3, 1), ("binom", {"L": 2}, 4, 2), ("binom", {"L": 3}, 3, 3),
        ("hybrid", {"L": 1, "C": 2}, 2, 1), ("imaml", {"L": 2}, 2, 2),
    ],
)  # fmt: skip
def test_products_and_depth_are_counted(name, options, products, depth):
    cell = Case(name, registry.create("estimator", name, options), options)
    seen = observed.counted(cell.problem(problem()), "columns")
    assert (seen.products, seen.levels) == (products, depth)


def test_the_phases_are_the_whole_step(monkeypatch):
    """What a step is timed at is the sum of its parts, and its meta-gradient is training's."""
    base = problem()
    cell = Case("binom", registry.create("estimator", "binom", {"L": 2}), {"L": 2})
    (one,) = prepare(base, [cell])
    found = []
    real = observed.update
    monkeypatch.setattr(observed, "update", lambda *args: (found.append(args[-1]), real(*args)))
    start = time.perf_counter()
    phases = observed.timed_step(one.problem, one.state, range(2), None)
    took = 1e3 * (time.perf_counter() - start)
    assert tuple(phases) == PHASES
    assert 0.9 * took < sum(phases.values()) <= took
    from binomctl.training.step import step_function

    batch = one.problem.training_batch(range(2))
    wanted = step_function(one.problem)(one.problem.theta, one.problem.m, batch)
    assert torch.equal(found[0].per_task[0], wanted.per_task[0])


@pytest.mark.parametrize("measured", ["profile", "error-analysis"])
def test_torch_s_threads_rest_as_in_a_run(monkeypatch, measured):
    """What is timed is what a run does: beside kernels torch's operations take one thread."""
    base, threads = problem(), []
    cell = Case("maml", registry.create("estimator", "maml", {}), {})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    real = type(base.engine).curvature

    def curvature(*args):
        threads.append(torch.get_num_threads())
        return real(*args)

    monkeypatch.setattr(type(base.engine), "curvature", curvature)
    try:
        if measured == "profile":
            (one,) = prepare(base, [cell])
            observed.timed_step(one.problem, one.state, range(2), None)
        else:
            next(iter(analyse(base, base.theta, base.m, [cell], 1)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


# Memory -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc on Linux alone")
def test_peak_memory_is_what_an_outsider_reads():
    """The process's own figure against readings of its resident set from outside, all the while."""
    base = problem(dataset__queries=11, training__meta_batch=8, model__filters=32)
    command = [sys.executable, "-m", "binomctl.profiling.fresh"]
    seen, pipe = 0, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        child.stdin.write(base.config.model_dump_json())
        child.stdin.close()
        child.stdout.readline()  # the steps begin
        process = psutil.Process(child.pid)
        while not select.select([child.stdout], [], [], 0.001)[0]:  # until the steps have ended
            seen = max(seen, process.memory_info().rss)
        said = json.loads(child.stdout.read().splitlines()[-1])
    assert said["peak_bytes"] > said["baseline_bytes"]
    assert seen == pytest.approx(said["peak_bytes"], rel=0.03)


def test_a_process_knows_what_it_holds():
    """64 MiB written to in a fresh process appear in its peak, and in nothing else."""
    code = (
        "from binomctl.profiling.fresh import forget_peak, peak\n"
        "import torch\n"
        "before = forget_peak(); t = torch.ones(16, 2**20); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(64 * 2**20, rel=0.05)


def test_memory_that_runs_out_is_said(monkeypatch):
    killed = subprocess.CompletedProcess([], -signal.SIGKILL, "", "")
    monkeypatch.setattr(fresh.subprocess, "run", lambda *a, **k: killed)
    with pytest.raises(MemoryError):
        fresh.peak_resident(problem().config)


# The command ------------------------------------------------------------------------------------


def test_report_picture_and_csv(tmp_path):
    picture, table = tmp_path / "p.svg", tmp_path / "p.csv"
    out, _ = binomctl(
        "profile", *QUICK, "--estimators", "maml,binom", "--json", "--output", picture,
        "--csv", table,
    )  # fmt: skip
    report = json.loads(out)
    assert report["schema"] == "binomctl/profile/1"
    assert [(c["estimator"], c["L"]) for c in report["cells"]] == [
        ("maml", None), ("binom", 1), ("binom", 2)
    ]  # fmt: skip
    for cell in report["cells"]:
        assert cell["failed"] is None
        assert cell["step_ms"]["p10"] <= cell["step_ms"]["median"] <= cell["step_ms"]["p90"]
        assert set(cell["phases_ms"]) == set(PHASES)
        assert cell["peak_memory_bytes"] == max(
            0, cell["memory"]["peak_bytes"] - cell["memory"]["baseline_bytes"]
        )
        rate = cell["flops"] / (cell["step_ms"]["median"] / 1e3)
        assert cell["flops_per_second"] == pytest.approx(rate)
        for name, peak in report["rates_flops_per_second"].items():
            assert cell["share_of_peak"][name] == pytest.approx(rate / peak, abs=1e-3)
        used = cell["utilization"]
        assert used is None or (0 <= used["value"] <= 1 and "cores" in used["meaning"])
        assert used is not None or cell["utilization_reason"]
    assert report["environment"]["torch_threads"] == torch.get_num_threads()
    assert "peak memory of a step" in picture.read_text()
    assert len(table.read_text().splitlines()) == 4


@pytest.mark.usefixtures("memory_known")
@pytest.mark.parametrize("columns", [40, 80, 140])
def test_the_table_fits_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out, _ = binomctl("profile", *QUICK, "--estimators", "maml")
    assert "maml" in out
    assert max(map(len, out.splitlines())) <= columns


@pytest.mark.usefixtures("memory_known")
def test_a_cell_that_runs_out_of_memory_is_marked_and_the_others_go_on(monkeypatch):
    base = problem(profile__estimators=["maml", "fomaml", "binom"])
    cells = prepare(base, cases_of(base, "profile"))
    bad = cells[1].problem.estimator

    real = observed.estimate

    def estimate(estimator, adapted, state=None):
        if estimator is bad:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(estimator, adapted)

    monkeypatch.setattr(observed, "estimate", estimate)
    for _ in measure(cells, 0.02):
        pass
    report = report_of(base, cells, *rates_and_work(base))
    assert [bool(c["failed"]) for c in report["cells"]].count(True) == 1
    assert "out of memory" in report["cells"][1]["failed"]
    assert report["cells"][1]["step_ms"] is None
    assert all(c["step_ms"] and c["memory"] for i, c in enumerate(report["cells"]) if i != 1)
    from binomctl.cli.profile_table import print_profile
    from binomctl.reporting.figure_profile import groups

    print_profile(report)
    assert sum(len(g) for g in groups(report).values()) == len(cells) - 1


def test_memory_that_cannot_be_measured_leaves_the_time(monkeypatch):
    from binomctl.profiling import measure as module

    def fails(config):
        raise ResourceError("the process that measures memory ended with 1: no word")

    monkeypatch.setattr(module, "peak_resident", fails)
    base = problem()
    cells = prepare(base, cases_of(base, "profile")[:1])
    for _ in measure(cells, 0.02):
        pass
    (cell,) = report_of(base, cells, *rates_and_work(base))["cells"]
    assert cell["failed"] is None
    assert cell["step_ms"]
    assert cell["peak_memory_bytes"] is None
    assert "ended with 1" in cell["memory_reason"]


def test_nothing_measured_yet_still_draws(tmp_path):
    from binomctl.reporting.figure_profile import draw_profile

    base = problem()
    report = report_of(base, prepare(base, cases_of(base, "profile")), *rates_and_work(base))
    assert not any(c["step_ms"] for c in report["cells"])
    draw_profile(report, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_inner_mini_batches_are_the_work_that_is_counted():
    whole, few = (
        prepare(p, cases_of(p, "profile")[:1])[0]
        for p in (problem(dataset__shots=3), problem(dataset__shots=3, adaptation__batch=5))
    )
    for one in (whole, few):
        one.phases = [{"step": 1.0}]
        one.products = 3
    work = Work(10.0, 1.0)
    flops = [one.report(work, {})["flops"] for one in (whole, few)]
    # 3 gradients of 29 FLOPs on 15 or 5 images, one on 10, 3 products of 56 on 15 or 5; 2 tasks.
    assert flops == [2 * ((3 * n + 10) * 29 + 3 * n * 56) for n in (15, 5)]


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    command = ["profile", "--json", "--seconds", "10", "--estimators", "maml,fomaml"]
    at_once = "import binomctl.cli.counting as told; told.EVERY = 0.0"
    with Forked(command, tmp_path, script=at_once) as child:
        lines = iter(child.stderr.readline, "")
        assert any(line.startswith("profiling: 3 of 14") for line in lines), "it ended"
        child.send_signal(signal.SIGINT)  # two warm-ups and one stretch of ten are over
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    report = json.loads(out)
    measured = [c for c in report["cells"] if c["step_ms"]]
    assert measured
    assert measured[0]["estimator"] == "maml"


def test_no_gpu_is_said_with_the_alternative():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    _, err = binomctl("profile", "--device", "cuda", code=2)
    assert "--device cpu" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--estimators", "mamal"], "Did you mean 'maml'"),
        (["--L", "9"], "no order between"),
        (["--estimators", "maml,hybrid", "--C", "1", "--L", "2-3"], "C = 1"),
        (["--output", "nowhere/p.png"], "no folder nowhere"),
        (["--plan", "--csv", "c.csv"], "writes no CSV"),
        (["--trace", "t.json", "--json"], "one step's trace alone"),
        (["--memory-budget", "8GiB"], "are for --plan"),
        (["--plan", "--memory-budget", "eight"], "no quantity"),
        (["--plan", "--time-budget", "50 fortnights"], "units: us, ms, s, min"),
        (["--output", "p.gif"], "unknown picture format"),
        (["--seconds", "0"], "expected more than 0"),
    ],
)
def test_bad_options(options, words):
    _, err = binomctl("profile", *QUICK[:4], *options, code=2)
    assert words in " ".join(err.split())


def test_a_trace_names_the_phases(tmp_path):
    path = tmp_path / "trace.json"
    binomctl("profile", *QUICK, "--estimators", "binom", "--trace", path)
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert {"data", "adapt 0", "adapt 2", "query gradient", "meta-gradient", "outer"} <= names
    assert any(str(name).startswith("hvp ") for name in names)


# GPUs, as far as they can be played --------------------------------------------------------------


def test_spread_is_of_ranks():
    assert spread([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "p10": 1.0, "p90": 5.0, "n": 5}
    assert spread([7.0]) == {"median": 7.0, "p10": 7.0, "p90": 7.0, "n": 1}
