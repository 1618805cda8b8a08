"""The steps of the ladder within one model: what is asked again, and what becomes of the answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from actors.records import Hypothesis, SegmentRequest, Span
from actors.repair import recut
from actors.repair.choice import Candidate

LANGUAGE, RECUT, NO_CONTEXT, PENALTY = "language", "recut", "no_context", "penalty"
STEPS = (LANGUAGE, RECUT, NO_CONTEXT, PENALTY)
MIXED = "languages_mixed"
# Gives an answer its flags: those of the parser and of the guards.
Check = Callable[[SegmentRequest, Hypothesis], Hypothesis]

# Flags that doubt the language.
OF_LANGUAGE = frozenset(
    {
        "language_not_allowed",
        "language_doubtful",
        "unknown_language",
        "no_language_tag",
        "language_none_with_text",
    }
)


# What is as wrong in a piece as in a whole; a short piece may have little text for good reason.
_OF_ANY_PIECE = frozenset({"context_leaked", "text_without_speech", "repetitive", "too_much_text"})


def steps_for(
    request: SegmentRequest,
    candidate: Candidate,
    *,
    penalty: bool,
    mixed: bool,
    seconds: float = recut.SHORTEST,
) -> list[str]:
    """The steps that may help a segment, in the order in which they are tried.

    Cut anew, without context, with a repetition penalty. What its flags point to comes first: another
    language for a wrong one, no context for a leaked one.

    Args:
        request: the segment.
        candidate: its first answer.
        penalty: whether the backend can do a repetition penalty, and there is one.
        mixed: whether it may have several languages: then only a new cut can tell.
    """
    flags = candidate.suspects
    can_cut = request.duration >= recut.SHORTEST
    if mixed and not flags:
        return [RECUT] if can_cut else []
    steps = [LANGUAGE] if OF_LANGUAGE & flags and not request.language and not mixed else []
    steps += [NO_CONTEXT] if request.context and "context_leaked" in flags else []
    steps += [RECUT] if can_cut else []
    steps += [NO_CONTEXT] if request.context else []
    steps += [LANGUAGE] if OF_LANGUAGE & flags and not request.language else []
    steps += [PENALTY] if penalty else []
    return list(dict.fromkeys(steps))


def requests_for(
    step: str, request: SegmentRequest, spans: Sequence[Span], *, penalty: float, language: str | None
) -> list[SegmentRequest]:
    """What a step asks the model for.

    Args:
        step: one of `STEPS`.
        request: the segment.
        spans: its pieces, for `RECUT`.
        penalty: for `PENALTY`.
        language: for `LANGUAGE`, and for `RECUT` where it is known.
    """
    if step == RECUT:
        pieces = [recut.piece(request.waveform, span) for span in spans]
        return [replace(request, waveform=piece, language=request.language or language) for piece in pieces]
    if step == NO_CONTEXT:
        return [replace(request, context="")]
    if step == PENALTY:
        return [replace(request, repetition_penalty=penalty)]
    return [replace(request, language=language)]


def candidate_of(
    step: str,
    request: SegmentRequest,
    asked: Sequence[SegmentRequest],
    spans: Sequence[Span],
    answers: Sequence[Hypothesis],
    check: Check,
) -> Candidate:
    """The answers to a step as one candidate with its flags.

    Args:
        step: one of `STEPS`.
        request: the segment.
        asked: from `requests_for`.
        spans: pieces of the segment, for `RECUT`.
        answers: of the model to `asked`.
        check: gives answers their flags.
    """
    if step != RECUT:
        return Candidate(step, check(asked[0], answers[0]))
    pieces = () if request.language else recut.in_languages(spans, answers)
    if not pieces:
        # A fault of one piece may be too small to show in the whole.
        checked_answers = [check(one, answer) for one, answer in zip(asked, answers, strict=True)]
        faults = {flag for one in checked_answers for flag in one.flags} & _OF_ANY_PIECE
        whole = check(request, recut.joined(spans, answers))
        faults -= set(whole.flags)
        return Candidate(step, replace(whole, flags=(*whole.flags, *sorted(faults))))
    checked = tuple(
        replace(
            piece,
            hypothesis=check(
                replace(request, waveform=recut.piece(request.waveform, piece.span)), piece.hypothesis
            ),
        )
        for piece in pieces
    )
    whole = recut.joined([piece.span for piece in checked], [piece.hypothesis for piece in checked])
    return Candidate(step, whole, checked)
