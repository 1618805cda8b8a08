"""Speech that is still going on: where utterances begin and end, and the text of one that is not over. Pure: audio and text, no model, no clock.

The reference (qwen_asr 0.0.6, `streaming_transcribe`) feeds the model all audio since the start of the stream again every 2 s, with what it
said before, less its last 5 tokens, as a prefix; the first 2 answers are not kept. Its cost grows with the square of the stream's length. Here the
audio is that of the current utterance only: a pause ends it, one that does not pause is cut where it is quietest, and every second costs the same.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from dataclasses import dataclass

import numpy as np

from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.segmentation.energy import FRAME, find_cut, frame_levels
from actors.text.parsing import parse_output

CHUNK = 2 * SAMPLING_RATE  # samples of new audio after which the model is asked again
UNSETTLED_TOKENS = 5  # at the end of an answer, which the next one may change
UNSETTLED_ANSWERS = 2  # of an utterance, of which nothing is kept
_TAG = "<asr_text>"

_HOP = 5 * FRAME  # samples between decisions: 50 ms
_SMOOTH = 10  # frames whose mean decides
_MEMORY = 200  # hops that the levels of noise and voice are taken from: 10 s
_LEARN = 10  # hops between looks at them
_KNOWN = 60  # hops after which they can be told apart: who speaks from the first moment on is not noise
_ONSET = 2  # loud hops that begin an utterance
_TAIL = SAMPLING_RATE // 5  # samples kept behind the last loud hop
_SILENT = -60.0  # dB relative to full scale: nothing below is speech
_ABOVE_NOISE, _BELOW_VOICE = 8.0, 15.0  # dB: what is louder than noise, unless it is far below the voice
_CLEAR, _STEADY = (
    12.0,
    4.0,
)  # dB between noise and voice: above, they are plain to tell apart; below, there is only noise


@dataclass(frozen=True)
class Turns:
    """How a stream is cut into utterances; in seconds."""

    detect: bool = True  # end utterances at pauses; else only where the client says so
    silence: float = 0.5  # quiet that ends an utterance
    padding: float = 0.3  # audio kept before the first loud moment
    window: float = 16.0  # longest utterance


@dataclass(frozen=True)
class Started:
    """An utterance begins; `start` in samples of the stream."""

    number: int
    start: int


@dataclass(frozen=True)
class Ended:
    """An utterance is over; `start` and `end` in samples of the stream."""

    number: int
    start: int
    end: int
    waveform: np.ndarray  # int16, shape (end - start,)


class Endpointer:
    """Audio of one stream in, utterances out. Holds no more than the longest utterance, however long the stream is."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._buffer = bytearray()  # int16 from sample `_base` of the stream on
        self._base = 0
        self._decided = 0  # sample up to which it is known whether somebody speaks
        self._recent = np.zeros(0, np.float64)  # mean squares of the latest frames
        self._levels: deque[float] = deque(maxlen=_MEMORY)
        self._threshold, self._hops, self._loud_hops = _SILENT, 0, 0
        self._number = 0
        self._start: int | None = None  # of the current utterance
        self._loud = 0  # sample up to which somebody spoke last

    @property
    def position(self) -> int:
        """Samples that came in."""
        return self._base + len(self._buffer) // 2

    @property
    def number(self) -> int | None:
        """Of the current utterance; None between utterances."""
        return None if self._start is None else self._number

    @property
    def length(self) -> int:
        """Samples of the current utterance."""
        return 0 if self._start is None else self.position - self._start

    def window(self) -> np.ndarray:
        """The current utterance so far: int16, shape (samples,)."""
        return self._copy(self.position if self._start is None else self._start, self.position)

    def feed(self, samples: np.ndarray) -> list[Started | Ended]:
        """More audio: int16 at 16 kHz, shape (samples,); what began and ended with it, in order."""
        events: list[Started | Ended] = []
        for place in range(0, len(samples), SAMPLING_RATE):
            self._buffer += np.ascontiguousarray(samples[place : place + SAMPLING_RATE], "<i2").tobytes()
            while self.position - self._decided >= _HOP:
                events += self._hop()
            self._forget()
        return events

    def commit(self) -> list[Ended]:
        """End the current utterance now; nothing where there is none."""
        if self._start is None:
            return []
        return [self._end(self.position)]

    def clear(self) -> None:
        """Forget the current utterance and all audio: what comes next begins with what comes next."""
        self._start, self._loud_hops = None, 0
        self._recent = np.zeros(0, np.float64)
        self._drop(self.position)

    def _hop(self) -> list[Started | Ended]:
        start, self._decided = self._decided, self._decided + _HOP
        power = 10 ** (frame_levels(self._copy(start, self._decided)) / 10)
        self._recent = np.concatenate([self._recent, power])[-_SMOOTH:]
        level = float(10 * np.log10(self._recent.mean()))
        self._learn(level)
        loud = level > self._threshold
        self._loud_hops = self._loud_hops + 1 if loud else 0
        if self._start is None:
            if not self._turns.detect:
                return [self._begin(start)]
            if self._loud_hops < _ONSET:
                return []
            return [self._begin(start - (_ONSET - 1) * _HOP - round(self._turns.padding * SAMPLING_RATE))]
        if loud:
            self._loud = self._decided
        if self._turns.detect and self._decided - self._loud >= self._turns.silence * SAMPLING_RATE:
            # The quiet may have begun before the utterance, where a cut went through it.
            return [self._end(min(self._decided, max(self._start, self._loud) + _TAIL))]
        if self._decided - self._start >= self._turns.window * SAMPLING_RATE:
            return self._cut()
        return []

    def _learn(self, level: float) -> None:
        self._levels.append(level)
        self._hops += 1
        if self._hops % _LEARN or self._hops < _KNOWN:
            return
        noise, voice = np.percentile(self._levels, [10, 95])
        if voice - noise >= _CLEAR:
            above = noise + _ABOVE_NOISE
        elif (
            voice - noise >= _STEADY
        ):  # somebody may speak in a loud noise: the model can say that nobody does
            above = (noise + voice) / 2
        else:
            above = noise + _CLEAR
        if voice - noise >= _ABOVE_NOISE + _BELOW_VOICE:
            above = min(above, voice - _BELOW_VOICE)
        self._threshold = max(_SILENT, float(above))

    def _begin(self, start: int) -> Started:
        self._number += 1
        self._start, self._loud = max(self._base, start), self._decided
        return Started(self._number, self._start)

    def _end(self, end: int) -> Ended:
        assert self._start is not None
        ended = Ended(self._number, self._start, end, self._copy(self._start, end))
        self._start, self._loud_hops = None, 0
        self._drop(end)
        return ended

    def _cut(self) -> list[Started | Ended]:
        """Part an utterance that is too long at the best pause of its last half; what is behind it begins the next one."""
        assert self._start is not None
        middle = self._start + (self._decided - self._start) // 2
        samples = self._copy(middle, self._decided)
        cut = middle + min(max(find_cut(samples, len(samples)), _HOP), len(samples))
        loud = self._loud
        events: list[Started | Ended] = [self._end(cut), self._begin(cut)]
        self._loud = loud  # a cut is no speech: a quiet that is longer than the window has to end some time
        return events

    def _forget(self) -> None:
        if self._start is None:
            self._drop(self._decided - round((self._turns.padding + 0.2) * SAMPLING_RATE))

    def _drop(self, until: int) -> None:
        if until > self._base:
            del self._buffer[: 2 * (until - self._base)]
            self._base = until
            self._decided = max(self._decided, until)  # nothing is decided about what is not there any more

    def _copy(self, start: int, end: int) -> np.ndarray:
        return np.frombuffer(bytes(self._buffer[2 * (start - self._base) : 2 * (end - self._base)]), "<i2")


class Partial:
    """The text of an utterance that goes on, as far as it will not change any more, and what may follow.

    Args:
        language: English name, to force it.
        context: background text.
    """

    def __init__(self, language: str | None, context: str) -> None:
        self.text = ""  # settled
        self.tail = ""  # what the latest answer has behind it, and the next one may change
        self._language, self._context = language, context
        self._asked, self._answers, self._prefix = 0, 0, ""

    def is_due(self, length: int) -> bool:
        """Whether the model is to be asked, now that the utterance has `length` samples."""
        return length - self._asked >= CHUNK

    def request(self, waveform: np.ndarray) -> SegmentRequest:
        """What to ask about the utterance so far."""
        self._asked = len(waveform)
        return SegmentRequest(waveform, self._language, self._context, self._prefix, UNSETTLED_TOKENS)

    def take(self, hypothesis: Hypothesis) -> str:
        """The answer to the latest request; returns what it adds to `text`, which never ends within a character."""
        self._answers += 1
        if {"loop_collapsed", "repetitive"} & set(hypothesis.flags):
            # A model that is stuck would go on from where it is stuck: let it begin anew.
            self._prefix = ""
        elif self._answers >= UNSETTLED_ANSWERS and (
            self._language is not None or _TAG in hypothesis.settled
        ):
            self._prefix = hypothesis.settled
        settled = parse_output(self._prefix, self._language)[1] if self._prefix else ""
        settled = whole(settled, hypothesis.text)
        added = settled[len(self.text) :] if settled.startswith(self.text) else ""
        self.text += added
        self.tail = hypothesis.text[len(self.text) :] if hypothesis.text.startswith(self.text) else ""
        return added


def whole(text: str, full: str) -> str:
    """The beginning of `text` that ends with a whole character as people see it.

    Args:
        text: the beginning of `full`, cut anywhere.
        full: what follows decides: a mark that belongs to the last letter, a joiner.
    """
    if not full.startswith(text):
        return text.rstrip("\ufffd")
    end = len(text)
    while 0 < end < len(full) and _joined(full[end - 1], full[end]):
        end -= 1
    return full[:end].rstrip("\ufffd")


def _joined(left: str, right: str) -> bool:
    if (
        unicodedata.category(right) in ("Mn", "Mc", "Me")
        or "\u200d" in (left, right)
        or "\ufe00" <= right <= "\ufe0f"
    ):
        return True
    # Korean letters that make one syllable; the two halves of a flag.
    return "\u1160" <= right <= "\u11ff" or (
        "\U0001f1e6" <= left <= "\U0001f1ff" and "\U0001f1e6" <= right <= "\U0001f1ff"
    )
