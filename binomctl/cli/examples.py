"""What the help of each command ends with: commands to copy, each fit for 58 columns."""

from __future__ import annotations

EXAMPLES = {
    "train": (
        "binomctl train --dataset sinusoid --steps 500",
        "binomctl train --estimator binom --L 2 --ways 5 --shots 1",
        "binomctl train --config mine.yaml --set training.steps=100",
        "binomctl train --resume auto --time-limit 90m",
    ),
    "eval": (
        "binomctl eval runs/glyphs-binom-L2-seed0",
        "binomctl eval RUN --tasks 1000 --shots 1,5",
        "binomctl eval RUN --json > result.json",
    ),
    "predict": (
        "binomctl predict RUN --support photos --query new",
        "binomctl predict ADAPTED --query new --csv labels.csv",
    ),
    "adapt": (
        "binomctl adapt RUN --support photos --out mine",
        "binomctl adapt RUN --support known.csv --out mine",
    ),
    "export": (
        "binomctl export RUN -o network.safetensors",
        "binomctl export mine -o network.onnx --format onnx",
    ),
    "compare": (
        "binomctl compare runs",
        "binomctl compare RUN1 RUN2 --reference RUN1 --tasks 1000",
    ),
    "report": (
        "binomctl report runs -o report.html",
        "binomctl report runs --format latex > table.tex",
    ),
    "plot": (
        "binomctl plot runs -o curves.png",
        "binomctl plot errors.json -o errors.svg",
    ),
    "sweep run": (
        "binomctl sweep grid.yaml --dry-run",
        "binomctl sweep grid.yaml --jobs 2",
        "binomctl sweep grid.yaml --executor slurm --gpus 1",
    ),
    "sweep status": (
        "binomctl sweep status sweeps/grid",
        "binomctl sweep status sweeps/grid --watch",
    ),
    "error-analysis": (
        "binomctl error-analysis",
        "binomctl error-analysis --estimators trunc,binom --L 0-3",
        "binomctl error-analysis --run RUN --spectrum --plot",
    ),
    "profile": (
        "binomctl profile --estimators maml,binom --L 1,2",
        "binomctl profile --plan --memory-budget 8GiB",
        "binomctl profile --json > profile.json",
    ),
    "bounds": (
        "binomctl bounds",
        "binomctl bounds --K 10 --alpha 0.1 --plot",
        "binomctl bounds --theorem 3.8 --certify",
    ),
    "data prepare": (
        "binomctl data prepare mini-imagenet --root DIR",
        "binomctl data prepare omniglot --root DIR --download",
    ),
    "data verify": (
        "binomctl data verify mini-imagenet --root DIR",
        "binomctl data verify image-folder --root DIR --partial",
    ),
    "data show": (
        "binomctl data show glyphs --ways 5 --shots 1",
        "binomctl data show sinusoid -o task.svg",
    ),
    "data list": (
        "binomctl data list",
        "binomctl data list --root DIR --json",
    ),
    "runs ls": (
        "binomctl runs ls",
        "binomctl runs ls sweeps/grid --json",
    ),
    "runs show": (
        "binomctl runs show RUN",
        "binomctl runs show RUN --json",
    ),
    "runs rm": (
        "binomctl runs rm RUN",
        "binomctl runs rm RUN1 RUN2 --yes",
    ),
    "verify": (
        "binomctl verify RUN",
        "binomctl verify RUN --replay 0",
    ),
    "doctor": (
        "binomctl doctor",
        "binomctl doctor --json",
    ),
    "plugins list": (
        "binomctl plugins list rules",
        "binomctl plugins list binom",
        "binomctl plugins list --json",
    ),
    "plugins new": (
        "binomctl plugins new estimator averaged",
        "binomctl plugins new dataset waves --out my-waves",
    ),
    "init": (
        "binomctl init",
        "binomctl init --dataset sinusoid --budget 10m",
    ),
    "config diff": (
        "binomctl config diff first.yaml second.yaml",
        "binomctl config diff RUN1 RUN2 --json",
    ),
    "config keys": (
        "binomctl config keys clip",
        "binomctl config keys model --model resnet12",
    ),
    "config show": (
        "binomctl config show mine.yaml --changed",
        "binomctl config show RUN",
    ),
}
"""By the words of the command after `binomctl`."""
