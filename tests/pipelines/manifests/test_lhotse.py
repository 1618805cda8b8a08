"""Recordings and cuts as lhotse itself writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from tests.pipelines.manifests.samples import read


@pytest.fixture
def lhotse_recordings(tmp_path: Path) -> Any:
    lhotse = pytest.importorskip("lhotse", reason="writes its manifests with lhotse itself (extra `lhotse`)")
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "st.wav", np.zeros((16000, 2)), 16000)
    return lhotse.RecordingSet.from_recordings(
        [lhotse.Recording.from_file(tmp_path / "a.wav"), lhotse.Recording.from_file(tmp_path / "st.wav")]
    )


def test_lhotse_recordings_are_read(tmp_path: Path, lhotse_recordings: Any) -> None:
    lhotse_recordings.to_file(tmp_path / "recordings.jsonl.gz")
    mono, stereo = read(tmp_path / "recordings.jsonl.gz")
    assert (mono.id, mono.audio, mono.duration, mono.channel) == ("a", str(tmp_path / "a.wav"), 1.0, None)
    assert (stereo.id, stereo.channel) == ("st", None)


def test_lhotse_cuts_are_read_if_they_are_whole_recordings(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    mono, stereo = (recording.to_cut() for recording in lhotse_recordings)
    mono.supervisions = [
        lhotse.SupervisionSegment("2", "a", 0.5, 0.5, text="world", language="English"),
        lhotse.SupervisionSegment("1", "a", 0.0, 0.5, text="hello", language="English", speaker="s"),
    ]
    right = lhotse.MonoCut("right", 0, 1.0, 1, recording=stereo.recording)
    lhotse.CutSet.from_cuts([mono.with_id("cut"), stereo, right]).to_file(tmp_path / "cuts.jsonl")
    first, both, second = read(tmp_path / "cuts.jsonl")
    assert (first.id, first.audio, first.text, first.language) == (
        "cut",
        str(tmp_path / "a.wav"),
        "hello world",
        "en",
    )
    assert first.metadata["supervisions"][0]["speaker"] == "s"
    assert (both.channel, second.channel) == (None, "1")
    lhotse.CutSet.from_cuts([mono.truncate(offset=0.25, duration=0.5)]).to_file(tmp_path / "part.jsonl")
    with pytest.raises(
        UsageError, match=r"line 1: the cut .* is only 0\.25 to 0\.75 s of a recording of 1 s"
    ):
        read(tmp_path / "part.jsonl")
    lhotse.CutSet.from_cuts([mono.append(mono.with_id("m"))]).to_file(tmp_path / "mixed.jsonl")
    with pytest.raises(UsageError, match=r"line 1: a lhotse MixedCut"):
        read(tmp_path / "mixed.jsonl")
