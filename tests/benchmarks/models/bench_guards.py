"""What the guards add to the demo models: their core-seconds, beside those of the same calls without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from actors.aligner import AlignerActor
from actors.asr import ASRActor, segment_requests
from actors.config import AlignerConfig, ASRConfig
from actors.config.trust import GuardsConfig
from tests.benchmarks.workloads.checkpoints import DEMO
from tests.benchmarks.workloads.rows import Row
from tests.benchmarks.workloads.speech import demo_segments, duration, rows_of

EXPECTED_MINUTES = 0.6


def measure(full: bool) -> Iterator[Row]:
    """The guards' share of the core-seconds of recognition and alignment."""
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
    pairs = [(_seconds(models), _seconds(guards)) for _ in range(15 if full else 5)]
    # Other work on the machine only adds.
    base, added = (min(column) for column in zip(*pairs, strict=True))
    audio = duration(segments)
    note = (
        f"{added:.3f} beside {base:.2f} core-seconds for {audio:.0f} s of audio, the least of {len(pairs)} "
        f"calls each, in turns; {1000 * added / audio * 60:.0f} ms for a minute of audio"
    )
    yield Row("guards, share of the models' core-seconds", 100 * added / base, "%", "<= 2", note)


def _requests(row: dict, config: ASRConfig) -> list:
    found = segment_requests(row, config)
    assert isinstance(found, list)
    return found


def _seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
