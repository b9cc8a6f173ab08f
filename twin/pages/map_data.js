// The run that the page carries: decoded once. T frames, S servers, R rows; numbers travel as 16 bit integers in base64.
const run = JSON.parse(document.getElementById("data").textContent);
const T = run.t_s.length, S = run.servers.length, R = run.rows.length;

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

/** A table of numbers: at(t, k) = base + unit * integer. */
function table({ base, unit, data }, width) {
  const view = new DataView(bytes(data).buffer);
  return { base, unit, at: (t, k) => base + unit * view.getUint16(2 * (t * width + k), true) };
}

const slowedBits = bytes(run.slowed);
const slowed = (t, s) => { const i = t * S + s; return (slowedBits[i >> 3] >> (7 - (i & 7)) & 1) === 1; };
const values = { gpu: table(run.gpu_c, S), inlet: table(run.inlet_c, S), power: table(run.server_w, S) };
const rowW = table(run.row_w, R), rowMaxW = table(run.row_max_w, R), rowLimitW = table(run.row_limit_w, R);

const forms = [0, 1, 2].map((digits) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const number = (value, digits = 0) => forms[digits].format(value).replace("-", "\u2212");
const celsius = (value) => `${number(value, 1)} °C`;
const kw = (w) => number(w / 1000, w < 100e3 ? 1 : 0);
const percent = (share) => (share > 0 && share < 0.01 ? "< 1 %" : share > 0.99 && share < 1 ? "> 99 %" : `${number(share * 100)} %`);

/** Run time as people say it: 40 s, 31 min, 2 h 05, 3 d 4 h. */
function elapsed(s) {
  if (s < 120) return `${number(s)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

/** The frame that `s` of run time lies in. */
function frameAt(s) {
  let t = 0;
  while (t + 1 < T && run.t_s[t + 1] <= s) t++;
  return t;
}

// What the floor can show. `low` and `high` are the colours' ends.
const KINDS = {
  gpu: { name: "hottest GPU", unit: "°C", shown: (v) => number(v), says: celsius },
  inlet: { name: "inlet", unit: "°C", shown: (v) => number(v), says: celsius },
  power: { name: "power", unit: "kW", shown: (v) => number(v / 1000, 1), says: (v) => `${number(v / 1000, 2)} kW` },
};
const STEPS = 96;
for (const [kind, { stops, low, high }] of Object.entries(run.scales)) {
  const rgb = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  const colours = Array.from({ length: STEPS + 1 }, (_, i) => {
    const place = (i / STEPS) * (rgb.length - 1), k = Math.min(rgb.length - 2, Math.floor(place)), part = place - k;
    return rgb[k].map((from, c) => Math.round(from + part * (rgb[k + 1][c] - from)));
  });
  const css = colours.map((c) => `rgb(${c.join(" ")})`);
  const ink = colours.map(([r, g, b]) => (0.3 * r + 0.59 * g + 0.11 * b < 128 ? "#ffffff" : "#11202b"));
  const step = (v) => Math.max(0, Math.min(STEPS, Math.round(((v - low) / (high - low)) * STEPS)));
  Object.assign(KINDS[kind], { low, high, stops, rgb: (v) => colours[step(v)], css: (v) => css[step(v)], ink: (v) => ink[step(v)] });
}

/** Make an element. `attrs`: attributes, or `on*` listeners; children: nodes or text. */
function h(tag, attrs = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}
const byId = (id) => document.getElementById(id);
const flag = (element, name, on) => { if (on) element.setAttribute(name, "true"); else element.removeAttribute(name); };
