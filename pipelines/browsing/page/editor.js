// Corrections in place of a segment's text.
import { post } from "./api.js";
import { button, find, make, notice, showProblem } from "./dom.js";
import * as transcript from "./transcript.js";

let editor = null; // who corrects; null: nobody may
let open = null; // {part, form}

export function setEditor(name) {
  editor = name;
}

export function edit(part) {
  if (editor === null) {
    notice("This page was started with --read-only.");
    return;
  }
  if (open?.part === part) {
    open.field.focus();
    return;
  }
  if (open && open.field.value !== open.part.segment.text) {
    notice("Save or give up the other correction first.");
    open.field.focus();
    return;
  }
  close();
  const field = make("textarea");
  field.value = part.segment.text;
  field.dir = "auto";
  field.lang = part.segment.language ?? "";
  field.setAttribute("aria-label", "What is said");
  const save = button("Save", "primary", "Save (Ctrl+Enter)", () => store(part, field));
  const form = make("div", "editor", field, make("div", "line", save, button("Cancel", "", "Give up (Esc)", giveUp)));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) store(part, field);
    else if (event.key === "Escape") giveUp();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  part.text.hidden = true;
  part.text.after(form);
  open = { part, form, field };
  field.focus();
}

function close() {
  if (!open) return;
  open.form.remove();
  open.part.text.hidden = false;
  open = null;
}

function giveUp() {
  const element = open?.part.element;
  close();
  element?.focus({ preventScroll: true });
}

async function store(part, field) {
  const text = field.value.trim(), { segment } = part;
  if (text === segment.text) return giveUp();
  field.disabled = true;
  const recording = transcript.current().recording_id;
  try {
    const given = { recording_id: recording, number: segment.number, text, before: segment.text };
    const corrected = await post("corrections", given);
    showProblem(null);
    close();
    transcript.replace(corrected, segment.number);
    part.element.focus({ preventScroll: true });
    notice("Saved.");
  } catch (error) {
    field.disabled = false;
    field.focus();
    showProblem(error);
    find("problem").scrollIntoView({ block: "nearest" });
  }
}

// Whether leaving the transcript would lose a correction.
export function isUnsaved() {
  return open !== null && open.field.value.trim() !== open.part.segment.text;
}
