"""The server with the demo models: transcripts as in a batch run, all formats, streams, and chats."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import srt
import webvtt

from tests.e2e.conftest import DEMO, DEMO_CONFIG, SURE, read_transcripts
from tests.e2e.serving.conftest import Demo, Server, read_audio


def test_the_server_and_a_batch_run_give_the_same_transcripts(
    server: Server, scriptorium: Callable[..., int], tmp_path: Path, demo: Demo
) -> None:
    assert scriptorium("transcribe", DEMO / "manifest.jsonl", tmp_path / "out") == 3
    rows = read_transcripts(tmp_path / "out")
    create = server.client().audio.transcriptions.create

    def send(key: str) -> Any:
        language = demo[key].get("language")
        return create(
            file=read_audio(demo[key]["audio"]),
            model="asr",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            **({"language": language} if language else {}),
        )

    with ThreadPoolExecutor(8) as pool:  # concurrent, because sharing a batch must not change results
        responses = dict(zip(rows, pool.map(send, rows), strict=True))
    assert len(responses) == len(demo) - 1
    for key, row in rows.items():
        response = responses[key]
        assert response.text == row["text"], key
        assert (response.status, response.flags) == (row["status"], row["flags"]), key
        assert [(word.word, word.start, word.end) for word in response.words] == words_of(row), key
        assert [
            (segment.text, segment.language, segment.confidence, segment.start, segment.end)
            for segment in response.segments
        ] == segments_of(row), key
        languages = [entry["language"] for entry in row["languages"]]
        assert [entry["code"] for entry in response.languages] == languages, key
    with pytest.raises(openai.BadRequestError) as caught:
        create(file=read_audio(demo["broken"]["audio"]), model="asr")
    assert caught.value.code == "bad_header"
    assert "/" not in caught.value.message.replace("broken.mp3", "")


def words_of(row: dict[str, Any]) -> list[tuple[str, float, float]]:
    words = [word for segment in row["segments"] for word in segment["words"]]
    return [(word["text"], word["start"], word["end"]) for word in words]


def segments_of(row: dict[str, Any]) -> list[tuple[str, str, float, float, float]]:
    """Text, language, confidence, and the times to the millisecond."""
    return [
        (
            segment["text"],
            segment["language"],
            segment["confidence"],
            round(segment["start"], 3),
            round(segment["end"], 3),
        )
        for segment in row["segments"]
    ]


@pytest.mark.slow
def test_subtitles_and_streamed_deltas_of_a_long_file_are_its_text(server: Server, demo: Demo) -> None:
    create, file = server.client().audio.transcriptions.create, read_audio(demo["long-meeting"]["audio"])
    subtitles = create(file=file, model="asr", response_format="srt", language="en")
    cues = list(srt.parse(subtitles, ignore_errors=False))
    events = list(create(file=file, model="asr", stream=True, language="en"))
    text = events[-1].text  # type: ignore[union-attr]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == text and len(events) > 5
    assert " ".join(" ".join(cue.content for cue in cues).split()) == text and len(cues) > 15
    assert all(left.end <= right.start for left, right in pairwise(cues))
    vtt = create(file=file, model="asr", response_format="vtt", language="en")
    assert " ".join(" ".join(line.text for line in webvtt.from_buffer(io.StringIO(vtt))).split()) == text


def test_a_chat_has_the_format_of_the_model(server: Server, demo: Demo) -> None:
    data = base64.b64encode(read_audio(demo[SURE[0]]["audio"])[1]).decode()
    part: Any = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    response = server.client().chat.completions.create(
        model="asr", messages=[{"role": "user", "content": [part]}]
    )
    assert response.choices[0].message.content == f"language Portuguese<asr_text>{demo[SURE[0]]['text']}"


@pytest.mark.parametrize("characters", [400, 4000, 40_000])
def test_a_prompt_that_is_too_long_for_the_model_is_cut(server: Server, demo: Demo, characters: int) -> None:
    words = "restaurant orders hello music table seven " * 1000
    response = server.client().audio.transcriptions.with_raw_response.create(
        file=read_audio(demo[SURE[0]]["audio"]), model="whisper-1", prompt=words[:characters]
    )
    assert response.parse().text == demo[SURE[0]]["text"]
    assert response.headers["x-scriptorium-warning"].startswith(
        f"prompt is cut: it has {characters} characters"
    )


def test_openais_realtime_client_gets_text_and_word_times(server: Server, demo: Demo) -> None:
    samples, rate = soundfile.read(demo[SURE[0]]["audio"], dtype="int16")
    assert rate == 8000
    sound = np.concatenate([samples, np.zeros(rate, np.int16), samples, np.zeros(rate, np.int16)])
    events = asyncio.run(stream(server, sound, rate, utterances=2))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert kinds.count("input_audio_buffer.speech_started") == 2
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
            abs(word["start"] - offset - reference["start"])
            for word, reference in zip(event.words, demo[SURE[0]]["words"], strict=True)
        ]
        assert sum(shifts) / len(shifts) < 0.1, shifts


async def stream(server: Server, samples: np.ndarray, rate: int, utterances: int) -> list[Any]:
    """Stream audio at twice its speed; returns the events up to the last of some utterances."""
    async with (
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        client.realtime.connect(model="asr") as connection,
    ):
        source: Any = {"format": {"type": "audio/pcm", "rate": rate}, "transcription": {"model": "asr"}}
        await connection.session.update(session={"type": "transcription", "audio": {"input": source}})
        events: list[Any] = []

        async def receive() -> None:
            async for event in connection:
                events.append(event)
                completed = sum(event.type.endswith("transcription.completed") for event in events)
                if completed == utterances:
                    return

        receiving = asyncio.create_task(receive())
        for start in range(0, len(samples), rate // 5):
            chunk = samples[start : start + rate // 5]
            await connection.input_audio_buffer.append(audio=base64.b64encode(chunk.tobytes()).decode())
            await asyncio.sleep(0.1)
        await asyncio.wait_for(receiving, 60)
        return events


def test_the_access_log_has_a_line_for_each_request_and_no_text(server: Server, demo: Demo) -> None:
    file = read_audio(demo[SURE[1]]["audio"])
    text = server.client().audio.transcriptions.create(file=file, model="asr").text
    assert text == demo[SURE[1]]["text"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert lines[-1]["status"] == 200 and lines[-1]["audio_seconds"] > 0
    assert text not in server.log.read_text() + server.errors.read_text()


def test_wrong_settings_are_reported_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import main

    for settings, message in (
        (["serve.host=0.0.0.0"], "there are no API keys"),
        (["serve.port=99999"], "serve.port"),
        (["asr.model=./nowhere"], "there is no folder"),
        (["serve.host=192.0.2.1", "serve.allow_anonymous=true"], "cannot listen on"),
    ):
        options = [option for setting in settings for option in ("--set", setting)]
        assert main(["serve", "--config", DEMO_CONFIG, *options]) == 2
        assert message in capsys.readouterr().err
