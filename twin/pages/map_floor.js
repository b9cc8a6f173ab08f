// The floor: every server a cell, slots upwards in racks, racks in rows. One cell can be reached by Tab, the others by arrows.
const bands = run.rows.map(() => ({ racks: new Map() }));
run.servers.forEach((_, s) => {
  const { racks } = bands[run.row_of[s]], name = run.rack_of[s];
  if (!racks.has(name)) racks.set(name, []);
  racks.get(name).push(s);
});
for (const band of bands) {
  band.racks = [...band.racks].map(([name, servers]) => ({ name, servers: servers.sort((a, b) => run.slot_of[a] - run.slot_of[b]) }));
}
const place = []; // server -> [row, rack, slot] as positions
bands.forEach((band, r) => band.racks.forEach((rack, k) => rack.servers.forEach((s, i) => { place[s] = [r, k, i]; })));
const many = R > 4;
const cells = [];
const floor = {};

floor.start = (chosen) => {
  const box = byId("floor");
  box.classList.toggle("many", many);
  bands.forEach((band, r) => {
    band.says = h("p");
    band.gauge = h("div", { class: "gauge", "aria-hidden": "true" }, h("i"), h("b"), h("s"));
    const racks = band.racks.map((rack) => {
      rack.element = h("div", { class: "rack" }, rack.servers.map((s) => (cells[s] = h("button", { type: "button", class: "cell", tabindex: -1, "data-server": s }))));
      return rack.element;
    });
    if (!racks.length) return;
    box.append(h("div", { class: "band" }, h("div", {}, h("h3", {}, run.rows[r]), band.says, band.gauge), h("div", { class: "racks" }, racks)));
  });
  const serverOf = (event) => { const cell = event.target.closest(".cell"); return cell ? Number(cell.dataset.server) : -1; };
  box.addEventListener("click", (event) => { if (serverOf(event) >= 0) chosen(serverOf(event)); });
  box.addEventListener("focusin", (event) => { if (serverOf(event) >= 0) chosen(serverOf(event)); });
  box.addEventListener("pointermove", (event) => tip(serverOf(event), event));
  box.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
  box.addEventListener("keydown", (event) => {
    const from = serverOf(event), to = from < 0 ? -1 : neighbour(from, event.key);
    if (to < 0) return;
    event.preventDefault();
    cells[to].focus();
  });
};

/** The server that an arrow key leads to; -1 for other keys. */
function neighbour(s, key) {
  const [r, k, i] = place[s];
  const at = (row, rack, slot) => {
    const racks = bands[row]?.racks;
    if (!racks?.length) return s;
    const { servers } = racks[Math.max(0, Math.min(racks.length - 1, rack))];
    return servers[Math.max(0, Math.min(servers.length - 1, slot))];
  };
  const top = bands[r].racks[k].servers.length - 1;
  switch (key) {
    case "ArrowLeft": return at(r, k - 1, i);
    case "ArrowRight": return at(r, k + 1, i);
    case "ArrowUp": return i < top ? at(r, k, i + 1) : at(r - 1, k, 0);
    case "ArrowDown": return i > 0 ? at(r, k, i - 1) : at(r + 1, k, Infinity);
    case "Home": return at(r, 0, i);
    case "End": return at(r, Infinity, i);
    default: return -1;
  }
}

floor.draw = (t, kind) => {
  const look = KINDS[kind], value = values[kind];
  for (let s = 0; s < S; s++) {
    const v = value.at(t, s), cell = cells[s];
    cell.style.setProperty("--heat", look.css(v));
    cell.style.color = look.ink(v);
    if (!many) cell.textContent = look.shown(v);
    flag(cell, "data-slowed", slowed(t, s));
  }
  bands.forEach((band, r) => {
    const w = rowMaxW.at(t, r), limit = rowLimitW.at(t, r);
    band.says.textContent = `${kw(w)} of ${kw(limit)} kW`;
    band.says.className = w > limit ? "bad" : "muted";
    band.gauge.style.setProperty("--share", Math.min(w / limit, 1.15));
  });
};

/** Mark the chosen server, the one that Tab leads to. */
floor.choose = (s, before) => {
  if (before >= 0) {
    cells[before].tabIndex = -1;
    delete bands[place[before][0]].racks[place[before][1]].element.dataset.chosen;
  }
  cells[s].tabIndex = 0;
  bands[place[s][0]].racks[place[s][1]].element.dataset.chosen = "";
};
/** Say what a cell is to those who hear the page. */
floor.label = (t, s) => cells[s].setAttribute("aria-label", sentence(t, s).replaceAll("\n", ", "));

function sentence(t, s) {
  const held = slowed(t, s) ? "\nslowed by its hardware" : "";
  return `${run.servers[s]} · ${run.rack_of[s]}, slot ${run.slot_of[s]}\nhottest GPU ${celsius(values.gpu.at(t, s))}\ninlet ${celsius(values.inlet.at(t, s))}\npower ${KINDS.power.says(values.power.at(t, s))}${held}`;
}

function tip(s, event) {
  const box = byId("tip");
  box.hidden = s < 0;
  if (s < 0) return;
  box.textContent = sentence(view.t, s);
  const wide = box.offsetWidth, high = box.offsetHeight;
  box.style.left = `${Math.max(4, Math.min(window.innerWidth - wide - 8, event.clientX + 14))}px`;
  box.style.top = `${event.clientY + 18 + high > window.innerHeight ? event.clientY - high - 10 : event.clientY + 18}px`;
}

floor.scale = (kind) => {
  const { name, unit, stops, low, high, says } = KINDS[kind];
  const ramp = h("span", { class: "ramp" }), ring = h("span", { class: "ring" });
  ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  ring.style.setProperty("--heat", KINDS.gpu.stops.at(-1));
  const shown = (v) => (unit === "kW" ? number(v / 1000, 1) : number(v));
  const slow = [...new Set(run.slowdown_c)].sort((a, b) => a - b).map((c) => number(c)).join(" or ");
  byId("scale").replaceChildren(h("span", {}, `${name}: ${shown(low)}`, ramp, `${shown(high)} ${unit}`), h("span", {}, ring, `slowed by heat, from ${slow} °C on`), h("span", {}, "slot 0 at the bottom"));
};
