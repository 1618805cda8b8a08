"""Transcripts for scoring tools: NIST's CTM and STM, and RTTM. Pure.

Sources: NIST's sclite (formats of hypothesis and reference files) and md-eval (Rich Transcription).
"""

from __future__ import annotations

import re

from actors.records import Row
from pipelines.export.documents.facts import (
    speaker_label,
    speaker_names,
    spoken_turns,
    timed_words,
)
from pipelines.export.names import flat_name


def ctm(row: Row) -> str:
    """`FILE CHANNEL START DURATION WORD CONFIDENCE`, one line for each word that has a time."""
    file = file_field(row["recording_id"])
    lines = []
    for turn in spoken_turns(row):
        channel = _channel(turn["flags"])
        for word in timed_words(turn):
            confidence = word.get("confidence")
            confidence = turn["confidence"] if confidence is None else confidence
            duration = max(0.0, word["end"] - word["start"])
            line = f"{file} {channel} {word['start']:.3f} {duration:.3f} {_field(word['text'])}"
            lines.append(
                (channel, word["start"], f"{line} {1.0 if confidence is None else confidence:.4f}\n")
            )
    # sclite wants each channel sorted by time.
    return "".join(line for _, _, line in sorted(lines, key=lambda entry: entry[:2]))


def rttm(row: Row) -> str:
    """`SPEAKER FILE CHANNEL START DURATION <NA> <NA> SPEAKER CONFIDENCE <NA>`, one line for each turn.

    Turns are those of the voices where the row has them, as `turns`: they overlap where people do. Otherwise
    they are those of the words.
    """
    file, names = file_field(row["recording_id"]), speaker_names(row)
    if row.get("turns"):
        return "".join(
            f"SPEAKER {file} 1 {turn['start']:.3f} {turn['end'] - turn['start']:.3f} <NA> <NA> "
            f"{_field(names.get(turn['speaker'], turn['speaker']))} <NA> <NA>\n"
            for turn in row["turns"]
        )
    lines = []
    for turn in spoken_turns(row):
        speaker = _field(speaker_label(turn, names, "speech"))
        confidence = "<NA>" if turn["confidence"] is None else f"{turn['confidence']:.4f}"
        duration = max(0.0, turn["end"] - turn["start"])
        if duration:
            span = f"{turn['start']:.3f} {duration:.3f}"
            channel = _channel(turn["flags"])
            lines.append(f"SPEAKER {file} {channel} {span} <NA> <NA> {speaker} {confidence} <NA>\n")
    return "".join(lines)


def stm(row: Row) -> str:
    """`FILE CHANNEL SPEAKER START END <LABELS> TEXT`, one line for each turn."""
    file, names = file_field(row["recording_id"]), speaker_names(row)
    lines = []
    for turn in spoken_turns(row):
        speaker = _field(speaker_label(turn, names, "unknown"))
        labels = ",".join(["o", _label(turn["language"] or "und"), *map(_label, turn["flags"] or ())])
        span = f"{turn['start']:.3f} {max(turn['end'], turn['start']):.3f}"
        text = " ".join(turn["text"].replace("{", "(").replace("}", ")").split())
        lines.append(f"{file} {_channel(turn['flags'])} {speaker} {span} <{labels}> {text}\n")
    return "".join(lines)


def file_field(recording_id: str) -> str:
    """A recording's id as these formats' first field: without blanks."""
    return recording_id if re.fullmatch(r"[^\s;<>]+", recording_id) else flat_name(recording_id, "_.-")


def _channel(flags: list[str] | None) -> str:
    number = next((flag.partition(":")[2] for flag in flags or () if flag.startswith("channel:")), None)
    return str(int(number) + 1) if number else "1"


def _field(text: str) -> str:
    return re.sub(r"\s+", "_", text.strip()) or "_"


def _label(text: str) -> str:
    return re.sub(r"[\s,<>]+", "_", text)
