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


def test_lhotse_cuts_are_read(tmp_path: Path, lhotse_recordings: Any) -> None:
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
    assert (first.window, both.window, second.window) == (None, None, None)
    lhotse.CutSet.from_cuts([mono.append(mono.with_id("m"))]).to_file(tmp_path / "mixed.jsonl")
    with pytest.raises(UsageError, match=r"line 1: a lhotse MixedCut"):
        read(tmp_path / "mixed.jsonl")


def test_cuts_of_a_part_are_windows(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    mono, stereo = (recording.to_cut() for recording in lhotse_recordings)
    parts = [
        mono.truncate(offset=0.25, duration=0.5),
        stereo.truncate(offset=0.5),
        mono.truncate(duration=0.5),
    ]
    lhotse.CutSet.from_cuts([part.with_id(str(n)) for n, part in enumerate(parts)]).to_file(
        tmp_path / "cuts.jsonl"
    )
    found = read(tmp_path / "cuts.jsonl")
    assert [one.window for one in found] == [(0.25, 0.75), (0.5, 1.0), (0.0, 0.5)]
    assert [one.id for one in found] == ["0", "1", "2"]
    assert [one.duration for one in found] == [0.5, 0.5, 0.5]


def test_a_multi_cut_of_one_channel_takes_this_channel(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    recording = list(lhotse_recordings)[1]
    cuts = [lhotse.MultiCut(str(c), 0.1, 0.5, c, recording=recording) for c in ([0, 1], [1])]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    both, right = read(tmp_path / "cuts.jsonl")
    assert (both.channel, right.channel, right.window) == (None, "1", (0.1, 0.6))


def test_what_lhotse_would_change_or_mix_is_refused(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    mono = next(iter(lhotse_recordings))
    fast = mono.perturb_speed(1.1)
    lhotse.RecordingSet.from_recordings([mono.with_path_prefix(""), fast]).to_file(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match=r"line 2: 'a_sp1\.1' has transforms \(Speed\)"):
        read(tmp_path / "r.jsonl")
    lhotse.CutSet.from_cuts([fast.to_cut()]).to_file(tmp_path / "c.jsonl")
    with pytest.raises(UsageError, match=r"line 1: .* has transforms \(Speed\)"):
        read(tmp_path / "c.jsonl")


def test_a_cut_of_some_channels_is_refused(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    row = list(lhotse_recordings)[1].to_dict() | {"channel_ids": [0, 1, 2]}
    cut = lhotse.MultiCut("x", 0, 1, [0, 2], recording=lhotse.Recording.from_dict(row))
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "c.jsonl")
    with pytest.raises(UsageError, match=r"line 1: the cut 'x' takes the channels 0, 2 of 3"):
        read(tmp_path / "c.jsonl")
