"""Arrows point one way: a file imports lower floors only, and the core names no plugin."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lower floors first. A file may import its own room, without a circle, and every floor below it.
FLOORS = [
    ["errors", "finite", "metric", "theory", "words"],
    ["reporting", "options", "dotted", "ranges", "flat", "episodes", "machine", "files"],
    ["images", "models"],
    ["contracts"],
    ["expansion", "curvature"],
    ["noise", "starting"],
    ["adapt", "heads", "pairs", "settings"],
    ["problem", "runs", "starters"],
    ["training"],
    ["analysis", "comparison", "profiling", "sweeps"],
    ["asked"],
    ["api", "bilevel", "learner"],
    ["testing"],
    ["cli"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
PLUGIN_KINDS = ("estimators", "rules", "updates", "datasets", "problems", "trackers")
PLUGIN_FLOOR = {
    "contracts", "expansion", "episodes", "flat", "options", "ranges", "errors", "images",
    "theory", "words",
}  # fmt: skip


def part(module: str) -> str:
    """binomctl.curvature.autograd -> curvature."""
    return module.split(".")[1] if "." in module else module


def imports(path: Path):
    """(module, line) of every import, those inside functions and type checks included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "binomctl":
                yield from ((f"binomctl.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


CORE = sorted(p for p in (ROOT / "binomctl").rglob("*.py"))
# Tests of an outside distribution are no plugins.
PLUGINS = sorted(p for p in (ROOT / "plugins").rglob("*.py") if "tests" not in p.parts)


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_imports_lower_floors_only(path):
    relative = path.relative_to(ROOT / "binomctl")
    own = relative.parts[0].removesuffix(".py")
    for module, line in imports(path):
        assert not module.startswith("binomctl_"), f"{relative}:{line} imports a plugin"
        if not module.startswith("binomctl.") or own in ("__init__", "__main__"):
            continue
        other = part(module)
        assert other == own or FLOOR[other] < FLOOR[own], (
            f"{relative}:{line} imports {module}, which is not below it"
        )


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_import_the_lowest_floors_and_not_one_another(path):
    for module, line in imports(path):
        assert not module.startswith("binomctl_"), f"{path.name}:{line} imports another plugin"
        if module.startswith("binomctl"):
            assert part(module) in PLUGIN_FLOOR, f"{path.name}:{line} imports {module}"


def test_no_file_is_imported_by_what_it_imports():
    """Inside a room, too, arrows point one way."""
    names = {module_of(path): path for path in CORE}
    below = {name: {m for m, _ in imports(path) if m in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in sorted(below[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(names):
        visit(name, ())


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_or_say_why_not(path):
    lines = path.read_text().splitlines()
    head = "\n".join(lines[:12])
    assert len(lines) <= 250 or "One file because" in head, f"{path.name}: {len(lines)} lines"


def test_the_core_names_no_plugin():
    """In no string: neither a decision nor a hint. Names are data in defaults;
    the theorems, and their curves, are about three estimators of the paper, not about plugins; and
    learn2learn.py speaks of that library's task sets."""
    import tomllib

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    names = {n for kind in PLUGIN_KINDS for n in groups[f"binomctl.{kind}"]}
    names -= {"binom", "gd", "sgd", "glyphs", "adam"}  # a configuration that says nothing
    # Words of the language, and functions of the linear algebra that plugins are named after.
    names -= {"auto", "steps", "head", "deflated", "krylov"}
    names -= {"siren"}  # a network of the package's, and the problem that trains one
    names -= {"learn2learn"}  # a library that the core reads data of, before it is a plugin's name
    word = re.compile(rf"(?<![\w-])({'|'.join(sorted(names, key=len, reverse=True))})(?![\w-])")
    found = []
    for path in CORE:
        if path.relative_to(ROOT / "binomctl").parts[0] in ("cli", "theory"):
            continue
        if path.name in ("config.py", "measured.py", "figure_bounds.py", "learn2learn.py"):
            continue
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.arguments):  # a default is data, as in the configuration
                docs |= {id(value) for value in (*node.defaults, *node.kw_defaults)}
        for node in ast.walk(tree):
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in docs and (named := word.search(text)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} names '{named[0]}'")
    assert not found, "\n".join(found)


# pydantic is not among them: typer itself imports it to describe a command's options.
HEAVY = ("torch", "numpy", "scipy", "matplotlib", "PIL", "yaml")


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["eval", "--help"]])
def test_help_imports_nothing_heavy(args):
    code = f"""
import sys
sys.argv = ["binomctl", *{args!r}]
from binomctl.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [m for m in {HEAVY!r} if m in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
