"""Stages that check rather than time: the machine, equal answers, and batches that do not fit the memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import transformers

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig
from actors.records import SegmentRequest
from tests.benchmarks.gpu import demo, networks
from tests.benchmarks.gpu.run import Run


def machine(run: Run) -> None:
    """Versions, and what the device can do at most."""
    run.say(
        "machine",
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        cores=os.cpu_count() or 0,
        device=torch.cuda.get_device_name() if run.cuda else "cpu",
        cudnn=torch.backends.cudnn.version() or 0,
    )
    if not run.cuda:
        return
    first, second = (torch.randn(8192, 8192, device=run.device, dtype=run.dtype) for _ in range(2))
    ms = run.timed(lambda: first @ second, 5)
    source = torch.empty(2**32, dtype=torch.uint8, device=run.device)
    target = torch.empty_like(source)
    copy = run.timed(lambda: target.copy_(source), 5)
    small = torch.zeros(8, device=run.device)
    launches = run.timed(lambda: [small.add_(1) for _ in range(500)], 3)
    run.say(
        "ceilings",
        tflops=2 * 8192**3 / ms / 1e9,
        gb_per_s=2 * 2**32 / copy / 1e6,
        us_per_launch=launches / 500 * 1e3,
    )


def parity(run: Run) -> None:
    """The trained demo models against a CPU in float32, and single segments against batches."""
    expected = demo.load(run)
    wanted = [SegmentRequest(wave) for wave in expected.waves]
    for dtype in ("float32", "bfloat16"):
        settings: dict[str, Any] = {"device": str(run.device), "dtype": dtype}
        asr = ASRActor(ASRConfig(model=str(networks.DEMO / "asr"), **settings))
        texts = [getattr(result, "text", repr(result)) for result in asr.recognise(wanted)]
        singles = [
            getattr(asr.recognise([request])[0], "text", None) for request in wanted[: 2 if run.tiny else 8]
        ]
        differing = [
            (text[:60], other[:60])
            for text, other in zip(texts, expected.texts, strict=True)
            if text != other
        ]
        run.say(
            f"demo recogniser, {dtype}",
            same_as_cpu=f"{len(texts) - len(differing)} of {len(texts)}",
            single_equals_batch=f"{sum(map(str.__eq__, texts, singles))} of {len(singles)}",
            first_difference=next(iter(differing), None),
        )
        aligner = AlignerActor(AlignerConfig(model=str(networks.DEMO / "aligner"), **settings))
        aligned = aligner.align(demo.segments(expected.waves, expected.texts, expected.languages))
        pairs = [
            (word, other)
            for (segment, _), words in zip(aligned, expected.words, strict=True)
            for word, other in zip(segment["words"], words, strict=False)
        ]
        offsets = [
            abs(word[edge] - other[place])
            for word, other in pairs
            for edge, place in (("start", 1), ("end", 2))
        ]
        run.say(
            f"demo aligner, {dtype}",
            words=f"{len(pairs)} of {sum(map(len, expected.words))}",
            equal=sum(offset == 0 for offset in offsets) / max(1, len(offsets)),
            worst_ms=1000 * max(offsets, default=0.0),
            errors=sum(error is not None for _, error in aligned),
        )


def out_of_memory(run: Run) -> None:
    """With a cap on the memory that the usual batch does not fit, every answer comes all the same."""
    backend = networks.asr(run, "0.6B")
    wanted = demo.requests(4 if run.tiny else 64, run.seconds * 2 / 3)
    backend.transcribe(wanted[:2])
    # GiB beside the weights; a CPU has no cap.
    for gib in (12, 5) if run.cuda else (0,):
        backend.generator.release()
        run.forget()
        if run.cuda:
            total = torch.cuda.get_device_properties(0).total_memory
            share = (torch.cuda.memory_reserved() + gib * 2**30) / total
            torch.cuda.set_per_process_memory_fraction(share)
        try:
            answers = backend.transcribe(wanted)
            run.say(
                f"out of memory, {gib} GiB",
                answers=sum(not isinstance(answer, Exception) for answer in answers),
                of=len(wanted),
                learned_seconds=backend.generator.max_seconds or backend.memory.max_seconds or 0.0,
            )
        finally:
            if run.cuda:
                torch.cuda.set_per_process_memory_fraction(1.0)
