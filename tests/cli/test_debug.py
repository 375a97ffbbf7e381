"""--debug shows the user's own traceback; without it an error is a sentence."""

from __future__ import annotations

import pytest
from command import in_a_process

NETWORKS = """
from torch import nn

class Bad(nn.Module):
    def __init__(self, fails="forward"):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        if fails == "init":
            raise ValueError("told to")  # in __init__

    def forward(self, x):
        return self.layer(x)[:, 7]  # in forward
"""


def use(name):
    return ["--set", f"model.import={name}"]


@pytest.mark.parametrize(
    ("args", "code", "line"),
    [
        (use("networks:Bad"), 2, "return self.layer(x)[:, 7]  # in forward"),
        ([*use("networks:Bad"), "--set", "model.fails=init"], 2, "# in __init__"),
        (use("broken:Net"), 2, "1 / 0  # at import"),
        (use("lacking:Net"), 2, "import nothing_of_this_name"),
        (["--config", "bad.yaml"], 2, "ParserError"),
        (["--config", "type.yaml"], 2, "ValidationError"),
    ],
)
def test_debug_shows_what_the_sentence_is_about(tmp_path, args, code, line):
    (tmp_path / "networks.py").write_text(NETWORKS)
    (tmp_path / "broken.py").write_text("1 / 0  # at import\n")
    (tmp_path / "lacking.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "bad.yaml").write_text("training: {steps: 3\nseed: @\n")
    (tmp_path / "type.yaml").write_text("seed: three\n")
    command = ["train", "--dataset", "sinusoid", *args]
    plain = in_a_process(*command, cwd=tmp_path)
    assert plain.returncode == code
    assert plain.stderr.startswith("error: ")
    assert "Traceback" not in plain.stderr
    assert line not in plain.stderr
    shown = in_a_process("--debug", *command, cwd=tmp_path)
    assert line in shown.stderr
    assert "ConfigError: " in shown.stderr
