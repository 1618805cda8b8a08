"""Stages that time the parts of a batch: decoding steps, attention kernels, encoder, prompts, features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from actors.backends.qwen import features as mel
from actors.backends.transformers import prompts as packed
from actors.backends.transformers.asr import TransformersASR
from actors.backends.transformers.encoder import CALL_SECONDS
from actors.backends.transformers.kernels.attention import Packing, attend_packed, attend_slots, slot_keys
from actors.backends.transformers.kv_cache import bytes_per_token
from actors.backends.transformers.prompts import PASS_TOKENS
from tests.benchmarks.gpu import demo, networks
from tests.benchmarks.gpu.run import Run
from tests.benchmarks.gpu.whole import step_time


def steps(run: Run) -> None:
    """A decoding step, eager and as a CUDA graph, by the number of rows."""
    for name in ("0.6B", "1.7B"):
        backend = networks.asr(run, name)
        tokens = 60 if run.tiny else 460
        weights = sum(
            weight.numel() * weight.element_size() for weight in backend.network.decoder.parameters()
        )
        for rows in run.rows:
            run.forget()
            eager = step_time(run, backend, rows, tokens, 4, graph=False)
            graph = step_time(run, backend, rows, tokens, 8)
            read = rows * tokens * bytes_per_token(backend.network.decoder) + weights
            run.say(
                f"{name} step",
                rows=rows,
                eager_ms=eager,
                graph_ms=graph,
                gb_per_s=read / graph / 1e6,
                flash=backend.network.flash,
                fused=backend.network.decoder.fused is not None,
            )
        backend.generator.release()


def attention(run: Run) -> None:
    """Attention of a decoding step and of a prompt: flash against torch's choice without cuDNN."""
    rows, heads, groups, size, used, capacity = (
        (2, 4, 2, 32, 40, 64) if run.tiny else (128, 16, 8, 128, 405, 512)
    )
    packed_rows = min(rows, 32)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=run.device, dtype=run.dtype)

    query, keys, values = (
        random(rows, heads, size),
        random(rows, capacity, groups, size),
        random(rows, capacity, groups, size),
    )
    used_lengths = torch.full((rows,), used, device=run.device)
    packing = Packing.of([used] * packed_rows, run.device)
    tokens = used * packed_rows
    prompt = random(tokens, heads, size), random(tokens, groups, size), random(tokens, groups, size)
    flash_possible = networks.network(run, "0.6B")[1].flash
    for flash in (True, False) if flash_possible else (False,):
        slots = slot_keys(used_lengths, capacity, capacity, flash)
        with torch.inference_mode():
            step = run.timed(
                lambda slots=slots, flash=flash: [
                    attend_slots(query, keys, values, slots, flash=flash) for _ in range(20)
                ]
            )
            whole = run.timed(
                lambda flash=flash: [
                    attend_packed(*prompt, packing, causal=True, flash=flash) for _ in range(5)
                ]
            )
        step, whole = step / 20, whole / 5
        run.say(
            f"attention, {'flash' if flash else 'sdpa'}",
            rows=rows,
            keys=used,
            step_ms=step,
            step_gb_per_s=2 * rows * used * groups * size * keys.element_size() / step / 1e6,
            prompt_ms=whole,
            prompt_tflops=2 * packed_rows * heads * used * used * size / whole / 1e9,
        )
    fused = networks.network(run, "0.6B")[1].decoder.fused
    if fused is not None:
        used_int = used_lengths.int()
        with torch.inference_mode():
            step = run.timed(lambda: [fused.attend_slots(query, keys, values, used_int) for _ in range(20)])
        read = 2 * rows * used * groups * size * keys.element_size()
        run.say(
            "attention, Triton", rows=rows, keys=used, step_ms=step / 20, step_gb_per_s=read / step * 20 / 1e6
        )


def encoder(run: Run) -> None:
    """The encoder with flash attention and with SDPA."""
    for name in ("0.6B", "1.7B"):
        backend = networks.asr(run, name)
        network = backend.network
        count = 2 if run.tiny else int(CALL_SECONDS / run.seconds)
        with torch.inference_mode():
            batch = packed.stage(_prompts(run, backend, count), network)
            usual = network.encoder.flash
            try:
                for flash in (True, False) if usual else (False,):
                    network.encoder.flash = flash
                    run.forget()
                    ms = run.timed(
                        lambda network=network, batch=batch: network.encoder(batch.chunks, batch.frames)
                    )
                    run.say(
                        f"{name} encoder, {'flash' if flash else 'sdpa'}",
                        rows=count,
                        ms=ms,
                        rtfx=sum(batch.frames) * 10 / ms,
                        peak_gib=run.peak_gib(),
                    )
            finally:
                network.encoder.flash = usual


def prefill(run: Run) -> None:
    """Prompts with their audio, in one pass of the largest size."""
    for name in ("0.6B", "1.7B"):
        backend = networks.asr(run, name)
        network = backend.network
        with torch.inference_mode():
            prompts = _prompts(run, backend, 2 if run.tiny else int(CALL_SECONDS / run.seconds))
            while sum(len(prompt.tokens) for prompt in prompts) > PASS_TOKENS:
                prompts.pop()
            batch = packed.stage(prompts, network)
            staging = run.timed(lambda prompts=prompts, network=network: packed.stage(prompts, network), 2)
            run.forget()
            ms = run.timed(
                lambda network=network, batch=batch: packed.run(
                    network, network.prefiller, batch, flash=network.flash
                )
            )
        tokens = sum(batch.packing.lengths)
        run.say(
            f"{name} encoder and prompts",
            rows=len(prompts),
            tokens=tokens,
            staging_ms=staging,
            ms=ms,
            rtfx=sum(batch.frames) * 10 / ms,
            peak_gib=run.peak_gib(),
        )
        if network.flash:
            plain = replace(network, flash=False)
            with torch.inference_mode():
                ms = run.timed(
                    lambda plain=plain, batch=batch: packed.run(plain, plain.prefiller, batch, flash=False)
                )
            run.say(f"{name} encoder and prompts, decoder with sdpa", rows=len(prompts), ms=ms)


def features(run: Run) -> None:
    """Log-mel: on threads of the CPU, and on the device in batches."""
    backend = networks.asr(run, "0.6B")
    waves = demo.clips(4 if run.tiny else 256, run.seconds)
    audio = sum(map(len, waves)) / 16_000
    extractor = backend.checkpoint.extractor
    few = waves[: max(2, len(waves) // 4)]
    for threads in (1, 4, 8):
        with ThreadPoolExecutor(threads) as pool:
            ms = run.timed(
                lambda pool=pool: list(pool.map(lambda wave: mel.extract(extractor, wave), few)), 1
            )
        run.say(
            "features on the CPU",
            threads=threads,
            torch_threads=torch.get_num_threads(),
            rtfx=sum(map(len, few)) / 16 / ms,
        )
    with torch.inference_mode():
        ms = run.timed(lambda: mel.log_mel_on_device(extractor, waves, run.device), 2)
        found, _ = mel.log_mel_on_device(extractor, few, run.device)
    expected, _ = mel.collate([mel.extract(extractor, wave) for wave in few])
    run.say(
        "features on the device",
        clips=len(waves),
        ms=ms,
        rtfx=audio * 1e3 / ms,
        largest_difference=float((found.cpu() - expected).abs().max()),
        peak_gib=run.peak_gib(),
    )


def _prompts(run: Run, backend: TransformersASR, count: int) -> list[packed.Prompt]:
    made = backend.prompts(demo.requests(count, run.seconds))
    return [prompt for prompt in made if isinstance(prompt, packed.Prompt)]
