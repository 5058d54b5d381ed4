"""How a report looks: light, dark and on paper. Fonts are the reader's own; nothing is fetched."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1d2126; --soft: #5d656e; --line: #e2e3e0;
  --band: #f4f5f3; --accent: #33619e; --kept: #5b86bd; --track: #e9eae7;
  --dropped: #9a6a12; --dropped-fill: #d9a441; --failed: #b3261e; --failed-fill: #cf4a3f;
  --nulled: #75519c; --nulled-fill: #a384c7; --good: #2c6e49; --good-fill: #e2f0e7;
  --bad-fill: #fbe9e7; --calm-fill: #ecedea;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans",
    "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
    "Liberation Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1b1f23; --ink: #e3e6e9; --soft: #9aa3ac; --line: #2e343a;
    --band: #181b1f; --accent: #83aee3; --kept: #557fb5; --track: #2a2f35;
    --dropped: #dcac55; --dropped-fill: #b98a35; --failed: #f08a80; --failed-fill: #cf5a4f;
    --nulled: #bfa2e0; --nulled-fill: #8a6bb0; --good: #84cba0; --good-fill: #1e3427;
    --bad-fill: #3a2220; --calm-fill: #262b30;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 var(--sans); font-variant-numeric: tabular-nums;
}
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 28px; line-height: 1.2; font-weight: 650; margin: 0; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 650; margin: 40px 0 4px; }
p { margin: 0 0 12px; }
p.note, .soft { color: var(--soft); }
p.note { font-size: 13.5px; max-width: 100ch; }
code, pre, .mono { font-family: var(--mono); font-size: 12.5px; }
.wrap { overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-bottom: 6px; }
.badge { border-radius: 999px; padding: 2px 12px; font-size: 13px; font-weight: 600;
  background: var(--calm-fill); color: var(--ink); }
.badge.good { background: var(--good-fill); color: var(--good); }
.badge.bad { background: var(--bad-fill); color: var(--failed); }
.tiles { display: grid; grid-template-columns: repeat(var(--tiles), 1fr); gap: 1px;
  background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
  margin: 22px 0 0; }
.tile { background: var(--card); padding: 13px 16px 12px; }
.tile b { display: block; font-size: 22px; line-height: 1.25; font-weight: 600; }
.tile span { font-size: 13px; color: var(--soft); }
.tile.dropped b { color: var(--dropped); } .tile.failed b { color: var(--failed); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; margin-top: 12px; }
.card.scroll { overflow-x: auto; }
.error { border-left: 4px solid var(--failed-fill); }
.error p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.error p + p { margin-top: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 12.5px;
  padding: 2px 12px 6px 0; white-space: nowrap; }
td { padding: 5px 12px 5px 0; border-top: 1px solid var(--line); vertical-align: top; }
.plain tr:first-child td { border-top: 0; }
.plain p { margin: 6px 0 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; }
td.dropped, .text-dropped { color: var(--dropped); }
td.failed, .text-failed { color: var(--failed); }
td.bar { width: 42%; vertical-align: middle; }
td.step { overflow-wrap: anywhere; }
.stack { display: flex; height: 11px; border-radius: 3px; overflow: hidden;
  background: var(--track); }
.stack i { display: block; height: 100%; min-width: 2px; }
.kept { background: var(--kept); } i.nulled { background: var(--nulled-fill); }
i.dropped { background: var(--dropped-fill); } i.failed { background: var(--failed-fill); }
i.gone { background: var(--track); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px; color: var(--soft);
  margin: 10px 0 0; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin-right: 6px; }
.reason { padding: 10px 0; border-top: 1px solid var(--line); display: grid;
  grid-template-columns: 84px 1fr; gap: 0 14px; }
.reason:first-child { border-top: 0; }
.reason > b { font-size: 17px; font-weight: 600; color: var(--failed); text-align: right; }
.reason p { margin: 0 0 4px; overflow-wrap: anywhere; }
.reason .keys { font-size: 12.5px; color: var(--soft); }
.keys bdi { font-family: var(--mono); font-size: 12px; background: var(--calm-fill);
  color: var(--ink); border-radius: 3px; padding: 1px 5px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(96px, max-content) 1fr; gap: 6px 20px; margin: 0;
  font-size: 13.5px; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; }
svg { display: block; margin: 0 auto; max-width: 100%; height: auto; }
svg text { font: 12px var(--sans); fill: var(--ink); }
svg text.name { font-size: 13px; font-weight: 600; }
svg text.code { font: 11.5px var(--mono); fill: var(--soft); }
svg text.soft, svg text.rows { fill: var(--soft); }
svg text.end { text-anchor: end; }
svg .dropped { fill: var(--dropped); } svg .failed { fill: var(--failed); }
svg .nulled { fill: var(--nulled); }
svg .band { fill: var(--band); stroke: var(--line); }
svg .box { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
svg .box.bad { stroke: var(--failed-fill); }
svg .edge { fill: none; stroke: var(--soft); stroke-width: 1.2; opacity: 0.75; }
svg .track { fill: var(--track); } svg .busy { fill: var(--kept); }
@media screen and (max-width: 900px) {
  .tiles { grid-template-columns: repeat(calc(var(--tiles) / 2), 1fr); }
}
@media screen and (max-width: 620px) {
  main { padding: 24px 14px 40px; }
  td.bar, th.bar { display: none; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
}
@media print {
  @page { margin: 14mm; }
  body { background: #fff; font-size: 10.5pt; -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .tiles { margin-top: 12px; } .tile { padding: 8px 10px; }
  h2 { margin-top: 20px; } h2, h2 + p.note { break-after: avoid; }
  tr, .reason, .tiles { break-inside: avoid; }
  svg { min-width: 0 !important; max-height: 152mm; }
  .card { padding: 8px 12px; margin-top: 8px; } .card.scroll { overflow: visible; }
}
"""
