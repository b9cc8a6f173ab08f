// The page's own loop: one stream of snapshots in, and a look at the clock every second, so that old data never looks fresh.
import { air } from "./air.js";
import { load as loadCharts, redraw } from "./charts.js";
import { alerts, control, start as startControl } from "./control.js";
import { h, keyed, metric, set, text } from "./dom.js";
import { age, clock, DASH, number, plural, stamp } from "./format.js";
import { heat, start as startHeat } from "./heat.js";
import { load } from "./load.js";
import { rows } from "./rows.js";
import { follow } from "./theme.js";

const SILENT_MS = 6000; // the server sends every second or two, whatever happens to the history
const byId = (id) => document.getElementById(id);
const page = { status: null, data: null, received: 0, lost: null };

function connect() {
  const stream = new EventSource("/api/stream");
  stream.addEventListener("message", (event) => {
    const { status, data } = JSON.parse(event.data);
    Object.assign(page, { status, received: performance.now(), lost: null });
    if (data) {
      page.data = data;
      render(data);
    }
    tick();
  });
  stream.addEventListener("error", () => { page.lost ??= new Date(); tick(); });
}

function render(data) {
  rows(data);
  air(data);
  heat(data);
  load(data);
  control(data);
  topics(data);
  text(byId("site"), data.site ?? "no topology yet");
  document.title = `${data.alerts.some((a) => a.status === "firing") ? "▲ " : ""}coldaisle${data.site ? ` · ${data.site}` : ""}`;
  set(byId("main"), "aria-busy", null);
}

/** What changes by the clock alone: ages, countdowns, the banner. */
function tick() {
  const { status, data, lost } = page;
  const since_s = (performance.now() - page.received) / 1000;
  const cut = lost !== null || (status !== null && since_s * 1000 > SILENT_MS);
  banner(cut, since_s);
  if (!status || !data) return;
  const asked_s = (status.age_s ?? 0) + since_s;
  const old = cut || status.state !== "live";
  document.body.classList.toggle("old", old);
  const now_s = Date.parse(data.now) / 1000 + (old ? 0 : asked_s * data.speed);
  text(byId("now"), stamp(now_s));
  set(byId("now"), "datetime", new Date(now_s * 1000).toISOString());
  text(byId("speed"), data.speed > 1.01 ? `${number(data.speed)}× wall time` : data.speed === 0 ? "not begun" : "");
  fresh(data, asked_s, old);
  mode(data);
  const firing = data.alerts.filter((a) => a.status === "firing"), bad = firing.some((a) => a.severity === "critical");
  metric(byId("alertcount"), "alerts.open", "all", firing.length, firing.length ? plural(firing.length, "alert") : "no alerts");
  set(byId("alertcount"), "data-tone", firing.length ? (bad ? "bad" : "warn") : "ok");
  alerts(data, now_s);
}

function banner(cut, since_s) {
  const { status, lost } = page;
  let said = "";
  if (cut) said = `No connection to this page's server ${lost ? `since ${clock(lost.toISOString())} UTC` : `for ${age(since_s)}`}. What you see is old.`;
  else if (status?.state === "away") {
    const since = status.since ? clock(status.since) : DASH;
    said = `The history has not answered since ${since} UTC${status.age_s === null ? "" : ` (${age(status.age_s + since_s)})`}: ${status.why.replace(/[.\s]*$/, ".")} ${page.data ? "What you see is from then." : ""}`;
  } else if (status?.state === "starting") said = "Asking the history for the first time …";
  set(byId("banner"), "hidden", !said);
  text(byId("banner"), said);
}

function fresh(data, asked_s, old) {
  const pill = byId("fresh"), newest_s = data.data.age_s === null ? null : data.data.age_s + asked_s;
  set(pill, "data-tone", old ? "bad" : data.data.state === "fresh" ? "ok" : "bad");
  const words = old ? "old" : data.data.state === "fresh" ? "live" : data.data.state;
  text(pill, newest_s === null ? `${words} · no telemetry` : `${words} · data ${age(newest_s)} old`);
  set(pill, "title", `snapshot ${age(asked_s)} old; 99 % of the last minute's rows were in the history ${age(data.freshness_p99_s)} after their creation`);
}

function mode(data) {
  const { enforce = 0, advise = 0, observe = 0 } = data.modes;
  const said = [enforce && `enforcing ${enforce}`, advise && `advising ${advise}`, observe && `observing ${observe}`].filter(Boolean);
  text(byId("mode"), said.length ? said.join(" · ") : "nothing in force");
  const declared = Object.entries(data.declared_modes).map(([policy, m]) => `${policy}: ${m}`).join(", ");
  set(byId("mode"), "title", `leases by mode${data.controller ? `; controller ${data.controller}, epoch ${data.epoch}` : ""}${declared ? `; ${declared}` : ""}`);
}

function topics(data) {
  keyed(document.querySelector("#topics tbody"), data.topics, (t) => t.topic, () => h("tr", {}, h("th", { scope: "row" }), h("td"), h("td"), h("td")), (line, t) => {
    const shown = [t.topic, number(t.rows_per_s, t.rows_per_s < 10 ? 1 : 0), `${age(t.age_s)} ago`, t.p99_s === null ? DASH : age(t.p99_s)];
    shown.forEach((value, i) => text(line.children[i], value));
  });
}

follow(redraw);
startHeat();
startControl();
loadCharts();
connect();
setInterval(tick, 1000);
