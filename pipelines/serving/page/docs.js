// /docs: the OpenAPI description as a page of our own.
function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function fields(schema) {
  const list = make("ul");
  for (const [name, about] of Object.entries(schema.properties ?? {})) {
    const kind = about.enum ? about.enum.join(" | ") : about.items?.enum ? about.items.enum.join(" | ") : about.format ?? about.type ?? "any";
    const must = schema.required?.includes(name) ? ", required" : "";
    list.append(make("li", "", make("code", name), ` (${kind}${must}) ${about.description ?? ""}`));
  }
  return list;
}

const description = await (await fetch("openapi.json")).json();
const parts = [];
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const part = make("section", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", about.summary ?? ""));
    for (const [type, { schema }] of Object.entries(about.requestBody?.content ?? {})) part.append(make("p", `Body: ${type}`), fields(schema));
    const answers = Object.entries(about.responses).map(([code, { description: what }]) => `${code} ${what}`);
    part.append(make("p", `Answers: ${answers.join(" · ")}`));
    parts.push(part);
  }
}
const realtime = make("section", "", make("h2", "WebSocket /v1/realtime"), make("p", "OpenAI's realtime transcription: session.update, input_audio_buffer.append, .commit and .clear; deltas, and an utterance's whole text with its words when it is over."));
document.getElementById("routes").replaceChildren(...parts, realtime);
