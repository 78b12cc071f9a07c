"""Pages with interactive charts that need nothing else: no network, no other file.

Vega, Vega-Lite and their embedding are written into the page; so are the charts' data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.metadata import version
from typing import Any

import vl_convert

from plancast.pipelines.charts.drawing import Drawing
from plancast.pipelines.charts.theme import THEMES
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.planner.arrays.jit import cache_folder

STYLE = """
:root { color-scheme: light; --page:#f6f7f9; --card:#fff; --text:#1f2328; --soft:#59636e;
  --line:#1f232820; --accent:#1f6cb0; --good:#1a7f56; --bad:#b4431f; --shade:#1f23280a; }
:root[data-theme=dark] { color-scheme: dark; --page:#101318; --card:#181c22; --text:#e6e9ee;
  --soft:#a3adb8; --line:#ffffff24; --accent:#6db3f2; --good:#5cc79a; --bad:#f08a63;
  --shade:#ffffff0d; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
header { display: flex; gap: 1rem; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 1.55rem; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; } h3 { font-size: 1rem; margin: 0 0 .2rem; }
p { margin: .4rem 0; } a { color: var(--accent); } code { font-size: .92em; }
code { background: var(--shade); padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
nav { display: flex; gap: 1rem; flex-wrap: wrap; margin-left: auto; font-size: .9rem; }
nav a { text-decoration: none; }
button { font: inherit; font-size: .85rem; color: var(--soft); background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: 99px; padding: .1rem .8rem; }
.verdict { background: var(--card); border: 1px solid var(--line); border-left: 4px solid
  var(--accent); border-radius: 10px; padding: 1rem 1.3rem; margin: 1.2rem 0; }
.verdict .words { font-size: 1.13rem; line-height: 1.6; margin: 0; }
.verdict dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1rem;
  margin: .9rem 0 0; }
.verdict dt { color: var(--soft); } .verdict dd { margin: 0; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.number { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem 1rem; }
.number b { display: block; font-size: 1.5rem; letter-spacing: -.02em; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.number span { color: var(--soft); font-size: .85rem; display: block; line-height: 1.35; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px),
  1fr)); margin-top: .8rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .9rem 1rem .7rem; min-width: 0; }
figure.whole { grid-column: 1 / -1; margin-top: .8rem; }
figcaption { color: var(--soft); font-size: .87rem; margin-bottom: .5rem; }
.grid > figure:last-child:nth-child(odd) { grid-column: 1 / -1; }
.chart { width: 100%; min-height: 60px; position: relative; }
.chart.vega-embed { display: block; padding: 0; }
.chart-wrapper { display: flex; flex-direction: column; }
.vega-bindings { order: -1; display: flex; gap: .3rem 1.2rem; flex-wrap: wrap; margin: 0 0 .4rem;
  font-size: .87rem; }
.vega-bind input[type=search] { width: 14rem; }
.vega-bind { display: flex; align-items: center; gap: .5rem; }
.vega-bind input[type=text], .vega-bind input[type=search], .vega-bind select { font: inherit;
  color: inherit; background: var(--page); border: 1px solid var(--line); border-radius: 6px;
  padding: .15rem .5rem; }
.vega-bind-radio label { margin-right: .6rem; } .vega-bind-name { color: var(--soft); }
.vega-embed details { opacity: .35; } .vega-embed:hover details { opacity: 1; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } tfoot td, tfoot th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
table.facts td { white-space: normal; text-align: left; } tr.best td { background: var(--shade); }
tr.quiet { opacity: .55; }
details.more { margin-top: 1rem; } summary { cursor: pointer; color: var(--soft); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 560px) { main { padding: 1rem .7rem 3rem; } figure { padding: .7rem .6rem; }
  .verdict { padding: .8rem .9rem; } .verdict dl { grid-template-columns: 1fr; gap: 0; }
  .verdict dd { margin-bottom: .5rem; } .numbers { grid-template-columns: 1fr 1fr; }
  .number b { font-size: 1.25rem; } nav { margin-left: 0; } }
@media print { nav, button, .vega-bindings, .vega-embed details { display: none; } }
"""

SCRIPT = """
const CHARTS = %(charts)s, THEMES = %(themes)s, VIEWS = {};
const root = document.documentElement, system = matchMedia('(prefers-color-scheme: dark)');
let chosen = null;
const theme = () => chosen || (system.matches ? 'dark' : 'light');
function narrow(part) {
  if (!part || typeof part !== 'object') return;
  if (part.legend) part.legend.columns = Math.min(part.legend.columns || 2, 2);
  for (const key in part) if (key !== 'datasets') narrow(part[key]);
}
function fitted(spec, width) {
  const found = structuredClone(spec), margin = (found.usermeta || {}).margin || 0;
  const inner = Math.max(120, width - margin - 14);
  if (width < 520) narrow(found);
  if (found.vconcat) found.vconcat.forEach(part => { part.width = inner; });
  else { found.width = width; found.autosize = {type: 'fit-x', contains: 'padding'}; }
  return found;
}
async function draw() {
  root.dataset.theme = theme();
  for (const [id, spec] of Object.entries(CHARTS)) {
    const place = document.getElementById(id);
    if (VIEWS[id]) VIEWS[id].finalize();
    const made = await vegaEmbed(place, fitted(spec, place.clientWidth), {
      renderer: 'svg', config: THEMES[theme()], tooltip: {theme: theme()},
      actions: {export: true, source: false, compiled: false, editor: false}});
    VIEWS[id] = made.view;
  }
}
let pending = Promise.resolve(), drawnFor = innerWidth;
const again = () => { pending = pending.then(draw); return pending; };
system.addEventListener('change', again);
addEventListener('resize', () => {
  if (Math.abs(innerWidth - drawnFor) > 12) { drawnFor = innerWidth; again(); }
});
for (const button of document.querySelectorAll('button.theme'))
  button.addEventListener('click', () => {
    chosen = theme() === 'dark' ? 'light' : 'dark';
    again();
  });
again();
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'">
<title>{title}</title><style>{style}</style>
<script>document.documentElement.dataset.theme =
 matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';</script>
</head><body><main>
{body}
</main>
<script>{vega}</script>
<script>{script}</script>
</body></html>
"""

THEME_BUTTON = '<button class="theme" type="button">light / dark</button>'


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script; bundling takes seconds, so it is kept."""
    folder = cache_folder()
    kept = folder / f"vega-{version('vl-convert-python')}.js" if folder else None
    if kept is not None and kept.exists():
        return kept.read_text(encoding="utf-8")
    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # its stub asks for more
    if kept is not None:
        write_text_atomic(kept, script)
    return script


def figure(place: str, title: str, how_to_read: str, *, whole: bool = False) -> str:
    """Where a chart of a page stands, with its title and how it is read."""
    return (
        f"<figure{' class=whole' if whole else ''}><h3>{escape(title)}</h3>"
        f'<figcaption>{escape(how_to_read)}</figcaption><div class="chart" id="{place}"></div>'
        "</figure>"
    )


def page(title: str, body: str, charts: Mapping[str, Drawing]) -> str:
    """A whole page.

    Parameters
    ----------
    title : str
    body : str
        HTML, with a ``figure`` for each chart.
    charts : mapping of str to Drawing
        By the id of their place.
    """
    specs = {place: drawing.spec for place, drawing in charts.items()}
    script = SCRIPT % {"charts": _json(specs), "themes": _json(THEMES)}
    return _PAGE.format(title=escape(title), style=STYLE, body=body, vega=_vega(), script=script)


def _json(value: Any) -> str:
    """JSON that no HTML parser takes for markup."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
