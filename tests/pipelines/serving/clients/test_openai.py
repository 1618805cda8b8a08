"""OpenAI's client and its Agents SDK, used as with OpenAI's own server."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from pipelines.serving.web.tolerance import WARNING_HEADER
from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, openai_client, voice, wav

AUDIO, TEXT = wav(voice(2)), fake_text(voice(2))
RATE = 24_000  # Hz of OpenAI's realtime API


@pytest.fixture
def served(serve: Make, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A server with the default names of its model."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return serve(model_names=[])


def test_every_form_of_a_file_is_understood(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "ä 録音.wav"
    path.write_bytes(AUDIO)
    named = io.BytesIO(AUDIO)
    named.name = "a.wav"
    create = openai_client(served).audio.transcriptions.create
    for file in (
        AUDIO,
        io.BytesIO(AUDIO),
        named,
        path,
        ("ä.wav", AUDIO),
        (None, AUDIO),
        ("a.wav", AUDIO, "audio/wav"),
    ):
        assert create(file=file, model="whisper-1").text == TEXT


def test_words_are_returned(served: Served) -> None:
    verbose = openai_client(served).audio.transcriptions.create(
        file=("a.wav", AUDIO),
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert verbose.words and [word.word for word in verbose.words] == TEXT.split()


def test_the_log_probabilities_are_refused_and_a_lenient_server_leaves_them_out(
    served: Served, serve: Make
) -> None:
    request: dict[str, Any] = {
        "file": ("a.wav", AUDIO),
        "model": "gpt-4o-transcribe",
        "include": ["logprobs"],
        "temperature": 0.2,
    }
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client(served).audio.transcriptions.create(**request)
    assert caught.value.param == "temperature"
    lenient = openai_client(serve(model_names=[], lenient=True))
    response = lenient.audio.transcriptions.with_raw_response.create(**request)
    assert response.parse().text == TEXT
    assert "temperature is ignored" in response.headers[WARNING_HEADER]
    assert "include[] is ignored" in response.headers[WARNING_HEADER]


def test_keywords_are_part_of_the_prompt_and_a_single_language_is_forced(served: Served) -> None:
    verbose: Any = openai_client(served).audio.transcriptions.create(
        file=("a.wav", AUDIO),
        model="gpt-transcribe",
        response_format="verbose_json",
        languages=["de"],
        keywords=["fault:align:raise"],  # which the fake recogniser reads in the prompt
    )
    assert (verbose.language, verbose.status) == ("german", "partial")


def test_translations_are_refused_with_the_reason(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="does not offer translations"):
        openai_client(served).audio.translations.create(file=("a.wav", AUDIO), model="whisper-1")


def test_an_unknown_model_names_the_setting(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match=r"serve\.model_names") as caught:
        openai_client(served).audio.transcriptions.create(file=("a.wav", AUDIO), model="canary")
    assert caught.value.code == "model_not_found"


def test_the_realtime_client_transcribes(served: Served) -> None:
    audio = np.repeat(voice(3), 2)[: 3 * RATE].astype(np.int16)

    async def main() -> str:
        client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        async with client, client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            transcription = {"model": "gpt-4o-transcribe", "language": "en"}
            source: Any = {"transcription": transcription, "turn_detection": None}
            await connection.session.update(session={"type": "transcription", "audio": {"input": source}})
            await connection.input_audio_buffer.append(audio=base64.b64encode(audio.tobytes()).decode())
            await connection.input_audio_buffer.commit()
            async for event in connection:
                assert event.type != "error", event
                if event.type == "conversation.item.input_audio_transcription.completed":
                    return str(event.transcript)
        raise AssertionError("no transcript")

    assert asyncio.run(asyncio.wait_for(main(), 60))


def test_the_agents_sdk_transcribes_a_file_and_a_stream(served: Served) -> None:
    pytest.importorskip("agents", reason="the Agents SDK (openai-agents) is not installed")
    from agents.voice import AudioInput, StreamedAudioInput, STTModelSettings
    from agents.voice.models.openai_stt import OpenAISTTModel

    samples = np.concatenate([np.repeat(voice(3), 2)[: 3 * RATE], np.zeros(RATE)]).astype(np.int16)

    async def main() -> tuple[str, list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
            model, settings = OpenAISTTModel("gpt-4o-transcribe", client), STTModelSettings()
            text = await model.transcribe(AudioInput(samples), settings, False, False)
            audio = StreamedAudioInput()
            for start in range(0, len(samples), RATE // 5):
                await audio.add_audio(samples[start : start + RATE // 5])
            await audio.add_audio(None)
            session = await model.create_session(audio, settings, False, False)
            return text, [turn async for turn in session.transcribe_turns()]

    text, turns = asyncio.run(asyncio.wait_for(main(), 90))
    assert text and turns and all(turns)
