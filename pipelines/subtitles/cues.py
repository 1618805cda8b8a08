"""Cues of a transcript: text on lines, and when it is shown. Pure.

The one implementation of subtitles: exports, the server and its page use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.records import SegmentRow
from pipelines.subtitles.breaks import break_costs
from pipelines.subtitles.partition import partition
from pipelines.subtitles.profiles import PROFILES, Limits, Profile
from pipelines.subtitles.text_width import cells
from pipelines.subtitles.tokens import LONG_PAUSE, Token, ends_sentence, tokens_of, turns_of

_HYPHEN = "- "
# Cost of each cell by which two lines differ, in the units of `breaks`.
_UNBALANCED = 1.0


@dataclass(frozen=True, slots=True)
class CueWord:
    """A word of a cue, for highlighting; milliseconds of the recording."""

    text: str
    start: int
    end: int
    space: bool  # whether white space separates it from the word before on its line
    confidence: float | None


@dataclass(frozen=True, slots=True)
class CueLine:
    """A line of a cue: the words of one speaker."""

    words: tuple[CueWord, ...]
    speaker: str | None
    hyphen: bool  # whether it begins a turn in a cue of two speakers

    @property
    def text(self) -> str:
        """What is shown."""
        return (_HYPHEN if self.hyphen else "") + "".join(
            f"{' ' if word.space and number else ''}{word.text}" for number, word in enumerate(self.words)
        )


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; milliseconds of the recording."""

    start: int
    end: int
    lines: tuple[CueLine, ...]
    language: str | None
    segments: tuple[int, ...]  # numbers of the segments that it has words of
    limits: Limits
    # Whether its words are spoken faster than the profile lets people read: nothing but dropping text helps.
    too_fast: bool = False

    @property
    def text(self) -> str:
        """The lines, separated by line breaks."""
        return "\n".join(line.text for line in self.lines)

    @property
    def confidence(self) -> float | None:
        """The mean confidence of its words; None where a word has none."""
        known = [word.confidence for line in self.lines for word in line.words]
        return sum(known) / len(known) if known and None not in known else None  # type: ignore[arg-type]


def cues(
    segments: Sequence[SegmentRow],
    profile: Profile = PROFILES["netflix"],
    names: Mapping[str, str] | None = None,
    duration: float | None = None,
) -> list[Cue]:
    """Divide a transcript into cues that follow a profile.

    All text is shown. Where people speak faster than the profile lets people read, the reading speed gives
    way, as broadcasters let it: lines, durations, gaps and order always hold.

    Args:
        segments: rows of `pipelines.schema.TRANSCRIPT_SEGMENT`; words may lack times.
        profile: the rules.
        names: names of speakers by `speaker`, for labels.
        duration: seconds of the recording: the last cue ends by then if it can.
    """
    tokens = tokens_of(segments, profile, names)
    turns = turns_of(tokens, profile)
    limits = [turn.limits for turn in turns for _ in turn.tokens]
    pairs = partition(turns, profile)
    costs = break_costs(tokens)
    shown = _shown(
        [tokens[first:last] for first, last in pairs],
        [limits[first] for first, _ in pairs],
        profile,
        duration,
    )
    made = []
    for (first, last), (start, end, too_fast) in zip(pairs, shown, strict=True):
        part = tokens[first:last]
        lines = _lines(part, costs[first:last], limits[first].line_cells, profile.lines)
        made.append(
            Cue(
                start,
                end,
                tuple(lines),
                part[0].language,
                tuple(sorted({token.segment for token in part})),
                limits[first],
                too_fast,
            )
        )
    return made


def violations(cues: Sequence[Cue], profile: Profile) -> Counter[str]:
    """Which rules cues break, and how often: for tests and for the summary of an export.

    Returns:
        Counts by rule: lines, line_width, min_duration, max_duration, gap, overlap, reading_speed (of words
        that could be read in time), orphan.
    """
    broken: Counter[str] = Counter()
    for number, cue in enumerate(cues):
        length = cue.end - cue.start
        broken["lines"] += len(cue.lines) > profile.lines
        broken["line_width"] += any(cells(line.text) > cue.limits.line_cells for line in cue.lines)
        broken["min_duration"] += length < profile.shortest
        broken["max_duration"] += length > profile.longest
        if number:
            between = cue.start - cues[number - 1].end
            broken["overlap"] += between < 0
            broken["gap"] += 0 <= between < profile.gap
        broken["reading_speed"] += length < _needed(cue.lines, cue.limits, profile) and not cue.too_fast
        broken["orphan"] += _is_orphan(cues, number, profile)
    return +broken


def _is_orphan(cues: Sequence[Cue], number: int, profile: Profile) -> bool:
    """Whether a cue is one word torn off its sentence, although a neighbour had room for it."""
    cue = cues[number]
    if sum(len(line.words) for line in cue.lines) != 1:
        return False
    word = cue.lines[0].words[0]
    if ends_sentence(word.text):
        return False
    for other, is_before in ((number - 1, True), (number + 1, False)):
        if not 0 <= other < len(cues):
            continue
        near = cues[other]
        last, first = (near, cue) if is_before else (cue, near)
        joined = first.lines[-1].words[-1].end - last.lines[0].words[0].start
        pause = first.lines[0].words[0].start - last.lines[-1].words[-1].end
        one_line = len(near.lines) == 1 and cells(near.text) + 1 + cells(word.text) <= cue.limits.line_cells
        same = near.lines[0].speaker == cue.lines[0].speaker and near.limits is cue.limits
        if same and one_line and pause < LONG_PAUSE and joined <= profile.longest:
            return True
    return False


def _needed(lines: Sequence[CueLine], limits: Limits, profile: Profile) -> float:
    """Milliseconds that people need to read some lines."""
    # A line break takes the place of a space where there was one; hyphens of speakers are not read.
    width = sum(cells(line.text) - 2 * line.hyphen for line in lines)
    width += sum(bool(line.words[0].space) for line in lines[1:])
    needed = width * 1000 / limits.cells_per_second
    if profile.words_per_minute and not limits.full_width:
        needed = max(needed, sum(len(line.words) for line in lines) * 60_000 / profile.words_per_minute)
    return needed


def _shown(
    groups: Sequence[Sequence[Token]], limits: Sequence[Limits], profile: Profile, duration: float | None
) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each cue in milliseconds, and whether its words are faster than people read."""
    earliest = 0
    close = round(profile.chain_seconds * 1000)
    linger = round(profile.linger_seconds * 1000)
    for number, group in enumerate(groups):
        is_last = number == len(groups) - 1
        start = max(earliest, group[0].start)
        if is_last and duration is not None:
            # The file may end too early for the shortest cue: it begins earlier, if it can.
            start = max(earliest, min(start, round(duration * 1000) - profile.shortest))
        width = sum(token.width + token.space for token in group) - group[0].space
        needed = width * 1000 / limits[number].cells_per_second
        if profile.words_per_minute and not limits[number].full_width:
            needed = max(needed, len(group) * 60_000 / profile.words_per_minute)
        needed_ms = -int(-needed // 1)
        wanted = max(group[-1].end + linger, start + needed_ms)
        latest = start + profile.longest
        if not is_last:
            until = groups[number + 1][0].start - profile.gap
            latest = min(latest, until)
            if 0 <= until - wanted <= close:
                wanted = until
        elif duration is not None:
            latest = min(latest, max(round(duration * 1000), start + min(needed_ms, profile.longest)))
        end = max(min(wanted, latest), start + profile.shortest)
        yield start, end, end - start < needed_ms
        earliest = end + profile.gap


def _lines(part: Sequence[Token], costs: Sequence[float], line_cells: int, most: int) -> list[CueLine]:
    """The lines of a cue: one if it fits, else the most balanced at the best break."""
    turns = [number for number in range(1, len(part)) if part[number].speaker != part[number - 1].speaker]
    if turns:
        return [_line(part[: turns[0]], True), _line(part[turns[0] :], True)]
    return [_line(piece, False) for piece in _split(part, costs, line_cells, most)]


def _split(
    part: Sequence[Token], costs: Sequence[float], line_cells: int, most: int
) -> list[Sequence[Token]]:
    if most == 1 or _width(part) <= line_cells:
        return [part]
    best: tuple[float, int] | None = None
    for place in range(1, len(part)):
        top, rest = _width(part[:place]), _width(part[place:])
        if top > line_cells:
            break
        if rest > line_cells * (most - 1):
            continue
        difference = abs(top - rest / (most - 1))
        cost = costs[place] + _UNBALANCED * difference
        if best is None or cost < best[0]:
            best = cost, place
    place = best[1] if best else max(1, len(part) // 2)
    return [part[:place], *_split(part[place:], costs[place:], line_cells, most - 1)]


def _width(tokens: Sequence[Token]) -> int:
    return sum(token.width + token.space for token in tokens) - tokens[0].space


def _line(tokens: Sequence[Token], hyphen: bool) -> CueLine:
    words = tuple(
        CueWord(token.text, token.start, token.end, token.space, token.confidence) for token in tokens
    )
    return CueLine(words, tokens[0].speaker, hyphen)
