"""The job with a remote recogniser: `scriptorium serve`, and servers that follow DashScope's public API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the demo models need transformers (extra `transformers`)")

from actors.backends import create_asr
from actors.config import ASRConfig
from tests.actors.backends.remote.dashscope_files_server import running_files_server
from tests.actors.backends.remote.dashscope_realtime_server import running_realtime_server
from tests.actors.backends.remote.dashscope_state import MODELS
from tests.e2e.conftest import DEMO, SURE, read_dead_letters, read_transcripts, write_manifest
from tests.e2e.serving.conftest import Server

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def remotes(tmp_path: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """URL and model by endpoint."""
    engine = create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1))
    server = Server(tmp_path)
    try:
        with running_files_server(engine) as files, running_realtime_server(engine) as realtime:
            url = f"{server.url}/v1"
            yield {
                "chat": (url, "asr"),
                "transcriptions": (url, "asr"),
                "dashscope-files": (files.url, MODELS[0]),
                "dashscope-realtime": (realtime.url, MODELS[1]),
            }
    finally:
        assert server.stop() == 0


def test_a_remote_recogniser_gives_the_same_transcripts(
    scriptorium: Callable[..., int],
    demo: dict[str, dict[str, Any]],
    remotes: dict[str, tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    names = ["broken", "silence", *SURE]
    rows = [
        {key: demo[name][key] for key in ("id", "audio", "language") if key in demo[name]} for name in names
    ]
    rows[2] |= {"id": "forced", "language": "Portuguese"}
    rows.append({**rows[2], "id": SURE[0], "language": None})
    manifest = write_manifest(tmp_path / "manifest.jsonl", rows)
    assert scriptorium("transcribe", manifest, tmp_path / "here") == 3
    here = read_transcripts(tmp_path / "here")
    for endpoint, (url, model) in remotes.items():
        out = tmp_path / endpoint
        remote = [f"asr.remote.base_url={url}", f"asr.remote.endpoint={endpoint}", f"asr.model={model}"]
        settings = [part for setting in ("asr.backend=openai", *remote) for part in ("--set", setting)]
        assert scriptorium("transcribe", manifest, out, *settings) == 3
        there = read_transcripts(out)
        assert there.keys() == here.keys() and read_dead_letters(out).keys() == {"broken"}
        for name, row in there.items():
            assert (row["text"], row["language"], row["status"]) == (
                here[name]["text"],
                here[name]["language"],
                here[name]["status"],
            )
            words = [
                [word for segment in each["segments"] for word in segment["words"]]
                for each in (row, here[name])
            ]
            # Our own aligner times the words in both cases.
            assert words[0] == words[1], name
        [run] = json.loads((out / "run.json").read_text())["runs"]
        asked = run["asked_of_servers"]
        seconds = sum(
            segment["end"] - segment["start"] for row in there.values() for segment in row["segments"]
        )
        assert (
            asked["requests"] == sum(len(row["segments"]) for row in there.values())
            and asked["repeated"] == 0
        )
        assert asked["audio_seconds"] == pytest.approx(seconds, abs=0.1)
