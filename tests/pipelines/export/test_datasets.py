"""Training sets are read by the libraries that their users use, with the audio that was said."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import lhotse
import numpy as np
import pytest
import soundfile
import webdataset

from pipelines.cli import main
from pipelines.export.datasets.samples import SampleOptions, samples_of
from tests.pipelines.export.transcripts import (
    DEMO_AUDIO,
    demo_rows,
    interview,
    made_rows,
    make_segment,
    make_transcript,
    write_output,
)

TEXTS = {row["text"] for row in demo_rows() if row["text"]}
# The recordings of two channels have a segment for one of them.
SPEECH = {row["recording_id"]: row for row in demo_rows() if row["segments"]}


def export(out: str, form: str, dest: Path, *options: str) -> Path:
    assert main(["export", out, form, str(dest), *options]) == 0
    return dest


@pytest.fixture(scope="module")
def hf(demo_output: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        demo_output, "hf", tmp_path_factory.mktemp("hf") / "set", "--name", "Demo", "--license", "cc0-1.0"
    )


def test_datasets_loads_the_parquet_files(hf: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(hf), cache_dir=str(tmp_path), split="train")
    assert isinstance(loaded.features["audio"], datasets.Audio)
    assert loaded.features["audio"].sampling_rate == 16_000
    rows = list(loaded.cast_column("audio", datasets.Audio(decode=False)))
    assert {row["text"] for row in rows} == TEXTS
    for row in rows:
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        assert rate == 16_000
        assert len(samples) == pytest.approx(row["duration"] * rate, abs=2)
        assert np.abs(samples).max() > 500
        assert row["words"][0]["start"] >= 0
        assert row["language"] in ("en", "it", "ko", "yue")


def test_the_card_states_the_numbers(hf: Path) -> None:
    import datasets

    text = (hf / "README.md").read_text()
    card = datasets.load.DatasetCard(text)
    assert card.data.license == "cc0-1.0"
    assert set(card.data.language) == {"en", "it", "ko", "yue"}
    assert card.data.size_categories == ["n<1K"]
    assert f"| train | {len(SPEECH)} |" in text
    assert "# Demo" in text


def test_webdataset_reads_the_tars(demo_output: str, tmp_path: Path) -> None:
    dest = export(demo_output, "webdataset", tmp_path / "set", "--unit", "window")
    loaded = list(webdataset.WebDataset(str(dest / "train-000000.tar"), shardshuffle=False).decode())
    assert {row["txt"] for row in loaded} == TEXTS
    for row in loaded:
        assert row["json"]["text"] == row["txt"]
        data = row["flac"]
        samples = soundfile.read(io.BytesIO(data))[0] if isinstance(data, bytes) else np.asarray(data[0])
        assert samples.size == pytest.approx(row["json"]["duration"] * 16_000, abs=2)


def test_lhotse_reads_cuts_of_the_recordings(demo_output: str, tmp_path: Path) -> None:
    dest = export(demo_output, "lhotse", tmp_path / "set")
    cuts = lhotse.CutSet.from_file(dest / "train_cuts.jsonl.gz").to_eager()
    assert {cut.supervisions[0].text for cut in cuts} == TEXTS
    cut = next(cut for cut in cuts if cut.recording.id == "front-desk")
    assert cut.load_audio().shape[-1] == cut.num_samples
    words = cut.supervisions[0].alignment["word"]
    assert [word.symbol for word in words][:2] == ["Please", "nine"]
    lhotse.validate(cuts)


def test_lhotse_reads_shar(demo_output: str, tmp_path: Path) -> None:
    dest = export(demo_output, "lhotse", tmp_path / "set", "--audio", "cut")
    cuts = list(lhotse.CutSet.from_shar(in_dir=dest / "train"))
    assert {cut.supervisions[0].text for cut in cuts} == TEXTS
    for cut in cuts:
        assert cut.load_audio().shape == (1, cut.num_samples)
        assert cut.supervisions[0].custom["confidence"] > 0


@pytest.mark.parametrize("audio", ["link", pytest.param("cut", marks=pytest.mark.slow)])
def test_nemo_manifests_point_to_audio(audio: str, demo_output: str, tmp_path: Path) -> None:
    dest = export(demo_output, "nemo", tmp_path / "set", "--audio", audio)
    lines = [json.loads(line) for line in (dest / "train_manifest.jsonl").read_text().splitlines()]
    assert {line["text"] for line in lines} == TEXTS
    for line in lines:
        info = soundfile.info(line["audio_filepath"])
        assert line.get("offset", 0.0) + line["duration"] <= info.duration + 0.05
        assert ("offset" in line) == (audio == "link")


@pytest.mark.parametrize("audio", ["link", pytest.param("cut", marks=pytest.mark.slow)])
def test_lhotse_reads_data_folders_of_kaldi(audio: str, demo_output: str, tmp_path: Path) -> None:
    dest = export(demo_output, "kaldi", tmp_path / "set", "--audio", audio) / "train"
    files = {path.name: path.read_text().splitlines() for path in dest.iterdir()}
    assert all(lines == sorted(lines, key=str.encode) for lines in files.values())
    utterances = [line.split(" ", 1)[0] for line in files["text"]]
    assert [line.split()[0] for line in files["utt2spk"]] == utterances
    assert {line.split(" ", 1)[1] for line in files["text"]} == TEXTS
    assert ("segments" in files) == (audio == "link")
    speakers = {line.split()[1] for line in files["utt2spk"]}
    assert {line.split()[0] for line in files["spk2utt"]} == speakers
    if audio == "link":
        _, supervisions, _ = lhotse.kaldi.load_kaldi_data_dir(dest, 16_000)
        assert {supervision.text for supervision in supervisions} == TEXTS


def test_a_clip_is_what_the_recording_has_there(demo_output: str, tmp_path: Path) -> None:
    dest = export(
        demo_output, "nemo", tmp_path / "set", "--audio", "cut", "--where", "recording_id = 'front-desk'"
    )
    (line,) = [json.loads(line) for line in (dest / "train_manifest.jsonl").read_text().splitlines()]
    clip, _ = soundfile.read(line["audio_filepath"], dtype="int16")
    whole, rate = soundfile.read(DEMO_AUDIO / "front-desk.wav", dtype="int16")
    assert rate == 16_000
    first = round(line["start"] * 16_000)
    assert np.array_equal(clip, whole[first : first + len(clip)])


@pytest.mark.slow
def test_a_channel_is_cut_from_its_channel(demo_output: str, tmp_path: Path) -> None:
    (row,) = [row for row in demo_rows() if row["recording_id"] == "two-channels"]
    both = [{**row["segments"][0], "flags": [f"channel:{number}"]} for number in range(2)]
    out = write_output(tmp_path / "out", [{**row, "segments": both}])
    dest = export(out, "nemo", tmp_path / "set", "--audio", "cut")
    lines = [json.loads(line) for line in (dest / "train_manifest.jsonl").read_text().splitlines()]
    clips = [soundfile.read(line["audio_filepath"], dtype="int16")[0] for line in lines]
    assert len(clips) == 2
    assert not np.array_equal(*clips)


def test_audio_that_is_gone_costs_its_samples_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = make_transcript("gone.wav", [make_segment(0, ["not", "there."])])
    out = write_output(tmp_path / "out", [gone, *demo_rows()])
    dest = export(out, "webdataset", tmp_path / "set")
    with tarfile.open(dest / "train-000000.tar") as archive:
        assert sum(name.endswith(".flac") for name in archive.getnames()) == len(SPEECH)
    assert "the audio cannot be read any more: 1" in capsys.readouterr().out


def test_parts_hold_whole_recordings(tmp_path: Path) -> None:
    segments = [make_segment(5.0 * number, ["some", "words", "here."]) for number in range(4)]
    people = [
        {"speaker": "S1", "name": f"p{number % 7}", "score": 1.0, "duration": 4.0} for number in range(40)
    ]
    rows = [make_transcript(f"r{number}", segments, speakers=[people[number]]) for number in range(40)]
    out = write_output(tmp_path / "out", rows, files=3)
    dest = export(
        out, "nemo", tmp_path / "set", "--split", "train=0.6,dev=0.2,test=0.2", "--shard-hours", "0.01"
    )
    parts = {
        path.name.partition("_")[0]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in dest.glob("*.jsonl")
    }
    assert parts.keys() == {"train", "dev", "test"}
    assert sum(map(len, parts.values())) == 160
    for key in ("recording_id",):
        sets = [{line[key] for line in lines} for lines in parts.values()]
        assert not any(a & b for a in sets for b in sets if a is not b)
    names = [{int(line["recording_id"][1:]) % 7 for line in lines} for lines in parts.values()]
    assert not any(a & b for a in names for b in names if a is not b)
    assert not (dest / ".pieces").exists()


def test_a_training_set_is_not_mixed_with_an_earlier_one(
    demo_output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = export(demo_output, "nemo", tmp_path / "set")
    assert main(["export", demo_output, "nemo", str(dest)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    export(demo_output, "nemo", dest, "--overwrite", "--language", "Korean")
    assert len((dest / "train_manifest.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 3),
        ({"speakers": ("Ada L.",)}, 1),
        ({"min_confidence": 0.5}, 2),
        ({"without_flags": ("repetitive",)}, 2),
        ({"min_duration": 2.1}, 1),
        ({"max_duration": 2.1}, 2),
        ({"languages": ("de",)}, 0),
        ({"unit": "window"}, 1),
        ({"unit": "window", "window": 3.0}, 3),
        ({"unit": "recording"}, 1),
    ],
)
def test_samples_are_those_asked_for(options: dict[str, Any], count: int) -> None:
    assert len(list(samples_of(interview(), SampleOptions(**options)))) == count


def test_the_words_of_a_sample_count_from_its_start() -> None:
    first, second, _ = samples_of(interview(), SampleOptions())
    assert first.words[0] == {"text": "So,", "start": 0.0, "end": 0.36, "confidence": 0.9}
    assert second.text == "Yes. I agree <fully> & more."
    assert [word["text"] for word in second.words] == ["Yes.", "I", "<fully>", "&", "more."]


def test_keys_of_samples_are_unique() -> None:
    keys = [sample.key for row in made_rows() for sample in samples_of(row, SampleOptions())]
    assert len(keys) == len(set(keys))
    assert all("." not in key and "/" not in key for key in keys)
