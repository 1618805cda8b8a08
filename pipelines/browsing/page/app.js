// The page: starts its parts, follows the address, and gives the keys their meaning. It uses no libraries.
import { address, get } from "./api.js";
import { setMeanings } from "./chips.js";
import { counted, duration, find, make, showProblem } from "./dom.js";
import { edit, isUnsaved, setEditor } from "./editor.js";
import * as hits from "./hits.js";
import * as transcript from "./transcript.js";

let loading = null;
const LOST = "The correction is not saved. Leave it?";

async function openTranscript(recording, seconds) {
  if (recording !== transcript.current()?.recording_id && isUnsaved() && !confirm(LOST)) return;
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  try {
    // Before it is filled, so that places can be scrolled to.
    find("reading").hidden = false;
    document.body.classList.add("reads");
    await transcript.open(recording, seconds, signal);
    if (signal.aborted) return;
    showProblem(null);
    const hash = seconds === null ? `#${encodeURIComponent(recording)}` : transcript.momentHash(seconds);
    if (hash !== location.hash) history.pushState(null, "", `${location.pathname}${location.search}${hash}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!transcript.current()) hideTranscript();
    showProblem(error);
  }
}

function hideTranscript() {
  find("reading").hidden = true;
  document.body.classList.remove("reads");
}

function closeTranscript() {
  if (isUnsaved() && !confirm(LOST)) return;
  transcript.close();
  hideTranscript();
  document.title = "Scriptorium";
  if (location.hash) history.pushState(null, "", `${location.pathname}${location.search}`);
  hits.focusChosen();
}

// #RECORDING@SECONDS
function followHash() {
  const hash = location.hash.slice(1);
  if (!hash) {
    if (transcript.current()) closeTranscript();
    return;
  }
  const at = hash.lastIndexOf("@"), seconds = at < 0 ? NaN : Number(hash.slice(at + 1));
  const name = Number.isFinite(seconds) ? hash.slice(0, at) : hash;
  try {
    openTranscript(decodeURIComponent(name), Number.isFinite(seconds) ? seconds : null);
  } catch {
    showProblem("This link is damaged.");
  }
}

function download() {
  const link = document.createElement("a");
  link.href = address("download", { id: transcript.current().recording_id, format: find("format").value });
  link.download = "";
  link.click();
}

// Keys without a modifier, where nothing is being typed.
const reading = () => transcript.current() !== null;
const onList = () => !reading() || find("results").contains(document.activeElement);
const keys = {
  "/": () => { find("query").focus(); find("query").select(); },
  "?": () => find("help").showModal(),
  " ": () => reading() && transcript.toggle(),
  ArrowDown: () => (onList() ? hits.move(1) : transcript.moveSegment(1)),
  ArrowUp: () => (onList() ? hits.move(-1) : transcript.moveSegment(-1)),
  ArrowRight: () => reading() && transcript.moveWord(1),
  ArrowLeft: () => reading() && transcript.moveWord(-1),
  "Shift+ArrowRight": () => reading() && transcript.skip(5),
  "Shift+ArrowLeft": () => reading() && transcript.skip(-5),
  e: () => reading() && transcript.editHere(),
  n: () => reading() && transcript.moveDoubtful(1),
  p: () => reading() && transcript.moveDoubtful(-1),
  c: () => reading() && transcript.copyLink(),
  Escape: () => reading() && closeTranscript(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || find("help").open) return;
  const { target } = event, shift = event.shiftKey && event.key.length > 1 ? "Shift+" : "";
  if (target === find("query") && ["ArrowDown", "Escape"].includes(event.key)) {
    if (event.key === "Escape") target.blur(); else hits.move(1);
    event.preventDefault();
    return;
  }
  if (target.matches("input:not([type=checkbox]), textarea, select")) return;
  if (event.key === " " && target.matches("button, a, summary, input, audio")) return;
  if (target.matches("audio") && event.key.startsWith("Arrow")) return;
  const act = keys[shift + event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
window.addEventListener("popstate", followHash);
window.addEventListener("hashchange", followHash);
window.addEventListener("beforeunload", (event) => { if (isUnsaved()) event.preventDefault(); });
find("back").addEventListener("click", closeTranscript);
find("download").addEventListener("click", download);
find("doubtful").addEventListener("click", () => transcript.moveDoubtful(1));
find("help-button").addEventListener("click", () => find("help").showModal());

hits.start(openTranscript);
transcript.start(edit);
try {
  const overview = await get("overview");
  const { recordings, seconds, segments } = overview;
  const totals = [counted(recordings, "recording"), duration(seconds), counted(segments, "segment")];
  find("totals").replaceChildren(totals.join(" · "), make("span", "where", ` · ${overview.out}`));
  setMeanings(overview.flags);
  setEditor(overview.editor);
  hits.setValues(overview.values);
  for (const { name, about } of overview.formats) find("format").add(new Option(`${name} – ${about}`, name));
  hits.readAddress();
  await hits.search();
  followHash();
} catch (error) {
  showProblem(error);
}
