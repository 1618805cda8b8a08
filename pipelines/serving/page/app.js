// The page: a file or the microphone in, words that follow the audio out. No libraries; texts only ever become text nodes.
import { asSrt, asVtt } from "./subtitles.js";
import { startMicrophone } from "./microphone.js";

const find = (id) => document.getElementById(id);
const player = find("player"), transcript = find("transcript"), record = find("record"), stop = find("stop");
const SLACK = 0.5; // seconds by which a word may lie outside of its segment
let words = []; // {word, start, end, element}, as they are read
let timed = []; // the same in the order of time, which is another one where two speak at once
let segments = []; // {start, end, text, language, words}
let current = null, address = null, model = null, busy = null, microphone = null, recordingName = "recording";
let recording = null; // ends the recording that goes on, or begins

function say(text) { find("status").textContent = text; }
function complain(text) { find("problem").textContent = text; }

async function loadSettings() {
  const settings = await (await fetch("page/settings.json")).json();
  model = settings.models[0];
  for (const { code, name } of settings.languages) find("language").add(new Option(name, code));
}

function headers() {
  const key = find("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function clear() {
  busy?.abort();
  words = []; timed = []; segments = []; current = null;
  transcript.replaceChildren();
  complain("");
  find("result").hidden = false;
  setDownloads(false);
}

function setDownloads(there) {
  for (const button of find("downloads").children) button.disabled = !there;
}

function listenTo(blob) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  player.src = address;
}

// A file: its text comes as server-sent events while it is recognised, its words with the last of them.
async function transcribe(file) {
  if (recording) return;
  clear();
  recordingName = file.name.replace(/\.[^.]*$/, "") || "recording";
  listenTo(file);
  const control = busy = new AbortController();
  say(`Listening to ${file.name} …`);
  const live = document.createElement("p");
  transcript.append(live);
  try {
    const whole = await stream(file, control.signal, (delta) => live.append(delta));
    if (control.signal.aborted) return;
    live.remove();
    segments = withWords(whole);
    for (const segment of segments) show(segment);
    setDownloads(segments.length > 0);
    say(segments.length ? `${words.length || "No"} words.` : "Nothing was said.");
  } catch (error) {
    if (control.signal.aborted) return;
    say("");
    complain(error.message);
  }
}

async function stream(file, signal, onDelta) {
  const form = new FormData();
  form.set("model", model);
  form.set("response_format", "verbose_json");
  form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  form.set("stream", "true");
  if (find("language").value) form.set("language", find("language").value);
  if (find("context").value) form.set("prompt", find("context").value);
  form.set("file", file, file.name);
  const answer = await fetch("v1/audio/transcriptions", { method: "POST", body: form, headers: headers(), signal });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error?.message ?? `The server answered ${answer.status}.`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The server stopped before the end.");
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: {")) continue;
      const message = JSON.parse(event.slice(6));
      if (message.error) throw new Error(message.error.message);
      if (message.type === "transcript.text.delta") onDelta(message.delta);
      if (message.type === "transcript.text.done") return message;
    }
  }
}

// All words stand in one list, segment by segment: those of a segment are the next ones, as far as its text has them. Times alone do not tell:
// segments of several channels overlap.
function withWords(answer) {
  let next = 0;
  return answer.segments.filter((segment) => segment.text).map((segment) => {
    const own = [];
    let place = 0;
    for (; next < answer.words.length; next++) {
      const word = answer.words[next], found = segment.text.indexOf(word.word, place);
      if (found < 0 || word.start < segment.start - SLACK || word.start > segment.end + SLACK) break;
      own.push(word);
      place = found + word.word.length;
    }
    return { start: segment.start, end: segment.end, text: segment.text, language: segment.language, words: own };
  });
}

function show(segment) {
  const paragraph = document.createElement("p");
  if (segment.language) paragraph.lang = segment.language;
  if (!segment.words.length) paragraph.textContent = segment.text;
  let place = 0;
  for (const word of segment.words) {
    const found = segment.text.indexOf(word.word, place);
    if (found > place) paragraph.append(segment.text.slice(place, found));
    place = found < 0 ? place : found + word.word.length;
    const element = document.createElement("span");
    element.className = "word";
    element.setAttribute("role", "button");
    element.tabIndex = words.length ? -1 : 0;
    element.textContent = word.word;
    element.dataset.start = word.start;
    paragraph.append(element);
    words.push({ ...word, element });
  }
  if (segment.words.length) paragraph.append(segment.text.slice(place));
  timed = [...words].sort((left, right) => left.start - right.start);
  transcript.append(paragraph);
}

// The word that is heard now: the last one that has begun.
function highlight() {
  const time = player.currentTime;
  let low = 0, high = timed.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timed[middle].start <= time + 0.02) low = middle + 1; else high = middle;
  }
  const word = timed[low - 1];
  const now = word && time <= Math.max(word.end, word.start + 0.1) + 0.15 ? word : null;
  if (now === current) return;
  current?.element.classList.remove("now");
  now?.element.classList.add("now");
  current = now;
}

function follow() {
  highlight();
  if (!player.paused) requestAnimationFrame(follow);
}

// An audio element plays on what it has without `src`, into the microphone that begins to hear.
function silence() {
  player.pause();
  player.removeAttribute("src");
  player.load();
}

function hear(element) {
  if (!player.hasAttribute("src")) return; // what it is in still goes on
  player.currentTime = Number(element.dataset.start);
  player.play().catch(() => {});
  highlight();
}

function move(element, step) {
  const place = words.findIndex((word) => word.element === element);
  const next = words[place + step]?.element;
  if (!next) return;
  element.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

transcript.addEventListener("click", (event) => { if (event.target.classList.contains("word")) hear(event.target); });
transcript.addEventListener("keydown", (event) => {
  if (!event.target.classList.contains("word")) return;
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (event.key in steps) move(event.target, steps[event.key]);
  else if (event.key === "Enter" || event.key === " ") hear(event.target);
  else return;
  event.preventDefault();
});
player.addEventListener("play", follow);
player.addEventListener("seeked", highlight);
player.addEventListener("timeupdate", highlight);

// The microphone: text as it is said, words when an utterance is over.
async function beginRecording() {
  if (recording) return;
  clear();
  const control = recording = new AbortController();
  setRecording(true);
  recordingName = "recording";
  silence();
  const live = document.createElement("p"), settled = document.createElement("span"), unsettled = document.createElement("span");
  unsettled.className = "unsettled";
  live.append(settled, unsettled);
  transcript.append(live);
  const hooks = {
    onState: say,
    onDelta(text, tail) { settled.append(text); unsettled.textContent = tail; },
    onUtterance(event) {
      settled.textContent = unsettled.textContent = "";
      if (!event.transcript) return;
      const segment = { start: event.start, end: event.end, text: event.transcript, language: event.language, words: event.words };
      segments.push(segment);
      show(segment);
      transcript.append(live);
    },
    onEnd(blob, problem) {
      if (recording !== control) return;
      live.remove();
      recording = microphone = null;
      setRecording(false);
      if (problem) complain(problem);
      if (blob) listenTo(blob);
      setDownloads(segments.length > 0);
      say(segments.length ? `${words.length} words.` : "Nothing was said.");
    },
  };
  // Who stops before the browser lets us hear does not wait for that.
  control.signal.addEventListener("abort", () => hooks.onEnd(null, null));
  try {
    const wish = { model, language: find("language").value, prompt: find("context").value, key: find("key").value.trim() };
    const started = await startMicrophone(wish, hooks, control.signal);
    if (recording === control) microphone = started;
  } catch (error) {
    hooks.onEnd(null, error.name === "NotAllowedError" ? "The browser does not let this page use the microphone." : error.message);
  }
}

function setRecording(on) {
  record.setAttribute("aria-pressed", String(on));
  record.disabled = find("file").disabled = on;
  stop.hidden = !on;
  if (on) stop.focus(); else record.focus();
}

record.addEventListener("click", beginRecording);
stop.addEventListener("click", () => { if (microphone) microphone.stop(); else recording?.abort(); });
find("settings").addEventListener("submit", (event) => event.preventDefault());
find("file").addEventListener("change", (event) => { if (event.target.files[0]) transcribe(event.target.files[0]); event.target.value = ""; });

const drop = find("drop");
for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) transcribe(event.dataTransfer.files[0]); });

const makers = {
  srt: () => asSrt(segments),
  vtt: () => asVtt(segments),
  txt: () => segments.map((segment) => segment.text).join("\n") + "\n",
  json: () => JSON.stringify({ segments }, null, 2),
};
find("downloads").addEventListener("click", (event) => {
  const format = event.target.dataset.format;
  if (!format) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([makers[format]()], { type: "text/plain" }));
  link.download = `${recordingName}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

setDownloads(false);
loadSettings().catch(() => complain("The server does not answer."));
