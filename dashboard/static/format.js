// Numbers and times as people read them. Absent values are a dash; the minus is a minus.

export const DASH = "–";
const absent = (value) => value === null || value === undefined || Number.isNaN(value);

const forms = [0, 1, 2].map((digits) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

/** A number with 0, 1 or 2 decimals. */
export function number(value, digits = 0) {
  return absent(value) ? DASH : forms[digits].format(value).replace("-", "\u2212");
}

/** Watts as kW, one decimal below 100 kW. */
export function kw(value_w) {
  if (absent(value_w)) return DASH;
  const value = value_w / 1000;
  return number(value, Math.abs(value) < 100 ? 1 : 0);
}

export const percent = (share, digits = 0) => (absent(share) ? DASH : `${number(share * 100, digits)} %`);
export const celsius = (value, digits = 1) => (absent(value) ? DASH : `${number(value, digits)} °C`);
export const probability = (p) => (absent(p) ? DASH : p >= 0.995 ? "> 99 %" : p < 0.01 ? "< 1 %" : `= ${number(p * 100)} %`);

/** Seconds as a length of time: 4 s, 3 min 20 s, 2 h 5 min. */
export function span(s) {
  if (absent(s)) return DASH;
  const whole = Math.round(Math.abs(s));
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h${Math.floor((whole % 3600) / 60) ? ` ${Math.floor((whole % 3600) / 60)} min` : ""}`;
}

/** An age: below ten seconds with one decimal. */
export const age = (s) => (absent(s) ? DASH : s < 10 ? `${number(s, 1)} s` : span(s));

const at = (time) => new Date(typeof time === "number" ? time * 1000 : time);
export const clock = (time) => (absent(time) ? DASH : at(time).toISOString().slice(11, 19));
export const minute = (time) => (absent(time) ? DASH : at(time).toISOString().slice(11, 16));
export const stamp = (time) => `${at(time).toISOString().slice(0, 10)} ${clock(time)} UTC`;
/** Seconds since 1970 as the chart library takes them (UTC). */
export const axis = (t) => new Date(t * 1000).toISOString().slice(0, 19);
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
