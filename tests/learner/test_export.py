"""`binomctl export`: what is written is the network, for programs that know nothing of binomctl."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from command import binomctl
from learner.test_predict import QUICK, picture
from sampled import sampled

import binomctl as package
from binomctl.learner.kept import open_adapted
from binomctl.learner.subject import subject

NETWORKS = {
    "conv4": (),
    "no-affine": ("--set", "model.affine=false", "--set", "dtype=float64"),
    "frozen": ("--set", "adaptation.statistics=frozen"),
    "resnet12": ("--model", "resnet12", "--set", "model.filters=[2,3,4,5]"),
    "wrn28": ("--model", "wrn28", "--set", "model.widen=1"),
    "timm": ("--set", "model.timm=test_resnet"),
}

CONV4 = ("conv4", "no-affine", "frozen")
BARE = [q for q in QUICK if q != "--set" and "=" not in str(q)] + [
    word for q in QUICK if "=" in str(q) and "filters" not in q for word in ("--set", q)
]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            path = tmp_path_factory.mktemp(name) / "run"
            binomctl("train", *(QUICK if name in CONV4 else BARE), *NETWORKS[name], "--out", path)
            made[name] = path
        return made[name]

    return make


@pytest.fixture
def adapted(run_of, tmp_path):
    for kind in ("circle", "cross", "ring & dot"):
        (tmp_path / "support" / kind).mkdir(parents=True)
        for seed in range(3):
            picture(kind, seed).save(tmp_path / "support" / kind / f"{seed}.png")
    out = tmp_path / "adapted"
    binomctl("adapt", run_of("conv4"), "--support", tmp_path / "support", "-o", out)
    return out


def loaded_elsewhere(folder, file, x):
    """What the card's own lines say, in a process that cannot import binomctl."""
    code = re.search(r"```python\n(.*?)```", (folder / file).with_suffix(".md").read_text(), re.S)
    np.save(folder / "x.npy", x.numpy())
    said = "logits" if file.endswith("onnx") else "model(x).detach()"
    lines = [
        "import sys; sys.modules['binomctl'] = None", "import numpy as np",
        "x = np.load('x.npy')" if file.endswith("onnx") else
        "import torch; x = torch.from_numpy(np.load('x.npy'))",
        code[1], f"np.save('y.npy', np.asarray({said}))",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, text=True,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(folder / "y.npy"))


@pytest.mark.parametrize("name", sampled(NETWORKS, 6))
def test_plain_pytorch_says_the_same(run_of, tmp_path, name):
    binomctl("export", run_of(name), "-o", tmp_path / "net.safetensors")
    what = subject(run_of(name))
    x = torch.rand(5, *what.in_shape).to(next(what.module.parameters()))
    with torch.no_grad():
        expected = what.module(x)
    torch.testing.assert_close(loaded_elsewhere(tmp_path, "net.safetensors", x), expected)


def test_a_network_of_one_s_own_is_made_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, in_shape, out_dim, width=3):\n"
        "        n = in_shape[0] * in_shape[1] * in_shape[2]\n"
        "        super().__init__(nn.Flatten(), nn.Linear(n, width), nn.Tanh(),\n"
        "                         nn.Linear(width, out_dim))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    binomctl("train", *BARE, "--set", "model.import=mine:Net", "--set", "model.width=4", "--out",
             tmp_path / "run")  # fmt: skip
    binomctl("export", tmp_path / "run", "-o", tmp_path / "net.safetensors")
    what = subject(tmp_path / "run")
    x = torch.rand(5, *what.in_shape)
    with torch.no_grad():
        expected = what.module(x)
    torch.testing.assert_close(loaded_elsewhere(tmp_path, "net.safetensors", x), expected)


def test_the_meta_learned_network_is_the_checkpoint(run_of):
    what, saved = subject(run_of("conv4")), package.load(run_of("conv4")).checkpoint
    for name, value in what.module.state_dict().items():
        assert torch.equal(value, saved.model[name])


@pytest.mark.parametrize("file", ["net.pt", "net.onnx"])
def test_an_adapted_network_in_every_format(adapted, tmp_path, file):
    kind = {"net.pt": "state-dict", "net.onnx": "onnx"}[file]
    out, _ = binomctl("export", adapted, "--format", kind, "-o", tmp_path / file, "--license",
                      "apache-2.0", "--json")  # fmt: skip
    assert str(tmp_path / file) in json.loads(out)["files"]
    network, _ = open_adapted(adapted)
    for n in (2, 7):
        x = torch.rand(n, *network.in_shape)
        logits = loaded_elsewhere(tmp_path, file, x)
        torch.testing.assert_close(logits.softmax(-1), network.predict(x), rtol=0, atol=1e-5)
    text = (tmp_path / file).with_suffix(".md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert "3 circle, 3 cross, 3 ring & dot" in text


def test_the_card_has_the_scores_that_are_known(run_of, tmp_path):
    result = json.loads(binomctl("eval", run_of("conv4"), "--tasks", 4, "--json")[0])
    binomctl("export", run_of("conv4"), "-o", tmp_path / "net.safetensors")
    text = (tmp_path / "net.md").read_text()
    assert f"{result['mean']:.1%} (95% CI" in text
    assert "n = 4" in text


def test_an_adapted_network_predicts_as_it_did(adapted, run_of, tmp_path):
    task = ("--query", tmp_path / "support", "--json")
    anew, _ = binomctl("predict", run_of("conv4"), "--support", tmp_path / "support", *task)
    kept, _ = binomctl("predict", adapted, *task)
    anew, kept = json.loads(anew), json.loads(kept)
    assert anew["predictions"] == kept["predictions"]
    assert anew["shots"] == kept["shots"]
    _, err = binomctl("predict", adapted, "--support", tmp_path / "support", *task, code=2)
    assert "is adapted already: --support is for a run" in err
    _, err = binomctl("predict", run_of("conv4"), *task, code=2)
    assert "Give --support" in err


def test_damage_and_what_is_there_already(adapted, run_of, tmp_path):
    support = tmp_path / "support"
    _, err = binomctl("adapt", run_of("conv4"), "--support", support, "-o", adapted, code=2)
    assert "is there already" in err
    _, err = binomctl("export", adapted, "-o", tmp_path / "net.onnx", code=2)
    assert "does not end in .safetensors" in err
    _, err = binomctl("export", adapted, "--format", "pickle", "-o", tmp_path / "a.pt", code=2)
    assert "unknown format 'pickle'" in err
    _, err = binomctl("export", support, "-o", tmp_path / "net.safetensors", code=4)
    (tmp_path / "net.py").write_text("mine")
    _, err = binomctl("export", adapted, "-o", tmp_path / "net.safetensors", code=2)
    assert "net.py is there already" in err
    weights = bytearray((adapted / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (adapted / "model.safetensors").write_bytes(weights)
    _, err = binomctl("predict", adapted, "--query", support, code=4)
    assert "model.safetensors is damaged" in err
    (adapted / "adapted.json").write_text("{}")
    _, err = binomctl("predict", adapted, "--query", support, code=4)
    assert "adapted.json is damaged" in err
    assert not list(tmp_path.glob("net.safetensors"))
