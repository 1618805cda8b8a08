// Files that are transcribed one after the other, and their list on the page.
import { clock } from "./transcript.js";
import { transcribe } from "./upload.js";

const list = document.getElementById("queue");
let entries = []; // {file, state, done, duration, text, response, problem, item}
let running = null, hooks = {};

// settings() gives what a file is sent with; onChange(entry) is called when an entry has changed, onShow(entry)
// when its name is chosen.
export function start(given) {
  hooks = given;
}

export function add(files) {
  const added = [...files].map((file) => ({ file, state: "waiting", done: 0, duration: 0, text: "" }));
  entries.push(...added);
  for (const entry of added) {
    entry.item = document.createElement("li");
    list.append(entry.item);
    draw(entry);
  }
  list.hidden = false;
  next();
  return added[0];
}

export const isRunning = () => running !== null;

// Shows which entry the page shows.
export function setCurrent(entry) {
  for (const other of entries) other.item.firstChild.setAttribute("aria-current", String(other === entry));
}

async function next() {
  if (running) return;
  const entry = running = entries.find(({ state }) => state === "waiting") ?? null;
  if (!entry) return;
  change(entry, { state: "running" });
  entry.control = new AbortController();
  try {
    const response = await transcribe(entry.file, hooks.settings(), entry.control.signal, {
      onDelta: (delta) => change(entry, { text: entry.text + delta }),
      onProgress: (done, duration) => change(entry, { done, duration }),
    });
    change(entry, { state: "done", response });
  } catch (error) {
    const stopped = entry.control.signal.aborted;
    change(entry, { state: stopped ? "stopped" : "failed", problem: stopped ? null : error.message });
  }
  running = null;
  next();
}

function change(entry, values) {
  Object.assign(entry, values);
  draw(entry);
  hooks.onChange(entry);
}

function draw(entry) {
  const current = entry.item.firstChild?.getAttribute("aria-current") ?? "false";
  const name = document.createElement("button");
  name.type = "button";
  name.textContent = entry.file.name;
  name.setAttribute("aria-current", current);
  name.addEventListener("click", () => hooks.onShow(entry));
  const state = document.createElement("span");
  state.className = `state ${entry.state}`;
  state.textContent = stateText(entry);
  const hadFocus = entry.item.contains(document.activeElement);
  entry.item.replaceChildren(name, state);
  if (entry.state === "running") {
    const bar = document.createElement("progress");
    bar.setAttribute("aria-label", `Progress of ${entry.file.name}`);
    if (entry.duration) Object.assign(bar, { max: entry.duration, value: entry.done });
    entry.item.append(bar);
  }
  if (["waiting", "running"].includes(entry.state)) {
    const stop = document.createElement("button");
    stop.type = "button";
    stop.textContent = "Stop";
    stop.setAttribute("aria-label", `Stop ${entry.file.name}`);
    stop.addEventListener("click", () => {
      if (entry.control) entry.control.abort(); else change(entry, { state: "stopped" });
    });
    entry.item.append(stop);
  }
  if (hadFocus) name.focus();
}

export function stateText(entry) {
  if (entry.state === "running") {
    return entry.duration ? `${clock(entry.done)} of ${clock(entry.duration)}` : "uploading …";
  }
  if (entry.state === "failed") return entry.problem;
  if (entry.state === "done") return `${clock(entry.response.duration ?? 0)}, ${languagesOf(entry.response)}`;
  return entry.state;
}

export function languagesOf(response) {
  const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
  return (response.languages ?? []).map(({ code }) => names.of(code)).join(", ") || "no speech";
}
