"""Endpointing of streamed speech: where utterances begin and end, and the text of one that is not over.

Pure logic on audio and text, without a model or a clock.

The reference (qwen_asr 0.0.6, `streaming_transcribe`) feeds the model all audio since the start of the stream
every 2 s, with its previous answer, without the last 5 tokens, as a prefix; the first 2 answers are ignored.
Its cost grows with the square of the stream's length. Here the model gets only the current utterance, which a
pause ends. An utterance without a pause is cut at its quietest place, so every second costs the same.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from dataclasses import dataclass

import numpy as np

from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.segmentation.energy import find_cut
from actors.segmentation.levels import FRAME, frame_levels
from actors.text.parsing import parse_output

# Samples of new audio after which the model is asked again.
CHUNK = 2 * SAMPLING_RATE
# Tokens at the end of an answer that the next answer may change.
UNSETTLED_TOKENS = 5
# Answers at the start of an utterance that settle no text.
UNSETTLED_ANSWERS = 2
_TAG = "<asr_text>"

# Samples between decisions: 50 ms.
_HOP = 5 * FRAME
# Frames whose mean level decides.
_SMOOTH = 10
# Hops from which the levels of noise and voice are estimated: 10 s.
_LEVEL_HOPS = 200
# Hops between two estimates.
_ESTIMATE_EVERY = 10
# Hops before the first estimate. Speech from the first moment on would otherwise be taken for noise.
_FIRST_ESTIMATE = 60
# Loud hops that begin an utterance.
_ONSET = 2
# Samples behind the last loud hop that belong to the utterance.
_TAIL = SAMPLING_RATE // 5
# dB relative to full scale. Nothing below is speech.
_SILENT = -60.0
# dB above the noise and below the voice between which the threshold for speech lies.
_ABOVE_NOISE, _BELOW_VOICE = 8.0, 15.0
# dB between noise and voice. From the first on, they are clearly distinct; below the second, there is only
# noise.
_CLEAR, _STEADY = 12.0, 4.0


@dataclass(frozen=True)
class TurnDetection:
    """How a stream is cut into utterances. All times are in seconds."""

    # Whether pauses end utterances; else only the client ends them.
    detect: bool = True
    # Silence that ends an utterance.
    silence: float = 0.5
    # Audio before the first loud hop that belongs to the utterance.
    padding: float = 0.3
    # The longest utterance.
    window: float = 16.0


@dataclass(frozen=True)
class UtteranceStarted:
    """An utterance began; `start` is in samples of the stream."""

    number: int
    start: int


@dataclass(frozen=True)
class UtteranceEnded:
    """An utterance is over; `start` and `end` are in samples of the stream."""

    number: int
    start: int
    end: int
    # int16, shape (end - start,).
    waveform: np.ndarray


class Endpointer:
    """Finds the utterances in the audio of one stream.

    Its memory is bounded by the longest utterance, not by the length of the stream.

    Args:
        turns: how to cut the stream.
    """

    def __init__(self, turns: TurnDetection) -> None:
        self._turns = turns
        # int16 from sample `_base` of the stream on.
        self._buffer = bytearray()
        self._base = 0
        # Sample up to which it is decided whether there is speech.
        self._decided = 0
        # Mean squares of the latest frames.
        self._recent = np.zeros(0, np.float64)
        self._levels: deque[float] = deque(maxlen=_LEVEL_HOPS)
        self._threshold, self._hops, self._loud_hops = _SILENT, 0, 0
        self._number = 0
        # Of the current utterance.
        self._start: int | None = None
        # End of the last loud hop, a sample.
        self._loud_end = 0

    @property
    def position(self) -> int:
        """Samples of the stream so far."""
        return self._base + len(self._buffer) // 2

    @property
    def number(self) -> int | None:
        """The number of the current utterance; None between utterances."""
        return None if self._start is None else self._number

    @property
    def length(self) -> int:
        """Samples of the current utterance so far."""
        return 0 if self._start is None else self.position - self._start

    def window(self) -> np.ndarray:
        """The current utterance so far: int16, shape (samples,)."""
        return self._copy(self.position if self._start is None else self._start, self.position)

    def feed(self, samples: np.ndarray) -> list[UtteranceStarted | UtteranceEnded]:
        """Add audio.

        Args:
            samples: int16 at 16 kHz, shape (samples,).

        Returns:
            The utterances that began and ended in it, in order.
        """
        events: list[UtteranceStarted | UtteranceEnded] = []
        for place in range(0, len(samples), SAMPLING_RATE):
            self._buffer += np.ascontiguousarray(samples[place : place + SAMPLING_RATE], "<i2").tobytes()
            while self.position - self._decided >= _HOP:
                events += self._hop()
            self._drop_old_audio()
        return events

    def commit(self) -> list[UtteranceEnded]:
        """End the current utterance now; does nothing where there is none."""
        if self._start is None:
            return []
        return [self._end(self.position)]

    def clear(self) -> None:
        """Discard the current utterance and all audio so far."""
        self._start, self._loud_hops = None, 0
        self._recent = np.zeros(0, np.float64)
        self._drop(self.position)

    def _hop(self) -> list[UtteranceStarted | UtteranceEnded]:
        start, self._decided = self._decided, self._decided + _HOP
        power = 10 ** (frame_levels(self._copy(start, self._decided)) / 10)
        self._recent = np.concatenate([self._recent, power])[-_SMOOTH:]
        level = float(10 * np.log10(self._recent.mean()))
        self._estimate_threshold(level)
        loud = level > self._threshold
        self._loud_hops = self._loud_hops + 1 if loud else 0
        if self._start is None:
            if not self._turns.detect:
                return [self._begin(start)]
            if self._loud_hops < _ONSET:
                return []
            return [self._begin(start - (_ONSET - 1) * _HOP - round(self._turns.padding * SAMPLING_RATE))]
        if loud:
            self._loud_end = self._decided
        if self._turns.detect and self._decided - self._loud_end >= self._turns.silence * SAMPLING_RATE:
            # The silence may have begun before the utterance, where a cut went through it.
            return [self._end(min(self._decided, max(self._start, self._loud_end) + _TAIL))]
        if self._decided - self._start >= self._turns.window * SAMPLING_RATE:
            return self._cut()
        return []

    def _estimate_threshold(self, level: float) -> None:
        self._levels.append(level)
        self._hops += 1
        if self._hops % _ESTIMATE_EVERY or self._hops < _FIRST_ESTIMATE:
            return
        noise, voice = np.percentile(self._levels, [10, 95])
        if voice - noise >= _CLEAR:
            threshold = noise + _ABOVE_NOISE
        elif voice - noise >= _STEADY:
            # There may be speech in a loud noise. If there is none, the model can say so.
            threshold = (noise + voice) / 2
        else:
            threshold = noise + _CLEAR
        if voice - noise >= _ABOVE_NOISE + _BELOW_VOICE:
            threshold = min(threshold, voice - _BELOW_VOICE)
        self._threshold = max(_SILENT, float(threshold))

    def _begin(self, start: int) -> UtteranceStarted:
        self._number += 1
        self._start, self._loud_end = max(self._base, start), self._decided
        return UtteranceStarted(self._number, self._start)

    def _end(self, end: int) -> UtteranceEnded:
        assert self._start is not None
        utterance = UtteranceEnded(self._number, self._start, end, self._copy(self._start, end))
        self._start, self._loud_hops = None, 0
        self._drop(end)
        return utterance

    def _cut(self) -> list[UtteranceStarted | UtteranceEnded]:
        """Cut a too long utterance at the best pause of its second half; the rest begins the next one."""
        assert self._start is not None
        middle = self._start + (self._decided - self._start) // 2
        samples = self._copy(middle, self._decided)
        cut = middle + min(max(find_cut(samples, len(samples)), _HOP), len(samples))
        loud_end = self._loud_end
        events: list[UtteranceStarted | UtteranceEnded] = [self._end(cut), self._begin(cut)]
        # A cut is not speech: a silence that is longer than the window must end the utterance.
        self._loud_end = loud_end
        return events

    def _drop_old_audio(self) -> None:
        if self._start is None:
            self._drop(self._decided - round((self._turns.padding + 0.2) * SAMPLING_RATE))

    def _drop(self, until: int) -> None:
        if until > self._base:
            del self._buffer[: 2 * (until - self._base)]
            self._base = until
            # Dropped audio needs no decision.
            self._decided = max(self._decided, until)

    def _copy(self, start: int, end: int) -> np.ndarray:
        return np.frombuffer(bytes(self._buffer[2 * (start - self._base) : 2 * (end - self._base)]), "<i2")


class PartialHypothesis:
    """The text of an utterance that continues: its settled part, which no longer changes, and the rest.

    Args:
        language: English name of a language, to force it.
        context: background text for the model.
    """

    def __init__(self, language: str | None, context: str) -> None:
        # The settled text.
        self.text = ""
        # The text behind it in the latest answer, which the next one may change.
        self.tail = ""
        self._language, self._context = language, context
        self._requested_length, self._answers, self._prefix = 0, 0, ""

    def is_due(self, length: int) -> bool:
        """Whether the next request is due for an utterance of `length` samples."""
        return length - self._requested_length >= CHUNK

    def request(self, waveform: np.ndarray) -> SegmentRequest:
        """The request for the utterance so far: int16, shape (samples,)."""
        self._requested_length = len(waveform)
        return SegmentRequest(waveform, self._language, self._context, self._prefix, UNSETTLED_TOKENS)

    def take(self, hypothesis: Hypothesis) -> str:
        """Process the answer to the latest request.

        Returns:
            What it adds to `text`, which never ends within a character.
        """
        self._answers += 1
        if {"loop_collapsed", "repetitive"} & set(hypothesis.flags):
            # A model that repeats itself would continue to do so with this prefix: let it start again.
            self._prefix = ""
        elif self._answers >= UNSETTLED_ANSWERS and (
            self._language is not None or _TAG in hypothesis.settled
        ):
            self._prefix = hypothesis.settled
        settled = parse_output(self._prefix, self._language)[1] if self._prefix else ""
        settled = whole_characters(settled, hypothesis.text)
        added = settled[len(self.text) :] if settled.startswith(self.text) else ""
        self.text += added
        self.tail = hypothesis.text[len(self.text) :] if hypothesis.text.startswith(self.text) else ""
        return added


def whole_characters(text: str, full: str) -> str:
    """The longest prefix of `text` that ends with a whole character (a grapheme cluster).

    Args:
        text: a prefix of `full`.
        full: what follows in it decides: a combining mark of the last letter, a joiner.
    """
    if not full.startswith(text):
        return text.rstrip("\ufffd")
    end = len(text)
    while 0 < end < len(full) and _joined(full[end - 1], full[end]):
        end -= 1
    return full[:end].rstrip("\ufffd")


def _joined(left: str, right: str) -> bool:
    """Whether two code points belong to the same character."""
    if (
        unicodedata.category(right) in ("Mn", "Mc", "Me")
        or "\u200d" in (left, right)
        or "\ufe00" <= right <= "\ufe0f"
    ):
        return True
    # Korean letters of one syllable; the two halves of a flag.
    return "\u1160" <= right <= "\u11ff" or (
        "\U0001f1e6" <= left <= "\U0001f1ff" and "\U0001f1e6" <= right <= "\U0001f1ff"
    )
