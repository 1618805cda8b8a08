"""A recording is opened and its borders are computed no more often than needed."""

from __future__ import annotations

from typing import Any

import av
import pytest

from actors import decoder
from actors.audio.decoding import decode_span
from actors.audio.recordings.chained_reader import open_recording
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig

AUDIO, SEGMENTER = AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy")


def decode(path: Any, start: float = 0.0, end: float | None = None) -> dict[str, Any]:
    row = {"audio": str(path), "recording_id": "r", "start": start, "end": end, "duration": 40.0}
    return decoder.decode_shard(row, AUDIO, SEGMENTER)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files that ffmpeg opens."""
    opened: list[Any] = []

    def count(file: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("mode") == "r":
            opened.append(file)
        return _OPEN(file, *arguments, **options)

    monkeypatch.setattr("actors.audio.containers.av.open", count)
    return opened


_OPEN = av.open


@pytest.mark.parametrize("name", ["constant.mp3", "lossy.m4a", "lossy.opus", "lossless.flac"])
def test_a_recording_in_one_shard_is_opened_once(encoded: Any, openings: list[Any], name: str) -> None:
    assert decode(encoded(name))["status"] == "ok"
    assert len(openings) == 1


def test_a_second_span_of_a_reader_opens_the_file_again_and_gets_the_same_samples(
    encoded: Any, openings: list[Any]
) -> None:
    with open_audio(str(encoded("lossy.m4a"))) as file:
        reader = open_recording(file)
        first, again = (decode_span(reader, 0, 16_000).samples for _ in range(2))
    assert len(openings) == 2
    assert (first == again).all()


def test_what_others_read_in_the_file_does_not_disturb_an_open_container(encoded: Any) -> None:
    with open_audio(str(encoded("lossy.opus"))) as file:
        alone = decode_span(open_recording(file), 0, None).samples
        reader, other = open_recording(file), open_recording(file)
        decode_span(other, 0, None)
        file.seek(0)
        assert (decode_span(reader, 0, None).samples == alone).all()


def test_neighbouring_shards_compute_their_border_once(encoded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nominal: list[float] = []
    compute = decoder.border

    def count(tracks: Any, at: float, window: Any = None) -> int | None:
        nominal.append(at)
        return compute(tracks, at, window)

    monkeypatch.setattr(decoder, "border", count)
    monkeypatch.setattr(decoder, "_last_border", {})
    path, other = encoded("constant.mp3"), encoded("lossy.opus")
    rows = [decode(path, 0.0, 12.0), decode(path, 12.0, 24.0), decode(path, 24.0)]
    assert nominal == [12.0, 24.0]
    assert [row["decoded_end"] for row in rows[:2]] == [row["decoded_start"] for row in rows[1:]]
    decode(other, 24.0)
    assert nominal == [12.0, 24.0, 24.0]
