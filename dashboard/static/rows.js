// Row power: headroom now and in the next hour, as numbers, as a gauge, as a picture and as a table.
import { bands, nowLine, show } from "./charts.js";
import { h, keyed, metric, part, set, tableOf, text } from "./dom.js";
import { age, axis, clock, DASH, kw, minute, percent, plural } from "./format.js";
import { colour } from "./theme.js";

export function rows(data) {
  keyed(document.getElementById("rows"), data.rows, (row) => row.row, make, (card, row) => update(card, row, data));
}

const fact = (label, name, extra = "") => h("div", { class: extra }, h("dt", {}, label), h("dd", {}, h("span", { "data-p": name }), h("small", {}, " kW")));

function make(row) {
  const table = tableOf(`Power of ${row.row}, last hour and next`, ["time (UTC)", "what", "kW", "1 % to 99 %"]);
  table.dataset.p = "table";
  return h("article", { class: "card", "aria-label": row.row },
    h("div", { class: "cardhead" }, h("h3", {}, row.row), h("span", { class: "note", "data-p": "note" })),
    h("dl", { class: "facts" },
      fact("headroom now", "headroom", "big"), fact("least, next hour (99 %)", "ahead", "big"), fact("power now", "power"),
      fact("limit", "limit"),
      h("div", {}, h("dt", {}, "servers capped"), h("dd", {}, h("span", { "data-p": "capped" }), h("small", { "data-p": "of" })))),
    h("div", { class: "gauge", "data-p": "gauge", role: "img" }, h("i"), h("b")),
    h("p", { class: "note", "data-p": "why" }),
    h("div", { class: "chart tall plotly-wait", "data-p": "chart", role: "img" }, "drawing …"),
    table);
}

function update(card, row, data) {
  const ahead_w = row.ahead_upper_w === null ? null : row.limit_w - row.ahead_upper_w;
  set(card, "data-seen", row.seen.state);
  metric(part(card, "headroom"), "row.headroom_w", row.row, row.headroom_w, kw(row.headroom_w));
  metric(part(card, "ahead"), "row.ahead_headroom_w", row.row, ahead_w, kw(ahead_w));
  metric(part(card, "power"), "row.power_w", row.row, row.power_w, kw(row.power_w));
  metric(part(card, "limit"), "row.limit_w", row.row, row.limit_w, kw(row.limit_w));
  metric(part(card, "capped"), "row.capped", row.row, row.capped, String(row.capped));
  text(part(card, "of"), ` of ${row.servers}`);
  set(part(card, "headroom").parentElement, "data-tone", tone(row.headroom_w, row.limit_w));
  set(part(card, "ahead").parentElement, "data-tone", tone(ahead_w, row.limit_w));
  text(part(card, "note"), noteOf(row));
  text(part(card, "why"), whyOf(row));
  set(part(card, "why"), "class", `note${row.lost_upses.length || (ahead_w !== null && ahead_w < 0) ? " bad" : ""}`);
  gauge(part(card, "gauge"), row);
  const chart = part(card, "chart");
  set(chart, "aria-label", `${row.row}: power ${kw(row.power_w)} kW of ${kw(row.limit_w)} kW; next hour up to ${kw(row.ahead_upper_w)} kW (99 %). The table below has the numbers.`);
  const version = [row.past_t.at(-1), row.path?.issued_at, row.limit_w, row.marks.length, row.marks.at(-1)?.t].join();
  show(chart, version, (narrow) => figure(row, data, narrow));
  part(card, "table").show(tableRows(row));
}

function tone(headroom_w, limit_w) {
  if (headroom_w === null) return null;
  if (headroom_w < 0) return "bad";
  return headroom_w < 0.05 * limit_w ? "warn" : null;
}

function noteOf(row) {
  if (row.seen.state === "silent") return "no power measured in the last hour";
  const source = row.source === "sum" ? "sum of its servers" : "metered";
  return row.seen.state === "stale" ? `${source}, ${age(row.seen.age_s)} old` : source;
}

function whyOf(row) {
  const said = [];
  if (row.lost_upses.length) said.push(`${row.lost_upses.join(", ")} lost: limit ${kw(row.limit_w)} instead of ${kw(row.full_limit_w)} kW.`);
  if (row.path === null) said.push("No forecast of this row.");
  else {
    const over = row.ahead_upper_w > row.limit_w ? "over the limit " : "";
    said.push(`99 % quantile highest at ${minute(row.ahead_upper_at)}${over && `, ${over}`.trimEnd()}; median up to ${kw(row.ahead_median_w)} kW (${row.path.model}).`);
    if (row.path.degradations.length) said.push(`Forecast worse than usual: ${row.path.degradations.join("; ")}.`);
  }
  return said.join(" ");
}

function gauge(element, row) {
  const share = (value) => String(Math.max(0, Math.min(1, (value ?? 0) / row.limit_w)));
  element.style.setProperty("--share", share(row.power_w));
  element.style.setProperty("--from", share(row.power_w));
  element.style.setProperty("--to", share(Math.max(row.ahead_upper_w ?? 0, row.power_w ?? 0)));
  set(element, "data-tone", row.headroom_w !== null && row.headroom_w < 0 ? "bad" : null);
  set(element, "aria-label", `${percent((row.power_w ?? 0) / row.limit_w)} of the limit`);
}

function figure(row, data, narrow) {
  const k = 1e-3, now = Date.parse(data.now) / 1000;
  const measured = row.past_w.map((v) => v * k), t = row.past_t.map(axis);
  const from = row.past_t.length ? [row.past_t.at(-1), row.past_w.at(-1)] : [now, row.power_w ?? row.path?.bands["0.5"]?.[0]];
  const values = [...measured, row.limit_w * k, ...["0.01", "0.99"].flatMap((q) => row.path?.bands[q]?.map((v) => v * k) ?? [])];
  const low = Math.min(...values), high = Math.max(...values, row.full_limit_w * k), pad = (high - low) * 0.08 || 1;
  const limit = (w, dash, name) => ({ x: [axis(now - 3600), axis(now + 3600)], y: [w * k, w * k], mode: "lines", line: { color: colour("limit"), width: 1.6, dash }, name, hoverinfo: "skip" });
  const data_ = [
    ...bands(row.path, from, k, "kW"),
    { x: t, y: row.past_max_w.map((v) => v * k), mode: "lines", line: { color: colour("measured"), width: 0.8 }, opacity: 0.45, name: "highest 1 s", hovertemplate: "%{y:.4~g} kW" },
    { x: t, y: measured, mode: "lines", line: { color: colour("measured"), width: 2 }, name: "measured", hovertemplate: "%{y:.4~g} kW" },
    limit(row.limit_w, "solid", "limit"),
    ...(row.limit_w < row.full_limit_w ? [limit(row.full_limit_w, "dot", "limit while nothing is lost")] : []),
    ...marks(row, low - pad * 0.3),
  ];
  const note = (y, words) => ({ x: 0.005, xref: "paper", xanchor: "left", y, yanchor: "bottom", text: words, showarrow: false, font: { size: 11, color: colour("limit") } });
  return {
    data: data_,
    layout: {
      xaxis: { range: [axis(now - 3600), axis(now + 3600)], nticks: narrow ? 5 : 9 }, yaxis: { range: [low - pad, high + pad * 1.6] },
      shapes: [nowLine(now)],
      annotations: [
        note(row.limit_w * k, `limit ${kw(row.limit_w)} kW`),
        { x: axis(now), y: 1, yref: "paper", yanchor: "top", xanchor: "left", text: " now", showarrow: false, font: { size: 11, color: colour("muted") } },
      ],
    },
  };
}

function marks(row, y) {
  const kinds = [["capped", "triangle-down", "cap"], ["lifted", "triangle-up", "ok"]];
  return kinds.map(([kind, symbol, tint]) => {
    const found = row.marks.filter((mark) => mark[kind] > 0);
    return {
      x: found.map((mark) => axis(mark.t)), y: found.map(() => y), mode: "markers", cliponaxis: false, name: kind,
      marker: { symbol: found.map((m) => (m.advised >= m.capped + m.lifted ? `${symbol}-open` : symbol)), size: 10, color: colour(tint), line: { width: 1.5, color: colour(tint) } },
      text: found.map((m) => `${m[kind]} ${kind}${m.min_mhz && kind === "capped" ? `, down to ${m.min_mhz} MHz` : ""} by ${m.policies}`),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
}

function tableRows(row) {
  const past = row.past_t.map((t, i) => [clock(t), "measured", kw(row.past_w[i]), DASH]).filter((_, i, every) => i % 15 === 0 || i === every.length - 1);
  const path = row.path;
  const ahead = path ? path.t.map((t, i) => [clock(t), "forecast median", kw(path.bands["0.5"]?.[i]), `${kw(path.bands["0.01"]?.[i])} to ${kw(path.bands["0.99"]?.[i])}`]) : [];
  const caps = row.marks.map((m) => [clock(m.t), [m.capped && `${plural(m.capped, "cap")} issued`, m.lifted && `${plural(m.lifted, "cap")} lifted`].filter(Boolean).join(", ") + ` by ${m.policies}`, DASH, DASH]);
  return [...[...past, ...caps].sort((a, b) => (a[0] < b[0] ? -1 : 1)), ...ahead];
}
