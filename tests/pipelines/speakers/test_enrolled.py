"""Known voices, by their embeddings and by their audio."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from actors.errors import UsageError
from pipelines.config import load_config
from pipelines.speakers.enrolled import known_voices, speaker_settings
from tests.actors.speakers.tones import alternating, conversation


def config(table: Path | None = None, *settings: str):
    named = [f"speakers.enrolled={table}"] if table else []
    return load_config(None, ["speakers.backend=fake", "segmenter.backend=energy", *named, *settings])


def write(folder: Path, *rows: object) -> Path:
    path = folder / "known.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_embeddings_become_unit_vectors_and_rows_of_a_name_are_one_voice(tmp_path: Path) -> None:
    table = write(
        tmp_path,
        {"name": "Anna", "embedding": [3.0, 0.0]},
        {"name": "Ben", "embedding": "[0, 2]"},
        {"name": "Anna", "embedding": [0.0, 5.0]},
    )
    anna, ben = known_voices(config(table))
    assert (anna.name, ben.name) == ("Anna", "Ben")
    assert np.allclose(anna.embedding, [0.5**0.5] * 2) and np.allclose(ben.embedding, [0, 1])


def test_audio_beside_the_table_is_listened_to(tmp_path: Path) -> None:
    tones, seconds = alternating([2])
    soundfile.write(tmp_path / "ben.wav", conversation(tones, seconds), 16_000)
    [ben] = known_voices(config(write(tmp_path, {"name": "Ben", "audio": "ben.wav"})))
    assert ben.embedding.argmax() == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"embedding": [1.0]}, "no `name`"),
        ({"name": "Anna"}, "neither `audio` nor `embedding`"),
        ({"name": "Anna", "embedding": ["x"]}, "no list of numbers"),
        ({"name": "Anna", "embedding": [0.0, 0.0]}, "zero"),
        ({"name": "Anna", "audio": "missing.wav"}, "cannot be read"),
    ],
)
def test_a_wrong_row_is_told_with_what_to_do(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        known_voices(config(write(tmp_path, row)))


def test_silence_is_nobody(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.zeros(32_000), 16_000)
    with pytest.raises(UsageError, match="nobody speaks"):
        known_voices(config(write(tmp_path, {"name": "Anna", "audio": "s.wav"})))


def test_the_settings_of_a_run_are_those_of_stitching() -> None:
    settings = speaker_settings(config(None, "speakers.min=2", "speakers.max=4", "audio.channel=each"))
    assert (settings.bounds.minimum, settings.bounds.maximum, settings.channel) == (2, 4, "each")
    assert speaker_settings(config(None, "speakers.count=3")).bounds.minimum == 3
    assert settings.known == ()


@pytest.mark.parametrize("setting", ["speakers.max=1", "speakers.count=2"])
def test_bounds_that_contradict_are_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=r"speakers\.(max|count)"):
        config(None, "speakers.min=2", setting)
