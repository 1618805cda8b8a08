// The page: transcribes a file or the microphone. It uses no libraries.
import * as queue from "./queue.js";
import * as speakers from "./speakers.js";
import * as transcript from "./transcript.js";
import { asSrt, asVtt, followedBy } from "./subtitles.js";
import { startMicrophone } from "./microphone.js";

const find = (id) => document.getElementById(id);
const record = find("record"), stop = find("stop");
let segments = []; // {start, end, text, language, words}
let cues = []; // {start, end, text, vtt}, from the server
let model = null, microphone = null, recordingName = "recording";
let shown = null, live = null; // the file of the queue that is shown, and the paragraph of its text so far
let recording = null; // aborts the recording that is active or starting

function showStatus(text) { find("status").textContent = text; }
function showProblem(text) { find("problem").textContent = text; }

async function loadSettings() {
  const facts = await (await fetch("page/settings.json")).json();
  model = facts.models[0];
  find("context").maxLength = facts.max_prompt;
  find("key-field").hidden = !facts.needs_key;
  for (const { code, name } of facts.languages) find("language").add(new Option(name, code));
}

function clear() {
  segments = [];
  cues = [];
  transcript.clear();
  showProblem("");
  find("result").hidden = false;
  find("about").textContent = "";
  setDownloads(false);
}

function setDownloads(enabled) {
  for (const button of find("downloads").children) button.disabled = !enabled;
}

function showResult() {
  setDownloads(segments.length > 0);
  const count = transcript.wordCount();
  const words = count === 1 ? "1 word" : `${count || "No"} words`;
  showStatus(segments.length ? `${words}.` : "No speech.");
}

function settings() {
  return { model, language: find("language").value, prompt: find("context").value, key: find("key").value.trim() };
}

function addFiles(files) {
  if (recording || !files.length) return;
  const first = queue.add(files);
  if (!shown || !["waiting", "running"].includes(shown.state)) show(first);
}

// Shows a file of the queue: its text so far, or its transcript.
function show(entry) {
  shown = entry;
  queue.setCurrent(entry);
  clear();
  recordingName = entry.file.name.replace(/\.[^.]*$/, "") || "recording";
  transcript.setAudio(entry.file);
  live = document.createElement("p");
  update(entry);
}

// Called when a file of the queue has changed.
function update(entry) {
  if (entry !== shown || recording) return;
  const { file, state, response } = entry;
  find("about").textContent = file.name;
  if (state === "done") {
    find("about").textContent = `${file.name} · ${queue.stateText(entry)}`;
    transcript.clear();
    segments = transcript.segmentsWithWords(response);
    cues = response.cues;
    speakers.begin(response.speakers);
    for (const segment of segments) transcript.show(segment);
    showResult();
  } else if (state === "failed") {
    showStatus("");
    showProblem(`${file.name}: ${entry.problem}`);
  } else {
    showStatus(state === "running" ? `Transcribing ${file.name}: ${queue.stateText(entry)}` : `${file.name}: ${state}.`);
    live.textContent = entry.text;
    transcript.append(live);
  }
}

// Records the microphone: text appears during an utterance, words at its end.
async function startRecording() {
  if (recording) return;
  if (queue.isRunning()) {
    showProblem("Stop the files first, or wait until they are done.");
    return;
  }
  shown = null;
  queue.setCurrent(null);
  clear();
  const control = recording = new AbortController();
  setRecording(true);
  recordingName = "recording";
  transcript.removeAudio();
  const live = document.createElement("p");
  const settled = document.createElement("span"), unsettled = document.createElement("span");
  unsettled.className = "unsettled";
  live.append(settled, unsettled);
  transcript.append(live);
  const hooks = {
    onState: showStatus,
    onDelta(text, tail) {
      settled.append(text);
      unsettled.textContent = tail;
    },
    onUtterance({ start, end, transcript: text, language, words, cues: made }) {
      settled.textContent = unsettled.textContent = "";
      if (!text) return;
      const segment = { start, end, text, language, words };
      segments.push(segment);
      cues = followedBy(cues, made);
      transcript.show(segment);
      transcript.append(live);
    },
    onEnd(blob, problem) {
      if (recording !== control) return;
      live.remove();
      recording = microphone = null;
      setRecording(false);
      if (problem) showProblem(problem);
      if (blob) transcript.setAudio(blob);
      showResult();
    },
  };
  // Stop ends the recording at once if the browser has not yet allowed the microphone.
  control.signal.addEventListener("abort", () => hooks.onEnd(null, null));
  try {
    const started = await startMicrophone(settings(), hooks, control.signal);
    if (recording === control) microphone = started;
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    hooks.onEnd(null, denied ? "The browser does not allow this page to use the microphone." : error.message);
  }
}

function setRecording(on) {
  record.setAttribute("aria-pressed", String(on));
  record.disabled = find("file").disabled = on;
  stop.hidden = !on;
  if (on) stop.focus(); else record.focus();
}

record.addEventListener("click", startRecording);
stop.addEventListener("click", () => { if (microphone) microphone.stop(); else recording?.abort(); });
find("settings").addEventListener("submit", (event) => event.preventDefault());
find("file").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});

const drop = find("drop");
for (const kind of ["dragover", "dragenter"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  addFiles(event.dataTransfer.files);
});

const formats = {
  srt: () => asSrt(cues),
  vtt: () => asVtt(cues),
  txt: () => segments.map((segment) => segment.text).join("\n") + "\n",
  json: () => JSON.stringify({ segments }, null, 2),
};
find("downloads").addEventListener("click", (event) => {
  const format = event.target.dataset.format;
  if (!format) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([formats[format]()], { type: "text/plain" }));
  link.download = `${recordingName}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

find("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(formats.txt());
    showStatus("Copied.");
  } catch {
    showProblem("The browser does not allow this page to copy.");
  }
});

queue.start({ settings, onChange: update, onShow: (entry) => { if (!recording) show(entry); } });
setDownloads(false);
loadSettings().catch(() => showProblem("The server does not respond."));
