"""`scriptorium serve` as a person starts it, with the demo models, and OpenAI's own client in front of it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import pytest
import soundfile
import srt
import webvtt
from websockets.sync.client import connect

from tests.e2e.conftest import DEMO, DEMO_CONFIG, ROOT, SURE, read_transcripts

Demo = dict[str, dict[str, Any]]
START = 180.0  # seconds for Ray and two models on a busy machine


class Server:
    """A running `scriptorium serve`."""

    def __init__(self, folder: Path, *settings: str) -> None:
        options = [option for setting in settings for option in ("--set", setting)]
        command = [
            sys.executable,
            "-m",
            "pipelines",
            "serve",
            "--config",
            DEMO_CONFIG,
            "--set",
            "serve.port=0",
            *options,
        ]
        self.log, self.errors = folder / "access.jsonl", folder / "errors.txt"
        with self.log.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        deadline = time.monotonic() + START
        while not self.log.read_bytes().count(b"\n"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                pytest.fail(f"the server does not start: {self.errors.read_text()[-2000:]}")
            time.sleep(0.1)
        self.url = json.loads(self.log.read_text().splitlines()[0])["url"]

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120, **options)

    def replicas(self, name: str) -> list[psutil.Process]:
        """The processes of a model."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if name in "".join(_title(process))]

    def stop(self) -> int | None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return None
        return self.process.returncode


def _title(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("serve"))
    yield running
    assert running.stop() == 0, running.errors.read_text()


def read(path: str) -> tuple[str, bytes]:
    return Path(path).name, Path(path).read_bytes()


def test_a_file_sent_here_and_the_same_file_in_a_run_have_the_same_text_and_words(
    server: Server, local_ray: None, tmp_path: Path, demo: Demo
) -> None:
    from pipelines.cli import main

    assert (
        main(["transcribe", str(DEMO / "manifest.jsonl"), str(tmp_path / "out"), "--config", DEMO_CONFIG])
        == 3
    )
    rows = read_transcripts(tmp_path / "out")
    ask = server.client().audio.transcriptions

    def send(key: str) -> Any:
        language = demo[key].get("language")
        return ask.create(
            file=read(demo[key]["audio"]),
            model="asr",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            **({"language": language} if language else {}),
        )

    with ThreadPoolExecutor(8) as pool:  # all at once: what shares a model call must not show
        answers = dict(zip(rows, pool.map(send, rows), strict=True))
    assert len(answers) == len(demo) - 1
    for key, row in rows.items():
        answer = answers[key]
        assert (answer.text, answer.status, answer.flags) == (row["text"], row["status"], row["flags"]), key
        words = [
            (word["text"], word["start"], word["end"])
            for segment in row["segments"]
            for word in segment["words"]
        ]
        assert [(word.word, word.start, word.end) for word in answer.words] == words, key
        assert [
            (segment.text, segment.language, segment.confidence, segment.start, segment.end)
            for segment in answer.segments
        ] == [
            (
                segment["text"],
                segment["language"],
                segment["confidence"],
                round(segment["start"], 3),
                round(segment["end"], 3),
            )
            for segment in row["segments"]
        ], key
        assert [entry["code"] for entry in answer.languages] == [
            entry["language"] for entry in row["languages"]
        ], key
    with pytest.raises(openai.BadRequestError) as caught:
        ask.create(file=read(demo["broken"]["audio"]), model="asr")
    assert caught.value.code == "bad_header" and "/" not in caught.value.message.replace("broken.mp3", "")


@pytest.mark.slow
def test_formats_and_streams_of_a_long_file(server: Server, demo: Demo) -> None:
    ask, file = server.client().audio.transcriptions, read(demo["long-meeting"]["audio"])
    cues = list(
        srt.parse(
            ask.create(file=file, model="asr", response_format="srt", language="en"), ignore_errors=False
        )
    )
    events = list(ask.create(file=file, model="asr", stream=True, language="en"))
    text = events[-1].text  # type: ignore[union-attr]
    assert (
        "".join(event.delta for event in events if event.type == "transcript.text.delta") == text
        and len(events) > 5
    )
    assert " ".join(cue.content for cue in cues) == text and len(cues) > 15
    assert all(left.end <= right.start for left, right in pairwise(cues))
    lines = webvtt.from_buffer(
        io.StringIO(ask.create(file=file, model="asr", response_format="vtt", language="en"))
    )
    assert " ".join(line.text for line in lines) == text


def test_chat_answers_as_the_model_writes(server: Server, demo: Demo) -> None:
    data = base64.b64encode(read(demo[SURE[0]]["audio"])[1]).decode()
    part: Any = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    answer = server.client().chat.completions.create(
        model="asr", messages=[{"role": "user", "content": [part]}]
    )
    assert answer.choices[0].message.content == f"language Portuguese<asr_text>{demo[SURE[0]]['text']}"


def test_realtime_with_openais_client(server: Server, demo: Demo) -> None:
    samples, rate = soundfile.read(demo[SURE[0]]["audio"], dtype="int16")
    assert rate == 8000
    sound = np.concatenate([samples, np.zeros(rate, np.int16), samples, np.zeros(rate, np.int16)])

    async def main() -> list[Any]:
        async with (
            openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
            client.realtime.connect(model="asr") as connection,
        ):
            source: Any = {"format": {"type": "audio/pcm", "rate": rate}, "transcription": {"model": "asr"}}
            await connection.session.update(session={"type": "transcription", "audio": {"input": source}})
            events: list[Any] = []

            async def hear() -> None:
                async for event in connection:
                    events.append(event)
                    if sum(event.type.endswith("transcription.completed") for event in events) == 2:
                        return

            hearing = asyncio.create_task(hear())
            for place in range(0, len(sound), rate // 5):
                await connection.input_audio_buffer.append(
                    audio=base64.b64encode(sound[place : place + rate // 5].tobytes()).decode()
                )
                await asyncio.sleep(0.1)  # twice as fast as it was spoken
            await asyncio.wait_for(hearing, 60)
            return events

    events = asyncio.run(main())
    kinds = [event.type for event in events]
    assert (
        kinds[:2] == ["session.created", "session.updated"]
        and kinds.count("input_audio_buffer.speech_started") == 2
    )
    completed = [event for event in events if event.type.endswith("transcription.completed")]
    assert [event.transcript for event in completed] == [demo[SURE[0]]["text"]] * 2
    for number, event in enumerate(completed):
        deltas = "".join(
            other.delta
            for other in events
            if other.type.endswith("transcription.delta") and other.item_id == event.item_id
        )
        assert deltas == event.transcript and "\ufffd" not in deltas
        offset = number * (len(samples) / rate + 1)
        shifts = [
            abs(word["start"] - offset - true["start"])
            for word, true in zip(event.words, demo[SURE[0]]["words"], strict=True)
        ]
        assert sum(shifts) / len(shifts) < 0.1, shifts


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ecogniser", "ligner"])
def test_a_killed_replica_costs_nobody_an_answer(server: Server, demo: Demo, model: str) -> None:
    ask, file = server.client().audio.transcriptions, read(demo["long-meeting"]["audio"])

    def send() -> Any:
        return ask.create(
            file=file,
            model="asr",
            language="en",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(send) for _ in range(3)]
        deadline = time.monotonic() + 60
        while not any(process.cpu_percent(0.2) > 20 for process in server.replicas(model)):
            assert time.monotonic() < deadline and not all(one.done() for one in waiting)
        for process in server.replicas(model):
            os.kill(process.pid, signal.SIGKILL)
        answers = [one.result(timeout=150) for one in waiting]
    assert len({answer.text for answer in answers}) == 1 and len(answers[0].text.split()) > 200
    for answer in answers:
        assert (answer.status, answer.flags) == ("ok", []) and len(answer.words) == len(answer.text.split())


@pytest.mark.slow
def test_a_file_that_kills_is_told_so_and_nobody_else_pays(tmp_path: Path) -> None:
    """The fake models end their process with kill -9, each time that they meet such a file; meanwhile others ask without a pause."""
    running = Server(
        tmp_path, "asr.backend=fake", "aligner.backend=fake", "asr.model=fake:0.02", "aligner.model=fake:0.02"
    )
    over = threading.Event()
    name = running.client().models.list().data[0].id
    good, bad = speech(6, 1), speech(4, 2)

    def innocent(number: int) -> list[str]:
        ask = running.client().audio.transcriptions
        texts = [ask.create(file=good, model=name).text]
        while not over.is_set():
            texts.append(ask.create(file=good, model=name).text)
        return texts

    try:
        with ThreadPoolExecutor(6) as pool:
            others = [pool.submit(innocent, number) for number in range(4)]
            ask = running.client().audio.transcriptions
            with pytest.raises(openai.InternalServerError) as caught:
                ask.create(file=bad, model=name, prompt="fault:kill")
            assert caught.value.code == "worker_lost" and "died 2 times" in caught.value.message
            lame = ask.create(
                file=bad,
                model=name,
                prompt="fault:align:kill",
                response_format="verbose_json",
                timestamp_granularities=["word"],
            )
            assert (lame.status, lame.words) == ("partial", []) and lame.text  # type: ignore[attr-defined]
            assert ask.create(file=bad, model=name).text
            over.set()
            texts = [text for one in others for text in one.result(timeout=120)]
        assert len(set(texts)) == 1 and len(texts) >= 8
    finally:
        over.set()
        assert running.stop() == 0


@pytest.mark.slow
def test_another_replica_comes_with_load_and_works(tmp_path: Path) -> None:
    running = Server(
        tmp_path, "asr.backend=fake", "aligner.backend=none", "asr.model=fake:0.05", "asr.pool.size=2"
    )
    over = threading.Event()
    ask = running.client().audio.transcriptions
    name = running.client().models.list().data[0].id

    def client(number: int) -> set[str]:
        texts = set()
        while not over.is_set():
            texts.add(ask.create(file=speech(6, 1), model=name).text)
        return texts

    try:
        assert len(running.replicas("ecogniser")) == 1
        with ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(client, number) for number in range(6)]
            try:
                deadline = time.monotonic() + 180  # Ray Serve looks at load for 30 s before it starts one
                working: set[int] = set()
                while len(working) < 2:
                    assert time.monotonic() < deadline and not any(one.done() for one in clients)
                    for process in running.replicas("ecogniser"):
                        # A model that sleeps has little to do between two batches; one that is never asked has nothing.
                        before = sum(process.cpu_times()[:2])
                        time.sleep(10)
                        if sum(process.cpu_times()[:2]) - before > 0.3:
                            working.add(process.pid)
            finally:
                over.set()
            assert len(set.union(*(one.result(timeout=120) for one in clients))) == 1
    finally:
        over.set()
        assert running.stop() == 0


def speech(seconds: float, seed: int) -> tuple[str, bytes]:
    """Noise that the fake models take for words, as a file."""
    file = io.BytesIO()
    soundfile.write(
        file,
        np.random.default_rng(seed).integers(-9000, 9000, round(seconds * 16_000)).astype(np.int16),
        16_000,
        format="WAV",
    )
    return "noise.wav", file.getvalue()


def test_the_line_of_a_request_is_in_the_log(server: Server, demo: Demo) -> None:
    text = server.client().audio.transcriptions.create(file=read(demo[SURE[1]]["audio"]), model="asr").text
    assert text == demo[SURE[1]]["text"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert lines[-1]["status"] == 200 and lines[-1]["audio_seconds"] > 0
    assert text not in server.log.read_text() + server.errors.read_text()


@pytest.mark.slow
def test_sigterm_lets_work_end(tmp_path: Path, demo: Demo) -> None:
    running = Server(tmp_path)
    ask = running.client().audio.transcriptions
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ask.create, file=read(demo["long-meeting"]["audio"]), model="asr")
        deadline = time.monotonic() + 60
        while json.loads(_get(f"{running.url}/readyz"))["requests"] == 0:
            assert time.monotonic() < deadline
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while "draining" not in _get(f"{running.url}/readyz"):
            assert time.monotonic() < deadline
        with pytest.raises(openai.InternalServerError, match="about to end"):
            ask.create(file=read(demo[SURE[0]]["audio"]), model="asr")
        assert len(waiting.result(timeout=120).text.split()) > 200
    assert running.process.wait(90) == 0


@pytest.mark.slow
def test_behind_rays_own_proxy(local_ray: None, demo: Demo) -> None:
    import yaml
    from ray import serve

    from pipelines.serving.inference import model_client
    from pipelines.serving.ray_serve_app import build

    described = yaml.safe_load((ROOT / "infra/ray/serve.yaml").read_text())
    (application,) = described["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={**described["http_options"], "port": port})
    try:
        serve.run(
            build({"config": DEMO_CONFIG, "set": ["serve.decoders=1"]}), name="scriptorium", route_prefix="/"
        )
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120
        )
        assert (
            client.audio.transcriptions.create(file=read(demo[SURE[0]]["audio"]), model="asr").text
            == demo[SURE[0]]["text"]
        )
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            client.audio.transcriptions.create(file=read(demo[SURE[0]]["audio"]), model="gpt")
        with connect(f"ws://127.0.0.1:{port}/v1/realtime", proxy=None) as stream:
            assert json.loads(stream.recv(30))["type"] == "session.created"
        handle = serve.get_deployment_handle("recogniser", "scriptorium")
        assert model_client.running_replicas(handle) == 1 and model_client.running_replicas(object()) is None
    finally:
        serve.shutdown()


@pytest.mark.slow
def test_two_servers_on_one_cluster_have_models_of_their_own(local_ray: None) -> None:
    from ray import serve

    from actors.config import AlignerConfig, ASRConfig
    from pipelines.config import RunConfig
    from pipelines.config_sections import ClusterConfig
    from pipelines.serving.server import deployed

    model_client = {"asr": ASRConfig(backend="fake", model="fake"), "aligner": AlignerConfig(backend="none")}
    config = RunConfig(**model_client, cluster=ClusterConfig(address="auto"))

    async def model(make: Any) -> Any:
        return (await make().model_columns())["asr_model"]

    try:
        with deployed(config) as first:
            with deployed(config) as second:
                assert len(serve.status().applications) == 2
                assert [asyncio.run(model(make)) for make in (first, second)] == ["fake", "fake"]
            assert asyncio.run(model(first)) == "fake" and len(serve.status().applications) == 1
        assert not serve.status().applications
    finally:
        serve.shutdown()


def _get(url: str) -> str:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def test_wrong_settings_are_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import main

    for settings, message in (
        (["serve.host=0.0.0.0"], "there are no keys"),
        (["serve.port=99999"], "serve.port"),
        (["asr.model=./nowhere"], "there is no folder"),
        (["serve.host=192.0.2.1", "serve.allow_anonymous=true"], "cannot listen on"),
    ):
        options = [option for setting in settings for option in ("--set", setting)]
        assert main(["serve", "--config", DEMO_CONFIG, *options]) == 2
        assert message in capsys.readouterr().err
