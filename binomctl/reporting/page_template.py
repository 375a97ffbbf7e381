"""The report page: one file, no outside address; readable without scripts, light and dark."""

from __future__ import annotations

# Lines of markup are as long as they are: a break would be a blank on the page.
# ruff: noqa: E501
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1b1b; --dim: #5c5c5c; --line: #d5d5d5; --paper: #fff;
  --soft: #f4f4f2; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e3; --dim: #a5a29d; --line: #44423f;
  --paper: #191817; --soft: #242321; --warn: #f0b060; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; } summary { cursor: pointer; color: var(--dim); }
p, figcaption, small { color: var(--dim); } figure { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { white-space: nowrap; border-bottom: 2px solid var(--line); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid; }
th[aria-sort] button::after { content: " \\2193"; } th[aria-sort=ascending] button::after {
  content: " \\2191"; }
td:first-child, th:first-child { min-width: 8.5rem; }
.results td:last-child { min-width: 13rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.reference td { background: var(--soft); }
.warn { color: var(--warn); } .hidden { display: none; }
.plot { background: #fff; border-radius: 4px; padding: .4rem; overflow-x: auto; }
.plot svg { max-width: 100%; min-width: 30rem; height: auto; }
fieldset { border: 1px solid var(--line); border-radius: 4px; margin: 0 0 .8rem; }
label { margin-right: 1rem; white-space: nowrap; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; font-size: .85rem; }
@media print { fieldset, .screen { display: none; } body { max-width: none; } .plot { break-inside:
  avoid; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if warnings %}<ul>{% for one in warnings %}<li class="warn">{{ one }}</li>{% endfor %}</ul>{% endif %}
{% if overview %}
<h2>Overview</h2>
<div class="wide"><table class="sorted">
<thead><tr>{% for name in overview.columns %}<th{% if not loop.first %} class="n"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in overview.rows %}
<tr>{% for text in row %}<td{% if not loop.first %} class="n"{% endif %} data-value="{{ text.split(' ')[0] if not loop.first else text }}">{{ text }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
<p>{{ overview.note }}</p>
{% endif %}
{% for section in sections %}
<section data-number="{{ section.number }}">
{% if section.title %}<h2>{{ section.title }}</h2>{% endif %}
<p>{{ section.subtitle }}</p>
{% if section.rows or section.figure %}
<fieldset class="screen hidden choice"><legend>Shown</legend>
{% for label in section.methods %}<label><input type="checkbox" checked data-method="{{ loop.index0 }}"> {{ label }}</label>
{% endfor %}</fieldset>
{% endif %}
{% if section.rows %}
<div class="wide"><table class="sorted results">
<thead><tr>{% for name in columns %}<th{% if not loop.first and not loop.last %} class="n"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in section.rows %}
<tr data-method="{{ row.place }}"{% if row.reference %} class="reference"{% endif %}>{% for cell in row.cells %}<td{% if not loop.first and not loop.last %} class="n"{% endif %} data-value="{{ cell.value }}">{{ cell.text }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
<p>{{ section.note }}</p>
{% endif %}
{% if section.figure %}
<h3>{{ section.figure.title }}</h3>
<figure><div class="plot" role="img" aria-label="{{ section.figure.title }}">{{ section.figure.svg }}</div>
<figcaption>{{ section.figure.caption }}</figcaption></figure>
{% endif %}
{% if section.differences %}
<h3>Configurations</h3>
<details{% if section.labels|length < 8 %} open{% endif %}><summary>Keys in which the methods differ</summary>
<div class="wide"><table><thead><tr><th>key</th>{% for label in section.labels %}<th>{{ label }}</th>{% endfor %}</tr></thead>
<tbody>{% for key, values in section.differences %}<tr><td>{{ key }}</td>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></details>
{% endif %}
</section>
{% endfor %}
{% for picture in pictures %}
<h2>{{ picture.title }}</h2>
<figure><div class="plot" role="img" aria-label="{{ picture.title }}">{{ picture.svg }}</div>
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
{% if runs %}
<h2>Runs</h2>
<div class="wide"><table><thead><tr><th>run</th><th>method</th><th class="n">seed</th><th>state</th><th class="n">seconds</th><th class="n">skipped</th><th>machine</th><th>torch</th></tr></thead>
<tbody>{% for run in runs %}<tr><td>{{ run.name }}</td><td>{{ run.label }}</td><td class="n">{{ run.seed }}</td><td>{{ run.state }}</td><td class="n">{{ run.seconds }}</td><td class="n">{{ run.skipped }}</td><td>{{ run.machine }}</td><td>{{ run.torch }}</td></tr>
{% endfor %}</tbody></table></div>
<h2>Data</h2>
<p>The numbers of this page as CSV: {% for one in csv %}<a download="{{ one.name }}" href="data:text/csv;base64,{{ one.data }}">{{ one.name }}</a>{% if not loop.last %}, {% endif %}{% endfor %}.</p>
{% endif %}
<script>
"use strict";
for (const table of document.querySelectorAll("table.sorted")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)], numbers = [Number(x), Number(y)];
        const plain = x === "" || y === "" || numbers.some(Number.isNaN);
        return plain ? x.localeCompare(y) : numbers[0] - numbers[1];
      };
      [...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))).forEach((r) => body.append(r));
    });
  });
}
for (const section of document.querySelectorAll("section")) {
  const choice = section.querySelector(".choice");
  if (!choice) continue;
  choice.classList.remove("hidden");
  choice.addEventListener("change", (event) => {
    const method = event.target.dataset.method, curve = `s${section.dataset.number}-${method}-`;
    for (const one of section.querySelectorAll(`tr[data-method="${method}"], [id^="${curve}"]`)) {
      one.classList.toggle("hidden", !event.target.checked);
    }
  });
}
</script>
</body>
</html>
"""
