"""Stages that time whole actors: everything from samples to texts or word times."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch

from actors.backends.cost_model import MEASURING_SECONDS, measure
from actors.backends.devices import device_name
from actors.batching import dispatch_to
from tests.benchmarks.gpu import demo, networks
from tests.benchmarks.gpu.run import Run


def recognise(run: Run, name: str, count: int, seconds: float, **settings: Any) -> None:
    """Recognise segments as the actor does, with answers of 2 to 5 tokens a second."""
    backend = networks.asr(run, name, **settings)
    wanted = demo.requests(count, seconds)
    warm = demo.requests(2, seconds, seed=7)
    demo.spread_answers(backend, [*wanted, *warm])
    dispatch_to(backend, backend.transcribe, backend.config, warm)
    backend.generator.release()
    run.forget()
    # The second round has its CUDA graphs and its memory, as every table of a run but the first.
    for round_name in ("first", "later"):
        started = time.perf_counter()
        results = dispatch_to(backend, backend.transcribe, backend.config, wanted)
        run.sync()
        took = time.perf_counter() - started
        failed = [result for result in results if isinstance(result, Exception)]
        run.say(
            f"{name} actor, {round_name} table",
            segments=count,
            segment_seconds=seconds,
            seconds=took,
            rtfx=demo.audio_seconds(wanted) / took,
            failed=len(failed),
            error=repr(failed[0])[:200] if failed else None,
            peak_gib=run.peak_gib(),
        )
        if run.left() < took + 10:
            break
    backend.generator.release()


def actor_small(run: Run) -> None:
    """The 0.6B on 30 s segments."""
    for count in (4,) if run.tiny else (256, 512):
        recognise(run, "0.6B", count, run.seconds)


def actor_large(run: Run) -> None:
    """The 1.7B on 30 s segments."""
    for count in (4,) if run.tiny else (256, 512):
        recognise(run, "1.7B", count, run.seconds)


def lengths(run: Run) -> None:
    """Short and long segments."""
    for seconds, count in ((2.0, 4), (6.0, 2)) if run.tiny else ((10.0, 512), (60.0, 128)):
        recognise(run, "0.6B", count, seconds)


def aligner(run: Run) -> None:
    """The forced aligner by the size of its batch."""
    backend = networks.aligner(run)
    for count in (2, 3) if run.tiny else (16, 32, 64):
        wanted = demo.alignments(count, run.seconds)
        run.forget()
        host = run.timed(lambda wanted=wanted: backend.prompts(wanted), 1)
        whole = run.timed(lambda wanted=wanted: backend.align(wanted), 2)
        with torch.inference_mode():
            prompts = backend.prompts(wanted)
            device = run.timed(lambda prompts=prompts: backend.classify(prompts), 2)
        run.say(
            "aligner",
            rows=count,
            features_ms=host,
            model_ms=device,
            whole_ms=whole,
            rtfx=demo.audio_seconds(wanted) * 1e3 / whole,
            peak_gib=run.peak_gib(),
        )


def both_models(run: Run) -> None:
    """Recogniser and aligner in one process, in a thread and on a stream each."""
    count, duration = (2, 0.5) if run.tiny else (128, 8.0)
    recogniser, alignment = networks.asr(run, "0.6B"), networks.aligner(run)
    wanted, words = demo.requests(count, run.seconds), demo.alignments(max(2, count // 4), run.seconds)
    calls: dict[str, tuple[Any, float]] = {
        "0.6B": (lambda: recogniser.transcribe(wanted), demo.audio_seconds(wanted)),
        "aligner": (lambda: alignment.align(words), demo.audio_seconds(words)),
    }
    single = {name: _rate(run, call, audio, duration / 2) for name, (call, audio) in calls.items()}
    shared: dict[str, float] = {}

    def work(name: str) -> None:
        call, audio = calls[name]
        stream = torch.cuda.stream(torch.cuda.Stream()) if run.cuda else torch.inference_mode()
        with stream:
            shared[name] = _rate(run, call, audio, duration)

    threads = [threading.Thread(target=work, args=(name,)) for name in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.say("both models in one process", single_rtfx=single, shared_rtfx=shared)
    recogniser.generator.release()


def cost(run: Run) -> None:
    """The measured cost model: what is fitted when a model is loaded, and with more time."""
    for name in ("0.6B", "1.7B"):
        backend = networks.asr(run, name)
        for budget in (MEASURING_SECONDS,) if run.tiny else (MEASURING_SECONDS, 8.0):
            started = time.perf_counter()
            model = measure(backend.probe, device_name(run.device), budget)
            took = time.perf_counter() - started
            if model is None:
                run.say(f"cost model, {name}: too slow to measure", seconds=took)
                continue
            run.say(
                f"cost model, {name}",
                seconds=took,
                call_cost_segments=model.call_cost_segments,
                **model.as_record(),
            )


def step_time(run: Run, backend: Any, rows: int, tokens: int, steps: int, graph: bool = True) -> float:
    """Milliseconds of one decoding step of so many rows with so many tokens each."""
    from actors.backends.transformers.kv_cache import capacity_for

    generator = backend.generator
    capacity = capacity_for(tokens + 128, True)
    step = generator.workspace(rows, capacity, 512)
    generator.graphs.enabled = graph and run.cuda
    span = capacity if backend.network.flash else generator.policy.span(tokens + 128, capacity)

    def advance() -> None:
        generator.graphs.run(
            (rows, capacity, span), lambda: step.advance(rows, capacity, span), max(3, steps)
        )

    def again() -> None:
        step.state.length.fill_(tokens)
        step.state.left.fill_(400)
        step.state.count.zero_()
        step.state.finished.fill_(False)
        advance()

    try:
        with torch.inference_mode():
            return run.timed(again, 3, 2) / max(3, steps)
    finally:
        generator.graphs.enabled = run.cuda


def _rate(run: Run, call: Any, audio: float, seconds: float) -> float:
    """Seconds of audio a second, over at least so many seconds."""
    call()
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < seconds:
        call()
        count += 1
    run.sync()
    return round(count * audio / (time.perf_counter() - started), 1)
