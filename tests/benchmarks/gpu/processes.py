"""Stages with several processes on one card, and with vLLM where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.gpu import demo, networks
from tests.benchmarks.gpu.run import Run

ROOT = Path(__file__).resolve().parents[3]
_GIVE_UP = 120.0  # seconds


def processes(run: Run) -> None:
    """Several processes on one card, as fractions of a GPU give them: audio seconds a second of each."""
    size, seconds, start = (2, 0.5, 15.0) if run.tiny else (64, 6.0, 22.0)
    for names in (["0.6B", "aligner"],) if run.tiny else (["0.6B"], ["0.6B"] * 2, ["0.6B", "aligner"]):
        if run.left() < start + seconds:
            return
        gate = time.time() + (0 if len(names) == 1 else start)
        share = round(0.95 / len(names), 2)
        command = [sys.executable, "-m", "tests.benchmarks.gpu", *(["--tiny"] if run.tiny else [])]
        running = [
            subprocess.Popen(
                [*command, "--child", f"{name}:{size}:{seconds}:{gate}:{share}"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        try:
            rates = [_rate(process) for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        run.say("processes on one card", of=names, rtfx=rates, sum=sum(rates))


def _rate(process: subprocess.Popen[str]) -> float:
    output, errors = process.communicate(timeout=_GIVE_UP)
    if process.returncode:
        raise RuntimeError(f"a process ended with {process.returncode}: {errors.strip()[-300:]}")
    return float(output.strip().splitlines()[-1])


def child(run: Run, description: str) -> None:
    """One of several processes: prints audio seconds a second.

    Args:
        run: the run.
        description: NAME:SEGMENTS:SECONDS:GATE:SHARE; the work begins at the time GATE in all processes.
    """
    name, size, seconds, gate, share = description.split(":")
    pool: dict[str, Any] = {"pool": {"num_gpus": float(share)}}
    call: Any
    if name == "aligner":
        words = demo.alignments(int(size), run.seconds)
        alignment = networks.aligner(run, **pool)
        audio, call = demo.audio_seconds(words), lambda: alignment.align(words)
    else:
        wanted = demo.requests(int(size), run.seconds)
        recogniser = networks.asr(run, name, **pool)
        audio, call = demo.audio_seconds(wanted), lambda: recogniser.transcribe(wanted)
    call()
    time.sleep(max(0.0, float(gate) - time.time()))
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < float(seconds):
        call()
        count += 1
    run.sync()
    print(count * audio / (time.perf_counter() - started))


def vllm(run: Run) -> None:
    """The demo recogniser on vLLM, where it can be imported."""
    if importlib.util.find_spec("vllm") is None:
        return run.say("vLLM is not installed: nothing to measure")
    from actors.backends import create_asr
    from actors.config import ASRConfig

    started = time.perf_counter()
    backend: Any = create_asr(ASRConfig(backend="vllm", model=str(networks.DEMO / "asr")))
    try:
        begin = time.perf_counter() - started
        wanted = demo.requests(4 if run.tiny else 256, run.seconds)
        backend.transcribe(wanted[:2])
        started = time.perf_counter()
        results = backend.transcribe(wanted)
        took = time.perf_counter() - started
        run.say(
            "demo recogniser on vLLM",
            start_seconds=begin,
            rtfx=demo.audio_seconds(wanted) / took,
            failed=sum(isinstance(result, Exception) for result in results),
        )
    finally:
        backend.close()
