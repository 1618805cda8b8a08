// Cues from words, by the rules of the server's own subtitles (pipelines/serving/subtitles.py): two lines, six seconds, a pause or a sentence's end.
const CHARS = 84, WIDE = 32, SECONDS = 6, PAUSE = 0.8, LEAST = 0.2, SHORT = 0.3;
const UNSPACED = new Set(["zh", "yue", "ja", "th"]);
const SENTENCE_END = /[.!?…。！？؟।]$/;

function* cuesOf(segment) {
  if (!segment.words.length) {
    yield { start: segment.start, end: segment.end, text: segment.text };
    return;
  }
  const longest = UNSPACED.has(segment.language) ? WIDE : CHARS;
  let group = [], from = 0, place = 0;
  for (const word of segment.words) {
    const found = segment.text.indexOf(word.word, place);
    const begin = found < 0 ? place : found;
    const last = group[group.length - 1];
    const sentence = last && SENTENCE_END.test(last.word) && place - from >= SHORT * longest;
    if (last && (sentence || begin + word.word.length - from > longest || word.end - group[0].start > SECONDS || word.start - last.end >= PAUSE)) {
      yield { start: group[0].start, end: last.end, text: segment.text.slice(from, begin) };
      group = [];
      from = begin;
    }
    group.push(word);
    place = begin + word.word.length;
  }
  yield { start: group[0].start, end: group[group.length - 1].end, text: segment.text.slice(from) };
}

// Cues that would have no time, because the next one begins with them, and that one: as lines of one cue.
function joined(made) {
  const found = [];
  for (const cue of made) {
    const last = found[found.length - 1], start = last && milliseconds(last.start);
    if (last && milliseconds(last.end) <= start && start === milliseconds(cue.start)) {
      found[found.length - 1] = { start: last.start, end: Math.max(last.end, cue.end), text: `${last.text}\n${cue.text}` };
    } else found.push(cue);
  }
  return found;
}

function cues(segments) {
  const all = segments.flatMap((segment) => [...cuesOf(segment)]).sort((a, b) => a.start - b.start);
  const made = joined(all.map((cue) => ({ ...cue, text: cue.text.trim().replace(/\s+/g, " ").replaceAll("-->", "→") })));
  return made.map((cue, number) => ({ ...cue, end: Math.max(cue.end, Math.min(cue.start + LEAST, made[number + 1]?.start ?? Infinity)) }));
}

function milliseconds(seconds) { return Math.max(0, Math.round(seconds * 1000)); }

function stamp(seconds, point) {
  const all = milliseconds(seconds);
  const two = (value) => String(value).padStart(2, "0");
  return `${two(Math.floor(all / 3600000))}:${two(Math.floor(all / 60000) % 60)}:${two(Math.floor(all / 1000) % 60)}${point}${String(all % 1000).padStart(3, "0")}`;
}

export function asSrt(segments) {
  return cues(segments).map((cue, number) => `${number + 1}\n${stamp(cue.start, ",")} --> ${stamp(cue.end, ",")}\n${cue.text}\n`).join("\n");
}

export function asVtt(segments) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return "WEBVTT\n\n" + cues(segments).map((cue) => `${stamp(cue.start, ".")} --> ${stamp(cue.end, ".")}\n${escaped(cue.text)}\n`).join("\n");
}
