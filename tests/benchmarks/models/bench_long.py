"""25 minutes of joined utterances with known times: transcribed, and aligned with whole and with wrong texts.

The demo models; what they do on the same utterances one by one is the measure. The aligned texts are the
whole one; with front matter that nobody reads; with half of it missing; with as much again that is not said;
and that of another recording. See `tests.benchmarks.workloads.labelled` for the voices.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.text.given_text.token_matching import tokenize
from pipelines.evaluation.metrics.edits import DELETE, EQUAL, INSERT, align
from pipelines.evaluation.metrics.word_times import compare
from pipelines.evaluation.outputs import timed_words
from tests.benchmarks.workloads import jobs
from tests.benchmarks.workloads.labelled import Speech, held_out_clips, joined, utterances
from tests.benchmarks.workloads.rows import Row

BY_NAME = True
LIMIT_SECONDS = 1800
MINUTES, UTTERANCE = 25, (3.0, 7.0)
# Seconds around a seam in which a lost or doubled word counts as one of the seam.
SEAM = 0.5
FRONT_MATTER = (
    "The Garden Window. A book of tests by nobody in particular. Copyright by the same, all rights reserved; "
    "no part of this publication may be reproduced. First printing. Contents: Chapter one, the house. "
    "Chapter two, the music. Chapter three, tomorrow. "
)


def measure(full: bool) -> Iterator[Row]:
    """The rows of the short utterances, of the long recording, and of each text that is aligned."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts, other = speech(folder / "clips")
        yield from _transcribed(folder, parts)
        yield from _aligned(folder, parts, other)


def speech(folder: Path, minutes: float = MINUTES) -> tuple[list[Speech], list[Speech]]:
    """Utterances of all languages for so many minutes, and as many others."""
    folder.mkdir(parents=True)
    clips = held_out_clips(folder)
    # An utterance of 5 s and a pause of 0.9 s, in eleven languages.
    each = max(1, round(minutes * 60 / 5.9 / 11))
    return utterances(clips, each, UTTERANCE, seed=7), utterances(clips, each, UTTERANCE, seed=8)


def _transcribed(folder: Path, parts: Sequence[Speech]) -> Iterator[Row]:
    """One by one, and joined."""
    short = {f"u{number:04}": part for number, part in enumerate(parts)}
    manifest, references = jobs.write_manifests(folder / "short", short)
    texts = {
        row["recording_id"]: row["text"] for row in jobs.run("transcribe", manifest, folder / "short-out")
    }
    alone = jobs.evaluated(folder / "short-out", references)["references"]["total"]
    said = [(part.text, texts[name]) for name, part in short.items()]
    yield from _rows(f"{len(parts)} utterances one by one", alone, said)
    whole = joined(parts, np.random.default_rng(5))
    manifest, references = jobs.write_manifests(folder / "long", {"long": whole})
    [row] = jobs.run("transcribe", manifest, folder / "long-out")
    total = jobs.evaluated(folder / "long-out", references)["references"]["total"]
    yield from _rows(f"the same joined, {whole.duration / 60:.1f} min", total, [(whole.text, row["text"])])
    lost, doubled = seam_errors(row, whole)
    yield Row("words lost / at a seam", lost, "words", "<= 0", f"{len(row['segments']) - 1} seams")
    yield Row("words doubled at a seam", doubled, "words", "<= 0")
    yield Row("AAS, joined less one by one", total["aas_ms"] - alone["aas_ms"], "ms", "<= 10")


def _rows(name: str, total: dict[str, Any], texts: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """The errors of texts (said, heard) by words, or characters in scripts without spaces, and the shifts."""
    edits = [align(*([token.key for token in tokenize(text)] for text in pair))[0] for pair in texts]
    units, errors = sum(edit.reference for edit in edits), sum(edit.errors for edit in edits)
    yield Row(f"{name}: errors", 100 * errors / units, "%", "", f"{units} words or characters")
    within = 100 * total["within_100_ms"]
    yield Row(f"{name}: AAS", total["aas_ms"], "ms", "", f"{within:.1f} % of words within 100 ms")


def seam_errors(row: dict[str, Any], whole: Speech) -> tuple[int, int]:
    """Words that are lost and words that are doubled where two segments meet.

    Args:
        row: the transcript.
        whole: what is said.
    """
    seams = [(left["end"] + right["start"]) / 2 for left, right in itertools.pairwise(row["segments"])]
    said = [
        (token.key, word["start"], word["end"]) for word in whole.words for token in tokenize(word["text"])
    ]
    heard = [
        (token.key, word["start"])
        for segment in row["segments"]
        for word in segment["words"]
        for token in tokenize(word["text"])
    ]
    _, chunks = align([key for key, _, _ in said], [key for key, _ in heard])
    lost = doubled = 0
    for number, chunk in enumerate(chunks):
        # A deletion beside a substitution is a wrong word, not a lost one.
        beside = [chunks[place].kind for place in (number - 1, number + 1) if 0 <= place < len(chunks)]
        if any(kind != EQUAL for kind in beside):
            continue
        if chunk.kind == DELETE:
            times = said[chunk.ref_start : chunk.ref_end]
            lost += sum(any(start - SEAM < seam < end + SEAM for seam in seams) for _, start, end in times)
        elif chunk.kind == INSERT:
            extra = heard[chunk.hyp_start : chunk.hyp_end]
            beside_it = {
                heard[place][0] for place in (chunk.hyp_start - 1, chunk.hyp_end) if 0 <= place < len(heard)
            }
            doubled += sum(
                key in beside_it and any(abs(start - seam) < SEAM for seam in seams) for key, start in extra
            )
    return lost, doubled


def _aligned(folder: Path, parts: Sequence[Speech], other: Sequence[Speech]) -> Iterator[Row]:
    """All texts in one job: one recording under several ids."""
    whole = joined(parts, np.random.default_rng(5))
    half = len(parts) // 2
    mixed = [
        part
        for start in range(0, len(parts), 8)
        for part in (*parts[start : start + 8], *other[start : start + 8])
    ]
    everything = [*range(len(parts))]
    middle = [*everything[: half // 2], *everything[-half // 2 :]]
    cases = {
        "whole": (text_of(parts), everything),
        "front": (FRONT_MATTER + text_of(parts), everything),
        "half": (text_of(parts[:half]), everything[:half]),
        "middle": (text_of([parts[number] for number in middle]), middle),
        "twice": (text_of(mixed), everything),
        "other": (text_of(other), []),
    }
    columns = {name: {"text": text} for name, (text, _) in cases.items()}
    manifest, _ = jobs.write_manifests(folder / "align", dict.fromkeys(cases, whole), columns)
    rows = {row["recording_id"]: row for row in jobs.run("align", manifest, folder / "align-out")}
    words = iter(whole.words)
    own = [list(itertools.islice(words, len(part.words))) for part in parts]
    for name, (text, said) in cases.items():
        yield from _aligned_rows(name, rows[name], [word for number in said for word in own[number]], text)


def text_of(parts: Sequence[Speech]) -> str:
    """The texts of utterances, one after the other."""
    return joined(parts, np.random.default_rng(0)).text


def _aligned_rows(name: str, row: dict[str, Any], said: Sequence[dict[str, Any]], text: str) -> Iterator[Row]:
    words = [word for segment in row["segments"] for word in segment["words"]]
    timed = timed_words(row)
    shifts = compare([(word["text"], word["start"], word["end"]) for word in said], timed)
    flags = ", ".join(flag for flag in row["flags"] if ":" in flag) or "no share flagged"
    note = f"{shifts.matched} of {shifts.words} said words have times; {row['status']}, {flags}"
    if shifts.matched:
        yield Row(f"align, {name}: AAS", shifts.shift_ms / 2 / shifts.matched, "ms", "", note)
    without = sum(word["start"] is None for word in words)
    yield Row(f"align, {name}: words without times", 100 * without / max(1, len(words)), "%", "", note)
    empty = sum(end <= start for _, start, end in timed)
    yield Row(f"align, {name}: timed words without length", 100 * empty / max(1, len(timed)), "%")
    longest = max((end - start for _, start, end in timed), default=0.0)
    yield Row(f"align, {name}: longest word", longest, "s")
    kept = "".join(row["text"].split()) == "".join(text.split())
    yield Row(f"align, {name}: the text is kept whole", float(kept), "", ">= 1")
