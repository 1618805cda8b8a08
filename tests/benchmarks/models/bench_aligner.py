"""The aligner: audio seconds per second over batch size and segment length, against the official package.

One torch thread on both sides, float32, random weights of a reduced shape (the real one would take hours
here): encoder 128 wide, 3 layers; decoder 192 wide, 5 layers; the real head of 5,000 classes and the real
tokens per second. The official path puts all segments of a call into one batch padded to the longest, encodes
them one by one with attention over the whole segment, computes all classes at every token, and repairs the
stamps in n^2 steps. Ours is the actor's path: packed batches, and clip by clip on a CPU. Seconds are core
seconds, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from actors.backends.transformers.aligner import TransformersAligner
from actors.batch_limits import batch_limits
from actors.batching import dispatch
from actors.config import AlignerConfig
from actors.records import SAMPLING_RATE, AlignmentRequest
from tests.benchmarks.workloads.checkpoints import random_checkpoint, to_original
from tests.benchmarks.workloads.official import Official
from tests.benchmarks.workloads.rows import Row, Skipped
from tests.benchmarks.workloads.speech import duration, pieces

LIMIT_SECONDS = 420
EXPECTED_MINUTES = 4
ENCODER = {
    "d_model": 128,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 384,
    "output_dim": 192,
}
ENCODER |= {"downsample_hidden_size": 32}
DECODER = {
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WORDS = ("please", "nine", "two", "seven", "hello", "music", "yes", "six", "no")
WORDS_PER_SECOND = 2.5
BATCHES = (1, 8, 32, 128)
LENGTHS = (10, 30, 60, 120, 180)


def measure(full: bool) -> Iterator[Row]:
    """Batch sizes at one length, lengths at one batch size, and mixed lengths in one call."""
    runs = 3 if full else 2
    cases = {f"batch {batch} x 10 s": pieces(batch, 10) for batch in BATCHES}
    cases |= {f"batch 2 x {length} s": pieces(2, length) for length in LENGTHS[1:]}
    cases["batch 12, 10 to 180 s mixed"] = [
        wave[: round(16_000 * (10 + 170 * (k / 11) ** 2))] for k, wave in enumerate(pieces(12, 180))
    ]
    with tempfile.TemporaryDirectory() as folder:
        native = random_checkpoint(Path(folder) / "native", "aligner", ENCODER, DECODER)
        backend = TransformersAligner(
            AlignerConfig(model=str(native), device="cpu", threads=1, dtype="float32")
        )
        clips = [wave for case in cases.values() for wave in case]
        try:
            with Official(clips, 1, aligner=to_original(native, Path(folder) / "original")) as official:
                yield from _cases(cases, backend, official, runs)
        except Skipped as reason:
            yield Row("against the official package", None, "x", ">= 3", str(reason))
            yield from _cases(cases, backend, None, runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield Row("peak memory of our process", peak, "GiB", "", "all of the above, the audio included")


def _cases(
    cases: dict[str, list[np.ndarray]], backend: TransformersAligner, official: Official | None, runs: int
) -> Iterator[Row]:
    first, speeds = 0, {}
    for name, waves in cases.items():
        texts = [_text(len(wave) / SAMPLING_RATE) for wave in waves]
        requests = [
            AlignmentRequest(wave, tuple(text.split())) for wave, text in zip(waves, texts, strict=True)
        ]
        ours, theirs = [], []
        # One more run than asked for, to warm up.
        small = duration(waves) < 400
        for turn in range((runs if small else runs - 1) + small):
            ours.append(_align(backend, requests))
            if official:
                clips = list(range(first, first + len(waves)))
                answer = official.run(
                    do="align", clips=clips, texts=texts, languages=["English"] * len(waves)
                )
                theirs.append(answer["cpu"])
            if turn == 0 and small:
                ours.clear()
                theirs.clear()
        first += len(waves)
        speeds[name] = duration(waves) / statistics.median(ours)
        note = (
            f"the official path {duration(waves) / statistics.median(theirs):.0f}; {len(ours)} runs"
            if official
            else f"{len(ours)} runs"
        )
        yield Row(name, speeds[name], "audio s/s", "", note)
        if official and len(waves) > 8:
            ratio = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
            yield Row(
                f"{name}, against the official path", ratio, "x", ">= 3" if len(waves) == max(BATCHES) else ""
            )
    over = [speeds[f"batch {batch} x 10 s"] for batch in BATCHES]
    yield Row(
        "flat in the batch size, slowest over fastest", min(over) / max(over), "", ">= 0.9", "10 s segments"
    )


def _align(backend: TransformersAligner, requests: list[AlignmentRequest]) -> float:
    config = AlignerConfig()
    started = time.process_time()
    limits = batch_limits(config, backend.gpu_memory)
    results = dispatch(requests, backend.align, limits.max_seconds, limits.max_size)
    if failed := [result for result in results if isinstance(result, Exception)]:
        raise failed[0]
    return time.process_time() - started


def _text(seconds: float) -> str:
    return " ".join(WORDS[number % len(WORDS)] for number in range(round(seconds * WORDS_PER_SECOND)))
