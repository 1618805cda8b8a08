// /docs: shows the OpenAPI description without scripts from other hosts.
function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function fields(schema) {
  const list = make("ul");
  for (const [name, about] of Object.entries(schema.properties ?? {})) {
    const values = about.enum ?? about.items?.enum;
    const type = values ? values.join(" | ") : about.format ?? about.type ?? "any";
    const required = schema.required?.includes(name) ? ", required" : "";
    list.append(make("li", "", make("code", name), ` (${type}${required}) ${about.description ?? ""}`));
  }
  return list;
}

const description = await (await fetch("openapi.json")).json();
const sections = [];
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const title = make("h2", `${method.toUpperCase()} ${path}`);
    const section = make("section", "", title, make("p", about.summary ?? ""));
    for (const [type, { schema }] of Object.entries(about.requestBody?.content ?? {})) {
      section.append(make("p", `Body: ${type}`), fields(schema));
    }
    const responses = Object.entries(about.responses).map(([code, { description: what }]) => `${code} ${what}`);
    section.append(make("p", `Responses: ${responses.join(" · ")}`));
    sections.push(section);
  }
}
const REALTIME =
  "OpenAI's realtime transcription: send session.update, input_audio_buffer.append, .commit and .clear; " +
  "receive text deltas, and the transcript of each utterance with its words when it ends.";
const realtime = make("section", "", make("h2", "WebSocket /v1/realtime"), make("p", REALTIME));
document.getElementById("routes").replaceChildren(...sections, realtime);
