"""What guards and confidence add to the demo models: core-seconds, beside those of calls without guards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import actors.aligner
import actors.asr
from actors.aligner import AlignerActor
from actors.asr import ASRActor, segment_requests
from actors.config import AlignerConfig, ASRConfig
from actors.config.trust import GuardsConfig
from tests.benchmarks.workloads.checkpoints import DEMO
from tests.benchmarks.workloads.rows import Row
from tests.benchmarks.workloads.speech import demo_segments, duration, rows_of

EXPECTED_MINUTES = 0.6


def measure(full: bool) -> Iterator[Row]:
    """The share of guards and of confidence in the core-seconds of recognition and alignment."""
    segments = demo_segments()
    rows = rows_of(segments)
    off = GuardsConfig(enabled=False)
    asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), threads=1), off)
    aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), threads=1), off)
    guarded = ASRActor(ASRConfig(model=str(DEMO / "asr"), threads=1)).guard
    words = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), threads=1)).guard
    requests = [request for row in rows for request in _requests(row, asr.config)]
    results = asr.recognise(requests)
    recognised = [segment for row in asr(rows) for segment in row["segments"]]
    aligned = [segment for segment, _ in aligner.align(recognised)]

    def models() -> None:
        aligner(asr(rows))

    def guards() -> None:
        guarded.judged(requests, results, guarded.listen(requests))
        heard = words.listen(recognised)
        for before, after, sound in zip(recognised, aligned, heard, strict=True):
            words.judged(before, after, None, sound)

    # The first calls load what later ones share.
    guards()
    processor: Any = asr.backend
    parts = (
        (processor.processor, "_spans"),
        (actors.asr, "_token_fields"),
        (actors.aligner, "word_confidences"),
    )
    clock = _Clock()
    triples = []
    with contextlib.ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(mock.patch.object(owner, name, clock.timed(getattr(owner, name))))
        for _ in range(15 if full else 5):
            clock.seconds = 0.0
            base = _seconds(models)
            triples.append((base, _seconds(guards), clock.seconds))
    # Other work on the machine only adds.
    base, added, confidence = (min(column) for column in zip(*triples, strict=True))
    audio = duration(segments)
    note = (
        f"{added:.3f} beside {base:.2f} core-seconds for {audio:.0f} s of audio, the least of {len(triples)} "
        f"calls each, in turns; {1000 * added / audio * 60:.0f} ms for a minute of audio"
    )
    yield Row("guards, share of the models' core-seconds", 100 * added / base, "%", "", note)
    yield Row("word confidence, share of the same", 100 * confidence / base, "%", "", "a part of it")
    joint = added + confidence
    yield Row("both together, share of the models' core-seconds", 100 * joint / base, "%", "<= 2", note)
    none = _seconds(lambda: asr.guard.judged(requests, results, asr.guard.listen(requests)))
    yield Row("guards switched off, share of the same", 100 * none / base, "%", "<= 0.01")


def _requests(row: dict, config: ASRConfig) -> list:
    found = segment_requests(row, config)
    assert isinstance(found, list)
    return found


class _Clock:
    """Seconds of the thread in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time added here."""

        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - started

        return run


def _seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
