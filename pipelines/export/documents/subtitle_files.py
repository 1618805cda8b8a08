"""Transcripts as subtitles: SubRip, WebVTT, TTML. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from actors.records import Row
from pipelines.export.documents.facts import speaker_names, stated_facts
from pipelines.subtitles.cues import Cue, cues, violations
from pipelines.subtitles.profiles import PROFILES, Profile
from pipelines.subtitles.rendering import srt, ttml, vtt


@dataclass(frozen=True)
class SubtitleOptions:
    """How subtitles are made.

    Attributes:
        profile: the rules.
        highlight: WebVTT: put the time of each word before it.
        low_confidence: WebVTT: words below it get the class `low-confidence`; None: no word does.
    """

    profile: Profile = field(default_factory=lambda: PROFILES["netflix"])
    highlight: bool = False
    low_confidence: float | None = None


def subtitle_text(row: Row, form: str, options: SubtitleOptions) -> tuple[str, Counter[str]]:
    """One transcript as subtitles.

    Args:
        row: TRANSCRIPT.
        form: srt | vtt | ttml.
        options: how they are made.

    Returns:
        The text of the file, and counts: `cues`, `cues_too_fast` (spoken faster than the profile's reading
        speed), and by rule the cues that break it, with the prefix `broken_`.
    """
    made = row_cues(row, options.profile)
    counts = Counter({"cues": len(made), "cues_too_fast": sum(cue.too_fast for cue in made)})
    counts.update({f"broken_{rule}": count for rule, count in violations(made, options.profile).items()})
    names = speaker_names(row)
    if form == "srt":
        return srt(made), counts
    if form == "vtt":
        notes = [f"{name}: {value}" for name, value in stated_facts(row).items()]
        return vtt(made, names, notes, options.highlight, options.low_confidence), counts
    return ttml(made, row["language"], names, stated_facts(row)), counts


def row_cues(row: Row, profile: Profile) -> list[Cue]:
    """The cues of a TRANSCRIPT row."""
    window = row.get("window") or {}
    end = (window.get("start") or 0.0) + (row["duration"] or 0.0)
    return cues(row["segments"] or [], profile, speaker_names(row), end or None)
