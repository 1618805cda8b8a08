"""The server under load with the demo models: files from many clients against the batch job on the same
audio.

Clients ask for all that the job makes: words with their times. Two figures of the same minute: the work done
while all clients were active (of a later response, the part of its time within the minute), and the work done
until the last response.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from tests.benchmarks.workloads.rows import Row
from tests.benchmarks.workloads.serving import CONFIG, OURS, Server, recordings, running

LIMIT_SECONDS = 600
BY_NAME = True
CLIENTS, SECONDS = 64, 60.0
# Copies of the demo's recordings in the batch runs; the first run is the warm-up.
COPIES = (1, 4, 16)


@dataclass
class _Load:
    """The clients' results."""

    spans: list[tuple[float, float, float]] = field(
        default_factory=list
        # Of each response: request time, response time, seconds of its audio.
    )
    codes: dict[int, int] = field(default_factory=dict)
    malformed: int = 0
    wall: float = 0.0
    # CPU seconds by role.
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def heard(self) -> float:
        """Seconds of audio."""
        return sum(audio for _, _, audio in self.spans)

    def rate(self, end: float) -> float:
        """Audio seconds per second up to a moment; a response's audio is spread evenly over its duration."""
        return (
            sum(
                audio * max(0.0, min(there, end) - asked) / (there - asked)
                for asked, there, audio in self.spans
            )
            / end
        )


def measure(full: bool) -> Iterator[Row]:
    """Throughput, p95 and refusals under load, CPU time by role, and the batch job on the same audio."""
    with running() as server:
        # All processes are up and warm.
        asyncio.run(_load(server, 8, 5.0))
        load = asyncio.run(_load(server, CLIENTS, SECONDS))
    yield from _rows(load)
    whole, further = _batch()
    note = f"{COPIES[-1]} copies of the demo's recordings, models' and pipeline's start included, Ray's not"
    yield Row("batch job, same audio", whole, "audio s/s", "", note)
    yield Row(
        "batch job, further audio",
        further,
        "audio s/s",
        "",
        f"from {COPIES[-2]} to {COPIES[-1]} copies: no start",
    )
    yield Row("server while all ask / batch job", load.rate(SECONDS) / whole, "ratio", ">= 0.8", "")
    yield Row(
        "server while all ask / batch job's further audio",
        load.rate(SECONDS) / further,
        "ratio",
        ">= 0.8",
        "both without any start",
    )
    yield Row("server with the tail / batch job", load.rate(load.wall) / whole, "ratio", "", "")


async def _load(server: Server, clients: int, seconds: float) -> _Load:
    """Clients that send one request after the other, each starting with another file."""
    files = [(path.name, path.read_bytes()) for path in recordings()]
    found = _Load()
    before = server.cpu_seconds() | {"clients": time.process_time()}
    started = time.monotonic()

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        while (begun := time.monotonic() - started) < seconds:
            name, data = files[number % len(files)]
            number += 1
            form = aiohttp.FormData({"model": "asr", "response_format": "verbose_json"})
            for granularity in ("word", "segment"):
                form.add_field("timestamp_granularities[]", granularity)
            form.add_field("file", data, filename=name)
            async with session.post(f"{server.url}/v1/audio/transcriptions", data=form) as response:
                body = await response.json()
                found.codes[response.status] = found.codes.get(response.status, 0) + 1
                if response.status == 200:
                    found.spans.append((begun, time.monotonic() - started, body["duration"]))
                elif response.status == 503 and "retry-after" in response.headers and body["error"]["code"]:
                    await asyncio.sleep(1)
                else:
                    found.malformed += 1

    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=300), connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        await asyncio.gather(*(client(number, session) for number in range(clients)))
    found.wall = time.monotonic() - started
    after = server.cpu_seconds() | {"clients": time.process_time()}
    found.cpu_seconds = {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}
    return found


def _rows(load: _Load) -> Iterator[Row]:
    took = [there - asked for asked, there, _ in load.spans]
    note = f"{CLIENTS} clients for {SECONDS:.0f} s, answers by status {load.codes}"
    yield Row("server, throughput while all ask", load.rate(SECONDS), "audio s/s", "", note)
    note = f"until the last answer, {load.wall:.0f} s; {load.heard:.0f} s of audio"
    yield Row("server, throughput with the tail", load.rate(load.wall), "audio s/s", "", note)
    yield Row("server, p50", float(np.percentile(took, 50)), "s", "", "")
    yield Row("server, p95", float(np.percentile(took, 95)), "s", "", "")
    yield Row("answers but 200 and well-formed 503", load.malformed, "answers", "<= 0", "")
    for role in (*OURS, "Ray", "clients"):
        seconds = load.cpu_seconds.get(role, 0.0)
        yield Row(
            f"processors' time: {role}",
            1000 * seconds / load.heard,
            "ms an audio s",
            "",
            f"{100 * seconds / load.wall:.0f} % of a core",
        )


def _batch() -> tuple[float, float]:
    """Audio seconds per second of the batch job on the same audio, on a running Ray: of the largest run, and
    of its last part.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from pipelines.cluster import session as cluster
    from pipelines.config import load_config
    from pipelines.storage.files import read_tables
    from pipelines.transcribe import transcribe

    config = load_config(CONFIG)
    runs = []
    with tempfile.TemporaryDirectory() as folder, cluster.running_ray(config.cluster):
        for copies in COPIES:
            manifest, out = Path(folder) / f"{copies}.jsonl", f"{folder}/out{copies}"
            rows = [
                {"audio": str(path), "id": f"{path.stem}-{copy}"}
                for copy in range(copies)
                for path in recordings()
            ]
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
            started = time.monotonic()
            transcribe(str(manifest), out, config)
            wall = time.monotonic() - started
            runs.append((sum(read_tables(f"{out}/transcripts", ["duration"])["duration"].to_pylist()), wall))
    (few, begin), (many, end) = runs[-2:]
    return many / end, (many - few) / (end - begin)
