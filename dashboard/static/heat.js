// Temperatures: every server as a cell (rows x places), the ten closest to slowdown, and all of it as a table.
import { h, keyed, metric, set, text } from "./dom.js";
import { age, celsius, DASH, number } from "./format.js";

// From cold to hot; the last stop is the limit itself. Pairs of background and text that keep a contrast of 4.5.
const STOPS = [
  ["#17556b", "#ffffff"], ["#1f6f86", "#ffffff"], ["#2f8a9c", "#06161c"], ["#6fb3b5", "#06161c"], ["#b9cfae", "#1b1b10"],
  ["#ecd488", "#231a02"], ["#f2ab54", "#2a1600"], ["#e4743a", "#240d00"], ["#cf3f35", "#ffffff"], ["#9c1430", "#ffffff"],
];
const KINDS = {
  gpu: { value: (s) => s.gpu_max_c, limit: (s) => s.slowdown_c, span: 32, name: "hottest GPU", says: "slowdown" },
  ahead: { value: (s) => s.gpu_upper_c, limit: (s) => s.slowdown_c, span: 32, name: "hottest GPU in the next hour (99 %)", says: "slowdown" },
  // ASHRAE's recommended range of classes A1 to A4 ends at 27 degC, class A2's allowable one at 35 degC.
  inlet: { value: (s) => s.inlet_c, limit: () => 35, span: 17, name: "inlet", says: "35 °C, ASHRAE A2" },
};
let newest = null;
let kind = "gpu";

export function start() {
  document.getElementById("heatkind").addEventListener("change", (event) => {
    kind = event.target.value;
    if (newest) map(newest);
  });
  const box = document.getElementById("heatmap");
  box.addEventListener("focusin", (event) => tell(event.target));
  box.addEventListener("pointerover", (event) => tell(event.target));
  box.addEventListener("keydown", move);
  document.getElementById("heattable").addEventListener("toggle", () => newest && all(newest));
}

export function heat(data) {
  newest = data;
  map(data);
  hottest(data);
  all(data);
}

function map(data) {
  const rows = [...new Set(data.servers.map((s) => s.row))];
  keyed(document.getElementById("heatmap"), rows, (row) => row, (row) => h("div", { class: "heatrow" }, h("h3", {}, row), h("div", { class: "cells" })), (element, row) => {
    keyed(element.lastElementChild, data.servers.filter((s) => s.row === row), (s) => s.node, (s) => h("button", { type: "button", class: "cell", tabindex: -1, "data-node": s.node }), cell);
  });
  const first = document.querySelector("#heatmap .cell");
  if (first && !document.querySelector('#heatmap .cell[tabindex="0"]')) first.tabIndex = 0;
  scale();
}

function stop(server) {
  const { value, limit, span } = KINDS[kind];
  if (value(server) === null) return null;
  const place = 1 - (limit(server) - value(server)) / span;
  return STOPS[Math.max(0, Math.min(STOPS.length - 1, Math.floor(place * (STOPS.length - 1))))];
}

function cell(element, server) {
  const colours = stop(server), value = KINDS[kind].value(server);
  set(element, "data-silent", server.seen.state !== "fresh" || value === null);
  set(element, "data-capped", server.max_mhz !== null);
  set(element, "data-slowed", server.slowed_gpus > 0);
  element.style.setProperty("--heat", colours ? colours[0] : "");
  element.style.setProperty("--heatink", colours ? colours[1] : "");
  metric(element, `server.${kind}_c`, server.node, value, number(value));
  set(element, "aria-label", sentence(server));
}

function sentence(s) {
  const said = [`${s.node} (${s.rack}, ${s.tenant}${s.endpoint ? ` ${s.endpoint}` : ""})`];
  if (s.seen.state === "silent") said.push("silent for minutes");
  if (s.seen.state === "stale") said.push(`last heard ${age(s.seen.age_s)} ago`);
  if (s.gpu_max_c !== null) said.push(`hottest GPU${s.hottest_gpu === null ? "" : ` ${s.hottest_gpu}`} ${celsius(s.gpu_max_c)}, ${number(s.margin_k, 1)} K to slowdown`);
  if (s.gpu_upper_c !== null) said.push(`next hour up to ${celsius(s.gpu_upper_c)} (99 %)`);
  if (s.inlet_c !== null) said.push(`inlet ${celsius(s.inlet_c)}`);
  if (s.max_mhz !== null) said.push(`capped to ${number(s.max_mhz)} MHz`);
  if (s.slowed_gpus) said.push(`${s.slowed_gpus} GPUs slowed by the hardware`);
  if (s.lost_gpus) said.push(`${s.lost_gpus} GPUs lost`);
  return said.join(" · ");
}

function tell(target) {
  const server = newest?.servers.find((s) => s.node === target.dataset?.node);
  if (server) text(document.getElementById("heatline"), sentence(server));
}

function move(event) {
  const cells = [...document.querySelectorAll("#heatmap .cell")];
  const here = cells.indexOf(event.target);
  if (here < 0) return;
  const top = event.target.offsetTop;
  const across = Math.max(1, cells.filter((c) => c.offsetTop === top && c.parentElement === event.target.parentElement).length);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -here, End: cells.length - 1 - here };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const next = cells[Math.max(0, Math.min(cells.length - 1, here + steps[event.key]))];
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function scale() {
  const { span, says, name } = KINDS[kind];
  const box = document.getElementById("heatscale");
  if (box.dataset.kind === kind) return;
  box.dataset.kind = kind;
  const ramp = h("span", { class: "ramp" }, STOPS.map(([colour]) => {
    const step = h("i");
    step.style.setProperty("--heat", colour);
    return step;
  }));
  const mark = (style, words) => h("span", {}, h("span", { class: `mark ${style}` }), words);
  box.replaceChildren(h("span", {}, `${name}, °C: ${span} K below`, ramp, says), mark("m-cap", "capped"), mark("m-slow", "slowed by its hardware"), mark("m-silent", "silent"));
}

function hottest(data) {
  const servers = new Map(data.servers.map((s) => [s.node, s]));
  keyed(document.querySelector("#hottest tbody"), data.hottest, (node) => node,
    () => h("tr", {}, h("th", { scope: "row" }), h("td"), h("td"), h("td"), h("td"), h("td")),
    (line, node) => {
      const s = servers.get(node), cells = line.children;
      text(cells[0], `${s.node} · ${s.row}`);
      metric(cells[1], "hottest.gpu_c", s.node, s.gpu_max_c, `${celsius(s.gpu_max_c)}${s.hottest_gpu === null ? "" : ` · #${s.hottest_gpu}`}`);
      metric(cells[2], "hottest.margin_k", s.node, s.margin_k, `${number(s.margin_k, 1)} K`);
      text(cells[3], s.gpu_upper_c === null ? DASH : `${number(s.gpu_median_c, 1)} · ${celsius(s.gpu_upper_c)}`);
      text(cells[4], celsius(s.inlet_c));
      text(cells[5], s.max_mhz === null ? DASH : `${number(s.max_mhz)} MHz`);
    });
}

function all(data) {
  const box = document.getElementById("heattable");
  if (!box.open) return;
  const columns = ["server", "row", "tenant", "hottest GPU", "to slowdown", "next hour 99 %", "inlet", "inlet next hour 99 %", "cap", "state"];
  const holder = box.querySelector(".scroll");
  if (!holder.firstChild) holder.append(h("table", {}, h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)))), h("tbody")));
  keyed(holder.querySelector("tbody"), data.servers, (s) => s.node, () => h("tr", {}, columns.map((_, i) => h(i ? "td" : "th"))), (line, s) => {
    const state = s.seen.state === "fresh" ? "" : `${s.seen.state} `;
    const shown = [s.node, s.row, s.tenant, celsius(s.gpu_max_c), `${number(s.margin_k, 1)} K`, celsius(s.gpu_upper_c), celsius(s.inlet_c), celsius(s.inlet_upper_c),
      s.max_mhz === null ? DASH : `${number(s.max_mhz)} MHz`, `${state}${s.slowed_gpus ? "slowed" : ""}` || "ok"];
    shown.forEach((value, i) => text(line.children[i], value));
  });
}
