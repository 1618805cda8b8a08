"""Settings that change a transcript (language, context, given text, channels), with exact text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.e2e.conftest import NO_WORDS, SURE, read_transcripts, write_manifest

Scriptorium = Callable[..., int]
Demo = dict[str, dict[str, Any]]


def test_a_forced_language_holds_and_context_does_not_leak(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path
) -> None:
    said = demo[SURE[0]]
    heard = {"audio": said["audio"]}
    manifest = write_manifest(
        tmp_path / "m.jsonl",
        [
            {**heard, "id": "by name", "language": "Portuguese"},
            {**heard, "id": "by code", "language": "pt"},
            {**heard, "id": "with context", "context": "casa luz ajuda"},
            {**heard, "id": "wrongly forced", "language": "German"},
        ],
    )
    out = tmp_path / "why? [1] #2 a%20b=c ü"  # special characters are allowed in OUT
    assert scriptorium("transcribe", manifest, out, *NO_WORDS) == 0
    rows = read_transcripts(out)
    for key in ("by name", "by code", "with context"):
        assert (rows[key]["language"], rows[key]["text"]) == ("pt", said["text"]), key
    assert rows["wrongly forced"]["language"] == "de"
    assert rows["wrongly forced"]["text"] != said["text"]


def test_align_times_what_is_said_of_the_given_text(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path
) -> None:
    short, long = demo[SURE[0]], demo["long-meeting"]
    title = "The House of Windows. All rights reserved. Contents: one, the garden; two, the music; three. "
    said = long["text"].split()
    half = len(said) // 2
    texts = {
        "short": short["text"],
        "other short": "Nobody says any of these words in here, as everybody can hear.",
        "long": long["text"],
        "front matter": title + long["text"],
        "half": " ".join(said[:half]),
        "other": "It is a truth universally acknowledged, that a single man must be in want of a wife. " * 14,
    }
    manifest = write_manifest(
        tmp_path / "m.jsonl",
        [
            {"audio": row["audio"], "id": name, "language": language, "text": text}
            for name, text in texts.items()
            for row, language in [(short, "pt") if "short" in name else (long, "en")]
        ],
    )
    assert scriptorium("align", manifest, tmp_path / "out") == 0
    rows = read_transcripts(tmp_path / "out")
    words = {
        name: [word for segment in row["segments"] for word in segment["words"]] for name, row in rows.items()
    }
    for name, text in texts.items():
        assert rows[name]["text"].split() == text.split(), name
        assert "text_given" in rows[name]["segments"][0]["flags"], name
    timed = {name: [word for word in found if word["start"] is not None] for name, found in words.items()}
    for name, true in (
        ("short", short["words"]),
        ("long", long["words"]),
        ("front matter", long["words"]),
        ("half", long["words"][:half]),
    ):
        shifts = [abs(found["start"] - word["start"]) for found, word in zip(timed[name], true, strict=True)]
        assert np.mean(shifts) < 0.15, name
    assert not timed["other"] and not timed["other short"]
    assert {name: row["status"] for name, row in rows.items()} == {
        "short": "ok",
        "other short": "partial",
        "long": "ok",
        "front matter": "ok",
        "half": "partial",
        "other": "partial",
    }
    assert {"text_unlike_audio:1.00", "speech_without_text:1.00"} <= set(rows["other"]["flags"])
    assert "text_unlike_audio:0.07" in rows["front matter"]["flags"]


def test_align_requires_text(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": demo[SURE[0]]["audio"], "id": "x"}])
    assert scriptorium("align", manifest, tmp_path / "out") == 2
    assert "has no `text`" in capsys.readouterr().err


# Slow, because decoding, serving and stitching by channel have their own tests.
@pytest.mark.slow
def test_each_channel_is_transcribed_on_its_own(scriptorium: Scriptorium, demo: Demo, tmp_path: Path) -> None:
    left, right = (soundfile.read(demo[SURE[0]]["audio"]) for _ in range(2))
    samples, rate = left
    both = np.stack([samples, np.zeros_like(right[0])], axis=1)
    soundfile.write(tmp_path / "both.wav", both, rate)
    rows = [
        {"audio": "both.wav", "id": channel, "channel": channel}
        for channel in ("each", "left", "right", "mix", "1")
    ]
    assert (
        scriptorium("transcribe", write_manifest(tmp_path / "m.jsonl", rows), tmp_path / "out", *NO_WORDS)
        == 0
    )
    found = read_transcripts(tmp_path / "out")
    assert found["left"]["text"] == found["each"]["text"] == found["mix"]["text"] == demo[SURE[0]]["text"]
    assert {flag for segment in found["each"]["segments"] for flag in segment["flags"]} >= {"channel:0"}
    assert (found["right"]["status"], found["1"]["status"]) == ("no_speech", "no_speech")
