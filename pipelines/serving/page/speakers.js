// Names and colours of speakers on the page. A click on a name renames the speaker everywhere, for this transcript only.
const COLOURS = 8; // classes .speaker-0 ... in style.css
let names = new Map(); // by S1, S2 ...

export function begin(speakers) {
  names = new Map((speakers ?? []).map(({ speaker, name }) => [speaker, name ?? speaker]));
}

export function nameOf(speaker) {
  return names.get(speaker) ?? speaker;
}

// The class that colours what a speaker says; none for one who is not known.
export function colourOf(speaker) {
  const number = Number(/^S(\d+)$/.exec(speaker ?? "")?.[1] ?? 0);
  return number ? `speaker-${(number - 1) % COLOURS}` : "";
}

export function label(speaker) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `speaker ${colourOf(speaker)}`;
  button.dataset.speaker = speaker;
  button.title = "Rename this speaker";
  button.textContent = nameOf(speaker);
  button.addEventListener("click", () => rename(speaker));
  return button;
}

function rename(speaker) {
  const name = prompt("Name of this speaker", nameOf(speaker))?.trim();
  if (!name) return;
  names.set(speaker, name);
  for (const button of document.querySelectorAll("button.speaker")) {
    if (button.dataset.speaker === speaker) button.textContent = name;
  }
}
