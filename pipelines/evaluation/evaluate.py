"""`scriptorium evaluate`: compares the transcripts of a run with references, or with those of another run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.errors import UsageError
from pipelines.evaluation import (
    outputs,
    page,
    references,
    speaker_references,
    speaker_scores,
    summary,
    tables,
)
from pipelines.evaluation.metrics import calibration, confidence
from pipelines.evaluation.metrics.normalizers import Normalizer, normalizer, segment_normalizer
from pipelines.evaluation.protocol import Protocol
from pipelines.evaluation.references import References
from pipelines.evaluation.scoring import ScoreTable, WorstCases, score, segment_edits, word_edits
from pipelines.output.run_record import now
from pipelines.plurals import counted
from pipelines.storage import files

LANGUAGE = "language"
UNKNOWN = "-"


@dataclass(frozen=True)
class Options:
    """What to measure."""

    protocol: Protocol = field(default_factory=Protocol)
    by: Sequence[str] = ()  # columns of the manifest
    worst: int = 10  # recordings to list with both texts
    seed: int = 0  # of the bootstrap


@dataclass
class Comparison:
    """What `compare` found: a section for JSON, and confidences with their outcomes."""

    section: dict[str, Any]
    confidences: Cases


@dataclass
class Cases:
    """The confidences of segments and of words, with the outcome of each."""

    segments: confidence.Confidences = field(default_factory=confidence.Confidences)
    words: confidence.Confidences = field(default_factory=confidence.Confidences)

    def summary(self) -> dict[str, Any] | None:
        """Figures of the segments, with those of the words as `words`; None without any confidence."""
        if not len(self.segments) and not len(self.words):
            return None
        words = confidence.summary(self.words, "words") if len(self.words) else None
        return confidence.summary(self.segments, "segments") | {"words": words}


def evaluate(
    out: str,
    manifest: str | None,
    against: str | None,
    options: Options,
    names: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Cases]:
    """Measure a run.

    Args:
        out: output directory of the run, on any fsspec URI.
        manifest: the references, or an output directory with corrections; None: only `against`.
        against: output directory of another run over the same recordings; None: only `manifest`.
        options: what to measure.
        names: for columns of a manifest the names that this one has for them.

    Returns:
        The result as JSON values (see docs/evaluating.md), and the confidences with their outcomes.

    Raises:
        UsageError: nothing to compare: no references, no text, or no common ids.
    """
    if not manifest and not against:
        raise UsageError("nothing to compare with: give --references MANIFEST, or --against OUT2, or both")
    normalize = normalizer(options.protocol.normalizer)
    columns = list(dict.fromkeys([LANGUAGE, *options.by]))
    facts = outputs.run_facts(out)
    forced = outputs.forced_languages(out)
    result: dict[str, Any] = {
        "out": out,
        "protocol": {
            "preset": options.protocol.name,
            "normalizer": options.protocol.normalizer,
            "cer_languages": sorted(options.protocol.cer_languages),
        },
        "run": facts,
        "notes": [],
        "references": None,
        "against": None,
        "speakers": None,
    }
    confidences = Cases()
    is_output = bool(manifest) and references.has_corrections(files.absolute(manifest or ""))
    if manifest and not is_output and (true_speakers := speaker_references.read_references(manifest, names)):
        result["speakers"] = speaker_scores.compare_speakers(out, true_speakers, normalize)
    if manifest and not speaker_references.is_rttm(manifest):
        if is_output:
            found = references.from_corrections(files.absolute(manifest), columns)
        else:
            found = references.from_manifest(manifest, names, columns)
        compared = compare(out, found, columns, options, normalize, forced)
        result["references"] = {"source": manifest} | compared.section
        confidences = compared.confidences
        result["notes"] = _notes(compared.section, facts, forced, options.protocol)
    if against:
        found = references.from_output(against)
        compared = compare(out, found, [LANGUAGE], options, normalize, set(), missing_count=False)
        result["against"] = {"source": against} | compared.section
    return result, confidences


def write(
    result: dict[str, Any],
    confidences: Cases,
    json_file: str | None = None,
    csv_file: str | None = None,
    calibration_file: str | None = None,
) -> list[str]:
    """Write OUT/evaluation.html, and the other files that are named.

    Args:
        result: from `evaluate`.
        confidences: from `evaluate`.
        json_file: all figures.
        csv_file: the figures of all groups.
        calibration_file: the map from confidence to the share of right words.

    Returns:
        The addresses of the files.

    Raises:
        UsageError: a calibration is wanted, but no segment has a confidence, or they are calibrated already.
    """
    written = {files.join(result["out"], "evaluation.html"): page.page(result).encode()}
    if json_file:
        written[files.absolute(json_file)] = json.dumps(result, ensure_ascii=False, indent=1).encode()
    if csv_file:
        written[files.absolute(csv_file)] = tables.csv_bytes(result)
    if calibration_file:
        written[files.absolute(calibration_file)] = _calibration(result, confidences)
    for uri, data in written.items():
        files.write_atomic(uri, data)
    return list(written)


def _calibration(result: dict[str, Any], confidences: Cases) -> bytes:
    """The content of a calibration file."""
    if not len(confidences.segments):
        raise UsageError(f"no segment of {result['out']} has a confidence: there is nothing to calibrate")
    if used := result["run"].get("calibration"):
        raise UsageError(
            f"the confidences of {result['out']} are calibrated already, with {used['file']}: learn from a "
            "run without asr.calibration"
        )
    model = result["run"].get("asr_model")
    return calibration.to_bytes(
        calibration.calibration(confidences.segments, confidences.words, model, now())
    )


def compare(
    out: str,
    found: References,
    columns: list[str],
    options: Options,
    normalize: Normalizer,
    forced: set[str] | None,
    *,
    missing_count: bool = True,
) -> Comparison:
    """Score all recordings that have a reference.

    Args:
        out: output directory of the run.
        found: the references.
        columns: of the tables.
        options: what to measure.
        normalize: the normaliser.
        forced: ids of the recordings whose language was given; None: all.
        missing_count: a reference without a transcript counts as an empty one: all its words are deletions.

    Raises:
        UsageError: no recording of `out` has a reference.
    """
    scores, confidences, worst = ScoreTable(columns), Cases(), WorstCases(options.worst)
    counts = dict.fromkeys(("transcripts", "dead_letters", "missing", "without_reference"), 0)
    by_segment, some_id = segment_normalizer(options.protocol.normalizer), None
    for row in outputs.read_transcripts(out):
        recording_id = some_id = row["recording_id"]
        reference = found.get(recording_id)
        if reference is None or not found.items.take(recording_id):
            counts["without_reference"] += 1
            continue
        counts["transcripts"] += 1
        is_forced = forced is None or recording_id in forced
        scored = score(reference, row, options.protocol, normalize, is_forced)
        scores.add(scored, reference.columns | {LANGUAGE: scored.language or UNKNOWN})
        worst.add(recording_id, scored, row["status"] or "")
        segments = row["segments"] or []
        for value, edits in segment_edits(scored, reference.text, segments, options.protocol, by_segment):
            confidences.segments.add(value, edits)
        language = scored.language
        for value, edits in word_edits(reference.text, segments, language, options.protocol, by_segment):
            confidences.words.add(value, edits)
    failed = outputs.dead_letters(out)
    for recording_id, reference in found.remaining():
        counts["dead_letters" if recording_id in failed else "missing"] += 1
        if missing_count:
            scored = score(reference, None, options.protocol, normalize)
            scores.add(scored, reference.columns | {LANGUAGE: scored.language or UNKNOWN})
            why = f"dead letter: {failed[recording_id]}" if recording_id in failed else "no transcript"
            worst.add(recording_id, scored, why)
    if not counts["transcripts"] and not (missing_count and counts["dead_letters"]):
        _refuse_strangers(out, found, some_id or next(iter(failed), None))
    total, macro, by = summary.tables(scores, columns, options.protocol, options.seed)
    section = {
        "recordings": counts | {"evaluated": len(scores), "rows_without_text": found.without_text},
        "total": total,
        "macro": macro,
        "by": by,
        "worst": worst.cases(),
        "confidence": confidences.summary(),
    }
    found.items.close()
    return Comparison(section, confidences)


def _notes(
    section: dict[str, Any], facts: dict[str, Any], forced: set[str] | None, protocol: Protocol
) -> list[str]:
    """What a reader must know to judge the figures."""
    counts, notes = section["recordings"], []
    absent = counts["dead_letters"] + counts["missing"]
    if absent:
        notes.append(
            f"{counted(counts['dead_letters'], 'dead letter')} and {counted(counts['missing'], 'recording')} "
            "without a transcript count as empty transcripts: all their words are deletions"
        )
    if counts["rows_without_text"]:
        notes.append(f"{counted(counts['rows_without_text'], 'row')} of the references without text left out")
    if counts["without_reference"]:
        notes.append(f"{counted(counts['without_reference'], 'transcript')} without a reference left out")
    if facts.get("command") == "align":
        notes.append("the run aligned given texts: its error rate says nothing about the recogniser")
    if forced is None or forced:
        number = "all recordings" if forced is None else counted(len(forced), "recording")
        against = "; the protocol of the preset forces none" if protocol.name else ""
        notes.append(
            f"the language of {number} was given, not found by the model, and is not judged{against}"
        )
    return notes


def _refuse_strangers(out: str, found: References, ours: str | None) -> None:
    if ours is None:
        raise UsageError(f"{out} has no transcripts and no dead letters: give the output directory of a run")
    theirs = ", ".join(map(repr, found.items.some_ids(2)))
    raise UsageError(
        f"no id of the references is in {out}: the run has ids such as {ours!r}, the references {theirs}. "
        "Give the references the ids of the run's manifest, or say which column has them: --columns id=NAME"
    )
