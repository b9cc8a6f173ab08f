// Load: each inference service's requests in the last hour and the next, and how it answers.
import { bands, nowLine, show } from "./charts.js";
import { h, keyed, metric, part, set, tableOf, text } from "./dom.js";
import { age, axis, clock, DASH, number, plural } from "./format.js";
import { colour } from "./theme.js";

export function load(data) {
  const box = document.getElementById("endpoints");
  keyed(box, data.endpoints, (e) => e.endpoint, make, (card, e) => update(card, e, data));
  set(document.getElementById("load"), "hidden", data.endpoints.length === 0);
}

const fact = (label, name, unit, extra) => h("div", { class: extra }, h("dt", {}, label), h("dd", {}, h("span", { "data-p": name }), h("small", {}, unit)));

function make(e) {
  const table = tableOf(`Load of ${e.endpoint}, last hour and next`, ["time (UTC)", "what", "requests/s", "1 % to 99 %"]);
  table.dataset.p = "table";
  return h("article", { class: "card", "aria-label": e.endpoint },
    h("div", { class: "cardhead" }, h("h3", {}, e.endpoint), h("span", { class: "note", "data-p": "note" })),
    h("dl", { class: "facts" }, fact("requests", "rps", " /s", "big"), fact("in SLO", "slo", " %"), fact("running", "running", ""), fact("waiting", "waiting", "")),
    h("div", { class: "chart low plotly-wait", "data-p": "chart", role: "img" }, "drawing …"),
    h("p", { class: "note", "data-p": "ahead" }), table);
}

function update(card, e, data) {
  set(card, "data-seen", e.seen.state);
  metric(part(card, "rps"), "endpoint.requests_rps", e.endpoint, e.requests_rps, number(e.requests_rps, 1));
  metric(part(card, "slo"), "endpoint.slo_ok_pct", e.endpoint, e.slo_ok_pct, number(e.slo_ok_pct, 1));
  metric(part(card, "running"), "endpoint.running", e.endpoint, e.running, number(e.running));
  metric(part(card, "waiting"), "endpoint.waiting", e.endpoint, e.waiting, number(e.waiting));
  set(part(card, "slo").parentElement, "data-tone", e.slo_ok_pct !== null && e.slo_ok_pct < 99 ? "warn" : null);
  const old = e.seen.state === "fresh" ? "" : e.seen.state === "stale" ? ` · ${age(e.seen.age_s)} old` : " · silent";
  const instances = e.source === "requests" ? "from its request log" : plural(e.instances, "instance");
  text(part(card, "note"), `${e.model ?? ""}${e.model ? " · " : ""}${instances}${old}`);
  const upper = e.path ? Math.max(...(e.path.bands["0.99"] ?? [])) : null;
  text(part(card, "ahead"), e.path ? `Next hour up to ${number(upper, 1)} /s (99 %), ${e.path.model}.` : "No forecast.");
  const chart = part(card, "chart");
  set(chart, "aria-label", `${e.endpoint}: ${number(e.requests_rps, 1)} requests per second now; the table below has the numbers.`);
  show(chart, [e.past_t.at(-1), e.path?.issued_at].join(), (narrow) => figure(e, data, narrow));
  part(card, "table").show(tableRows(e));
}

function figure(e, data) {
  const now = Date.parse(data.now) / 1000;
  const from = e.past_t.length ? [e.past_t.at(-1), e.past_rps.at(-1)] : [now, e.path?.bands["0.5"]?.[0]];
  const line = { x: e.past_t.map(axis), y: e.past_rps, mode: "lines", line: { color: colour("measured"), width: 2 }, name: "measured", hovertemplate: "%{y:.3~g} /s" };
  const highest = Math.max(1e-9, ...e.past_rps, ...(e.path?.bands["0.99"] ?? []));
  return {
    data: [...bands(e.path, from, 1, "/s"), line],
    layout: { margin: { l: 34, r: 8, t: 6, b: 20 }, xaxis: { range: [axis(now - 3600), axis(now + 3600)], nticks: 5 }, yaxis: { range: [0, highest * 1.1], nticks: 4 }, shapes: [nowLine(now)] },
  };
}

function tableRows(e) {
  const past = e.past_t.map((t, i) => [clock(t), "measured", number(e.past_rps[i], 2), DASH]).filter((_, i, all) => i % 5 === 0 || i === all.length - 1);
  const path = e.path;
  const ahead = path ? path.t.map((t, i) => [clock(t), "forecast median", number(path.bands["0.5"]?.[i], 2), `${number(path.bands["0.01"]?.[i], 2)} to ${number(path.bands["0.99"]?.[i], 2)}`]) : [];
  return [...past, ...ahead];
}
