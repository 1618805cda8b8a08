// Writes cues as SubRip and WebVTT. The server divides text into cues: pipelines/subtitles/cues.py.

// Seconds between cues: two frames.
const GAP = 0.084;

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

// Cues of a stream: the server makes those of each utterance before it knows when the next one begins.
export function followedBy(cues, next = []) {
  const last = cues[cues.length - 1];
  if (last && next.length) last.end = Math.min(last.end, Math.max(last.start, next[0].start - GAP));
  return [...cues, ...next];
}

export function asSrt(cues) {
  return cues.map((cue, index) => `${index + 1}\n${timeLine(cue, ",")}\n${cue.text}\n`).join("\n");
}

export function asVtt(cues) {
  const blocks = cues.map((cue) => `${timeLine(cue, ".")}\n${cue.vtt}\n`);
  return "WEBVTT\n\n" + blocks.join("\n");
}
