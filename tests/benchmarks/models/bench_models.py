"""The models: actors and job against the bare model, and against the official package with the same weights.

Everything runs on one torch thread, in float32 unless a row says otherwise; the sides take turns and figures
are medians of core seconds, which other work on the machine disturbs less than the clock. Only the whole job,
which is many processes, is timed by the clock. "Bare model" is encoder, prompt and decoding alone, on
prepared features and prompts, in batches packed by length. The official package is qwen-asr 0.0.6 with
transformers 4.57.6 in its own process, in its default batches of 32, on the same segments. It cannot force
the number of tokens of each row, so random weights get equal clips.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.backends.transformers.asr import TransformersASR
from actors.batch_limits import batch_limits
from actors.batching import pack
from actors.config import AlignerConfig, ASRConfig
from actors.records import SegmentRequest
from tests.benchmarks.workloads import checkpoints
from tests.benchmarks.workloads.checkpoints import DEMO, random_checkpoint, to_original
from tests.benchmarks.workloads.official import Official
from tests.benchmarks.workloads.rows import Row, Skipped
from tests.benchmarks.workloads.speech import demo_recordings, demo_segments, duration, pieces, rows_of

LIMIT_SECONDS = 600
EXPECTED_MINUTES = 6
# Tokens per second: the rate of speech.
_TOKENS = 3.5
# Seconds of audio for the real shape: a core takes about one second per second.
_CLIPS, _SECONDS = 3, 8.0


def measure(full: bool) -> Iterator[Row]:
    """Rows of the trained demo models, then of the real shape, then of the whole job."""
    yield from _demo(5 if full else 3)
    yield from _real_shape(3 if full else 1)
    yield from _job(3 if full else 1)


def _demo(runs: int) -> Iterator[Row]:
    segments = demo_segments()
    asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cpu", threads=1))
    aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), device="cpu", threads=1))
    sides: dict[str, Callable[[], Any]] = {
        "bare": _bare(asr, segments),
        "actor": lambda: asr(rows_of(segments)),
        "both": lambda: aligner(asr(rows_of(segments))),
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            models = [to_original(DEMO / kind, Path(folder) / kind) for kind in ("asr", "aligner")]
            with Official(segments, 1, *models) as official:
                command = {
                    "do": "transcribe",
                    "clips": list(range(len(segments))),
                    "batch": 32,
                    "tokens": 512,
                }
                command["ends"] = list(asr.backend.processor.ends)  # type: ignore[attr-defined]
                sides["their asr"] = lambda: official.run(**command, words=False)
                sides["their both"] = lambda: official.run(**command, words=True)
                seconds, answers = _take_turns(sides, runs)
            yield from _against(
                seconds, "demo models, recognition only", duration(segments), "actor", "their asr", 2
            )
            yield from _against(
                seconds, "demo models, with words", duration(segments), "both", "their both", 2
            )
            texts = [segment["text"] for row in answers["actor"] for segment in row["segments"]]
            same = sum(
                ours == theirs.strip()
                for ours, theirs in zip(texts, answers["their asr"]["texts"], strict=True)
            )
            note = f"of {len(texts)}; the package attends over all of a segment, not 8 s"
            yield Row("demo models, segments with the same text", same, "segments", "", note)
    except Skipped as reason:
        seconds, _ = _take_turns(
            {name: side for name, side in sides.items() if not name.startswith("their")}, runs
        )
        yield Row("demo models, against the official package", None, "x", ">= 2", str(reason))
    share = statistics.median(
        bare / actor for bare, actor in zip(seconds["bare"], seconds["actor"], strict=True)
    )
    yield Row(
        "demo models, actor against bare model",
        share,
        "of its speed",
        ">= 0.95",
        f"decoder in float64; {runs} runs",
    )


def _job(copies: int) -> Iterator[Row]:
    """What another hour costs the whole job next to the bare model, without the fixed cost of starting."""
    waves = demo_recordings()
    asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cpu", threads=1))
    segments = demo_segments()
    bare = statistics.median(_seconds(_bare(asr, segments), time.perf_counter) for _ in range(3)) / duration(
        waves
    )
    with tempfile.TemporaryDirectory() as folder:
        few = _transcribe(Path(folder) / "few", waves, 2)
        many = _transcribe(Path(folder) / "many", waves, 2 + 10 * copies)
    each = (many - few) / (10 * copies * duration(waves))
    note = f"{copies * 10 * duration(waves) / 60:.0f} min of audio more, decoding on the other cores; one run"
    yield Row("demo models, whole job against bare model", bare / each, "of its speed", ">= 0.95", note)
    yield Row("demo models, whole job", 1 / each, "x real time", "", "recognition only, one thread")


def _real_shape(runs: int) -> Iterator[Row]:
    segments = pieces(_CLIPS, _SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        native = random_checkpoint(
            Path(folder) / "native",
            "asr",
            checkpoints.REAL_ENCODER,
            checkpoints.REAL_DECODER,
            checkpoints.REAL_VOCABULARY,
        )
        settings: dict[str, Any] = {
            "model": str(native),
            "device": "cpu",
            "threads": 1,
            "max_tokens_per_second": _TOKENS,
            "min_tokens": 1,
        }
        asr = ASRActor(ASRConfig(dtype="float32", **settings))
        sides: dict[str, Callable[[], Any]] = {
            "bare": _bare(asr, segments),
            "actor": lambda: asr(rows_of(segments)),
        }
        name = f"0.6B shape, {_CLIPS} x {_SECONDS:g} s"
        try:
            with Official(segments, 1, to_original(native, Path(folder) / "original")) as official:
                tokens = int(_SECONDS * _TOKENS) + 1
                command = {
                    "do": "transcribe",
                    "clips": list(range(len(segments))),
                    "batch": 32,
                    "tokens": tokens,
                    "words": False,
                }
                sides["theirs"] = lambda: official.run(**command)
                seconds, _ = _take_turns(sides, runs)
            yield from _against(
                seconds, f"{name}, recognition only", duration(segments), "actor", "theirs", 2
            )
        except Skipped as reason:
            seconds, _ = _take_turns({key: side for key, side in sides.items() if key != "theirs"}, runs)
            yield Row(f"{name}, against the official package", None, "x", ">= 2", str(reason))
        share = statistics.median(
            bare / actor for bare, actor in zip(seconds["bare"], seconds["actor"], strict=True)
        )
        yield Row(
            f"{name}, actor against bare model",
            share,
            "of its speed",
            ">= 0.95",
            f"float32, {_TOKENS} tokens/s; {runs} runs",
        )
        sides.clear()
        small = ASRActor(ASRConfig(dtype="int8", **settings))
        eight = statistics.median(_seconds(lambda: small(rows_of(segments))) for _ in range(runs))
        gain = statistics.median(seconds["actor"]) / eight
        yield Row(
            f"{name}, dtype int8", duration(segments) / eight, "x real time", "", f"{gain:.2f} times float32"
        )
        if "theirs" in seconds:
            ratio = statistics.median(seconds["theirs"]) / eight
            yield Row(
                f"{name}, dtype int8 against the official package",
                ratio,
                "x",
                ">= 2",
                "which has no such mode; in float32",
            )


def _bare(asr: ASRActor, segments: list[np.ndarray]) -> Callable[[], Any]:
    """The model alone, on inputs prepared now."""
    backend, config = asr.backend, asr.config
    assert isinstance(backend, TransformersASR)
    requests = [SegmentRequest(wave) for wave in segments]
    limits = batch_limits(config, backend.gpu_memory)
    batches = pack([request.duration for request in requests], limits.max_seconds, limits.max_size)
    ready = []
    for batch in batches:
        chosen = [requests[index] for index in batch]
        ready.append(([backend.job(request) for request in chosen], backend.prompts(chosen)))

    def run() -> None:
        for jobs, prompts in ready:
            backend.generator.generate(jobs, partial(map, prompts.__getitem__), backend.limits(), _ignore)

    return run


def _ignore(number: int, answer: Any) -> None:
    """The answer is not read."""


def _take_turns(
    sides: dict[str, Callable[[], Any]], runs: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Core seconds of each run of each side, and its last answer. Several runs have one before them, to warm
    up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, Any] = {}
    warming = int(runs > 1)
    for turn in range(runs + warming):
        for name, side in sides.items():
            started = time.process_time()
            answers[name] = side()
            if turn >= warming:
                seconds[name].append(
                    answers[name]["cpu"] if name.startswith("their") else time.process_time() - started
                )
    return seconds, answers


def _against(
    seconds: dict[str, list[float]], name: str, audio: float, ours: str, theirs: str, aim: float
) -> Iterator[Row]:
    ratio = statistics.median(their / our for our, their in zip(seconds[ours], seconds[theirs], strict=True))
    speed, their_speed = audio / statistics.median(seconds[ours]), audio / statistics.median(seconds[theirs])
    note = f"{speed:.3g} against {their_speed:.3g} times real time on one core; {len(seconds[ours])} runs"
    yield Row(f"{name}, against the official package", ratio, "x", f">= {aim:g}", note)


def _transcribe(out: Path, waves: list[np.ndarray], copies: int) -> float:
    """Wall seconds of the whole command on `copies` of the recordings."""
    import soundfile

    audio = out / "audio"
    audio.mkdir(parents=True)
    lines = []
    for copy in range(copies):
        for number, wave in enumerate(waves):
            path = audio / f"{copy}-{number}.wav"
            soundfile.write(path, wave, 16_000)
            lines.append(json.dumps({"audio": str(path), "id": path.stem}))
    manifest = out / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    settings = {
        "segmenter.max_duration": 15,
        "asr.model": DEMO / "asr",
        "asr.threads": 1,
        "aligner.backend": "none",
    }
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "transcribe",
        str(manifest),
        str(out / "result"),
        *arguments,
    ]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the job ended with {done.returncode}: {done.stderr[-800:]}")
    return time.perf_counter() - started


def _seconds(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    started = clock()
    call()
    return clock() - started
