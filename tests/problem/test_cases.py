"""What is measured side by side: options are used or refused; variants are told apart."""

from __future__ import annotations

import json

import pytest
from command import in_a_process

from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.problem.cases import cases_of, check_used
from binomctl.settings.measured import settings_of

SMALL = {"model.width": 5, "model.depth": 1, "training.meta_batch": 3, "adaptation.K": 4}


def cases(entries, where="analysis", **overrides):
    keyed = {k.replace("__", "."): v for k, v in overrides.items()}
    given = SMALL | {f"{where}.estimators": entries, f"{where}.L": "2"} | keyed
    return cases_of(build_problem(settings_of("analysis", None, given)[0]), where)


@pytest.mark.parametrize("where", ["analysis", "profile"])
def test_variants_of_one_estimator_stand_side_by_side(where):
    entries = ["imaml", "imaml:lam=50", "binom:alpha_scaling=paper", "binom:L=3", "hybrid:C=3"]
    found = cases(entries, where)
    assert [c.label for c in found] == [
        "imaml L=2", "imaml L=2 lam=50", "binom L=2 alpha_scaling=paper", "binom L=3",
        "hybrid L=2 C=3",
    ]  # fmt: skip
    assert [c.estimator.lam for c in found[:2]] == [2.0, 50]
    assert found[2].alpha_scaling == "paper"


@pytest.mark.parametrize("where", ["analysis", "profile"])
def test_what_knows_the_last_outer_loss_alone_is_refused_where_there_are_more(where):
    with pytest.raises(ConfigError, match=r"'imaml' knows the outer loss at phi\^K alone"):
        cases(["binom", "imaml"], where, adaptation__step_losses="annealed")


@pytest.mark.parametrize("where", ["analysis", "profile"])
def test_the_options_of_the_configured_estimator_are_those_that_are_measured(where):
    own = {"estimator.name": "imaml", "estimator.lam": 1000, "estimator.variant": "authors"}
    (imaml, other) = cases(["imaml", "neumann"], where, **own)
    assert (imaml.estimator.lam, imaml.estimator.variant) == (1000, "authors")
    assert other.estimator.lam != 1000
    paper = {"estimator.name": "binom", "estimator.alpha_scaling": "paper"}
    assert [c.alpha_scaling for c in cases(["binom"], where, **paper)] == ["paper"]


def test_the_section_wins_over_the_estimator_and_an_entry_over_both():
    own = {"estimator.name": "binom", "estimator.alpha_scaling": "paper"}
    found = cases(["binom", "binom:alpha_scaling=paper"], analysis__alpha_scaling="none", **own)
    assert [c.alpha_scaling for c in found] == ["none", "paper"]
    both = cases(["binom"], analysis__alpha_scaling="both")
    assert [c.alpha_scaling for c in both] == ["none", "paper"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("imaml:lamb=3", "Did you mean 'lam'"),
        ("imaml:lam", "'lam' is not of the form option=value"),
        ("imaml:lam=x", "expected"),
        ("imaml:lam=-1", "must be positive"),
        ("maml:L=2", "unknown option 'L'"),
        ("binom:L=9", "greater than K = 4"),
    ],
)
@pytest.mark.parametrize("where", ["analysis", "profile"])
def test_an_entry_that_says_something_wrong_is_refused(where, entry, words):
    with pytest.raises(ConfigError) as error:
        cases([entry], where)
    assert words in str(error.value)
    assert error.value.key == f"{where}.estimators"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["estimator.name=imaml", "estimator.lam=1000"], "estimator 'imaml' is not measured"),
        (["estimator.L=3"], "analysis.L = 0-5"),
    ],
)
def test_what_would_measure_nothing_is_refused(given, words):
    config, places = settings_of("analysis", None, {}, given)
    with pytest.raises(ConfigError, match=words):
        check_used(config, places, "analysis")


def test_lambda_changes_what_the_command_prints(tmp_path):
    args = ["--L", "2", "--batches", "2", "--meta-batch", "2", "--K", "3", "--json"]
    args += ["--set", "model.width=4", "--estimators", "imaml,imaml:lam=50", "--csv", "e.csv"]
    done = in_a_process("error-analysis", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two, fifty = json.loads(done.stdout)["errors"]
    assert (two["options"], fifty["options"]) == ({}, {"lam": 50})
    assert two["relative"]["mean"] != fifty["relative"]["mean"]
    assert ",lam=50," in (tmp_path / "e.csv").read_text()
