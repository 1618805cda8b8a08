"""Compares the speakers of a run with the true ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from actors.errors import UsageError
from actors.records import Row
from actors.text.speaker_turns import split_at_speakers
from pipelines.evaluation import outputs
from pipelines.evaluation.metrics.normalizers import Normalizer, words_of
from pipelines.evaluation.metrics.speakers import (
    COLLARS,
    DiarizationErrors,
    Turn,
    diarization_errors,
    jaccard_errors,
    permuted_word_errors,
)
from pipelines.evaluation.speaker_references import TrueSpeakers
from pipelines.output import speakers
from pipelines.plurals import counted

# Seconds of a pause within a turn where only the times of words are known.
_PAUSE = 1.0


def compare_speakers(
    out: str, references: Mapping[str, TrueSpeakers], normalize: Normalizer
) -> dict[str, Any]:
    """Score all recordings whose true speakers are known.

    Args:
        out: output directory of the run.
        references: by recording id.
        normalize: from `normalizers.normalizer`, for the texts.

    Returns:
        A section of the result: see docs/evaluating.md.

    Raises:
        UsageError: no recording of `out` has a reference.
    """
    stored = _stored_turns(out)
    errors = dict.fromkeys(COLLARS, DiarizationErrors())
    jaccard, people, count_errors, right, recordings = 0.0, 0, 0, 0, 0
    word_errors = words = without = 0
    for row in outputs.read_transcripts(out):
        truth = references.get(row["recording_id"])
        if truth is None:
            continue
        found = stored.get(row["recording_id"])
        found = _turns_of_words(row) if found is None else found
        recordings += 1
        without += not found
        end = row["duration"] or 0.0
        for collar in COLLARS:
            errors[collar] += diarization_errors(truth.turns, found, end, collar)
        part, number = jaccard_errors(truth.turns, found, end)
        jaccard, people = jaccard + part, people + number
        difference = abs(_number(found) - _number(truth.turns))
        count_errors, right = count_errors + difference, right + (difference == 0)
        if truth.texts:
            language = truth.language or row["language"]
            wrong, said = permuted_word_errors(
                {name: words_of(normalize(text, language), language) for name, text in truth.texts.items()},
                {
                    name: words_of(normalize(text, language), language)
                    for name, text in _texts_by_speaker(row).items()
                },
            )
            word_errors, words = word_errors + wrong, words + said
    if not recordings:
        raise UsageError(f"no recording of {out} has true speakers: give the references the ids of the run")
    judged = errors[0.25]
    return {
        "recordings": recordings,
        "without_speakers": without,
        "hours": errors[0.0].total / 3600,
        "der": {f"{collar:g}": errors[collar].rate for collar in COLLARS},
        "missed": judged.missed / judged.total if judged.total else None,
        "false_alarm": judged.false_alarm / judged.total if judged.total else None,
        "confusion": judged.confusion / judged.total if judged.total else None,
        "jer": jaccard / people if people else None,
        "count_error": count_errors / recordings,
        "count_right": right / recordings,
        "cpwer": word_errors / words if words else None,
        "words": words,
    }


def speaker_lines(section: Mapping[str, Any]) -> list[str]:
    """The section for people, a few lines."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    rates = ", ".join(
        f"{percent(rate)} with a collar of {collar} s" for collar, rate in section["der"].items()
    )
    return [
        f"speakers of {counted(section['recordings'], 'recording')}, {section['hours']:.2f} hours of speech: "
        f"DER {rates}",
        f"missed {percent(section['missed'])}, false alarm {percent(section['false_alarm'])}, confusion "
        f"{percent(section['confusion'])} (collar 0.25 s); JER {percent(section['jer'])}",
        f"number of speakers: right in {percent(section['count_right'])} of the recordings, wrong by "
        f"{section['count_error']:.2f} on average; cpWER {percent(section['cpwer'])}",
    ]


def _stored_turns(out: str) -> dict[str, list[Turn]]:
    """The turns of OUT/speakers by recording."""
    turns: dict[str, list[Turn]] = defaultdict(list)
    for row in speakers.read(out, ["recording_id", "speaker", "turns"]).to_pylist():
        turns[row["recording_id"]] += [
            (turn["start"], turn["end"], row["speaker"]) for turn in row["turns"] or []
        ]
    return turns


def _turns_of_words(row: Row) -> list[Turn]:
    """Turns by the times of words, or of segments without words, for outputs without OUT/speakers."""
    turns: list[Turn] = []
    for segment in row["segments"] or []:
        for part in split_at_speakers(segment):
            speaker = part.get("speaker")
            if not speaker or part["end"] <= part["start"]:
                continue
            if turns and turns[-1][2] == speaker and part["start"] - turns[-1][1] <= _PAUSE:
                turns[-1] = (turns[-1][0], max(turns[-1][1], part["end"]), speaker)
            else:
                turns.append((part["start"], part["end"], speaker))
    return turns


def _texts_by_speaker(row: Row) -> dict[str, str]:
    """What each speaker says; text without a speaker is somebody's of its own."""
    texts: dict[str, list[str]] = defaultdict(list)
    for segment in row["segments"] or []:
        for part in split_at_speakers(segment):
            if part["text"]:
                texts[part.get("speaker") or ""].append(part["text"])
    return {speaker: " ".join(parts) for speaker, parts in texts.items()}


def _number(turns: list[Turn]) -> int:
    return len({speaker for _, _, speaker in turns})
