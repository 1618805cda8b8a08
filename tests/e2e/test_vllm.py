"""The whole job with vLLM for both models, against the same job with transformers; see `make test-vllm`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import DEMO, read_dead_letters, read_transcripts

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# Seconds: one class of the aligner, its resolution. Two engines may round a near tie to neighbouring classes.
WORD = 0.08


@pytest.fixture(scope="module", autouse=True)
def vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; it has an environment of its own: make test-vllm")


@pytest.fixture(scope="module")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo aligner in the layout of the original checkpoints."""
    from tests.benchmarks.workloads.checkpoints import to_original

    return to_original(DEMO / "aligner", tmp_path_factory.mktemp("original") / "aligner")


def words_of(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for segment in row["segments"]:
        yield from segment["words"]


def test_the_demo_with_vllm_equals_the_demo_with_transformers(
    scriptorium: Callable[..., int], aligner: Path, tmp_path: Path
) -> None:
    manifest = DEMO / "manifest.jsonl"
    assert scriptorium("transcribe", manifest, tmp_path / "here") == 3
    engines = ["asr.backend=vllm", "aligner.backend=vllm", f"aligner.model={aligner}"]
    assert (
        scriptorium(
            "transcribe",
            manifest,
            tmp_path / "vllm",
            *[part for engine in engines for part in ("--set", engine)],
        )
        == 3
    )
    here, there = read_transcripts(tmp_path / "here"), read_transcripts(tmp_path / "vllm")
    assert there.keys() == here.keys() and len(here) > 5
    assert read_dead_letters(tmp_path / "vllm").keys() == read_dead_letters(tmp_path / "here").keys()
    farthest = 0.0
    for name, row in there.items():
        assert (row["text"], row["language"], row["status"], row["flags"]) == tuple(
            here[name][key] for key in ("text", "language", "status", "flags")
        )
        for segment, other in zip(row["segments"], here[name]["segments"], strict=True):
            assert segment["confidence"] == pytest.approx(other["confidence"], abs=2e-4)
        for word, other in zip(words_of(row), words_of(here[name]), strict=True):
            assert word["text"] == other["text"]
            farthest = max(farthest, abs(word["start"] - other["start"]), abs(word["end"] - other["end"]))
    assert farthest <= WORD + 1e-9
    assert sum(1 for row in there.values() for _ in words_of(row)) > 50
    print(f"{len(there)} recordings; the farthest word time is {farthest * 1000:.0f} ms off")
