"""Streams in real time with the demo models: lag of final text against the capacity of the models alone; with
--full more streams.

Lag is measured from the end of an utterance (the last loud moment plus 0.2 s) to its whole text with words at
the client. It includes the pause of 0.5 s after which the server considers the utterance finished.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from actors.records import SAMPLING_RATE
from tests.benchmarks.workloads.rows import Row
from tests.benchmarks.workloads.serving import DEMO, OURS, Server, append, meeting, running, setting

LIMIT_SECONDS = 600
BY_NAME = True
STREAMS, SECONDS = 32, 40.0
# Streams, with --full.
MORE = (48, 64)
# Seconds of audio in one message of a stream.
PIECE = 0.1
# Seconds of lag.
_AIM = 2.0
_PREFIX = "conversation.item.input_audio_transcription."


def measure(full: bool) -> Iterator[Row]:
    """Lag of many streams, and the models' own limit; with `full`, more streams as well."""
    carried = 0
    with running("serve.max_streams=128") as server:
        # All processes are up and warm.
        asyncio.run(_streams(server, 4, 8.0))
        for count in (STREAMS, *MORE) if full else (STREAMS,):
            found = asyncio.run(_streams(server, count, SECONDS))
            yield from found.rows(count)
            carried = count if found.lag(95) <= _AIM else carried
    yield from _limit(carried)


@dataclass
class _Found:
    """The results of the streaming clients."""

    # Seconds.
    lags: list[float] = field(default_factory=list)
    words: int = 0
    # Partial texts of utterances that went on.
    partial: int = 0
    failed: int = 0
    # CPU seconds by role.
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0

    def lag(self, percent: float) -> float:
        """A percentile."""
        return float(np.percentile(self.lags, percent)) if self.lags else float("inf")

    def rows(self, count: int) -> Iterator[Row]:
        """These results as rows of the table."""
        aim = f"<= {_AIM:g}" if count == STREAMS else ""
        note = (
            f"{len(self.lags)} utterances in {SECONDS:.0f} s, {self.words} words, "
            f"{self.partial / max(1, len(self.lags)):.1f} partial answers each"
        )
        yield Row(f"{count} streams, lag p50", self.lag(50), "s", "", note)
        cost = ", ".join(
            f"{role} {100 * self.cpu_seconds.get(role, 0.0) / self.wall:.0f} %"
            for role in (*OURS, "Ray", "clients")
        )
        yield Row(f"{count} streams, lag p95", self.lag(95), "s", aim, f"of a core: {cost}")
        yield Row(
            f"{count} streams, utterances that failed",
            self.failed,
            "",
            "<= 0" if count == STREAMS else "",
            "",
        )


async def _streams(server: Server, count: int, seconds: float) -> _Found:
    """Streams in real time, each from another place of the same recording."""
    speech, _ = meeting()
    found = _Found()
    before = server.cpu_seconds() | {"clients": time.process_time()}
    started = time.monotonic()

    async def stream(number: int, session: aiohttp.ClientSession) -> None:
        sound = np.roll(speech, -number * len(speech) // count)[: round(seconds * SAMPLING_RATE)]
        # No stream starts in step with another.
        await asyncio.sleep(number * PIECE * 0.31)
        async with session.ws_connect(f"{server.url}/v1/realtime", max_msg_size=0) as socket:
            await socket.send_json(setting())
            begun = time.monotonic()

            async def hear() -> None:
                async for message in socket:
                    event = json.loads(message.data)
                    if event["type"] == _PREFIX + "completed":
                        found.lags.append(time.monotonic() - begun - event["end"])
                        found.words += len(event["transcript"].split())
                    found.partial += event["type"] == _PREFIX + "delta" and bool(event["unsettled"])
                    found.failed += event["type"] == _PREFIX + "failed"

            hearing = asyncio.create_task(hear())
            step = round(PIECE * SAMPLING_RATE)
            for number_sent, place in enumerate(range(0, len(sound), step), 1):
                await asyncio.sleep(
                    max(0.0, begun + number_sent * PIECE - time.monotonic())
                    # Not before it is spoken.
                )
                await socket.send_json(append(sound[place : place + step]))
            await asyncio.sleep(4 * _AIM)
            hearing.cancel()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(stream(number, session) for number in range(count)))
    found.wall = time.monotonic() - started
    after = server.cpu_seconds() | {"clients": time.process_time()}
    found.cpu_seconds = {role: cost - before.get(role, 0.0) for role, cost in after.items()}
    return found


def _limit(carried: int) -> Iterator[Row]:
    """Streams that the models alone could carry: the same sound through the same actors, one thread each,
    requested in real time.

    Once a second, the requests of all streams are one call: better batches than in a server, which does not
    wait for them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    from actors.aligner import AlignerActor
    from actors.asr import ASRActor
    from actors.config import AlignerConfig, ASRConfig
    from actors.records import SegmentRequest
    from actors.segmentation.endpointing import (
        Endpointer,
        PartialHypothesis,
        TurnDetection,
        UtteranceEnded,
        UtteranceStarted,
    )

    asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cpu", threads=1))
    aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), device="cpu", threads=1))
    speech, _ = meeting()
    listeners = [Endpointer(TurnDetection(window=15)) for _ in range(STREAMS)]
    partials: list[PartialHypothesis | None] = [None] * STREAMS
    cost = {"final": 0.0, "partial": 0.0, "words": 0.0}
    counts = {"final": 0, "partial": 0}
    for second in range(round(SECONDS)):
        over: list[UtteranceEnded] = []
        for number, listener in enumerate(listeners):
            sound = np.roll(speech, -number * len(speech) // STREAMS)[
                second * SAMPLING_RATE : (second + 1) * SAMPLING_RATE
            ]
            for event in listener.feed(sound):
                partials[number] = (
                    PartialHypothesis("English", "") if isinstance(event, UtteranceStarted) else None
                )
                over += [event] if isinstance(event, UtteranceEnded) else []
        if over:
            started = time.perf_counter()
            answers = asr.recognise([SegmentRequest(utterance.waveform, "English") for utterance in over])
            cost["final"] += time.perf_counter() - started
            segments = [
                {
                    "start": 0.0,
                    "end": len(utterance.waveform) / SAMPLING_RATE,
                    "text": answer.text,
                    "language": "en",
                    "samples": utterance.waveform.tobytes(),
                }
                for utterance, answer in zip(over, answers, strict=True)
                if not isinstance(answer, Exception)
            ]
            started = time.perf_counter()
            aligner.align(segments)
            cost["words"] += time.perf_counter() - started
            counts["final"] += len(over)
        due = [
            (partial, partial.request(listener.window()))
            for partial, listener in zip(partials, listeners, strict=True)
            if partial is not None and partial.is_due(listener.length)
        ]
        if due:
            started = time.perf_counter()
            for (partial, _), hypothesis in zip(
                due, asr.recognise([request for _, request in due]), strict=True
            ):
                if not isinstance(hypothesis, Exception):
                    partial.take(hypothesis)
            cost["partial"] += time.perf_counter() - started
            counts["partial"] += len(due)
    streamed = STREAMS * SECONDS
    each = {what: 1000 * seconds / streamed for what, seconds in cost.items()}
    note = (
        f"a second of a stream costs {each['final']:.1f} ms for whole answers ({counts['final']}), "
        f"{each['partial']:.1f} for partial ones"
    )
    capacity = streamed / (cost["final"] + cost["partial"])
    yield Row(
        "streams that the recogniser alone could carry",
        capacity,
        "streams",
        "",
        f"one thread; {note} ({counts['partial']})",
    )
    note = f"the aligner, {each['words']:.1f} ms: {streamed / cost['words']:.0f}"
    yield Row("the same without partial answers", streamed / cost["final"], "streams", "", note)
    yield Row(
        "streams carried / recogniser alone",
        carried / capacity,
        "ratio",
        "",
        f"{carried}: most of those tried with p95 of {_AIM:g} s",
    )
