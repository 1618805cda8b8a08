"""The server under load, with the demo models: files of many clients, streams in real time, and with --full a stream of an hour."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from actors.audio import decode_span
from actors.results import SAMPLING_RATE
from actors.sources import open_audio
from actors.timeline import Recording
from tests.benchmarks.rows import Row

LIMIT_SECONDS = 1500
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs/demo"
CLIENTS, SECONDS = 64, 60.0
COPIES = 8  # of the demo's recordings in the batch run that the server is held against
STREAMS, STREAM_SECONDS = 32, 40.0
PIECE = 0.1  # seconds of audio in one message of a stream
HOUR = 3600.0
_LAG_AIM = 2.0  # seconds
_PREFIX = "conversation.item.input_audio_transcription."


def measure(full: bool) -> Iterator[Row]:
    """Throughput, p95 and refusals under load, the batch job on the same audio, lag of streams; `full`: an hour on one stream."""
    with _server() as (url, process):
        asyncio.run(_load(url, 8, 5.0))  # all processes up and warm
        load = asyncio.run(_load(url, CLIENTS, SECONDS))
        yield from _rows_of_load(load)
        yield from _rows_of_streams(asyncio.run(_streams(url)))
        if full:
            yield from asyncio.run(_hour(url, process))
    batch = _batch()
    note = f"{COPIES} copies of the demo's recordings, plan and stitching included, Ray's start not"
    yield Row("batch job, same audio", batch, "audio s/s", "", note)
    yield Row("server / batch job", load["rate"] / batch, "ratio", ">= 0.8", "")


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, psutil.Process]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "pipelines", "serve", "--config", str(ROOT / "configs/demo.yaml"), "--set", "serve.port=0"]
        with out.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, cwd=ROOT)
        try:
            while not out.read_bytes().count(b"\n"):
                if process.poll() is not None:
                    raise RuntimeError("the server does not start")
                time.sleep(0.2)
            yield json.loads(out.read_text().splitlines()[0])["url"], psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def _files() -> list[Path]:
    return sorted(path for path in (DEMO / "audio").iterdir() if path.stem != "broken")


async def _load(url: str, clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask one question after the other, each beginning with another file."""
    files = [(path.name, path.read_bytes()) for path in _files()]
    took: list[float] = []
    heard = 0.0
    codes: dict[int, int] = {}
    malformed = 0
    started = time.monotonic()
    end = started + seconds

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        nonlocal heard, malformed
        while time.monotonic() < end:
            name, data = files[number % len(files)]
            number += 1
            form = aiohttp.FormData({"model": "asr", "response_format": "verbose_json"})
            form.add_field("file", data, filename=name)
            begun = time.monotonic()
            async with session.post(f"{url}/v1/audio/transcriptions", data=form) as response:
                body = await response.json()
                codes[response.status] = codes.get(response.status, 0) + 1
                if response.status == 200:
                    took.append(time.monotonic() - begun)
                    heard += body["duration"]
                elif response.status == 503 and "retry-after" in response.headers and body["error"]["code"]:
                    await asyncio.sleep(1)
                else:
                    malformed += 1

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300), connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(number, session) for number in range(clients)))
    wall = time.monotonic() - started
    return {"took": took, "rate": heard / wall, "codes": codes, "malformed": malformed, "heard": heard, "wall": wall}


def _rows_of_load(found: dict[str, Any]) -> Iterator[Row]:
    note = f"{CLIENTS} clients for {found['wall']:.0f} s, answers by status {found['codes']}, {found['heard']:.0f} s of audio"
    yield Row("server, throughput", found["rate"], "audio s/s", "", note)
    yield Row("server, p50", float(np.percentile(found["took"], 50)), "s", "", "")
    yield Row("server, p95", float(np.percentile(found["took"], 95)), "s", "", "")
    yield Row("answers but 200 and well-formed 503", found["malformed"], "answers", "<= 0", "")


def _batch() -> float:
    """Audio seconds per second of the batch job on the same audio, on a Ray that runs already."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from pipelines import cluster
    from pipelines.config import load_config
    from pipelines.storage.locations import read_tables
    from pipelines.transcribe import transcribe

    config = load_config(str(ROOT / "configs/demo.yaml"))
    with tempfile.TemporaryDirectory() as folder, cluster.started(config.cluster):
        rates = []
        for copies in (1, COPIES):  # the first run is the warm-up
            manifest, out = Path(folder) / f"{copies}.jsonl", f"{folder}/out{copies}"
            rows = [{"audio": str(path), "id": f"{path.stem}-{copy}"} for copy in range(copies) for path in _files()]
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
            started = time.monotonic()
            transcribe(str(manifest), out, config)
            wall = time.monotonic() - started
            rates.append(sum(read_tables(f"{out}/transcripts", ["duration"])["duration"].to_pylist()) / wall)
    return rates[-1]


def _speech() -> np.ndarray:
    """The long demo recording: int16 at 16 kHz."""
    with open_audio(str(DEMO / "audio/long-meeting.mp3")) as file:
        samples: np.ndarray = decode_span(Recording(file), 0, None).samples[0]
    return samples


async def _streams(url: str) -> dict[str, Any]:
    """Streams in real time, each from another place of the same recording."""
    speech = _speech()
    lags: list[float] = []
    texts = [0]

    async def stream(number: int, session: aiohttp.ClientSession) -> None:
        sound = np.roll(speech, -number * len(speech) // STREAMS)[: round(STREAM_SECONDS * SAMPLING_RATE)]
        await asyncio.sleep(number * PIECE * 0.31)  # nobody begins in step with the others
        async with session.ws_connect(f"{url}/v1/realtime", max_msg_size=0) as socket:
            await socket.send_json(_setting())
            begun = time.monotonic()

            async def hear() -> None:
                async for message in socket:
                    event = json.loads(message.data)
                    if event["type"] == _PREFIX + "completed":
                        lags.append(time.monotonic() - begun - event["end"])
                        texts[0] += len(event["transcript"].split())

            hearing = asyncio.create_task(hear())
            step = round(PIECE * SAMPLING_RATE)
            for count, place in enumerate(range(0, len(sound), step), 1):
                await socket.send_json(_append(sound[place : place + step]))
                await asyncio.sleep(max(0.0, begun + count * PIECE - time.monotonic()))
            await asyncio.sleep(4 * _LAG_AIM)
            hearing.cancel()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(stream(number, session) for number in range(STREAMS)))
    return {"lags": lags, "words": texts[0]}


def _rows_of_streams(found: dict[str, Any]) -> Iterator[Row]:
    lags = found["lags"]
    note = f"{STREAMS} streams for {STREAM_SECONDS:.0f} s, {len(lags)} utterances, {found['words']} words; with the pause of 0.5 s that ends one"
    yield Row("streams, lag p50", float(np.percentile(lags, 50)), "s", "", note)
    yield Row("streams, lag p95", float(np.percentile(lags, 95)), "s", f"<= {_LAG_AIM:g}", "")


async def _hour(url: str, process: psutil.Process) -> list[Row]:
    """An hour on one stream, as fast as the server takes it: cost and memory of its beginning and its end."""
    speech = _speech()
    step = SAMPLING_RATE
    marks: list[tuple[float, float, float]] = []  # seconds of audio finished, wall, CPU of all the server's processes
    memory: list[tuple[float, float]] = []
    texts: list[str] = []
    begun = time.monotonic()

    def cost() -> float:
        total = 0.0
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/v1/realtime", max_msg_size=0) as socket:
        await socket.send_json(_setting())

        async def hear() -> None:
            async for message in socket:
                event = json.loads(message.data)
                if event["type"] == _PREFIX + "completed":
                    texts.append(event["transcript"])
                    marks.append((event["end"], time.monotonic() - begun, cost()))
                    with contextlib.suppress(psutil.Error):
                        memory.append((event["end"], process.memory_info().rss / 2**20))
                    if event["end"] > HOUR - 10:
                        return

        hearing = asyncio.create_task(hear())
        for second in range(round(HOUR)):
            place = second * step % (len(speech) - step)
            await socket.send_json(_append(speech[place : place + step]))
            # Not faster than eight times real time: a step every two seconds is to be a step every two seconds.
            await asyncio.sleep(max(0.0, begun + second / 8 - time.monotonic()))
        await asyncio.wait_for(hearing, 300)

    def between(start: float, end: float) -> float:
        part = [mark for mark in marks if start <= mark[0] <= end]
        return (part[-1][2] - part[0][2]) / (part[-1][0] - part[0][0])

    first, last = between(0, 600), between(HOUR - 600, HOUR)
    rss = [np.mean([value for at, value in memory if a <= at <= b]) for a, b in ((0, 600), (HOUR - 600, HOUR))]
    note = f"{first:.4f} CPU s a second in the first ten minutes, {last:.4f} in the last; {len(texts)} utterances"
    return [
        Row("an hour on a stream, cost last / first", last / first, "ratio", "<= 1.2", note),
        Row(
            "an hour on a stream, memory last / first",
            float(rss[1] / rss[0]),
            "ratio",
            "<= 1.2",
            f"front process: {rss[0]:.0f} MiB, {rss[1]:.0f} MiB",
        ),
    ]


def _setting() -> dict[str, Any]:
    source = {"format": {"type": "audio/pcm", "rate": SAMPLING_RATE}, "transcription": {"language": "en"}}
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": source}}}


def _append(samples: np.ndarray) -> dict[str, Any]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(samples.tobytes()).decode()}
