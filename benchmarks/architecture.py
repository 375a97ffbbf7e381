"""The rooms of the house and who imports whom, drawn from the imports themselves.

    python benchmarks/architecture.py

Writes docs/figures/architecture.svg. A room is a folder or file at the top of binomctl/, and all
plugins together. Arrows that follow from two or more others are left out of the drawing; the whole
list is in the file's metadata, and a test compares it with the imports.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURE = ROOT / "docs" / "figures" / "architecture.svg"
Graph = dict[str, set[str]]

# What a room is for; one that is not here is drawn by its name alone.
WORDS = {
    "cli": "the commands",
    "analysis": "errors, spectra",
    "comparison": "runs in pairs",
    "sweeps": "grids of runs",
    "starters": "a plugin to begin with",
    "profiling": "time, memory, plans",
    "testing": "checks for plugin authors",
    "api": "meta_gradient",
    "bilevel": "hypergradient",
    "learner": "a user's own tasks",
    "training": "the outer loop, a run",
    "asked": "a caller's wishes, checked",
    "heads": "what the output comes from",
    "starting": "phi^0 and its pull-back",
    "noise": "what tasks draw",
    "pairs": "which estimator goes with which loop",
    "problem": "a configuration made real",
    "plugins": "one algorithm or data set a file",
    "adapt": "the inner loop",
    "expansion": "the truncated expansion",
    "curvature": "gradients and H v",
    "runs": "folders, checkpoints",
    "contracts": "protocols, records",
    "settings": "schema, layers, registry",
    "images": "files to episodes",
    "models": "networks",
    "episodes": "a task, a batch",
    "metric": "what tasks are scored by",
    "files": "atomic, archives, pickles",
    "flat": "parameters as a vector",
    "machine": "devices, memory, threads",
    "options": "a plugin's fields",
    "dotted": "package.module:Class",
    "ranges": "numbers that are allowed",
    "reporting": "intervals, pictures",
    "errors": "sentences, exit codes",
    "theory": "the bounds, no torch",
}


def rooms_and_arrows() -> Graph:
    """Room -> the rooms it imports from, imports inside functions included."""
    graph: Graph = {}
    for folder, plugin in ((ROOT / "binomctl", False), (ROOT / "plugins", True)):
        for path in sorted(folder.rglob("*.py")):
            if "tests" in path.parts[len(folder.parts) :]:  # of an outside distribution
                continue
            room = "plugins" if plugin else path.relative_to(folder).parts[0].removesuffix(".py")
            if room in ("__init__", "__main__"):
                continue
            found = graph.setdefault(room, set())
            for module in _imports(path):
                if module.startswith("binomctl."):
                    found.add(module.split(".")[1])
            found.discard(room)
    return {room: graph[room] for room in sorted(graph)}


def _imports(path: Path) -> list[str]:
    out = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "binomctl":
            out += [f"binomctl.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            out.append(node.module)
    return out


def as_text(graph: Graph) -> dict[str, list[str]]:
    return {room: sorted(graph[room]) for room in sorted(graph)}


def embedded(svg: str) -> dict[str, list[str]]:
    """The list that a picture carries."""
    found = re.search(r"<metadata[^>]*>(.*?)</metadata>", svg, re.DOTALL)
    assert found
    out: dict[str, list[str]] = json.loads(found[1])
    return out


def heights(graph: Graph) -> dict[str, int]:
    """The longest way down from each room."""
    out: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in out:
            out[room] = 1 + max((height(m) for m in graph[room]), default=-1)
        return out[room]

    for room in graph:
        height(room)
    return out


def reduced(graph: Graph) -> Graph:
    """Without the arrows that follow from others."""
    below: dict[str, set[str]] = {}
    for room in sorted(graph, key=heights(graph).__getitem__):
        below[room] = set(graph[room]).union(*(below[m] for m in graph[room]))
    return {
        room: {m for m in found if not any(m in below[o] for o in found)}
        for room, found in graph.items()
    }


# Drawing: layers by height, long arrows led through points of their own on every layer between.
WIDTH, BOX, TALL, GAP, STEP = 1000, 128, 46, 10, 88


def layers(graph: Graph) -> tuple[list[list[str]], list[list[str]]]:
    """Layers of rooms and points from the top, ordered to cross little; arrows as chains."""
    height = heights(graph)
    top = max(height.values())
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for room in graph:
        rows[top - height[room]].append(room)
    chains = []
    for room, found in reduced(graph).items():
        for other in sorted(found):
            chain = [room]
            for level in range(height[room] - 1, height[other], -1):
                chain.append(f"{room}>{other}:{level}")
                rows[top - level].append(chain[-1])
            chains.append([*chain, other])
    links = [pair for chain in chains for pair in pairwise(chain)]
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for a, b in links:
        down.setdefault(a, []).append(b)
        up.setdefault(b, []).append(a)
    best, fewest = [list(row) for row in rows], _crossings(rows, links)
    for turn in range(40):
        order = range(1, len(rows)) if turn % 2 == 0 else range(len(rows) - 2, -1, -1)
        near = up if turn % 2 == 0 else down
        for i in order:
            beside = rows[i - 1] if turn % 2 == 0 else rows[i + 1]
            place = {name: (p + 0.5) / len(beside) for p, name in enumerate(beside)}
            own = {name: (p + 0.5) / len(rows[i]) for p, name in enumerate(rows[i])}
            rows[i].sort(key=lambda n, own=own, place=place: _mean(near.get(n), place, own[n]))
        if (count := _crossings(rows, links)) < fewest:
            best, fewest = [list(row) for row in rows], count
    return best, chains


def _mean(names: list[str] | None, place: dict[str, float], own: float) -> float:
    return sum(place[n] for n in names) / len(names) if names else own


def _crossings(rows: list[list[str]], links: list[tuple[str, str]]) -> int:
    at = {name: p for row in rows for p, name in enumerate(row)}
    level = {name: i for i, row in enumerate(rows) for name in row}
    total = 0
    for i, (a, b) in enumerate(links):
        for c, d in links[i + 1 :]:
            if level[a] == level[c]:
                total += (at[a] - at[c]) * (at[b] - at[d]) < 0
    return total


def places(rows: list[list[str]], chains: list[list[str]]) -> dict[str, float]:
    """x of every room and point: near what it is tied to, without touching its neighbours."""
    near: dict[str, list[str]] = {}
    for chain in chains:
        for a, b in pairwise(chain):
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
    x = {name: WIDTH * (p + 0.5) / len(row) for row in rows for p, name in enumerate(row)}
    for _ in range(300):
        for row in rows:
            for name in row:
                if name in near:
                    x[name] += 0.5 * (sum(x[n] for n in near[name]) / len(near[name]) - x[name])
            _apart(row, x)
    return x


def _apart(row: list[str], x: dict[str, float]) -> None:
    """Push neighbours apart, then everything back inside the picture."""
    for _ in range(30):
        for a, b in pairwise(row):
            lack = (_half(a) + _half(b) + GAP) - (x[b] - x[a])
            if lack > 0:
                x[a], x[b] = x[a] - lack / 2, x[b] + lack / 2
        for name in row:
            x[name] = min(max(x[name], _half(name) + 4), WIDTH - _half(name) - 4)


def _half(name: str) -> float:
    return 5 if ">" in name else BOX / 2


def drawn(graph: Graph) -> str:
    """The picture as SVG."""
    rows, chains = layers(graph)
    x = places(rows, chains)
    y = {name: 10 + i * STEP for i, row in enumerate(rows) for name in row}
    left = min(x[name] - _half(name) for name in x) - 10
    wide = max(x[name] + _half(name) for name in x) + 10 - left
    tall = len(rows) * STEP - (STEP - TALL) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} 0 {wide:.0f} {tall}"'
        f' width="800" height="{800 * tall / wide:.0f}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
        f'<metadata id="imports">\n{_lines(as_text(graph))}\n</metadata>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
        f'<rect x="{left:.0f}" width="{wide:.0f}" height="{tall}" fill="white"/>',
    ]
    out += [_arrow(chain, x, y) for chain in chains]
    out += [_box(room, x[room], y[room]) for room in graph]
    return "\n".join([*out, "</svg>", ""])


def _lines(named: dict[str, list[str]]) -> str:
    inner = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in named.items())
    return "{" + inner + "}"


def _arrow(chain: list[str], x: dict[str, float], y: dict[str, float]) -> str:
    points = [(x[chain[0]], y[chain[0]] + TALL)]
    for name in chain[1:-1]:
        points += [(x[name], y[name]), (x[name], y[name] + TALL)]
    points.append((x[chain[-1]], y[chain[-1]] - 1))
    path = [f"M{points[0][0]:.0f} {points[0][1]:.0f}"]
    for (ax, ay), (bx, by) in pairwise(points):
        middle = (ay + by) / 2
        path.append(f"C{ax:.0f} {middle:.0f} {bx:.0f} {middle:.0f} {bx:.0f} {by:.0f}")
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="#667" stroke-width="1.2"'
        ' marker-end="url(#tip)"/>'
    )


def _box(room: str, x: float, y: float) -> str:
    fill = {"plugins": "#fdf1dc", "cli": "#e4f1e6"}.get(room, "#e8eef7")
    words = textwrap.wrap(WORDS.get(room, ""), 22)
    lines = [
        f'<text x="{x:.0f}" y="{y + 15:.0f}" text-anchor="middle" font-size="13"'
        f' font-weight="bold">{room}</text>'
    ]
    for i, line in enumerate(words):
        lines.append(
            f'<text x="{x:.0f}" y="{y + 28 + 12 * i:.0f}" text-anchor="middle" font-size="10.5"'
            f' fill="#333">{line}</text>'
        )
    return (
        f'<rect x="{x - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{TALL}" rx="5"'
        f' fill="{fill}" stroke="#99a"/>' + "".join(lines)
    )


def main() -> None:
    graph = rooms_and_arrows()
    FIGURE.write_text(drawn(graph), encoding="utf-8")
    shown = sum(map(len, reduced(graph).values()))
    print(f"{len(graph)} rooms, {sum(map(len, graph.values()))} arrows, {shown} of them drawn")


if __name__ == "__main__":
    main()
