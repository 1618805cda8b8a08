"""Damaged files in numbers: each ends as a transcript or as a dead letter whose code says what is wrong."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from actors.errors import CODES
from tests.faults.harness import checker, fuzzer
from tests.faults.harness.jobs import FAKE, Job
from tests.faults.harness.memory import MemoryWatch

pytestmark = pytest.mark.faults

# Codes that the bytes of a local file can never cause.
NOT_ITS_FAULT = {
    "internal_error",
    "decoder_crashed",
    "decode_timeout",
    "storage_unavailable",
    "worker_lost",
    "audio_changed",
}


@pytest.fixture(scope="module")
def decoder() -> Any:
    made = Decoder(AudioConfig(timeout=120, max_memory=2, retries=0), SegmenterConfig(backend="energy"))
    yield made
    made.close()


def row(path: Path, duration: float | None = None) -> dict[str, Any]:
    plan = {
        "shard_id": path.name,
        "recording_id": path.name,
        "audio": str(path),
        "index": 0,
        "shard_count": 1,
        "start": 0.0,
        "end": None,
    }
    return plan | {
        "duration": duration,
        "channel": "",
        "etag": "",
        "audio_bytes": 0,
        "language": None,
        "metadata": "{}",
        "attempt": 1,
    }


def test_the_same_seed_and_number_give_the_same_file(tmp_path: Path) -> None:
    files = fuzzer.sources()
    assert len({path.suffix for path in files}) >= 6, "the demo's files alone are of six kinds"
    first = [fuzzer.mutant(files, 5, number) for number in range(40)]
    assert first == [fuzzer.mutant(files, 5, number) for number in range(40)]
    assert first != [fuzzer.mutant(files, 6, number) for number in range(40)]
    healthy = {path.read_bytes() for path in files}
    assert sum(one.data in healthy for one in first) <= 2, "mutants are not their sources"
    assert len({name for one in first for name in one.name.split("_") if name in fuzzer.MUTATIONS}) == len(
        fuzzer.MUTATIONS
    )
    assert (
        max(len(one.data) for one in [fuzzer.mutant(files, 5, number, largest=1000) for number in range(20)])
        <= 1000
    )


@pytest.mark.timeout(600)
def test_sixty_mutants_are_decoded_or_refused(tmp_path: Path, decoder: Decoder) -> None:
    files = fuzzer.sources(120_000)
    outcomes: Counter[str] = Counter()
    opened, alive = 0, None
    for number in range(60):
        damaged = fuzzer.mutant(files, 11, number, 120_000)
        path = tmp_path / damaged.name
        path.write_bytes(damaged.data)
        got = decoder([row(path)])[0]
        assert got["status"] in ("ok", "partial", "no_speech", "error"), damaged.name
        assert (got["status"] == "error") == (got["error_code"] in CODES) and got[
            "error_code"
        ] not in NOT_ITS_FAULT, (damaged.name, got)
        assert (got["status"] == "error") == bool(got["error_message"]) and 0 <= got["decoded_start"] <= got[
            "decoded_end"
        ]
        for segment in got["segments"]:
            assert 0 < segment["end"] - segment["start"] <= 60 and len(segment["samples"]) == 2 * round(
                (segment["end"] - segment["start"]) * 16_000
            )
        outcomes[got["error_code"] or got["status"]] += 1
        child = decoder._child.pid
        if number == 5:
            opened, alive = len(os.listdir(f"/proc/{child}/fd")), child
    assert outcomes["ok"] and outcomes["partial"] and outcomes["bad_header"] and outcomes["not_audio"], (
        outcomes
    )
    assert child == alive, "the decoding process did not survive"
    assert len(os.listdir(f"/proc/{child}/fd")) == opened, "files are left open"


@pytest.mark.timeout(300)
def test_headers_of_mutants_are_read_or_refused(tmp_path: Path, decoder: Decoder) -> None:
    """Planning reads the same files first; its estimate of their length must not exceed what decoding may
    find.
    """
    files = fuzzer.sources(120_000)
    compared = 0
    for number in range(100, 140):
        damaged = fuzzer.mutant(files, 11, number, 120_000)
        path = tmp_path / damaged.name
        path.write_bytes(damaged.data)
        try:
            found = decoder._child.call("actors.audio.probing:probe", str(path), False, 0, timeout=120)
        except Exception as error:
            assert getattr(error, "code", "internal_error") not in NOT_ITS_FAULT, (damaged.name, error)
            continue
        assert found.duration is None or 0 < found.duration <= found.size_bytes / 10 + 60, damaged.name
        got = decoder([row(path, found.duration)])[0]
        assert got["error_code"] not in NOT_ITS_FAULT, (damaged.name, got)
        compared += 1
    assert compared > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_mutants_end_in_exactly_one_table(tmp_path: Path) -> None:
    """Every file in exactly one table, no hang, no crash, under 8 GiB in all."""
    count, seed = int(os.environ.get("FUZZ_COUNT", "1000")), int(os.environ.get("FUZZ_SEED", "2026"))
    manifest = fuzzer.write(tmp_path / "audio", count, seed)
    names = [path.name for path in (tmp_path / "audio").iterdir() if path != manifest]
    assert len(names) == count
    started = time.monotonic()
    job = Job(
        "transcribe",
        manifest,
        tmp_path / "out",
        settings=(*FAKE, "audio.timeout=120", "audio.max_memory=2"),
        log=tmp_path / "log",
    )
    with MemoryWatch(job.mark) as memory:
        code = job.wait(3000)
    wall = time.monotonic() - started
    assert code == 3, job.said()[-3000:]
    transcripts, letters = checker.check(tmp_path / "out", names)
    checker.nobody_left(job.mark)
    codes = Counter(letter["error_code"] for letter in letters.values())
    print(
        f"{count} files (seed {seed}): {len(transcripts)} transcripts, "
        f"{len(letters)} dead letters {dict(codes.most_common())}, ",
        end="",
    )
    print(f"peak {memory.peak / 2**30:.2f} GiB ({memory.samples} samples), {wall:.0f} s")
    assert codes.keys() <= CODES.keys() - NOT_ITS_FAULT, [
        letter for letter in letters.values() if letter["error_code"] in NOT_ITS_FAULT
    ]
    assert len(transcripts) > count / 4 and len(letters) > count / 10
    assert memory.samples > 10 and memory.peak < 8 * 2**30
