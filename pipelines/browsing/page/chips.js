// What is to be known about a segment or a recording besides its text: flags, low confidence, corrections.
import { make } from "./dom.js";

export const LOW = 0.5; // confidence below which words and segments are marked
let meanings = {}; // of flags, from the server

export function setMeanings(flags) {
  meanings = flags;
}

// What a flag such as lost:1-2 means; the registry has it as lost:START-END.
function meaning(flag) {
  const kind = flag.split(":")[0];
  return meanings[flag] ?? Object.entries(meanings).find(([name]) => name.split(":")[0] === kind)?.[1] ?? flag;
}

export function flagChip(flag) {
  const chip = make("span", "chip flag", flag.replaceAll("_", " "));
  chip.title = meaning(flag);
  return chip;
}

export function chips({ flags, confidence, corrected }) {
  const made = [];
  if (confidence !== null && confidence !== undefined) {
    const chip = make("span", confidence < LOW ? "low" : "", `${Math.round(100 * confidence)} %`);
    chip.title = "confidence: how sure the model is";
    made.push(chip);
  }
  if (corrected) {
    const chip = make("span", "chip edited", corrected.by ? `corrected by ${corrected.by}` : "corrected");
    if (corrected.at) chip.title = new Date(corrected.at).toLocaleString();
    made.push(chip);
  }
  return [...made, ...flags.map(flagChip)];
}

export function isDoubtful({ flags, confidence, corrected }) {
  const known = flags.filter((flag) => !/^(channel|track):|^text_given$|^confirmed$/.test(flag));
  return !corrected && (known.length > 0 || (confidence !== null && confidence < LOW));
}
