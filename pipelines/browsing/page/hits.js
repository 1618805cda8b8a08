// The search: its fields, and the list of what it finds.
import { get } from "./api.js";
import { button, clock, counted, cutter, find, languageName, make, showProblem } from "./dom.js";
import { chips } from "./chips.js";

const FIELDS = { language: "language", speaker: "speaker", flag: "flag", status: "status-filter", below: "below" };
const TYPING = 180; // milliseconds after a key before a search starts
let control = null, next = null, lastName = null, open = () => {}, timer = 0;

export function start(onOpen) {
  open = onOpen;
  find("search").addEventListener("submit", (event) => event.preventDefault());
  find("query").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, TYPING);
  });
  find("filters").addEventListener("change", search);
  find("reset").addEventListener("click", () => {
    for (const id of Object.values(FIELDS)) find(id).value = "";
    find("corrected").checked = false;
    search();
  });
  find("more").addEventListener("click", more);
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) more();
  }, { rootMargin: "400px" }).observe(find("more"));
}

// The values that filters can take; a value that was chosen stays.
export function setValues(values) {
  const names = { language: languageName };
  for (const [kind, list] of Object.entries(values)) {
    const field = find(FIELDS[kind]), chosen = field.value;
    const options = list.map(({ value, count }) => {
      const name = (names[kind] ?? String)(value);
      return new Option(`${name} (${count.toLocaleString("en")})`, value);
    });
    field.replaceChildren(new Option("any", ""), ...options);
    if (chosen && !list.some(({ value }) => value === chosen)) field.add(new Option(chosen, chosen));
    field.value = chosen;
  }
}

function parameters() {
  const given = { q: find("query").value.trimStart(), corrected: find("corrected").checked };
  for (const [name, id] of Object.entries(FIELDS)) given[name] = find(id).value;
  return given;
}

// The search of an address such as ?q=word&language=de.
export function readAddress() {
  const given = new URLSearchParams(location.search);
  find("query").value = given.get("q") ?? "";
  find("corrected").checked = given.get("corrected") === "true";
  for (const [name, id] of Object.entries(FIELDS)) {
    const value = given.get(name), field = find(id);
    if (value && ![...field.options].some((option) => option.value === value)) field.add(new Option(value, value));
    field.value = value ?? "";
  }
}

function writeAddress(given) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
}

export async function search() {
  clearTimeout(timer);
  control?.abort();
  control = new AbortController();
  const given = parameters(), signal = control.signal;
  const active = Object.entries(given).filter(([name, value]) => name !== "q" && value).length;
  find("active").textContent = active || "";
  writeAddress(given);
  try {
    const found = await get("search", given, signal);
    showProblem(null);
    lastName = null;
    find("hits").replaceChildren();
    show(found);
    const count = `${found.more ? "more than " : ""}${counted(found.count, given.q || active ? "hit" : "recording")}`;
    find("count").textContent = found.count ? count : "Nothing found.";
    find("count").title = `${found.milliseconds} ms`;
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error);
  }
}

async function more() {
  if (next === null) return;
  const after = next, signal = control.signal;
  next = null;
  try {
    show(await get("search", { ...parameters(), after }, signal));
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error);
  }
}

function show(found) {
  for (const hit of found.hits) find("hits").append(...items(hit));
  next = found.next;
  find("more").hidden = next === null;
}

function items(hit) {
  const made = [];
  if (hit.recording_id !== lastName) {
    lastName = hit.recording_id;
    made.push(make("li", "name", hit.recording_id));
  }
  const meta = make("span", "meta", clock(hit.start ?? 0));
  if (hit.language) meta.append(make("span", "", languageName(hit.language)));
  if (hit.speaker) meta.append(make("span", "", hit.speaker));
  meta.append(...chips({ ...hit, corrected: hit.corrected ? {} : null }));
  const text = make("span", "text");
  text.dir = "auto";
  if (hit.language) text.lang = hit.language;
  const cut = cutter(hit.text);
  let place = 0;
  for (const [start, end] of hit.marks) {
    text.append(cut(place, start), make("mark", "", cut(start, end)));
    place = end;
  }
  text.append(hit.text ? cut(place, undefined) : hit.status === "no_speech" ? "No speech." : "");
  const element = button("", "hit", "", () => choose(element, hit));
  element.append(meta, text);
  made.push(make("li", "", element));
  return made;
}

function choose(element, hit) {
  for (const other of find("hits").querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
  element.setAttribute("aria-current", "true");
  open(hit.recording_id, hit.start ?? 0);
}

// Moves the focus in the list; returns whether it was there, or could go there.
export function move(step) {
  const all = [...find("hits").querySelectorAll(".hit")];
  const index = all.indexOf(document.activeElement);
  if (index < 0 && document.activeElement !== find("query") && document.activeElement !== document.body) return false;
  if (index === 0 && step < 0) find("query").focus();
  else all[index < 0 ? 0 : index + step]?.focus();
  return all.length > 0;
}

// Back to the hit that was opened.
export function focusChosen() {
  (find("hits").querySelector("[aria-current]") ?? find("hits").querySelector(".hit"))?.focus();
}
