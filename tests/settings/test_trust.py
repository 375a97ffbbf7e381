"""A run folder from elsewhere imports nothing; one's own run goes on working."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from binomctl.errors import CheckpointError, ConfigError
from binomctl.models.imported import find_network
from binomctl.settings import trust
from binomctl.settings.layers import load_config

NETWORK = """
from pathlib import Path
from torch import nn
Path("{mark}").touch()

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()

class Other(Net):
    pass
"""


@pytest.fixture
def own(tmp_path, project):
    """A network in a folder of its own, whose import leaves a mark."""
    run, mark = tmp_path / "run", tmp_path / "imported"
    run.mkdir()
    (project / "trusted_net.py").write_text(NETWORK.format(mark=mark))
    yield project, run, mark
    forget()


def forget():
    sys.modules.pop("trusted_net", None)


def config(target="trusted_net:Net", **options):
    given = [f"model.{k}={v}" for k, v in options.items()]
    return load_config(assignments=[f"model.import={target}", *given])[0]


def trained(run):
    """What training leaves in the folder: the network was imported in this process."""
    find_network("trusted_net:Net")
    trust.sign(run, config())
    forget()


def refused(run, settings, mark):
    mark.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="not made by you on this machine") as error:
        trust.require_trust(run, settings)
    assert "--trust" in error.value.hint
    assert not mark.exists()
    assert "trusted_net" not in sys.modules


@pytest.mark.promise(22, fault="a run folder that somebody sent names a class")
def test_a_folder_from_elsewhere_imports_nothing(own):
    _, run, mark = own
    refused(run, config(), mark)


@pytest.mark.promise(22, fault="a note forged, copied from another run, or of another user")
def test_the_note_cannot_be_forged(own, monkeypatch, tmp_path):
    _, run, mark = own
    trained(run)
    refused(run, config("trusted_net:Other"), mark)
    refused(run, config(width=4), mark)
    note = json.loads((run / trust.NOTE).read_text())
    genuine = json.dumps(note)
    for forged in (
        {**note, "hmac": "0" * 64},
        {**note, "hmac": 5},
        {**note, "hmac": "\u00e9"},
        {**note, "folder": "/elsewhere"},
        {k: v for k, v in note.items() if k != "hmac"},
        [note],
    ):
        (run / trust.NOTE).write_text(json.dumps(forged))
        refused(run, config(), mark)
    for torn in (genuine[:-9], "[" * 100_000, ""):
        (run / trust.NOTE).write_text(torn)
        refused(run, config(), mark)
    (run / trust.NOTE).write_text(genuine)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    refused(run, config(), mark)


def test_one_s_own_run_is_trusted_from_any_folder(own, monkeypatch, tmp_path):
    folder, run, mark = own
    trained(run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "trusted_net.py").write_text("raise SystemExit('of the working folder')")
    monkeypatch.chdir(elsewhere)
    mark.unlink()
    trust.require_trust(run, config())
    assert mark.exists()
    assert Path(sys.modules["trusted_net"].__file__).parent == folder
    assert sys.path[0] != str(folder)


def test_a_changed_source_is_told_and_a_missing_one_has_a_next_step(
    own, monkeypatch, tmp_path, caplog
):
    folder, run, _ = own
    trained(run)
    source = folder / "trusted_net.py"
    source.write_text(source.read_text() + "\n# changed\n")
    caplog.set_level("WARNING", "binomctl.notes")
    trust.require_trust(run, config())
    assert "is not what it was" in caplog.text
    forget()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(folder)])
    source.rename(tmp_path / "moved.py")
    with pytest.raises(ConfigError, match="cannot import") as error:
        trust.require_trust(run, config())
    assert "--import trusted_net:Net" in error.value.hint


def test_a_user_s_word_is_enough(own):
    _, run, mark = own
    trust.require_trust(run, config(), trust=True)
    assert mark.exists()
    forget()
    mark.unlink()
    trust.require_trust(run, config(), named="trusted_net:Net")
    assert mark.exists()
    with pytest.raises(ConfigError, match="the run imports trusted_net:Net, not"):
        trust.require_trust(run, config(), named="trusted_net:Other")
    plain = load_config()[0]
    trust.require_trust(run, plain)
    with pytest.raises(ConfigError, match="its network is conv4"):
        trust.require_trust(run, plain, named="trusted_net:Net")


def test_the_secret_is_the_user_s_alone(own, tmp_path):
    _, run, _ = own
    trained(run)
    kept = list((tmp_path / "state" / "binomctl").iterdir())
    assert [p.name for p in kept] == ["secret"]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert trust._secret(make=True) == kept[0].read_bytes()
    assert kept[0].read_bytes() not in (run / trust.NOTE).read_bytes()


def test_a_run_without_an_import_has_no_note(own):
    _, run, _ = own
    trust.sign(run, load_config()[0])
    assert not list(run.iterdir())
