// What is in force, who wants it and why, until when, with what evidence; recent decisions; alerts.
import { h, keyed, metric, part, set, text } from "./dom.js";
import { clock, DASH, minute, number, percent, plural, probability, span } from "./format.js";

const SHOWN = 8;
const ENDED = 3; // alerts that are over
const TONES = { applied: "ok", would_apply: null, applied_unverified: "warn", partly: "warn", reverted: null, expired: "warn", refused: "bad", failed: "bad" };
const words = (status) => status.replaceAll("_", " ");
let everything = false;
let last = null;

export function start() {
  document.getElementById("moreleases").addEventListener("click", () => { everything = !everything; if (last) leases(last); });
}

export function control(data) {
  last = data;
  leases(data);
  decisions(data);
  outcomes(data);
}

/** A reason without its names and numbers: what is said of many servers alike. */
const pattern = (lease) => lease.reason.replaceAll(lease.node, "*").replaceAll(/\d+([.,]\d+)?/g, "#");

/** Leases that say the same: an emergency caps many servers for one reason. */
function groups(data) {
  const found = new Map();
  for (const lease of data.in_force) {
    const key = lease.kind === "clock_cap" ? [lease.kind, lease.policy, lease.mode, lease.row ?? "", pattern(lease)].join("|") : lease.target;
    if (!found.has(key)) found.set(key, { key, leases: [] });
    found.get(key).leases.push(lease);
  }
  return [...found.values()].sort((a, b) => b.leases.length - a.leases.length || (a.key < b.key ? -1 : 1));
}

function leases(data) {
  const caps = data.in_force.filter((l) => l.kind === "clock_cap"), enforced = caps.filter((l) => l.mode === "enforce");
  const clocks = enforced.map((l) => l.max_mhz);
  const range = clocks.length ? ` to ${mhz(Math.min(...clocks), Math.max(...clocks))}` : "";
  const weights = data.in_force.filter((l) => l.kind === "weights" && l.mode === "enforce").length;
  metric(document.getElementById("forceline"), "caps.enforced", "all", enforced.length,
    `${enforced.length} of ${data.servers.length} servers capped${range}${weights ? ` · weights of ${plural(weights, "endpoint")}` : ""}${caps.length > enforced.length ? ` · ${plural(caps.length - enforced.length, "cap")} only advised` : ""}`);
  const all = groups(data), shown = everything ? all : all.slice(0, SHOWN);
  const box = document.getElementById("leases");
  keyed(box, shown.length ? shown : [{ key: "none", leases: [] }], (g) => g.key, makeLease, (element, group) => updateLease(element, group, data));
  const more = document.getElementById("moreleases");
  set(more, "hidden", all.length <= SHOWN);
  text(more, everything ? "Fewer" : `All ${all.length}`);
}

function makeLease(group) {
  if (!group.leases.length) return h("p", { class: "empty" }, "Nothing is capped, and all weights are equal.");
  const list = h("ul", { class: "targets" });
  return h("article", { class: "lease" },
    h("div", {}, h("p", { class: "what", "data-p": "what" }), h("span", { class: "tag", "data-p": "who" }), " ", h("span", { class: "tag", "data-p": "mode" })),
    h("div", {}, h("p", { "data-p": "why" }), h("p", { class: "note", "data-p": "counter" })),
    h("p", { class: "note", "data-p": "until" }),
    h("div", { class: "chips", "data-p": "evidence" }),
    h("details", { ontoggle: () => last && leases(last) }, h("summary", { "data-p": "more" }), list));
}

function updateLease(element, group, data) {
  const all = group.leases, first = all[0];
  if (!first) return;
  const clocks = all.map((l) => l.max_mhz).filter((m) => m !== null);
  text(part(element, "what"), first.kind === "weights" ? weightsOf(first) : `${all.length === 1 ? first.node : `${plural(all.length, "server")}${first.row ? ` of ${first.row}` : ""}`} ≤ ${mhz(Math.min(...clocks), Math.max(...clocks))}`);
  text(part(element, "who"), first.policy);
  text(part(element, "mode"), first.mode === "enforce" ? "enforced" : first.mode);
  const worst = all.reduce((a, b) => ((b.probability ?? -1) > (a.probability ?? -1) ? b : a));
  const alike = new Set(all.map((l) => l.reason)).size - 1;
  text(part(element, "why"), `${worst.reason || "no reason given"}${alike ? ` (and ${alike} more such)` : ""}`);
  text(part(element, "counter"), worst.counterfactual ? `Without it: ${worst.counterfactual}` : worst.constraint ? `Binding: ${worst.constraint}` : "");
  const since = all.map((l) => l.since).filter(Boolean).sort()[0];
  const left = Math.min(...all.map((l) => Date.parse(l.until_wall) - Date.parse(data.wall))) / 1000;
  text(part(element, "until"), `since ${since ? clock(since) : "more than 6 h"} · lease ends in ${span(left)} unless renewed`);
  chips(part(element, "evidence"), count(all.map((l) => l.outcome ?? "no answer yet")), all.length === 1 ? first.latency_s : null);
  text(part(element, "more"), first.kind === "weights" ? "All shares" : all.length === 1 ? first.evidence || "Evidence" : `All ${all.length} servers`);
  const details = element.querySelector("details");
  if (!details.open) return;
  const lines = first.kind === "weights" ? Object.entries(first.shares).map(([node, share]) => [node, percent(share, 1)])
    : all.map((l) => [l.node, `${number(l.max_mhz)} MHz · ${l.evidence || words(l.outcome ?? "no answer yet")}`]);
  keyed(details.querySelector("ul"), lines, ([node]) => node, () => h("li", {}, h("span"), h("span", { class: "muted" })), (li, [node, what]) => { text(li.children[0], node); text(li.children[1], what); });
}

const mhz = (low, high) => (low === high ? `${number(low)} MHz` : `${number(low)}–${number(high)} MHz`);

function weightsOf(lease) {
  const shares = Object.values(lease.shares), out = Object.entries(lease.shares).filter(([, share]) => share === 0).map(([node]) => node);
  const rest = shares.filter((share) => share > 0);
  const range = rest.length ? `${plural(rest.length, "instance")} ${percent(Math.min(...rest))}${Math.max(...rest) - Math.min(...rest) > 0.005 ? `–${percent(Math.max(...rest))}` : ""} each` : "";
  return `${lease.target.split("/")[1]}: ${out.length ? `${out.length <= 2 ? out.join(", ") : plural(out.length, "instance")} drained, ` : ""}${range}`;
}

function count(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

function chips(box, counts, latency_s = null) {
  keyed(box, Object.entries(counts), ([status]) => status, ([status]) => h("span", { class: "chip", "data-tone": TONES[status] }),
    (chip, [status, n]) => text(chip, `${n > 1 ? `${n} ` : ""}${words(status)}${latency_s === null ? "" : ` in ${number(latency_s, 1)} s`}`));
}

function did(group) {
  const targets = group.targets.map((t) => t.slice(t.indexOf("/") + 1));
  const who = group.n === 1 ? targets[0] : plural(group.n, group.kind === "weights" ? "endpoint" : group.kind === "alert" ? "alert" : "server");
  switch (group.kind) {
    case "clock_cap": return `cap ${who} to ${mhz(group.min_mhz, group.max_mhz)}`;
    case "weights": return `new weights for ${who}`;
    case "alert": return `alert ${who}`;
    case "revert": return `lift ${who}`;
    case "no_change": return "no change";
    default: return `${group.kind} ${who}`;
  }
}

function decisions(data) {
  const items = data.decisions.length ? data.decisions : [null];
  keyed(document.getElementById("decisions"), items, (g) => (g ? `${g.first_at}/${g.policy}/${g.kind}` : "none"),
    (g) => g ? h("li", { class: "entry" }, h("time"), h("span", {}, h("span", { class: "tag" })), h("div", { class: "body" }, h("p", { class: "did" }), h("p", { class: "why" })), h("div", { class: "chips" }))
      : h("li", { class: "empty" }, "No decision in the last hour."),
    (li, g) => {
      if (!g) return;
      set(li, "data-kind", g.kind);
      text(li.children[0], clock(g.at));
      set(li.children[0], "datetime", g.at);
      text(li.children[1].firstChild, g.policy);
      text(li.children[2].children[0], did(g));
      text(li.children[2].children[1], [g.reason, g.counterfactual && `Without it: ${g.counterfactual}`, g.times > g.n && `${number(g.times)} times since ${clock(g.first_at)}`].filter(Boolean).join(". "));
      const none = g.kind === "no_change" || g.mode ? {} : { "not acted upon": 1 };
      chips(li.children[3], Object.keys(g.outcomes).length ? g.outcomes : none);
    });
}

function outcomes(data) {
  keyed(document.getElementById("outcomes"), data.outcomes, (o) => o.status, (o) => h("li", { class: "chip", "data-tone": TONES[o.status] }), (chip, o) => {
    metric(chip, "outcomes.n", o.status, o.n, `${o.n} ${words(o.status)} · ${number(o.latency_p50_s, 1)} s`);
    set(chip, "title", `last hour; half within ${number(o.latency_p50_s, 2)} s, 99 % within ${number(o.latency_p99_s, 2)} s${o.newest_reason ? `; newest: ${o.newest_target}: ${o.newest_reason}` : ""}`);
  });
}

/** Alerts; `now_s` is the run's time now, in seconds. */
export function alerts(data, now_s) {
  set(document.getElementById("alerts"), "hidden", data.alerts.length === 0);
  const ended = data.alerts.filter((a) => a.status !== "firing").slice(0, ENDED);
  keyed(document.getElementById("alertlist"), [...data.alerts.filter((a) => a.status === "firing"), ...ended], (a) => a.alert_id,
    () => h("li", { class: "alert" }, h("span", { class: "sev" }), h("div", { class: "say" }, h("p"), h("p", { class: "note" })), h("p", { class: "due" }, h("span"), h("small"))),
    (li, a) => {
      const firing = a.status === "firing";
      set(li, "data-severity", a.severity);
      set(li, "data-status", a.status);
      text(li.children[0], firing ? a.severity : "resolved");
      text(li.children[1].children[0], a.summary || a.alertname);
      text(li.children[1].children[1], `${a.alertname} · ${a.series} · since ${clock(a.began_at)}${firing ? "" : ` until ${clock(a.at)}`} · first said ${a.first_lead_s === null ? "without a time" : a.first_lead_s ? `${span(a.first_lead_s)} ahead` : "as it came"}${firing ? ` · P ${probability(a.probability)}` : ""}`);
      const left = firing && a.due_at ? Date.parse(a.due_at) / 1000 - now_s : null;
      metric(li.children[2].children[0], "alert.lead_s", a.alert_id, a.lead_s, left === null ? "" : left > 0 ? `in ${span(left)}` : a.lead_s ? "due" : "now");
      text(li.children[2].children[1], left === null ? (firing ? DASH : "") : a.lead_s ? `expected at ${minute(a.due_at)}` : "");
    });
}
