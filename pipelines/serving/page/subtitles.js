// Cues from words, by the same rules and constants as on the server: pipelines/serving/api/subtitles.py.
const MAX_CHARS = 84, MAX_WIDE_CHARS = 32, MAX_SECONDS = 6, PAUSE = 0.8, MIN_SECONDS = 0.2, SHORT = 0.3;
const UNSPACED = new Set(["zh", "yue", "ja", "th"]);
const SENTENCE_END = /[.!?…。！？؟।]$/;

function* cuesOf(segment) {
  if (!segment.words.length) {
    yield { start: segment.start, end: segment.end, text: segment.text };
    return;
  }
  const maxChars = UNSPACED.has(segment.language) ? MAX_WIDE_CHARS : MAX_CHARS;
  let group = [], cueOffset = 0, offset = 0;
  for (const word of segment.words) {
    const found = segment.text.indexOf(word.word, offset);
    const wordOffset = found < 0 ? offset : found;
    const last = group[group.length - 1];
    const wordEnd = wordOffset + word.word.length;
    const endsSentence = last && SENTENCE_END.test(last.word) && offset - cueOffset >= SHORT * maxChars;
    const tooLong = last && (wordEnd - cueOffset > maxChars || word.end - group[0].start > MAX_SECONDS);
    if (last && (endsSentence || tooLong || word.start - last.end >= PAUSE)) {
      yield { start: group[0].start, end: last.end, text: segment.text.slice(cueOffset, wordOffset) };
      group = [];
      cueOffset = wordOffset;
    }
    group.push(word);
    offset = wordEnd;
  }
  yield { start: group[0].start, end: group[group.length - 1].end, text: segment.text.slice(cueOffset) };
}

// Joins each cue without duration with a next one that starts at the same time, as lines of one cue.
function joinInstantCues(cues) {
  const joined = [];
  for (const cue of cues) {
    const last = joined[joined.length - 1], start = last && milliseconds(last.start);
    if (last && milliseconds(last.end) <= start && start === milliseconds(cue.start)) {
      const end = Math.max(last.end, cue.end);
      joined[joined.length - 1] = { start: last.start, end, text: `${last.text}\n${cue.text}` };
    } else joined.push(cue);
  }
  return joined;
}

function oneLine(text) {
  return text.trim().replace(/\s+/g, " ").replaceAll("-->", "→");
}

function makeCues(segments) {
  const all = segments.flatMap((segment) => [...cuesOf(segment)]).sort((a, b) => a.start - b.start);
  const cues = joinInstantCues(all.map((cue) => ({ ...cue, text: oneLine(cue.text) })));
  return cues.map((cue, index) => {
    const nextStart = cues[index + 1]?.start ?? Infinity;
    return { ...cue, end: Math.max(cue.end, Math.min(cue.start + MIN_SECONDS, nextStart)) };
  });
}

function milliseconds(seconds) {
  return Math.max(0, Math.round(seconds * 1000));
}

function timestamp(seconds, separator) {
  const ms = milliseconds(seconds);
  const pad = (value, width) => String(value).padStart(width, "0");
  const hours = Math.floor(ms / 3_600_000), minutes = Math.floor(ms / 60_000) % 60;
  const time = [hours, minutes, Math.floor(ms / 1000) % 60].map((value) => pad(value, 2)).join(":");
  return `${time}${separator}${pad(ms % 1000, 3)}`;
}

function timeLine(cue, separator) {
  return `${timestamp(cue.start, separator)} --> ${timestamp(cue.end, separator)}`;
}

export function asSrt(segments) {
  const blocks = makeCues(segments).map((cue, index) => `${index + 1}\n${timeLine(cue, ",")}\n${cue.text}\n`);
  return blocks.join("\n");
}

export function asVtt(segments) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const blocks = makeCues(segments).map((cue) => `${timeLine(cue, ".")}\n${escaped(cue.text)}\n`);
  return "WEBVTT\n\n" + blocks.join("\n");
}
