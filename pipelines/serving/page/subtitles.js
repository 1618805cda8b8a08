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

function cues(segments) {
  const made = segments.flatMap((segment) => [...cuesOf(segment)]).sort((a, b) => a.start - b.start);
  return made.map((cue, number) => ({
    ...cue,
    end: Math.max(cue.end, Math.min(cue.start + LEAST, made[number + 1]?.start ?? Infinity)),
    text: cue.text.trim().replace(/\s+/g, " ").replaceAll("-->", "→"),
  }));
}

function stamp(seconds, point) {
  const all = Math.max(0, Math.round(seconds * 1000));
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
