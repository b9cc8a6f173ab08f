// Air and feeds: what each cold aisle draws beside what its handlers give, and the state of every handler and UPS.
import { h, keyed, metric, part, set, text } from "./dom.js";
import { age, celsius, kw, number, percent } from "./format.js";

export function air(data) {
  text(document.getElementById("outside"), data.outside_c === null ? "" : `outside ${celsius(data.outside_c)}`);
  keyed(document.getElementById("aisles"), data.aisles, (a) => a.aisle, make, update);
  keyed(document.getElementById("units"), data.units, (u) => `${u.kind}/${u.unit}`, () => h("li", { class: "chip" }), unit);
}

function make(aisle) {
  return h("div", {},
    h("div", { class: "cardhead" }, h("h3", {}, aisle.aisle), h("span", { class: "note", "data-p": "note" })),
    h("dl", { class: "facts" },
      h("div", { class: "big" }, h("dt", {}, "air drawn"), h("dd", {}, h("span", { "data-p": "drawn" }), h("small", {}, " CFM"))),
      h("div", {}, h("dt", {}, "air there is"), h("dd", {}, h("span", { "data-p": "limit" }), h("small", {}, " CFM"))),
      h("div", {}, h("dt", {}, "used"), h("dd", {}, h("span", { "data-p": "used" })))),
    h("div", { class: "gauge", "data-p": "gauge", role: "img" }, h("i"), h("b")));
}

function update(card, aisle) {
  const share = aisle.airflow_cfm === null ? null : aisle.airflow_cfm / aisle.limit_cfm;
  set(card, "data-seen", aisle.seen.state);
  metric(part(card, "drawn"), "aisle.airflow_cfm", aisle.aisle, aisle.airflow_cfm, number(aisle.airflow_cfm));
  metric(part(card, "limit"), "aisle.limit_cfm", aisle.aisle, aisle.limit_cfm, number(aisle.limit_cfm));
  text(part(card, "used"), percent(share));
  const note = part(card, "note");
  const lost = aisle.lost_ahus;
  const old = aisle.seen.state === "stale" ? `${age(aisle.seen.age_s)} old` : aisle.seen.state === "silent" ? "silent" : "";
  text(note, lost.length ? `${lost.join(", ")} lost: ${percent(aisle.limit_cfm / aisle.full_limit_cfm)} of the air is left` : old || `${aisle.ahus} air handlers`);
  set(note, "class", `note${lost.length ? " bad" : ""}`);
  const gauge = part(card, "gauge");
  gauge.style.setProperty("--share", String(Math.min(1, share ?? 0)));
  set(gauge, "data-tone", share > 1 ? "bad" : null);
  set(gauge, "aria-label", `${percent(share)} of the air is used`);
}

function unit(chip, u) {
  const state = u.seen.state === "fresh" ? u.state : `${u.state}, ${age(u.seen.age_s)} old`;
  set(chip, "data-tone", u.state === "lost" ? "bad" : u.seen.state === "fresh" ? "ok" : "warn");
  metric(chip, "unit.state", u.unit, u.state, `${u.unit} ${state}${u.power_w === null ? "" : ` · ${kw(u.power_w)} kW`}`);
}
