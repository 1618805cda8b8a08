"""Chunks equal those of the reference, sample by sample."""

import hashlib

import numpy as np

from tests.golden.reference.splitting import split_compatible

GOLDEN_FILE = "split_audio.jsonl"


def make_waveform(recipe: dict) -> np.ndarray:
    """Build a waveform from its recipe, bit by bit.

    The recipe has segments [kind, start, length, amplitude, period], which are added up in order.
    """
    rng = np.random.default_rng(recipe["seed"])
    total = np.zeros(recipe["n_samples"], dtype=np.int64)
    for kind, start, length, amplitude, period in recipe["segments"]:
        k = np.arange(length, dtype=np.int64)
        if kind == "noise":
            wave = rng.integers(-amplitude, amplitude + 1, size=length, dtype=np.int64)
        elif kind == "tri":
            wave = amplitude - (4 * amplitude * np.abs(k % period - period // 2)) // period
        elif kind == "const":
            wave = np.full(length, amplitude, dtype=np.int64)
        elif kind == "square":
            wave = np.where(k % period < period // 2, amplitude, -amplitude)
        elif kind == "ramp":
            wave = (k * amplitude) // length if amplitude >= 0 else ((length - k) * -amplitude) // length
        else:
            raise ValueError(f"unknown kind of segment {kind!r}")
        total[start : start + length] += wave
    total = np.clip(total, -1024, 1024)
    if recipe.get("jitter"):
        return ((total + (rng.random(len(total)) - 0.5)) / 1025.0).astype(np.float32)
    return (total / 1024.0).astype(np.float32)


def test_golden_split_audio(case):
    given, expected = case["input"], case["expected"]
    waveform = make_waveform(given["recipe"])
    digest = case.get("waveform_sha256") or expected.get("waveform_sha256") or given.get("waveform_sha256")
    assert digest == hashlib.sha256(waveform.astype("<f4").tobytes()).hexdigest(), (
        "the recipe was not rebuilt exactly"
    )
    chunks = split_compatible(waveform, given["sr"], given["max_chunk_sec"])
    assert [[chunk.offset, chunk.length] for chunk in chunks] == expected["chunks"]
    assert [len(chunk.waveform) for chunk in chunks] == expected["returned_lengths"]
    assert [chunk.offset_seconds for chunk in chunks] == expected["offset_sec"]
