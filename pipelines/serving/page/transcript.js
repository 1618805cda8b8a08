// The transcript on the page: words that follow the audio, and play it from there when they are clicked.
// Texts only ever become text nodes.
import { colourOf, label } from "./speakers.js";
const player = document.getElementById("player"), transcript = document.getElementById("transcript");
const SLACK = 0.5; // seconds by which a word may lie outside its segment
let words = []; // {word, start, end, element} in reading order
let wordsByTime = []; // the same by start, which differs from the reading order where two speakers overlap
let current = null, audioUrl = null;

export function clear() {
  words = [];
  wordsByTime = [];
  current = null;
  transcript.replaceChildren();
}

export function wordCount() {
  return words.length;
}

// Adds an element at the end, for text that is still changing.
export function append(element) {
  transcript.append(element);
}

export function setAudio(blob) {
  if (audioUrl) URL.revokeObjectURL(audioUrl);
  audioUrl = URL.createObjectURL(blob);
  player.src = audioUrl;
}

// Removing `src` alone would not stop the audio, which the microphone would then record.
export function removeAudio() {
  player.pause();
  player.removeAttribute("src");
  player.load();
}

// The server lists all words in one list, segment by segment. The words of a segment are the next ones that its text
// contains. Times alone cannot assign them, because segments of several channels overlap.
export function segmentsWithWords(response) {
  let next = 0;
  return response.segments.filter((segment) => segment.text).map((segment) => {
    const own = [];
    let offset = 0;
    for (; next < response.words.length; next++) {
      const word = response.words[next], found = segment.text.indexOf(word.word, offset);
      if (found < 0 || word.start < segment.start - SLACK || word.start > segment.end + SLACK) break;
      own.push(word);
      offset = found + word.word.length;
    }
    const { start, end, text, language, speaker } = segment;
    return { start, end, text, language, speaker, words: own };
  });
}

export function show(segment) {
  const paragraph = document.createElement("p");
  if (segment.language) paragraph.lang = segment.language;
  paragraph.append(timeButton(segment.start));
  if (!segment.words.length) paragraph.append(segment.text);
  let offset = 0, speaker = null;
  if (!segment.words.length && segment.speaker) paragraph.firstChild.after(label(segment.speaker), " ");
  for (const word of segment.words) {
    const found = segment.text.indexOf(word.word, offset);
    if (word.speaker && word.speaker !== speaker) {
      if (speaker) paragraph.append(document.createElement("br"));
      paragraph.append(label(word.speaker), " ");
      speaker = word.speaker;
    }
    if (found > offset) paragraph.append(segment.text.slice(offset, found));
    offset = found < 0 ? offset : found + word.word.length;
    const element = document.createElement("span");
    element.className = `word ${colourOf(word.speaker)}`.trim();
    element.setAttribute("role", "button");
    element.tabIndex = words.length ? -1 : 0;
    element.textContent = word.word;
    element.dataset.start = word.start;
    paragraph.append(element);
    words.push({ ...word, element });
  }
  if (segment.words.length) paragraph.append(segment.text.slice(offset));
  wordsByTime = [...words].sort((left, right) => left.start - right.start);
  transcript.append(paragraph);
}

// The time of a paragraph, which plays it.
function timeButton(start) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "time";
  button.dataset.start = start;
  button.textContent = clock(start);
  button.title = "Play from here";
  return button;
}

export function clock(seconds) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// Marks the word that is playing: the last one that has started.
function highlight() {
  const time = player.currentTime;
  let low = 0, high = wordsByTime.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (wordsByTime[middle].start <= time + 0.02) low = middle + 1; else high = middle;
  }
  const word = wordsByTime[low - 1];
  const playing = word && time <= Math.max(word.end, word.start + 0.1) + 0.15 ? word : null;
  if (playing === current) return;
  current?.element.classList.remove("now");
  playing?.element.classList.add("now");
  current = playing;
}

function followAudio() {
  highlight();
  if (!player.paused) requestAnimationFrame(followAudio);
}

function playFrom(element) {
  if (!player.hasAttribute("src")) return; // the recording that it belongs to has not ended
  player.currentTime = Number(element.dataset.start);
  player.play().catch(() => {});
  highlight();
}

function moveFocus(element, step) {
  const index = words.findIndex((word) => word.element === element);
  const next = words[index + step]?.element;
  if (!next) return;
  element.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

transcript.addEventListener("click", (event) => {
  if (event.target.matches(".word, .time")) playFrom(event.target);
});
transcript.addEventListener("keydown", (event) => {
  if (!event.target.classList.contains("word")) return;
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (event.key in steps) moveFocus(event.target, steps[event.key]);
  else if (event.key === "Enter" || event.key === " ") playFrom(event.target);
  else return;
  event.preventDefault();
});
player.addEventListener("play", followAudio);
player.addEventListener("seeked", highlight);
player.addEventListener("timeupdate", highlight);
