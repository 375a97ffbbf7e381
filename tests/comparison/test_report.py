"""`binomctl report`: one file that needs nothing else."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from command import binomctl

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def written(folder, path, *args):
    binomctl("report", folder, "-o", path, "--tasks", 40, *args)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    return path, written(folder, path)


def test_the_same_input_gives_the_same_bytes_and_asks_for_nothing(folder, page, tmp_path):
    _, text = page
    assert written(folder, tmp_path / "again.html") == text
    assert len(text) < 5e6
    outside = set(re.findall(r"(?:src|href)=[\"'](?!data:|#)([^\"']+)", text))
    assert not outside
    assert not re.findall(r"@import|url\((?!#)", text)


def test_its_table_is_the_comparison_and_its_csv_too(page):
    _, text = page
    for label in ("maml", "fomaml", "trunc (L = 2)"):
        assert text.count(f">{label}<") >= 2
    assert "the reference" in text
    assert "have no partner" in text  # a warning of the comparison
    data = re.search(r'download="comparison.csv" href="data:text/csv;base64,([^"]+)"', text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(data[1]).decode())))
    assert [row["label"] for row in rows] == ["fomaml", "maml", "trunc (L = 2)"]
    shown = re.findall(r'data-value="([\d.e-]+)">[\d.]+ ± ', text)
    assert [row["mean"] for row in rows] == shown


def test_names_are_text_and_unfinished_runs_are_rendered(folder, tmp_path):
    runs = tmp_path / "<script>alert(1)</script>"
    shutil.copytree(folder / "maml-0", runs / 'a<b>&"c"')
    shutil.copytree(folder / "fomaml-0", runs / "half")
    (runs / "half/report.json").unlink()
    shutil.copytree(folder / "fomaml-1", runs / "nothing")
    (runs / "nothing/report.json").unlink()
    shutil.rmtree(runs / "nothing/checkpoints")
    (runs / "nothing/checkpoints").mkdir()
    (runs / "nothing/metrics.jsonl").unlink()
    text = written(runs, tmp_path / "page.html")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "a&lt;b&gt;&amp;" in text
    assert "half is not finished" in text
    assert "nothing has saved nothing yet" in text
    assert "step 0 of 12" in text


def test_one_run_and_no_run(folder, tmp_path):
    text = written(folder / "maml-0", tmp_path / "one.html")
    assert "Nothing is compared" in text
    assert "<svg" in text
    _, err = binomctl("report", tmp_path, "-o", tmp_path / "none.html", code=4)
    assert "nor a folder of runs" in err
    assert not (tmp_path / "none.html").exists()
    _, err = binomctl("report", folder, "-o", tmp_path / "one.html", code=2)
    assert "is there already" in err


@pytest.fixture(scope="module")
def settings(folder, tmp_path_factory):
    """Two methods on two settings: 5 and 10 shots of sinusoid."""
    root = tmp_path_factory.mktemp("settings")
    for shots in (5, 10):
        for name in ("maml", "fomaml"):
            binomctl("train", "--estimator", name, "--steps", 12, "--dataset", "sinusoid",
                     "--shots", shots, "--set", "training.validate_every=6",
                     "--set", "training.validation_tasks=4",
                     "--out", root / f"{name}-{shots}")  # fmt: skip
    return root


def test_every_setting_has_a_column_and_a_section(settings, tmp_path):
    text = written(settings, tmp_path / "page.html")
    assert re.search(r"<th>method</th><th class=\"n\">sinusoid 5-shot</th>"
                     r"<th class=\"n\">sinusoid 10-shot</th>", text)  # fmt: skip
    assert text.count("<section") == 2
    ids = re.findall(r'id="(s\d-\d-line)"', text)
    assert sorted(ids) == ["s0-0-line", "s0-1-line", "s1-0-line", "s1-1-line"]
    data = re.search(r'download="comparison.csv" href="data:text/csv;base64,([^"]+)"', text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(data[1]).decode())))
    assert [(r["setting"], r["label"]) for r in rows] == [
        (f"sinusoid {shots}-shot", name) for shots in (5, 10) for name in ("fomaml", "maml")
    ]
    reference = settings / "fomaml-5"  # of the other setting: the method with its estimator
    text = written(settings, tmp_path / "fomaml.html", "--reference", reference)
    assert text.count("compared with fomaml") == 2
    _, err = binomctl("compare", settings, "--tasks", 40, code=2)
    assert "do not meet the same test tasks (dataset.shots is 5 and 10" in err


def test_tables_for_papers(settings, folder, tmp_path):
    out, _ = binomctl("report", settings, "--tasks", 40, "--format", "md")
    assert "| method | sinusoid 5-shot | sinusoid 10-shot |\n| --- | --: | --: |" in out
    assert out.count("| method | mean ± s.e. |") == 2
    numbers, _ = binomctl("report", settings, "--tasks", 40, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(numbers)))
    maml = next(r for r in rows if r["label"] == "maml" and r["setting"] == "sinusoid 5-shot")
    mean, error = (f"{float(maml[key]):.4g}" for key in ("mean", "standard_error"))
    assert re.search(rf"\| maml \| {mean} ± {error} \|", out)
    file = tmp_path / "table.tex"
    binomctl("report", folder, "--tasks", 40, "--format", "latex", "-o", file)
    tex = file.read_text()
    assert tex.count("\\\\\n") == 4
    assert r"$\pm$" in tex
    assert "±" not in tex.partition(r"\end{tabular}")[0]
    _, err = binomctl("report", folder, "--format", "excel", code=2)
    assert "unknown format 'excel'" in err
    _, err = binomctl("report", folder / "maml-0", "--tasks", 40, "--format", "md", code=2)
    assert "no table" in err


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, a large install")
def test_latex_reads_the_table(folder, tmp_path):
    tex, _ = binomctl("report", folder, "--tasks", 40, "--format", "latex")
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "page.tex").write_text(head + tex + r"\end{document}", encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory, folder):
    """What three commands print with --json."""
    root = tmp_path_factory.mktemp("results")
    commands = {
        "errors": ["error-analysis", "--L", "0-2", "--set", "analysis.batches=3", "--K", 3],
        "time": ["profile", "--dataset", "sinusoid", "--estimators", "maml,trunc", "--L", 1,
                 "--set", "profile.seconds=0.05"],
        "pairs": ["compare", folder, "--tasks", 40],
    }  # fmt: skip
    for name, command in commands.items():
        out, _ = binomctl(*command, "--json")
        (root / f"{name}.json").write_text(out)
    return root


def test_results_of_other_commands_are_on_the_page(folder, results, tmp_path):
    files = sorted(results.glob("*.json"))
    binomctl("report", folder, *files, "--tasks", 40, "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    titles = ["Errors of the meta-gradient", "Differences", "Time, memory and utilisation"]
    for title in titles:
        assert f"<h2>{title}</h2>" in text
    assert text.count("<svg") == 4
    binomctl("report", *files, "-o", tmp_path / "alone.html")
    assert (tmp_path / "alone.html").read_text().count("<svg") == 3


def test_single_pictures(folder, results, tmp_path):
    for file in sorted(results.glob("*.json")):
        picture = tmp_path / f"{file.stem}.svg"
        binomctl("plot", file, "-o", picture)
        assert "<svg" in picture.read_text()
    binomctl("plot", folder)
    binomctl("plot", folder)
    assert (tmp_path / "curves.svg").read_bytes() == (tmp_path / "curves-2.svg").read_bytes()


def test_what_has_no_picture_is_named(folder, settings, results, tmp_path):
    torn = tmp_path / "torn.json"
    torn.write_text((results / "errors.json").read_text()[:-40])
    _, err = binomctl("plot", torn, code=2)
    assert "torn.json is no result of a command" in err
    less = json.loads((results / "errors.json").read_text())
    del less["errors"][0]["relative"]
    (tmp_path / "less.json").write_text(json.dumps(less))
    for command in (["plot"], ["report", "-o", tmp_path / "page.html"]):
        _, err = binomctl(*command, tmp_path / "less.json", code=2)
        assert "less.json is not whole (KeyError at 'relative')" in err
    (tmp_path / "eval.json").write_text(json.dumps({"schema": "binomctl/eval/1"}))
    _, err = binomctl("report", folder, tmp_path / "eval.json", "-o", tmp_path / "p.html", code=2)
    assert "its schema is 'binomctl/eval/1'" in err
    assert "binomctl error-analysis" in err
    _, err = binomctl("plot", results / "errors.json", results / "time.json", code=2)
    assert "2 sources for one picture" in err
    _, err = binomctl("plot", settings, code=2)
    assert "do not meet the same test tasks" in err
    assert not list(tmp_path.glob("*.svg")) + list(tmp_path.glob("*.html"))


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


def test_clicks_sort_and_hide(browser, page):
    path, _ = page
    tab = browser.new_page()
    faults = []
    tab.on("pageerror", lambda error: faults.append(error))
    tab.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(r))
    tab.goto(path.as_uri())

    def column(n):
        cells = tab.locator(f"table.results tbody tr td:nth-child({n})")
        return [cell.get_attribute("data-value") for cell in cells.all()]

    means = sorted(column(2), key=float)
    tab.get_by_role("button", name="mean ± s.e.").click()
    assert column(2) == means
    tab.get_by_role("button", name="mean ± s.e.").click()
    assert column(2) == means[::-1]
    tab.get_by_role("button", name="method").press("Enter")  # by the keyboard too
    assert column(1) == sorted(column(1))
    rows = tab.locator("table.results tbody tr")
    assert rows.filter(visible=True).count() == 3
    line = tab.locator("g[id$='-line']")  # of validation and of the loss
    assert line.filter(visible=True).count() == 6
    tab.get_by_label("fomaml").uncheck()
    assert rows.filter(visible=True).count() == 2
    assert line.filter(visible=True).count() == 4
    tab.get_by_label("fomaml").check()
    assert rows.filter(visible=True).count() == 3
    assert not faults
    tab.close()


def test_it_is_read_without_scripts_on_a_telephone_and_in_the_dark(browser, page):
    path, _ = page
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 390, "height": 800}, color_scheme="dark"
    )
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("table.results tbody tr").count() == 3
    assert not tab.locator("fieldset").first.is_visible()  # nothing that does nothing
    context.close()
    lit = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab = lit.new_page()
    tab.goto(path.as_uri())
    # The page itself does not scroll sideways, and its paper is dark.
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    red, green, blue = (int(v) for v in re.findall(
        r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[:3])  # fmt: skip
    assert max(red, green, blue) < 60
    lit.close()
