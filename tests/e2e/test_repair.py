"""The repair in whole jobs: its steps, and the pass and the pool of the second model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from actors.backends import create_asr
from actors.config import ASRConfig
from actors.guards.evidence import flag_names
from actors.records import SAMPLING_RATE
from pipelines.output import shards
from pipelines.reporting.flag_counts import SUSPECT_FLAGS
from tests.actors.backends.remote.openai_server import running_openai_server
from tests.actors.guards.broken_recogniser import BrokenASR, cured_by, seeded
from tests.actors.guards.demo_speech import error_free, utterances
from tests.e2e.conftest import DEMO, NO_WORDS, read_transcripts, write_manifest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SURE = ("hotline-8khz", "voice-note", "memo")


def run_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())["runs"][-1]


def test_what_is_doubtful_is_heard_by_the_second_model_and_sound_segments_are_not_changed(
    scriptorium: Callable[..., int], demo: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [demo[name] for name in (*SURE, "message", "front-desk")])
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert scriptorium("transcribe", manifest, plain, *NO_WORDS, "--set", "repair.enabled=false") == 0
    second = ("repair.model=configs/demo/asr", "repair.languages=[es]", "repair.max_share=0.9")
    # Everything but the surest texts is doubtful.
    settings = [*second, "guards.min_confidence=0.96"]
    options = [part for setting in settings for part in ("--set", setting)]
    assert scriptorium("transcribe", manifest, out, *NO_WORDS, *options) == 0
    before, after = read_transcripts(plain), read_transcripts(out)
    assert before.keys() == after.keys()
    for name in ("hotline-8khz", "voice-note"):
        assert after[name]["text"] == before[name]["text"]
        assert not {flag for one in after[name]["segments"] for flag in one["flags"] if "repair" in flag}
    (memo,) = after["memo"]["segments"]
    assert "second_model" in memo["flags"] and memo["candidates"][-1]["source"] == "original"
    repairs = run_of(out)["repairs"]
    assert repairs["second_model"]["segments"] >= 1 and repairs["recut"]["segments"] >= 1
    planned = sum(row["duration"] for row in after.values())
    assert shards.repair_seconds(str(out)) <= 0.9 * planned + sum(
        one["end"] - one["start"] for one in after["memo"]["segments"]
    )
    report = json.loads((out / "report.json").read_text())
    assert report["exact"] and 0 < report["repairs"]["recut"]["cost_share"] < 1


def test_without_anything_to_hear_the_second_pool_never_starts(
    scriptorium: Callable[..., int], demo: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    manifest, out = write_manifest(tmp_path / "m.jsonl", [demo[name] for name in SURE[:2]]), tmp_path / "out"
    # A model that could not be loaded.
    nowhere = ("--set", "repair.model=m", "--set", "repair.backend=openai")
    remote = ("--set", "repair.remote.base_url=http://127.0.0.1:9/v1")
    assert scriptorium("transcribe", manifest, out, *NO_WORDS, *nowhere, *remote) == 0
    assert len(read_transcripts(out)) == 2 and not (out / "second_pass").exists()
    assert run_of(out)["repairs"] == {}


def test_injected_faults_are_flagged_repaired_and_counted_in_the_report(
    scriptorium: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with a broken recogniser, which is right about pieces of less than 5.5 s."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spoken = {f"u{number:02}": one for number, one in enumerate(utterances(7, 1))}
    rows = []
    for name, utterance in spoken.items():
        soundfile.write(tmp_path / f"{name}.wav", utterance.waveform, SAMPLING_RATE)
        rows.append({"id": name, "audio": str(tmp_path / f"{name}.wav")})
    manifest, out = write_manifest(tmp_path / "m.jsonl", rows), tmp_path / "out"
    policy = cured_by(seeded(3, 0.6, ("loop", "truncation", "half", "wrong_language")), shorter_than=5.5)
    broken = BrokenASR(create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1)), policy)
    with running_openai_server(broken) as server:
        remote = ("asr.backend=openai", "asr.model=asr", f"asr.remote.base_url={server.url}")
        limits = ("segmenter.max_duration=20", "repair.max_share=1")
        settings = [part for setting in (*remote, *limits) for part in ("--set", setting)]
        assert scriptorium("transcribe", manifest, out, *settings) == 0
    transcripts = read_transcripts(out)
    faulty = {
        name: injected.fault
        for name, utterance in spoken.items()
        for injected in broken.injected
        if error_free(injected.true_text, utterance)
    }
    assert len(faulty) >= 4
    repaired = []
    for name, fault in faulty.items():
        (segment,) = transcripts[name]["segments"]
        rejected = [part for part in segment["candidates"] or [] if part["source"] == "original"]
        repaired += [name] * bool(rejected)
        # What only the word times tell is flagged, and not repaired.
        flags = [*segment["flags"], *(flag for part in rejected for flag in part["flags"])]
        assert flag_names(flags) & SUSPECT_FLAGS, (name, fault, segment["flags"])
    right = [name for name in repaired if error_free(transcripts[name]["text"], spoken[name])]
    assert len(repaired) >= 4 and len(right) >= len(repaired) - 1, (faulty, repaired, right)
    report = json.loads((out / "report.json").read_text())
    counted = report["segment_flags"]
    in_rows = [flag_names(one["flags"]) for row in transcripts.values() for one in row["segments"]]
    assert counted["segments"] == len(in_rows)
    assert {flag: part["segments"] for flag, part in counted["by_flag"].items()} == {
        flag: sum(flag in flags for flags in in_rows) for flag in set().union(*in_rows)
    }
    assert counted["suspect"]["segments"] == sum(bool(flags & SUSPECT_FLAGS) for flags in in_rows)
    recut = report["repairs"]["recut"]
    assert recut["repaired"] == counted["by_flag"]["repaired"]["segments"] >= 3
    assert recut["segments"] >= recut["repaired"] and 0 < recut["cost_share"] < 1
    page = (out / "report.html").read_text()
    assert "recut" in page and "repaired" in page


def test_what_only_word_times_show_is_heard_again_by_the_first_model(
    scriptorium: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped halves that the text alone does not show, as its guard is switched off."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spoken = {f"u{number:02}": one for number, one in enumerate(utterances(19, 1)[:6])}
    rows = []
    for name, utterance in spoken.items():
        soundfile.write(tmp_path / f"{name}.wav", utterance.waveform, SAMPLING_RATE)
        rows.append({"id": name, "audio": str(tmp_path / f"{name}.wav")})
    manifest, out = write_manifest(tmp_path / "m.jsonl", rows), tmp_path / "out"
    policy = cured_by(seeded(3, 1.0, ("half",)), shorter_than=5.5)
    broken = BrokenASR(create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1)), policy)
    with running_openai_server(broken) as server:
        remote = ("asr.backend=openai", "asr.model=asr", f"asr.remote.base_url={server.url}")
        limits = ("segmenter.max_duration=20", "repair.max_share=1", "guards.min_syllable_ratio=0")
        settings = [part for setting in (*remote, *limits) for part in ("--set", setting)]
        assert scriptorium("transcribe", manifest, out, *settings) == 0
    assert (out / "second_pass").exists()
    transcripts = read_transcripts(out)
    injected = {one.true_text for one in broken.injected}
    faulty = [name for name, one in spoken.items() if any(error_free(text, one) for text in injected)]
    right = [name for name in faulty if error_free(transcripts[name]["text"], spoken[name])]
    assert len(faulty) >= 3 and len(right) >= len(faulty) - 1, (faulty, right)
    (segment,) = transcripts[right[0]]["segments"]
    [original] = [one for one in segment["candidates"] if one["source"] == "original"]
    assert "repaired:recut" in segment["flags"] and "speech_without_words" in original["flags"]
    assert "speech_without_words" not in segment["flags"]
    planned = sum(row["duration"] for row in transcripts.values())
    assert 0 < shards.repair_seconds(str(out)) <= planned + 0.1
