// Colours: as the system has them, or as chosen on this machine.
import { text } from "./dom.js";

const CHOICES = ["auto", "light", "dark"];
const ICONS = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const system = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = [];
let choice = stored();

function stored() {
  try {
    const value = localStorage.getItem("coldaisle-theme");
    return CHOICES.includes(value) ? value : "auto";
  } catch { return "auto"; } // a browser may forbid storage
}

function apply() {
  const dark = choice === "dark" || (choice === "auto" && system.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const button = document.getElementById("theme");
  text(button, ICONS[choice]);
  button.setAttribute("aria-label", `Colours: ${choice}`);
  for (const listener of listeners) listener();
}

/** Follow the choice from now on; `changed` is called after every change. */
export function follow(changed) {
  document.getElementById("theme").addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    try { localStorage.setItem("coldaisle-theme", choice); } catch { /* only this visit, then */ }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
  listeners.push(changed);
}

/** The value of a colour variable now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
