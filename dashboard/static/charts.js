// Charts with the bundled plotly: the past as measured, the next hour as bands, limits as lines. Drawn only while in sight.
import { axis } from "./format.js";
import { colour } from "./theme.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const charts = new Map(); // element -> { figure, drawn, inSight }
let library = null;

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.get(entry.target);
    if (chart) {
      chart.inSight = entry.isIntersecting;
      if (chart.inSight) draw(entry.target, chart);
    }
  }
}, { rootMargin: "200px" });

/** Fetch the library once; until then the page lives without charts. */
export function load() {
  const script = document.createElement("script");
  script.src = "/static/plotly.js";
  script.addEventListener("load", () => {
    library = window.Plotly;
    for (const [element, chart] of charts) draw(element, chart);
  });
  script.addEventListener("error", () => {
    for (const element of charts.keys()) element.textContent = "The chart library did not load; the tables have the numbers.";
  });
  document.head.append(script);
}

/** Show what `figure()` returns in `element`; `version` says when it has changed. */
export function show(element, version, figure) {
  let chart = charts.get(element);
  if (!chart) {
    chart = { inSight: true, drawn: null };
    charts.set(element, chart);
    sight.observe(element);
  }
  Object.assign(chart, { version, figure });
  draw(element, chart);
}

/** Draw everything anew: colours have changed. */
export function redraw() {
  for (const [element, chart] of charts) {
    chart.drawn = null;
    draw(element, chart);
  }
}

function draw(element, chart) {
  if (!element.isConnected) { // a row or endpoint that is gone
    sight.unobserve(element);
    if (library) library.purge(element);
    charts.delete(element);
    return;
  }
  if (!library || !chart.inSight || chart.drawn === chart.version) return;
  if (chart.drawn === null && element.classList.contains("plotly-wait")) element.textContent = "";
  chart.drawn = chart.version;
  const { data, layout } = chart.figure(element.clientWidth < 480);
  element.classList.remove("plotly-wait");
  library.react(element, data, { ...base(), ...layout, xaxis: { ...base().xaxis, ...layout.xaxis }, yaxis: { ...base().yaxis, ...layout.yaxis } }, CONFIG);
}

function base() {
  const line = colour("line"), muted = colour("muted");
  const axes = { gridcolor: line, zeroline: false, linecolor: line, tickfont: { color: muted, size: 11 }, fixedrange: true, automargin: false };
  return {
    margin: { l: 40, r: 10, t: 8, b: 22 }, showlegend: false, dragmode: false, hovermode: "x unified",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: line, font: { color: colour("ink"), size: 12 } },
    xaxis: { ...axes, type: "date", showgrid: false, tickformat: "%H:%M", hoverformat: "%H:%M:%S", nticks: 7 },
    yaxis: { ...axes, nticks: 5 },
  };
}

/** Bands and median of a forecast that starts at the point [t, value]; widest first. `scale` turns values into shown units. */
export function bands(path, from, scale, unit) {
  if (!path) return [];
  const t = [from[0], ...path.t].map(axis);
  const line = (level) => [from[1], ...path.bands[level]].map((v) => v * scale);
  const band = (low, high, fill, name) => !path.bands[low] || !path.bands[high] ? [] : [
    { x: t, y: line(low), mode: "lines", line: { width: 0 }, hoverinfo: "skip" },
    { x: t, y: line(high), mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: colour(fill), name, hovertemplate: `%{y:.4~g} ${unit}` },
  ];
  return [
    ...band("0.01", "0.99", "band98", "99 %"), ...band("0.05", "0.95", "band90", "95 %"), ...band("0.25", "0.75", "band50", "75 %"),
    { x: t, y: line("0.5"), mode: "lines", line: { color: colour("median"), width: 2, dash: "dot" }, name: "median", hovertemplate: `%{y:.4~g} ${unit}` },
  ];
}

/** The line between the past and the future. */
export function nowLine(t) {
  return { type: "line", xref: "x", yref: "paper", x0: axis(t), x1: axis(t), y0: 0, y1: 1, line: { color: colour("muted"), width: 1 } };
}
