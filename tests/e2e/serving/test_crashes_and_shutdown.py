"""The server when its model processes crash, when load grows, and when it shuts down."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import pytest
import soundfile

from tests.e2e.conftest import SURE
from tests.e2e.serving.conftest import Demo, Server, read_audio

pytestmark = pytest.mark.slow


def noise(seconds: float, seed: int) -> tuple[str, bytes]:
    """A WAV file with noise, for which the fake models return words."""
    file = io.BytesIO()
    samples = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * 16_000)).astype(np.int16)
    soundfile.write(file, samples, 16_000, format="WAV")
    return "noise.wav", file.getvalue()


def batches_of(replica: psutil.Process) -> int:
    """How many batches a replica has processed, by its log file of Ray Serve."""
    with contextlib.suppress(psutil.Error):
        paths = [Path(file.path) for file in replica.open_files()]
        return sum(
            path.read_text().count("CALL run_batch OK") for path in paths if path.name.startswith("replica_")
        )
    return 0


@pytest.mark.parametrize("model", ["ecogniser", "ligner"])
def test_a_killed_replica_loses_no_response(server: Server, demo: Demo, model: str) -> None:
    create, file = server.client().audio.transcriptions.create, read_audio(demo["long-meeting"]["audio"])

    def send() -> Any:
        return create(
            file=file,
            model="asr",
            language="en",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )

    with ThreadPoolExecutor(3) as pool:
        pending = [pool.submit(send) for _ in range(3)]
        deadline = time.monotonic() + 60
        while not any(process.cpu_percent(0.2) > 20 for process in server.replicas(model)):
            assert time.monotonic() < deadline and not all(future.done() for future in pending)
        for process in server.replicas(model):
            os.kill(process.pid, signal.SIGKILL)
        responses = [future.result(timeout=150) for future in pending]
    assert len({response.text for response in responses}) == 1
    assert len(responses[0].text.split()) > 200
    for response in responses:
        assert (response.status, response.flags) == ("ok", [])
        assert len(response.words) == len(response.text.split())


def test_a_file_that_crashes_the_models_is_reported_and_affects_no_other(tmp_path: Path) -> None:
    """The fake models kill their process (kill -9) for each such file, while other clients keep sending."""
    fakes = ("asr.backend=fake", "aligner.backend=fake", "asr.model=fake:0.02", "aligner.model=fake:0.02")
    running = Server(tmp_path, *fakes)
    stop = threading.Event()
    name = running.client().models.list().data[0].id
    good, bad = noise(6, 1), noise(4, 2)

    def send_good_files(number: int) -> list[str]:
        create = running.client().audio.transcriptions.create
        texts = [create(file=good, model=name).text]
        while not stop.is_set():
            texts.append(create(file=good, model=name).text)
        return texts

    try:
        with ThreadPoolExecutor(6) as pool:
            others = [pool.submit(send_good_files, number) for number in range(4)]
            create = running.client().audio.transcriptions.create
            with pytest.raises(openai.InternalServerError) as caught:
                create(file=bad, model=name, prompt="fault:kill")
            assert caught.value.code == "worker_lost" and "died 2 times" in caught.value.message
            partial: Any = create(
                file=bad,
                model=name,
                prompt="fault:align:kill",
                response_format="verbose_json",
                timestamp_granularities=["word"],
            )
            assert (partial.status, partial.words) == ("partial", []) and partial.text
            assert create(file=bad, model=name).text
            stop.set()
            texts = [text for future in others for text in future.result(timeout=120)]
        assert len(set(texts)) == 1 and len(texts) >= 8
    finally:
        stop.set()
        assert running.stop() == 0


def test_load_starts_another_replica_which_works(tmp_path: Path) -> None:
    running = Server(
        tmp_path, "asr.backend=fake", "aligner.backend=none", "asr.model=fake:0.05", "asr.pool.size=2"
    )
    stop = threading.Event()
    create = running.client().audio.transcriptions.create
    name = running.client().models.list().data[0].id

    def send_files(number: int) -> set[str]:
        texts = set()
        while not stop.is_set():
            texts.add(create(file=noise(6, 1), model=name).text)
        return texts

    try:
        assert len(running.replicas("ecogniser")) == 1
        with ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(send_files, number) for number in range(6)]
            try:
                # Ray Serve observes the load for 30 s before it starts a replica.
                deadline = time.monotonic() + 180
                while sum(batches_of(process) >= 10 for process in running.replicas("ecogniser")) < 2:
                    assert time.monotonic() < deadline and not any(client.done() for client in clients)
                    time.sleep(1)
            finally:
                stop.set()
            assert len(set.union(*(client.result(timeout=120) for client in clients))) == 1
    finally:
        stop.set()
        assert running.stop() == 0


def test_sigterm_finishes_running_requests(tmp_path: Path, demo: Demo) -> None:
    running = Server(tmp_path)
    create = running.client().audio.transcriptions.create
    with ThreadPoolExecutor(2) as pool:
        pending = pool.submit(create, file=read_audio(demo["long-meeting"]["audio"]), model="asr")
        deadline = time.monotonic() + 60
        while running.ready()["requests"] == 0:
            assert time.monotonic() < deadline
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while running.ready()["status"] != "draining":
            assert time.monotonic() < deadline
        with pytest.raises(openai.InternalServerError, match="shutting down"):
            create(file=read_audio(demo[SURE[0]]["audio"]), model="asr")
        assert len(pending.result(timeout=120).text.split()) > 200
    assert running.process.wait(90) == 0
