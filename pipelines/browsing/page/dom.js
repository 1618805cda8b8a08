// Small helpers: elements, times, texts. Texts only ever become text nodes.
export const find = (id) => document.getElementById(id);

export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export function button(text, className, label, act) {
  const element = make("button", className, text);
  element.type = "button";
  if (label) element.setAttribute("aria-label", label);
  if (label) element.title = label;
  if (act) element.addEventListener("click", act);
  return element;
}

// Seconds as 1:02:03; with tenths below an hour where they are asked for.
export function clock(seconds, tenths = false) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  const end = tenths ? `.${Math.floor((seconds - whole) * 10)}` : "";
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}${end}` : `${minutes}:${rest}${end}`;
}

// Hours of audio for people.
export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// The server counts characters, JavaScript counts units of UTF-16: they differ behind a rare sign.
export function cutter(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (start, end) => text.slice(start, end);
  const signs = Array.from(text);
  return (start, end) => signs.slice(start, end).join("");
}

const languages = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
export function languageName(code) {
  try {
    return languages.of(code);
  } catch {
    return code;
  }
}

const COLOURS = 8; // classes .speaker-0 ... in style.css
export function speakerColour(speaker) {
  const number = Number(/^S(\d+)$/.exec(speaker ?? "")?.[1] ?? 0);
  return number ? `speaker-${(number - 1) % COLOURS}` : "";
}

let noticeTimer = 0;
export function notice(text) {
  find("notice").textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { find("notice").textContent = ""; }, 3000);
}

export function showProblem(error) {
  find("problem").textContent = error ? error.message ?? String(error) : "";
}
