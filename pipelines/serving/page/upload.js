// One file to the server and back: its text arrives as server-sent events while it is recognised, its words with
// the last event.
const FIELDS = [
  ["response_format", "verbose_json"],
  ["timestamp_granularities[]", "word"],
  ["timestamp_granularities[]", "segment"],
  ["timestamp_granularities[]", "cue"],
  ["include[]", "progress"],
  ["stream", "true"],
];

// Calls onDelta(text) and onProgress(seconds, duration); returns the last event.
export async function transcribe(file, { model, language, prompt, key }, signal, { onDelta, onProgress }) {
  const body = new FormData();
  body.set("model", model);
  for (const [name, value] of FIELDS) body.append(name, value);
  if (language) body.set("language", language);
  if (prompt) body.set("prompt", prompt);
  body.set("file", file, file.name);
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const response = await fetch("v1/audio/transcriptions", { method: "POST", body, headers, signal });
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
      if (message.type === "transcript.progress") onProgress(message.seconds, message.duration);
      if (message.type === "transcript.text.delta") onDelta(message.delta);
      if (message.type === "transcript.text.done") return message;
    }
  }
}
