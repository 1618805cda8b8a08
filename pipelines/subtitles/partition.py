"""Words divided into cues, at the places where that costs least. Pure.

Dynamic programming over the boundaries between words, as TeX breaks paragraphs (Knuth and Plass, 1981). The
cost of a cue depends on its first and its last word only: the time that it can be shown ends where the next
one begins, which is the start of the next word.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from pipelines.subtitles.breaks import break_costs
from pipelines.subtitles.profiles import Limits, Profile
from pipelines.subtitles.tokens import Token, Turn, ends_sentence

# Costs: of the rules that a cue must follow, in the order in which they give way, then of taste.
_IMPOSSIBLE = 1e12
_TOO_SHORT = 1e9  # the next cue begins before this one has been shown for long enough
_TOO_LONG = 1e8
_ORPHAN = 3e5
_TOO_FAST = 1e4
_PER_CUE = 12.0
_SENTENCE_INSIDE = 14.0
_PAUSE_INSIDE = 30.0  # for each second above `_FREE_PAUSE`
_FREE_PAUSE = 0.4
_BRIEF = 20.0  # for each second below `_COMFORTABLE`
_COMFORTABLE = 1.6
_SECOND_LINE = 3.0
_DUAL = 25.0
_WHOLE_SENTENCE = 1e-3  # share of the cost of an orphan, for a word that is a sentence
# Turns are divided together as long as they follow each other at once; more would only cost memory.
_LONGEST_BLOCK = 2000  # tokens


def partition(turns: Sequence[Turn], profile: Profile) -> list[tuple[int, int]]:
    """The first token and the one behind the last of each cue, for all tokens of these turns in order.

    Args:
        turns: consecutive turns.
        profile: the rules.
    """
    tokens = [token for turn in turns for token in turn.tokens]
    if not tokens:
        return []
    edges = np.cumsum([0, *(len(turn.tokens) for turn in turns)])
    pairs: list[tuple[int, int]] = []
    begin = 0
    for number, edge in enumerate(edges[1:], 1):
        is_last = number == len(turns)
        apart = is_last or turns[number].tokens[0].start - tokens[edge - 1].end > profile.longest
        if apart or edge - begin > _LONGEST_BLOCK:
            inner = edges[(edges >= begin) & (edges <= edge)] - begin
            limits = [turn.limits for turn in turns[number - len(inner) + 1 : number]]
            following = None if is_last else int(tokens[edge].start)
            found = _block(tokens[begin:edge], inner, limits, profile, following)
            pairs += [(first + begin, last + begin) for first, last in found]
            begin = int(edge)
    return pairs


def _block(
    tokens: Sequence[Token],
    edges: np.ndarray,
    limits: Sequence[Limits],
    profile: Profile,
    following: int | None,
) -> list[tuple[int, int]]:
    """Divide the tokens of some turns; `edges` are the borders of the turns, `following` the next start in "
    "ms."""
    count = len(tokens)
    turn = np.repeat(np.arange(len(limits)), np.diff(edges))
    turn_end = edges[1:][turn]
    width = np.array([token.width + token.space for token in tokens])
    total = np.concatenate([[0], np.cumsum(width)])
    lead = np.array([int(token.space) for token in tokens])  # the space before a cue is not shown
    start = np.array([token.start for token in tokens], dtype=np.int64)
    end = np.array([token.end for token in tokens], dtype=np.int64)
    next_start = np.append(start, following if following is not None else np.iinfo(np.int64).max // 4)
    line = np.array([limit.line_cells for limit in limits])[turn]
    speed = np.array([limit.cells_per_second for limit in limits])[turn]
    spaced = np.array([not limit.full_width for limit in limits])[turn]
    one = _reach(total, lead, line, turn_end)
    reach = one.copy()
    for _ in range(profile.lines - 1):
        reach = np.where(reach < turn_end, one[np.minimum(reach, count - 1)], reach)
    reach = np.minimum(reach, turn_end)
    dual = (
        _dual_reach(total, lead, line, turn_end, limits, turn)
        if profile.dual_speakers
        else np.zeros(count, int)
    )
    longest = int(max(np.max(reach - np.arange(count)), np.max(dual - np.arange(count)), 1))
    inner, at_break = _soft_costs(tokens)
    whole = np.array([ends_sentence(token.text) for token in tokens])
    costs = np.full((longest + 1, count), _IMPOSSIBLE)
    for size in range(1, longest + 1):
        first = np.arange(count - size + 1)
        last = first + size
        is_dual = last > turn_end[first]
        fits = np.where(is_dual, last <= dual[first], last <= reach[first])
        room = np.minimum(next_start[last] - profile.gap - start[first], profile.longest)
        text = total[last] - total[first] - lead[first]
        needed = text * 1000 / speed[first]
        if profile.words_per_minute:
            spoken_words = np.where(spaced[first], size * 60_000 / profile.words_per_minute, 0)
            needed = np.maximum(needed, spoken_words)
        shown = np.minimum(room, np.maximum(end[last - 1] - start[first] + 500, needed))
        cost = _PER_CUE + at_break[last] + inner[last - 1] - inner[first]
        cost = cost + _BRIEF * np.maximum(0, _COMFORTABLE - shown / 1000)
        cost = cost + np.where(text > line[first], _SECOND_LINE, 0) + np.where(is_dual, _DUAL, 0)
        over = needed / np.maximum(room, 1)
        cost = cost + np.where(over > 1, _TOO_FAST * np.minimum(over, 1000), 0)
        cost = cost + np.where(room < profile.shortest, _TOO_SHORT + 10.0 * (profile.shortest - room), 0)
        spoken = end[last - 1] - start[first]
        if size == 1:
            cost = cost + _ORPHAN * np.where(whole[first], _WHOLE_SENTENCE, 1.0)
        else:
            cost = cost + np.where(spoken > profile.longest, _TOO_LONG, 0)
        costs[size, : count - size + 1] = np.where(fits, cost, _IMPOSSIBLE)
    return _cheapest(costs, count, longest)


def _cheapest(costs: np.ndarray, count: int, longest: int) -> list[tuple[int, int]]:
    """The cheapest way from boundary 0 to the last one."""
    best = [0.0] * (count + 1)
    size_of = [1] * (count + 1)
    by_size = costs.tolist()
    for last in range(1, count + 1):
        lowest, chosen = float("inf"), 1
        for size in range(1, min(longest, last) + 1):
            cost = best[last - size] + by_size[size][last - size]
            if cost < lowest:
                lowest, chosen = cost, size
        best[last], size_of[last] = lowest, chosen
    pairs = []
    last = count
    while last:
        pairs.append((last - size_of[last], last))
        last -= size_of[last]
    return pairs[::-1]


def _reach(total: np.ndarray, lead: np.ndarray, line: np.ndarray, turn_end: np.ndarray) -> np.ndarray:
    """For each token: the token behind the last one that fits on a line which begins with it."""
    found = np.searchsorted(total, total[:-1] + lead + line, side="right") - 1
    return np.minimum(np.maximum(found, np.arange(len(line)) + 1), turn_end)


def _dual_reach(
    total: np.ndarray,
    lead: np.ndarray,
    line: np.ndarray,
    turn_end: np.ndarray,
    limits: Sequence[Limits],
    turn: np.ndarray,
) -> np.ndarray:
    """The same for a cue with this turn on its first line and the next turn on its second; 0: impossible."""
    with_hyphen = _reach(total, lead, line - 2, turn_end)
    count = len(line)
    following = np.minimum(turn_end, count - 1)
    same = np.array([*(one is other for one, other in itertools.pairwise(limits)), False])
    possible = (with_hyphen == turn_end) & (turn_end < count) & same[turn]
    return np.where(possible, with_hyphen[following], 0)


def _soft_costs(tokens: Sequence[Token]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the costs of having a boundary inside a cue, and the costs of ending a cue there."""
    at_break = np.array([*break_costs(list(tokens)), 0.0])
    inside = np.zeros(len(tokens))
    for number in range(1, len(tokens)):
        before, after = tokens[number - 1], tokens[number]
        pause = max(0.0, (after.start - before.end) / 1000 - _FREE_PAUSE)
        inside[number] = _PAUSE_INSIDE * pause + (_SENTENCE_INSIDE if ends_sentence(before.text) else 0.0)
        if before.speaker != after.speaker:
            at_break[number] = 0.0
    return np.cumsum(inside), at_break
