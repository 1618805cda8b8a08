// A transcript with its audio: words that follow the audio, and play it from there when they are clicked.
import { address, get } from "./api.js";
import { LOW, chips, flagChip, isDoubtful } from "./chips.js";
import { button, clock, counted, cutter, duration, find, languageName, make, notice, showProblem, speakerColour } from "./dom.js";

const player = find("player"), container = find("segments");
const SLACK = 0.02; // seconds by which a player may be early
let data = null; // the transcript
let parts = []; // {segment, element, text, words: elements or null} in the order of the page
let timeline = []; // {start, end, part, word} by start; word is null where a segment has no times of words
let now = null; // the entry that is playing
let here = null; // the part that keys act on
let names = new Map(), decoded = false, edit = () => {};

export function start(onEdit) {
  edit = onEdit;
  player.addEventListener("play", follow);
  for (const kind of ["seeked", "timeupdate"]) player.addEventListener(kind, highlight);
  player.addEventListener("error", () => {
    if (!data || !player.getAttribute("src")) return;
    if (decoded) return void explain();
    decoded = true; // the browser cannot play the file: the server decodes it
    setAudio(player.currentTime);
  });
  container.addEventListener("click", clicked);
}

export const current = () => data;

// Words become elements when they come near the screen: a transcript may have 100,000.
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) splitWords(partOf(target));
}, { rootMargin: "1500px 0px" });

export async function open(recording, seconds, signal) {
  if (data?.recording_id !== recording) {
    const loaded = await get("transcript", { id: recording }, signal);
    if (signal?.aborted) return;
    show(loaded);
    decoded = false;
    setAudio(seconds ?? loaded.start);
  } else if (seconds !== null) seek(seconds);
  if (seconds !== null) showMoment(seconds);
}

export function close() {
  player.pause();
  player.removeAttribute("src");
  player.load();
  data = now = here = null;
  parts = [];
  timeline = [];
  observer.disconnect();
  container.replaceChildren();
}

// Why there is no audio: a player does not say.
async function explain() {
  const { recording_id: id } = data;
  const response = await fetch(address("audio", { id, decoded }), { headers: { range: "bytes=0-99" } }).catch(() => null);
  const { error } = (await response?.json().catch(() => ({}))) ?? {};
  if (data?.recording_id === id) showProblem(`The audio cannot be played. ${error?.message ?? ""}`);
}

function setAudio(seconds) {
  player.src = address("audio", { id: data.recording_id, decoded });
  seek(seconds);
}

function show(loaded) {
  observer.disconnect();
  data = loaded;
  now = here = null;
  names = new Map(loaded.speakers.map(({ speaker, name }) => [speaker, name ?? speaker]));
  find("title").textContent = loaded.recording_id;
  document.title = `${loaded.recording_id} · Scriptorium`;
  const facts = [duration(loaded.duration ?? 0), loaded.language && languageName(loaded.language), loaded.status];
  facts.push(counted(loaded.segments.length, "segment"), loaded.model, loaded.audio);
  find("facts").textContent = facts.filter(Boolean).join(" · ");
  find("chips").replaceChildren(...loaded.flags.map(flagChip));
  parts = loaded.segments.map((segment) => ({ segment, words: null }));
  for (const part of parts) draw(part);
  if (!parts.length) container.replaceChildren(make("p", "quiet", "Nothing was said."));
  else container.replaceChildren(...parts.map((part) => part.element));
  for (const part of parts) observer.observe(part.element);
  setTimeline();
}

function setTimeline() {
  timeline = parts.flatMap((part) => {
    const timed = part.segment.words.flatMap(([start, end], word) => (start === null ? [] : [{ start, end, part, word }]));
    return timed.length ? timed : [{ start: part.segment.start, end: part.segment.end, part, word: null }];
  });
  timeline.sort((left, right) => left.start - right.start);
}

// Shows a segment anew, after a correction.
export function replace(loaded, number) {
  if (data?.recording_id !== loaded.recording_id) return;
  data = loaded;
  const part = parts[number], old = part.element;
  part.segment = loaded.segments[number];
  part.words = null;
  draw(part);
  old.replaceWith(part.element);
  observer.unobserve(old);
  observer.observe(part.element);
  now = null;
  setTimeline();
  setHere(part);
}

function draw(part) {
  const { segment } = part;
  const time = button(clock(segment.start), "time", `Play from ${clock(segment.start)}`);
  time.dataset.act = "play";
  const meta = make("div", "meta", time);
  if (segment.speaker) meta.append(speakerLabel(segment.speaker));
  if (segment.language && segment.language !== data.language) meta.append(languageName(segment.language));
  meta.append(...chips(segment));
  const editing = button("Edit", "", "Correct this segment (e)");
  editing.dataset.act = "edit";
  const link = button("Link", "", "Copy the link to this moment (c)");
  link.dataset.act = "link";
  meta.append(editing, link);
  part.text = make("p", "text", segment.text);
  part.text.dir = "auto";
  if (segment.language) part.text.lang = segment.language;
  part.element = make("section", "segment", meta, part.text);
  part.element.dataset.number = segment.number;
  part.element.tabIndex = -1;
  if (segment.words.some(([start]) => start !== null)) part.element.classList.add("timed");
  if (segment.corrected) part.element.append(make("p", "before", `The model wrote: ${segment.corrected.original || "nothing"}`));
}

function speakerLabel(speaker) {
  return make("span", `speaker ${speakerColour(speaker)}`, names.get(speaker) ?? speaker);
}

function splitWords(part) {
  if (!part || part.words || !part.segment.words.length) return;
  const { segment } = part, cut = cutter(segment.text);
  part.words = [];
  part.text.replaceChildren();
  let place = 0, speaker = segment.speaker;
  segment.words.forEach(([start, , from, to, confidence, voice], number) => {
    if (from > place) part.text.append(cut(place, from));
    if (voice && voice !== speaker) {
      if (number) part.text.append("\n");
      part.text.append(speakerLabel(voice), " ");
      speaker = voice;
    }
    const element = make("span", "word", cut(Math.max(from, place), to));
    element.dataset.word = number;
    if (confidence !== null) element.title = `${Math.round(100 * confidence)} %`;
    if (confidence !== null && confidence < LOW) element.classList.add("unsure");
    if (start === null && !segment.corrected) element.classList.add("unheard");
    part.text.append(element);
    part.words.push(element);
    place = Math.max(place, to);
  });
  part.text.append(cut(place, undefined));
  if (now?.part === part) mark(now);
}

const partOf = (element) => parts[Number(element?.closest(".segment")?.dataset.number ?? -1)];

// The index of the last entry that has started.
function entryAt(time) {
  let low = 0, high = timeline.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeline[middle].start <= time + SLACK) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function highlight() {
  const time = player.currentTime, entry = timeline[entryAt(time)];
  const playing = entry && time <= Math.max(entry.end, entry.start + 0.1) + 0.15 ? entry : null;
  if (playing === now) return;
  if (now) {
    now.part.words?.[now.word]?.classList.remove("now");
    now.part.element.classList.remove("playing");
  }
  const moved = playing && playing.part !== here;
  now = playing;
  if (!playing) return;
  mark(playing);
  if (moved && !player.paused) {
    setHere(playing.part);
    if (find("follow").checked) playing.part.element.scrollIntoView({ block: "nearest" });
  }
}

function mark(entry) {
  splitWords(entry.part);
  entry.part.element.classList.add("playing");
  if (entry.word !== null) entry.part.words?.[entry.word]?.classList.add("now");
}

function follow() {
  highlight();
  if (!player.paused) requestAnimationFrame(follow);
}

export function seek(seconds) {
  const set = () => { player.currentTime = seconds; };
  if (player.readyState) set(); else player.addEventListener("loadedmetadata", set, { once: true });
}

function play(seconds) {
  seek(seconds);
  player.play().catch(() => {});
}

export function toggle() {
  if (player.paused) player.play().catch(() => {}); else player.pause();
}

function showMoment(seconds) {
  const entry = timeline[Math.max(0, entryAt(seconds))];
  if (!entry) return;
  setHere(entry.part);
  // Segments far from the screen have an estimated height, so that the place moves when they are drawn.
  let frames = 5;
  const scroll = () => {
    entry.part.element.scrollIntoView({ block: "center" });
    if (--frames && here === entry.part) requestAnimationFrame(scroll);
  };
  scroll();
}

function setHere(part) {
  here?.element.classList.remove("here");
  here = part;
  part?.element.classList.add("here");
}

function clicked(event) {
  const part = partOf(event.target);
  if (!part || event.target.closest("textarea")) return;
  setHere(part);
  const act = event.target.closest("[data-act]")?.dataset.act, word = event.target.dataset.word;
  if (act === "play") play(part.segment.start);
  else if (act === "edit") edit(part);
  else if (act === "link") copyLink(part.segment.start);
  else if (word !== undefined) {
    const [start] = part.segment.words[word];
    if (start !== null) play(start);
  } else if (event.target === part.text && !part.element.classList.contains("timed")) play(part.segment.start);
}

// Keys: the step is in words, seconds or segments.
export function moveWord(step) {
  const index = entryAt(player.currentTime), target = timeline[Math.max(0, index + step)];
  if (!target) return;
  seek(target.start);
  setHere(target.part);
  target.part.element.scrollIntoView({ block: "nearest" });
}

export function skip(seconds) {
  seek(Math.max(0, player.currentTime + seconds));
}

export function moveSegment(step) {
  goTo(parts[here ? parts.indexOf(here) + step : 0]);
}

export function moveDoubtful(step) {
  let index = here ? parts.indexOf(here) + step : 0;
  while (parts[index] && !isDoubtful(parts[index].segment)) index += step;
  if (parts[index]) goTo(parts[index]); else notice("No more doubtful segments in this direction.");
}

function goTo(part) {
  if (!part) return;
  setHere(part);
  seek(part.segment.start);
  part.element.focus({ preventScroll: true });
  part.element.scrollIntoView({ block: "nearest" });
}

export function editHere() {
  const part = here ?? now?.part ?? parts[0];
  if (part) edit(part);
}

export function momentHash(seconds) {
  return `#${encodeURIComponent(data.recording_id)}@${Math.round(seconds * 100) / 100}`;
}

export async function copyLink(seconds = player.currentTime) {
  const hash = momentHash(seconds), link = `${location.origin}${location.pathname}${hash}`;
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  try {
    await navigator.clipboard.writeText(link);
    notice("Link copied.");
  } catch {
    notice("The link is in the address bar.");
  }
}
