// core/report/style.cpp: variables twice, rules once.
#include "core/report/style.h"

#include <fmt/format.h>

#include "core/report/svg_text.h"

namespace shoal {

namespace {

constexpr const char* kLight = R"(
  --ground: #f7f7f5; --card: #ffffff; --edge: #e5e5e1; --text: #1d2125; --muted: #6a7178; --grid: #ececea;
  --axis: #b9bec3; --accent: #0b6e8f; --warn: #b3400e;
  --run0: #0072b2; --run1: #d55e00; --run2: #009e73; --run3: #b8558f; --run4: #8c6d31; --run5: #6a51a3;
  --run6: #3f9bd1; --run7: #5c6166;
  --work: #0072b2; --idle: #c9ccd1;
  --heat0: #eef3f6; --heat1: #fde9c9; --heat2: #fbd096; --heat3: #f5ab63; --heat4: #e57f3e; --heat5: #c9531f;
  --heat6: #95290f;
  --low2: #3a7db8; --low1: #9cc3e0; --even: #eceeef; --high1: #f8c98f; --high2: #e8873f; --high3: #a5330f;
)";

constexpr const char* kDark = R"(
  --ground: #14171a; --card: #1b1f23; --edge: #2b3036; --text: #e4e7ea; --muted: #97a0a9; --grid: #292e34;
  --axis: #555c64; --accent: #6cc0dd; --warn: #f0a26b;
  --run0: #4fb0ea; --run1: #ff8d4d; --run2: #3ccb9f; --run3: #e693c3; --run4: #cda961; --run5: #ab96ea;
  --run6: #8fd0f7; --run7: #aab1b8;
  --work: #4fb0ea; --idle: #4a5159;
  --heat0: #262c32; --heat1: #4a3d2a; --heat2: #6f5227; --heat3: #9a6a28; --heat4: #c98335; --heat5: #eda452;
  --heat6: #ffd9a0;
  --low2: #5aa5e6; --low1: #355f83; --even: #2a3036; --high1: #7b5a2d; --high2: #c9782f; --high3: #ffb873;
)";

constexpr const char* kSvgRules = R"(
.chart text { fill: var(--text); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.chart .title { font-weight: 600; font-size: 13px; }
.chart .muted, .chart .muted text, .chart tspan.muted { fill: var(--muted); font-weight: 400; font-size: 11px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: butt; }
.thin { fill: none; stroke-width: 1; stroke-opacity: .55; }
.faint { fill: none; stroke-width: .8; stroke-opacity: .32; }
.level { fill: none; stroke-width: 1.1; stroke-dasharray: 4 4; }
.dot { stroke: var(--card); stroke-width: 1.2; }
.area { fill-opacity: .85; }
.grid { fill: none; stroke: var(--grid); }
.axis { fill: none; stroke: var(--axis); }
.event { fill: var(--warn); }
)";

constexpr const char* kPageRules = R"(
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 34px 22px 60px; }
h1 { font-size: 25px; font-weight: 650; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 650; margin: 0; }
h2 + * { margin-top: 10px; }
h2 + .lead { margin-top: 3px; }
h3 { font-size: 15px; font-weight: 600; margin: 22px 0 8px; overflow-wrap: anywhere; }
.subtitle, .lead { color: var(--muted); margin: 3px 0 0; max-width: 85ch; overflow-wrap: anywhere; }
.lead { font-size: 14px; margin-bottom: 12px; }
nav { margin: 14px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 40px; scroll-margin-top: 12px; }
.figures { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 470px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--edge); border-radius: 9px;
  padding: 14px 14px 8px; }
figure.wide { margin-bottom: 14px; }
.figures + figure.wide, .figures + .scroll, .scroll + .figures, .scroll + figure, figure + .figures,
.figures + .figures, .facts + .scroll, .scroll + .scroll { margin-top: 14px; }
svg.chart { display: block; width: 100%; height: auto; }
figure > svg:not(.chart) { display: block; width: 100%; height: auto; border-radius: 6px; }
.swatch { width: 26px; height: 10px; margin-right: 9px; vertical-align: baseline; }
.facts { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(205px, 1fr)); margin: 22px 0 0; }
.facts div { background: var(--card); border: 1px solid var(--edge); border-radius: 9px; padding: 12px 15px 11px; }
dt { color: var(--muted); font-size: 13px; }
dd { margin: 1px 0 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
dd.remark { color: var(--muted); font-size: 12.5px; font-weight: 400; letter-spacing: 0; margin-top: 1px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--edge); border-radius: 9px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 15px; vertical-align: top; }
th { color: var(--muted); font-weight: 500; font-size: 13px; border-bottom: 1px solid var(--edge);
  white-space: nowrap; }
td { overflow-wrap: anywhere; }
td.run { white-space: nowrap; }
tr + tr td { border-top: 1px solid var(--grid); }
th.number, td.number { text-align: right; white-space: nowrap; }
.note { color: var(--muted); font-size: 14px; margin: 8px 0; max-width: 100ch; }
.problems { border-left: 3px solid var(--warn); padding: 2px 0 2px 14px; margin: 20px 0 0; font-size: 14px; }
.problems p { margin: 3px 0; overflow-wrap: anywhere; }
details { margin-top: 8px; font-size: 14px; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--card); border: 1px solid var(--edge); border-radius: 9px; padding: 13px 15px; overflow-x: auto;
  font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
footer { margin-top: 44px; color: var(--muted); font-size: 13px; }
@media print { body { background: #fff; } figure, .scroll, .facts div { break-inside: avoid; } }
)";

// Colours of the wire are those of timelines; on dark ground the darkest is lighter.
std::string variables() {
  std::string wires;
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) wires += fmt::format("--wire{}: {}; ", kind, kWireColours[kind]);
  return fmt::format(
      ":root {{ color-scheme: light dark;{}  {}\n}}\n@media (prefers-color-scheme: dark) {{ :root {{{}  "
      "--wire3: #9c86d8; --wire6: #9aa0a6;\n}} }}\n",
      kLight, wires, kDark);
}

}  // namespace

std::string style_sheet() { return variables() + kSvgRules + kPageRules; }

std::string standalone_svg(const std::string& svg) {
  const size_t inside = svg.find('>');
  if (inside == std::string::npos) return svg;
  const std::string ground = "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--card)\"/>";
  return svg.substr(0, inside + 1) + fmt::format("\n<style>{}{}</style>\n{}", variables(), kSvgRules, ground) +
         svg.substr(inside + 1);
}

}  // namespace shoal
