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


def test_align_times_the_given_text(scriptorium: Scriptorium, demo: Demo, tmp_path: Path) -> None:
    short, long = demo[SURE[0]], demo["long-meeting"]
    manifest = write_manifest(
        tmp_path / "m.jsonl",
        [
            {"audio": short["audio"], "id": "short", "language": "pt", "text": short["text"]},
            {"audio": long["audio"], "id": "long", "language": "en", "text": long["text"]},
        ],
    )
    assert scriptorium("align", manifest, tmp_path / "out") == 0
    rows = read_transcripts(tmp_path / "out")
    for key, true in (("short", short), ("long", long)):
        assert rows[key]["text"].split() == true["text"].split(), key
        words = [word for segment in rows[key]["segments"] for word in segment["words"]]
        shifts = np.array(
            [abs(found["start"] - word["start"]) for found, word in zip(words, true["words"], strict=True)]
        )
        assert np.median(shifts) < 0.15, key
        assert "text_given" in rows[key]["segments"][0]["flags"]


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
