// The page: transcribes a file or the microphone. It uses no libraries.
import * as speakers from "./speakers.js";
import * as transcript from "./transcript.js";
import { asSrt, asVtt, followedBy } from "./subtitles.js";
import { startMicrophone } from "./microphone.js";

const find = (id) => document.getElementById(id);
const record = find("record"), stop = find("stop");
let segments = []; // {start, end, text, language, words}
let cues = []; // {start, end, text, vtt}, from the server
let model = null, upload = null, microphone = null, recordingName = "recording";
let recording = null; // aborts the recording that is active or starting

function showStatus(text) { find("status").textContent = text; }
function showProblem(text) { find("problem").textContent = text; }

async function loadSettings() {
  const settings = await (await fetch("page/settings.json")).json();
  model = settings.models[0];
  find("context").maxLength = settings.max_prompt;
  for (const { code, name } of settings.languages) find("language").add(new Option(name, code));
}

function headers() {
  const key = find("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function clear() {
  upload?.abort();
  segments = [];
  cues = [];
  transcript.clear();
  showProblem("");
  find("result").hidden = false;
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

// Uploads a file. Its text arrives as server-sent events while it is recognised, its words with the last event.
async function transcribe(file) {
  if (recording) return;
  clear();
  recordingName = file.name.replace(/\.[^.]*$/, "") || "recording";
  transcript.setAudio(file);
  const control = upload = new AbortController();
  showStatus(`Transcribing ${file.name} …`);
  const live = document.createElement("p");
  transcript.append(live);
  try {
    const response = await streamTranscription(file, control.signal, (delta) => live.append(delta));
    if (control.signal.aborted) return;
    live.remove();
    segments = transcript.segmentsWithWords(response);
    cues = response.cues;
    speakers.begin(response.speakers);
    for (const segment of segments) transcript.show(segment);
    showResult();
  } catch (error) {
    if (control.signal.aborted) return;
    showStatus("");
    showProblem(error.message);
  }
}

async function streamTranscription(file, signal, onDelta) {
  const body = new FormData();
  body.set("model", model);
  body.set("response_format", "verbose_json");
  body.append("timestamp_granularities[]", "word");
  body.append("timestamp_granularities[]", "segment");
  body.append("timestamp_granularities[]", "cue");
  body.set("stream", "true");
  if (find("language").value) body.set("language", find("language").value);
  if (find("context").value) body.set("prompt", find("context").value);
  body.set("file", file, file.name);
  const response = await fetch("v1/audio/transcriptions", { method: "POST", body, headers: headers(), signal });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error?.message ?? `The server responded with status ${response.status}.`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The server closed the connection before the end.");
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

// Records the microphone: text appears during an utterance, words at its end.
async function startRecording() {
  if (recording) return;
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
    const prompt = find("context").value, key = find("key").value.trim();
    const settings = { model, language: find("language").value, prompt, key };
    const started = await startMicrophone(settings, hooks, control.signal);
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
  if (event.target.files[0]) transcribe(event.target.files[0]);
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
  if (event.dataTransfer.files[0]) transcribe(event.dataTransfer.files[0]);
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

setDownloads(false);
loadSettings().catch(() => showProblem("The server does not respond."));
