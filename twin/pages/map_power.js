// Row power against its limit: one panel a row, all on one scale of shares of the limit, so that they can be compared.
const WIDE = 1000, HIGH = 100;
const power = { cursors: [], says: [] };

power.start = (jump) => {
  const shares = [];
  for (let t = 0; t < T; t++) for (let r = 0; r < R; r++) shares.push(rowW.at(t, r) / rowLimitW.at(t, r), rowMaxW.at(t, r) / rowLimitW.at(t, r));
  let low = 0.98, high = 1.02;
  for (const share of shares) { low = Math.min(low, share); high = Math.max(high, share); }
  const pad = (high - low) * 0.06;
  power.y = (share) => HIGH * (1 - (share - low + pad) / (high - low + 2 * pad));
  const start = run.t_s[0], length = run.until_s - start;
  power.x = (s) => (WIDE * (Math.min(s, run.until_s) - start)) / length;
  byId("rows").classList.toggle("many", many);
  run.rows.forEach((name, r) => byId("rows").append(panel(name, r, jump, start, length)));
};

/** Steps of a share over time, from each frame's beginning to the next one's. */
function steps(share) {
  const points = [];
  for (let t = 0; t < T; t++) {
    const y = power.y(share(t)).toFixed(2), end = t + 1 < T ? run.t_s[t + 1] : run.until_s;
    points.push(`${power.x(run.t_s[t]).toFixed(1)},${y}`, `${power.x(end).toFixed(1)},${y}`);
  }
  return points.join("L");
}

function panel(name, r, jump, start, length) {
  const limit = (t) => rowLimitW.at(t, r), mean = (t) => rowW.at(t, r) / run.full_w[r], peak = (t) => rowMaxW.at(t, r) / run.full_w[r];
  const inForce = (t) => limit(t) / run.full_w[r];
  const line = steps(mean), below = steps((t) => Math.min(mean(t), inForce(t))), top = steps((t) => Math.max(peak(t), inForce(t))), bound = steps(inForce);
  const cursor = h("svg:line", { class: "cursor", y1: 0, y2: HIGH });
  const events = run.events.flatMap(([a, b]) => [a, b]).filter((s) => s !== null && s > start && s < run.until_s);
  const svg = h("svg:svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${summaryOf(r)}` },
    h("svg:path", { class: "area", d: `M0,${HIGH}L${below}L${WIDE},${HIGH}Z` }),
    h("svg:path", { class: "overfill", "fill-rule": "evenodd", d: `M${top}L${bound.split("L").reverse().join("L")}Z` }),
    events.map((s) => h("svg:line", { class: "event", x1: power.x(s), x2: power.x(s), y1: 0, y2: HIGH })),
    h("svg:path", { class: "peak", d: `M${steps(peak)}` }), h("svg:path", { class: "mean", d: `M${line}` }),
    h("svg:path", { class: "limit", d: `M${bound}` }), cursor);
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    jump(frameAt(start + (length * (event.clientX - box.left)) / box.width));
  });
  power.cursors.push(cursor);
  const now = h("strong");
  power.says.push(now);
  return h("figure", { class: "card power" }, h("div", { class: "say" }, h("h3", {}, name), now), h("p", { class: run.over[r] > 0 ? "note bad" : "note" }, summaryOf(r)), svg,
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, elapsed(start)), h("span", {}, elapsed(run.until_s))));
}

function highest(r) {
  let best = 0;
  for (let t = 1; t < T; t++) if (rowMaxW.at(t, r) / rowLimitW.at(t, r) > rowMaxW.at(best, r) / rowLimitW.at(best, r)) best = t;
  return best;
}

function summaryOf(r) {
  const t = highest(r), w = rowMaxW.at(t, r), limit = rowLimitW.at(t, r);
  return `${run.over[r] > 0 ? `over its limit ${percent(run.over[r])} of the time` : "never over its limit"}, peak ${kw(w)} of ${kw(limit)} kW at ${elapsed(run.t_s[t])}`;
}

power.draw = (t) => {
  const x = power.x((run.t_s[t] + (t + 1 < T ? run.t_s[t + 1] : run.until_s)) / 2).toFixed(1);
  for (const cursor of power.cursors) { cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); }
  power.says.forEach((now, r) => {
    const w = rowW.at(t, r), limit = rowLimitW.at(t, r);
    now.textContent = `${kw(w)} kW · ${percent(w / limit)}`;
    now.className = w > limit ? "bad" : "";
  });
};

power.table = (t) => run.rows.map((name, r) => [name, `${kw(rowW.at(t, r))} kW`, `${kw(rowMaxW.at(t, r))} kW`, `${kw(rowLimitW.at(t, r))} kW`, percent(rowW.at(t, r) / rowLimitW.at(t, r)), percent(run.over[r])]);
