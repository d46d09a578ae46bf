"""The page's style sheet: light and dark by the reader's system, one column on a phone, plain on paper."""

# ruff: noqa: E501 - sentences and rules stay whole
from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#15191f;--soft:#5b6573;--line:#dfe3e9;
--band:#f0f2f5;--m0:#1f6feb;--m1:#d9560b;--m2:#12805c;--m3:#8a4fc7;--m4:#b08800;--m5:#c2255c;
--warn:#9a6700;--warnbg:#fff8e5}
@media (prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171b22;--ink:#e8ebf0;--soft:#9aa5b4;
--line:#2b323c;--band:#1d222a;--m0:#6ea8ff;--m1:#ff9a5c;--m2:#4fd1a1;--m3:#c09bf2;--m4:#e3c04a;--m5:#ff7fa8;
--warn:#e3b341;--warnbg:#262013}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK SC","PingFang SC",
"Microsoft YaHei",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:28px 20px 40px}
header{margin-bottom:22px}
.brand{color:var(--soft);font-size:14px;letter-spacing:.02em;margin:0 0 6px}
h1{font-size:clamp(25px,4.6vw,38px);line-height:1.15;letter-spacing:-.02em;margin:0 0 8px;overflow-wrap:anywhere}
h1 i{font-style:normal;color:var(--soft);font-weight:400}
h2{font-size:20px;letter-spacing:-.01em;margin:34px 0 4px}
h3{font-size:15px;margin:0 0 10px;font-weight:600}
p{margin:0 0 10px}.note{color:var(--soft);font-size:14px;max-width:104ch;margin-bottom:14px}
a{color:inherit}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px;min-width:0}
.findings{padding:20px 24px}.findings h2{margin:0 0 10px;font-size:14px;color:var(--soft);font-weight:600}
.findings ul{list-style:none;margin:0;padding:0}
.findings li{font-size:clamp(16.5px,2.1vw,19px);line-height:1.45;padding:7px 0;max-width:84ch;overflow-wrap:anywhere}
.findings small{color:var(--soft);font-size:.8em}section+section>.card.scroll{margin-top:14px}.findings li+li{border-top:1px solid var(--line)}
.jump{display:inline-block;margin-top:12px;font-size:14px;color:var(--warn)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:14px}
.grid.charts{grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr))}
.wide{align-items:start;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.solo{grid-template-columns:minmax(0,560px)}
.tiles{margin-top:14px}
.tile{border-top:4px solid var(--c)}
.tile h3{font-size:17px;margin:0 0 2px;overflow-wrap:anywhere}
.chips{color:var(--soft);font-size:14px;margin:0 0 12px}
.tile dl{display:grid;grid-template-columns:1fr 1fr;gap:12px 16px;margin:0}
.tile dt{color:var(--soft);font-size:13px}
.tile dd{margin:0;font-size:23px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums;line-height:1.2}
.tile dd small{display:block;font-size:13px;font-weight:400;letter-spacing:0;color:var(--soft)}
.tile dd.none{font-size:16px;font-weight:500;color:var(--soft);letter-spacing:0}
.m0{--c:var(--m0)}.m1{--c:var(--m1)}.m2{--c:var(--m2)}.m3{--c:var(--m3)}.m4{--c:var(--m4)}.m5{--c:var(--m5)}
svg{display:block;width:100%;height:auto;max-width:520px;overflow:visible}
svg text{font-size:12.5px;fill:var(--ink)}
svg .value{text-anchor:end;font-variant-numeric:tabular-nums;font-weight:600}
svg .muted,svg .tick{fill:var(--soft);font-weight:400}svg .tick{font-size:11px}
svg .end{text-anchor:end}svg .mid{text-anchor:middle}
svg .bar{fill:var(--c)}svg .bar.s1{opacity:.6}svg .bar.s2{opacity:.36}svg .bar.s3{opacity:.2}
svg .gap{fill:none;stroke:var(--soft);stroke-dasharray:4 4;opacity:.6}
svg .dot{fill:var(--card);stroke:var(--c);stroke-width:1.3;opacity:.9}
svg .whisker{stroke:var(--ink);stroke-width:1.4;fill:none}
svg .axis{stroke:var(--soft);fill:none;opacity:.7}svg .grid{stroke:var(--line);fill:none}
svg .line{stroke:var(--c);fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .point{fill:var(--c);stroke:var(--card);stroke-width:.8}svg .point.hollow{fill:var(--card);stroke:var(--c);stroke-width:1.6}
svg .cross{stroke:var(--c);stroke-width:1.2;opacity:.55;fill:none}
.same{--c:var(--soft)}svg .cross.strong{opacity:1;stroke-width:1.6}
svg .front{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3;fill:none;opacity:.7}
svg .ceiling{stroke:var(--ink);stroke-width:1.6;fill:none;opacity:.75}
svg .mark{font-size:11px;font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg .title{fill:var(--ink)}svg .ring{fill:none;stroke:var(--warn);stroke-width:1.6}svg .band{fill:var(--band)}
.legend{display:flex;flex-wrap:wrap;gap:6px 16px;font-size:13px;color:var(--soft);margin-top:10px}
.legend span{display:inline-flex;align-items:center;gap:6px}
.legend b{width:12px;height:12px;border-radius:3px;background:var(--c,var(--ink));flex:none}
.legend .s1{opacity:.6}.legend .s2{opacity:.36}.legend .s3{opacity:.2}
.legend .tickmark{width:2px;border-radius:0;height:14px}
.absent{border-style:dashed;color:var(--soft)}.absent strong{color:var(--ink)}.absent p{max-width:84ch;overflow-wrap:anywhere}
details{margin-top:12px}summary{cursor:pointer;font-size:15px;font-weight:600;padding:8px 0}
summary:focus-visible,th:focus-visible{outline:2px solid var(--m0);outline-offset:2px}
details .card{margin-bottom:12px}details[open]>summary{margin-bottom:6px}.caveats details{margin:4px 0 0}
.caveats summary{font-size:14px;font-weight:400;padding:2px 0}
table.runs{font-size:13.5px}.runs.numbers td,.runs.numbers thead th+th{padding-left:6px}table.runs th[aria-sort=ascending]::after{content:" ↑"}
table.runs th[aria-sort=descending]::after{content:" ↓"}
.runs thead th{cursor:pointer;overflow-wrap:normal;vertical-align:bottom;white-space:nowrap}.runs thead small{display:block;color:var(--soft);font-weight:400}
.runs tbody th{color:var(--ink);white-space:nowrap;position:sticky;left:0;background:var(--card);padding-right:12px}
.runs tbody th small{display:block;color:var(--soft);padding-left:17px}
.runs tbody tr:hover>*{background:var(--band)}
.phases{margin-top:14px}h3 small{color:var(--soft);font-weight:400}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th,td{text-align:left;padding:7px 10px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child>*{border-bottom:0}
th{font-weight:600}thead th{font-size:13.5px;overflow-wrap:anywhere}tbody th{font-weight:400;color:var(--soft)}
.numbers td,.numbers thead th+th{text-align:right;padding-left:14px;font-variant-numeric:tabular-nums;white-space:nowrap}
.numbers thead th+th{white-space:normal}
.numbers td small{display:block;color:var(--soft);font-size:12.5px}
.numbers tbody th small{display:block;font-size:12.5px}
.facts th{width:34%}.facts td{overflow-wrap:anywhere}
.caveats{list-style:none;margin:0;padding:0}
.caveats li{border-left:3px solid var(--warn);background:var(--warnbg);padding:9px 14px;border-radius:0 8px 8px 0;margin:8px 0}
.caveats small{display:block;color:var(--soft);font-size:14px}
.swatch{display:inline-block;width:10px;height:10px;border-radius:3px;background:var(--c);margin-right:7px}
dl.defs{margin:0;font-size:14.5px}dl.defs dt{font-weight:600;margin-top:9px}dl.defs dd{margin:0;color:var(--soft);max-width:84ch}
pre{background:var(--band);border-radius:8px;padding:12px 14px;overflow-x:auto;font-size:13.5px;white-space:pre-wrap;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:13.5px;margin-top:34px}
@media (max-width:560px){main{padding:18px 14px 32px}.findings{padding:14px 16px}.card{padding:14px}
.tile dd{font-size:20px}h2{margin-top:28px}}
@page{margin:13mm}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--warnbg:#fff;color-scheme:light}
body{font-size:11px}main{max-width:none;padding:0}h1{font-size:24px}h2{font-size:15px;margin-top:18px}h3{font-size:12px}
.findings li{font-size:13px;padding:4px 0}.note,table,dl.defs,.chips,.legend,.caveats small,.tile dt,pre,footer{font-size:10.5px}
.tile dd{font-size:16px}.card{padding:10px 12px}th,td{padding:3px 8px 3px 0}.caveats li{padding:5px 10px;margin:5px 0}
.grid,.grid.wide{grid-template-columns:1fr 1fr;gap:8px}.grid.charts{grid-template-columns:1fr 1fr 1fr}
dl.defs{columns:2;column-gap:24px}dl.defs dt{margin-top:5px}dl.defs dd{break-before:avoid}
.numbers small,.tile dd small{font-size:9.5px!important}
details>*{display:block}details::details-content{content-visibility:visible;display:block;height:auto}
table.runs{font-size:8px}table.runs th,table.runs td{padding:2px 4px 2px 0}.runs tbody th{position:static}.scroll{overflow:visible}
.card,.note,.caveats li,tr{break-inside:avoid}.card.scroll{break-inside:auto}.grid.solo{grid-template-columns:minmax(0,9cm)}h2,.note{break-after:avoid}
.jump{display:none}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
