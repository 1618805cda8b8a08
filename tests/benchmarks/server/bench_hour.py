"""With --full: an hour on one stream, as fast as the server accepts it, against its own beginning and against
the same hour as a file.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from actors.records import SAMPLING_RATE
from tests.benchmarks.workloads.rows import Row, Skipped
from tests.benchmarks.workloads.serving import OURS, Server, append, meeting, running, setting

LIMIT_SECONDS = 900
BY_NAME = True
HOUR, SPEED = (
    3600.0,
    8.0,
    # Seconds per step, and times real time: a step every two seconds must remain a step every two seconds.
)
# Seconds at the beginning and at the end that are compared.
PART = 600.0
# Seconds between samples of the server processes' CPU time.
STEP = 20.0
# Seconds without another utterance after the last words.
_LAST = 5.0
_COMPLETED = "conversation.item.input_audio_transcription.completed"


def measure(full: bool) -> Iterator[Row]:
    """Cost and memory of the last ten minutes against the first ten, and the word error rate of the text."""
    if not full:
        raise Skipped("it takes ten minutes: --full")
    speech, text = meeting()
    copies = round(HOUR / (len(speech) / SAMPLING_RATE))
    sound, truth = np.tile(speech, copies), " ".join([text] * copies)
    with running() as server:
        streamed = asyncio.run(_streamed(server, sound))
        yield from _flat(streamed, len(sound) / SAMPLING_RATE)
        offline = asyncio.run(_offline(server, sound))
    yield from _errors(" ".join(streamed.texts), offline, truth)


@dataclass
class _Streamed:
    """The results of a stream."""

    marks: list[tuple[float, dict[str, float], dict[str, float]]] = field(
        default_factory=list
        # Seconds finished, CPU and memory by role.
    )
    texts: list[str] = field(default_factory=list)
    wall: float = 0.0


async def _streamed(server: Server, sound: np.ndarray) -> _Streamed:
    """Send everything on one stream, as fast as the server accepts it."""
    length, found, begun = len(sound) / SAMPLING_RATE, _Streamed(), time.monotonic()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/v1/realtime", max_msg_size=0) as socket,
    ):
        await socket.send_json(setting())

        async def hear() -> None:
            marked = -STEP
            async for message in socket:
                event = json.loads(message.data)
                if event["type"] != _COMPLETED:
                    continue
                found.texts.append(event["transcript"])
                if event["end"] - marked >= STEP or event["end"] > length - 10:
                    marked = event["end"]
                    found.marks.append(
                        (
                            marked,
                            *await asyncio.gather(
                                asyncio.to_thread(server.cpu_seconds), asyncio.to_thread(server.resident)
                            ),
                        )
                    )
                    print(
                        f"{marked:.0f} s of {length:.0f} s after {time.monotonic() - begun:.0f} s", flush=True
                    )
                # The recording's last words are nearer to its end than that.
                if event["end"] > length - 10:
                    found.wall = time.monotonic() - begun

        hearing = asyncio.create_task(hear())
        for second in range(0, round(length) + 1):
            await socket.send_json(append(sound[second * SAMPLING_RATE : (second + 1) * SAMPLING_RATE]))
            await asyncio.sleep(max(0.0, begun + second / SPEED - time.monotonic()))
        await socket.send_json(append(np.zeros(2 * SAMPLING_RATE, np.int16)))
        while not found.wall or time.monotonic() - begun - found.wall < _LAST:
            await asyncio.sleep(1)
            if hearing.done():
                hearing.result()
                break
        hearing.cancel()
    return found


async def _offline(server: Server, sound: np.ndarray) -> str:
    """The text of the same sound, sent as a file."""
    form = aiohttp.FormData({"model": "asr", "language": "en"})
    form.add_field("file", _wav(sound), filename="hour.wav")
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.post(f"{server.url}/v1/audio/transcriptions", data=form) as response,
    ):
        return str((await response.json())["text"])


def _flat(streamed: _Streamed, length: float) -> Iterator[Row]:
    """Beginning and end of a stream against each other."""
    marks = streamed.marks

    def cost(start: float, end: float) -> float:
        part = [mark for mark in marks if start <= mark[0] <= end]
        cpu_seconds = sum(part[-1][1].get(role, 0.0) - part[0][1].get(role, 0.0) for role in OURS)
        return cpu_seconds / (part[-1][0] - part[0][0])

    def memory(role: str, start: float, end: float) -> float:
        return float(np.mean([mark[2].get(role, 0.0) for mark in marks if start <= mark[0] <= end]))

    first, last = cost(0, PART), cost(length - PART, length)
    note = f"{1000 * first:.1f} and {1000 * last:.1f} CPU ms a second in the first and last {PART:.0f} s"
    yield Row("an hour on a stream, cost last / first", last / first, "ratio", "<= 1.2", note)
    note = f"{len(streamed.texts)} utterances, {length:.0f} s"
    yield Row("an hour on a stream, speed", length / streamed.wall, "x real time", "", note)
    for role in OURS:
        if role != "decoding":
            begin, end = memory(role, 0, PART), memory(role, length - PART, length)
            yield Row(
                f"an hour on a stream, memory last / first: {role}",
                end / begin,
                "ratio",
                "<= 1.2",
                f"{begin:.0f} and {end:.0f} MiB",
            )


def _errors(streamed: str, offline: str, truth: str) -> Iterator[Row]:
    """Word error rates."""
    note = f"{len(offline.split())} words; no segment is cut where an utterance is"
    yield Row("an hour's text, streamed against offline", error_rate(streamed, offline), "WER", "", note)
    yield Row(
        "an hour's text, streamed against what is said",
        error_rate(streamed, truth),
        "WER",
        "",
        f"{len(truth.split())} words",
    )
    yield Row("an hour's text, offline against what is said", error_rate(offline, truth), "WER", "", "")


def error_rate(said: str, wanted: str) -> float:
    """Insertions, deletions and replacements of words in `said`, per word of `wanted`, ignoring case and
    punctuation.
    """
    left, right = (
        [word for word in ("".join(filter(str.isalnum, word)) for word in text.lower().split()) if word]
        for text in (said, wanted)
    )
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*left, *right]))}
    codes = np.array([numbers[word] for word in right])
    places = np.arange(len(right) + 1)
    row = places.copy()
    for count, word in enumerate(left, 1):
        best = np.empty_like(row)
        best[0] = count
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (codes != numbers[word]))
        # Insertions, from left to right.
        row = np.minimum.accumulate(best - places) + places
    return float(row[-1]) / max(1, len(right))


def _wav(samples: np.ndarray) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
