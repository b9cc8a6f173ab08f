// The page's own loop: a moment, a quantity and a chosen server; everything shown follows from these three.
const view = { t: run.worst, kind: "gpu", chosen: -1, playing: null };
const slider = byId("time"), strip = byId("strip");

function draw() {
  const { t, kind } = view;
  slider.value = t;
  slider.setAttribute("aria-valuetext", elapsed(run.t_s[t]));
  byId("now").textContent = elapsed(run.t_s[t]);
  floor.draw(t, kind);
  power.draw(t);
  rack();
  drawStrip();
  for (const button of byId("jumps").querySelectorAll("button")) flag(button, "aria-current", Number(button.dataset.frame) === t);
  if (byId("servers").open) fillServers();
  if (byId("rowtable").open) fillRows();
  clearTimeout(view.labels); // thousands of sentences: only where the moment stays
  view.labels = setTimeout(label, 300);
}

function label() {
  run.servers.forEach((_, s) => floor.label(view.t, s));
}

function go(t) {
  view.t = Math.max(0, Math.min(T - 1, t));
  draw();
}

function choose(s) {
  if (s === view.chosen) return;
  const before = view.chosen;
  view.chosen = s;
  floor.choose(s, before);
  rack();
}

/** The chosen rack's servers now, uppermost first as they stand. */
function rack() {
  const { t, chosen } = view, [r, k] = place[chosen], { name, servers } = bands[r].racks[k];
  byId("rackname").textContent = `${name} in ${run.rows[r]} at ${elapsed(run.t_s[t])}`;
  const lines = [...servers].reverse().map((s) => {
    const gpu = values.gpu.at(t, s), margin = run.slowdown_c[s] - gpu;
    const shown = [["gpu", gpu, celsius(gpu)], ["margin", margin, slowed(t, s) ? "slowed" : `${number(margin, 1)} K`], ["inlet", values.inlet.at(t, s), celsius(values.inlet.at(t, s))], ["power", values.power.at(t, s), KINDS.power.says(values.power.at(t, s))]];
    const line = h("tr", {}, h("th", { scope: "row" }, run.servers[s]), shown.map(([metric, value, text]) => h("td", { "data-metric": metric, "data-server": s, "data-value": value }, text)));
    flag(line, "aria-current", s === chosen);
    return line;
  });
  byId("rack").querySelector("tbody").replaceChildren(...lines);
  let hottest = 0, held = 0;
  for (let i = 0; i < T; i++) {
    if (values.gpu.at(i, chosen) > values.gpu.at(hottest, chosen)) hottest = i;
    if (slowed(i, chosen)) held += 1;
  }
  byId("rackrun").textContent = `${run.servers[chosen]} over the run: up to ${celsius(values.gpu.at(hottest, chosen))} at ${elapsed(run.t_s[hottest])}${held ? `, slowed in ${percent(held / T)} of the moments` : ", never slowed"}.`;
  floor.label(t, chosen);
}

// The whole run as a strip: a line a rack, or a row where racks are many; the highest of its servers.
const racks = bands.flatMap((band) => band.racks.map((each) => each.servers));
const lanes = racks.length <= 60 ? racks : bands.map((band) => band.racks.flatMap((each) => each.servers)).filter((servers) => servers.length);
const strips = {}; // drawn once a quantity, then only the cursor moves
function picture(kind) {
  if (strips[kind]) return strips[kind];
  const canvas = h("canvas", { width: T, height: lanes.length }), pen = canvas.getContext("2d"), image = pen.createImageData(T, lanes.length);
  lanes.forEach((servers, lane) => {
    for (let t = 0; t < T; t++) {
      const top = servers.reduce((most, s) => Math.max(most, values[kind].at(t, s)), -Infinity);
      image.data.set([...KINDS[kind].rgb(top), 255], 4 * (lane * T + t));
    }
  });
  pen.putImageData(image, 0, 0);
  return (strips[kind] = canvas);
}

/** Its size is asked for only when it can have changed: asking makes the browser lay out the whole floor. */
function sizeStrip() {
  const ratio = window.devicePixelRatio || 1;
  strip.width = Math.max(1, Math.round(strip.clientWidth * ratio));
  strip.height = Math.max(1, Math.round(strip.clientHeight * ratio));
}

function drawStrip() {
  const ratio = window.devicePixelRatio || 1, wide = strip.width, high = strip.height, pen = strip.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(view.kind), 0, 0, wide, high);
  const line = (x, colour, width) => { pen.fillStyle = colour; pen.fillRect(x - (width * ratio) / 2, 0, width * ratio, high); };
  for (const [from] of run.events) if (from > run.t_s[0]) line((wide * (frameAt(from) + 0.5)) / T, "rgba(255, 255, 255, .75)", 1);
  const x = (wide * (view.t + 0.5)) / T;
  line(x, "#11202b", 5);
  line(x, "#ffffff", 2.4);
}

function fill(id, columns, lines) {
  const body = lines.map((line) => h("tr", {}, line.map((text, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, text))));
  byId(id).querySelector(".scroll").replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, body)));
}

function fillServers() {
  const { t } = view;
  fill("servers", ["server", "row", "rack", "slot", "hottest GPU", "inlet", "power", "state"], run.servers.map((name, s) => [name, run.rows[run.row_of[s]], run.rack_of[s], String(run.slot_of[s]), celsius(values.gpu.at(t, s)), celsius(values.inlet.at(t, s)), KINDS.power.says(values.power.at(t, s)), slowed(t, s) ? "slowed" : ""]));
}

function fillRows() {
  fill("rowtable", ["row", "power", "highest", "limit", "of the limit", "run over limit"], power.table(view.t));
}

function play(on) {
  clearInterval(view.playing);
  view.playing = on ? setInterval(() => { if (view.t === T - 1) play(false); else go(view.t + 1); }, Math.max(50, Math.min(400, 24000 / T))) : null;
  if (on && view.t === T - 1) view.t = 0;
  byId("play").textContent = on ? "❚❚" : "▶";
  byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
  byId("rack").setAttribute("aria-live", on ? "off" : "polite"); // nobody can listen to ten moments a second
}

function jumps() {
  const moments = [[run.t_s[run.worst], "worst moment"], ...run.events.map(([from, , text]) => [from, text])];
  for (const [from, text] of moments.sort((a, b) => a[0] - b[0])) {
    const t = frameAt(from);
    byId("jumps").append(h("li", {}, h("button", { type: "button", "data-frame": t, onclick: () => { play(false); go(t); } }, `${elapsed(Math.max(from, run.t_s[0]))} · ${text}`)));
  }
}

// Colours: as the system has them, or as chosen on this machine.
const THEMES = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const system = window.matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try { theme = localStorage.getItem("coldaisle-theme") in THEMES ? localStorage.getItem("coldaisle-theme") : "auto"; } catch { /* a browser may forbid storage */ }
function colours() {
  document.documentElement.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
  byId("theme").textContent = THEMES[theme];
  byId("theme").setAttribute("aria-label", `Colours: ${theme}`);
}
byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try { localStorage.setItem("coldaisle-theme", theme); } catch { /* only this visit, then */ }
  colours();
});
system.addEventListener("change", colours);

colours();
byId("site").textContent = run.site;
byId("said").textContent = run.said;
byId("headline").textContent = run.headline;
byId("end").textContent = `of ${elapsed(run.until_s)}`;
slider.max = T - 1;
slider.addEventListener("input", () => { play(false); go(Number(slider.value)); });
byId("play").addEventListener("click", () => play(view.playing === null));
byId("quantity").addEventListener("change", (event) => { view.kind = event.target.value; floor.scale(view.kind); draw(); });
strip.addEventListener("click", (event) => { play(false); go(Math.floor((T * event.offsetX) / strip.clientWidth)); });
byId("servers").addEventListener("toggle", () => { if (byId("servers").open) fillServers(); });
byId("rowtable").addEventListener("toggle", () => { if (byId("rowtable").open) fillRows(); });
window.addEventListener("resize", () => { sizeStrip(); drawStrip(); });
floor.start(choose);
power.start((t) => { play(false); go(t); });
floor.scale(view.kind);
jumps();
choose(run.hottest);
sizeStrip();
draw();
label();
