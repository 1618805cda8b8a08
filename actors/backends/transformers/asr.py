"""Qwen3-ASR over the weights of transformers' model: greedy, with continuous batching.

What does not depend on a segment's neighbours: its features and prompt, its token budget, and on a CPU its
encoding and what its prompt leaves in the cache (all bit for bit). The decoder's steps sum in an order that
depends on the batch's shape, which moves logits in their last digits: 1e-6 in fp32, nothing visible in fp64
(what tiny models use, see `devices`), 1e-2 in bf16. Texts change only where two tokens tie that closely, and
the confidence is rounded to CONFIDENCE_DIGITS.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from actors.backends.base import ASRBackend
from actors.backends.cost_model import measure
from actors.backends.devices import device_name, gpu_memory
from actors.backends.out_of_memory import MemoryGuard
from actors.backends.qwen import features as mel
from actors.backends.qwen.asr_processor import LANGUAGE_WORD, ASRProcessor
from actors.backends.transformers import prompts as packed
from actors.backends.transformers.generation import Generator, Limits
from actors.backends.transformers.kv_cache import cache_bytes
from actors.backends.transformers.loading import load
from actors.backends.transformers.prompts import Prompt, extract_features
from actors.backends.transformers.scheduler import Generated, Job
from actors.batch_limits import batch_limits
from actors.config import ASRConfig
from actors.process.watchdog import heartbeat, limited_table
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest

ANSWER_TOKENS = 3.5  # tokens a second of a usual answer


class TransformersASR(ASRBackend):
    """A recogniser on one device. Satisfies `ASRBackend`.

    On a GPU it takes a whole table at once: slots of segments that have ended are filled with the next ones.
    """

    device: torch.device
    takes_repetition_penalty = True

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        self.checkpoint = checkpoint = load(config.model, "asr", config)
        self.config = config
        self.model = config.model
        self.revision = checkpoint.revision
        self.network = checkpoint.network
        self.processor = ASRProcessor(checkpoint.tokenizer, config)
        self.device, self.dtype = checkpoint.device, checkpoint.dtype
        self.batches_itself = self.on_gpu
        # The requests of a second call join the session of the first.
        self.max_concurrent_calls = 2 if self.on_gpu else 1
        self.gpu_memory = gpu_memory(self.device, config.pool.num_gpus)
        self.generator = Generator(self.network, self.processor.ends)
        self.memory = MemoryGuard()
        self.cost_model = measure(self.probe, device_name(self.device)) if self.on_gpu else None

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        """Recognise segments. See `ASRBackend`."""
        if not requests:
            return []
        durations = [request.duration for request in requests]
        limit = limited_table(self.config.timeout, durations, "a model call")
        with limit if self.batches_itself else nullcontext():
            return self.memory.run(requests, self._transcribe)

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis | Exception]:
        results: list[Hypothesis | Exception] = [ValueError("no answer")] * len(requests)
        jobs: list[Job] = []
        numbers: list[int] = []

        def done(position: int, answer: Generated | Exception) -> None:
            number = numbers[position]
            heartbeat()
            results[number] = (
                answer
                if isinstance(answer, Exception)
                else self.processor.hypothesis(requests[number], answer.tokens, answer.logprobs)
            )

        for number, request in enumerate(requests):
            try:
                jobs.append(self.job(request))
                numbers.append(number)
            except Exception as error:
                results[number] = error
        self.generator.generate(
            jobs,
            lambda positions: self.prompts([requests[numbers[position]] for position in positions]),
            self.limits(),
            done,
        )
        if len(results) == 1 and isinstance(results[0], Exception):
            raise results[0]
        return results

    @torch.inference_mode()
    def language_probabilities(
        self, requests: Sequence[SegmentRequest], languages: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        """See `ASRBackend`: the probabilities of the names' first tokens behind the word `language`.

        Only the prompts run, no token is generated. Names that begin with the same token cannot be told
        apart.
        """
        found: list[dict[str, float]] = []
        for request, names in zip(requests, languages, strict=True):
            tokens = [self.processor.first_token_of(name) for name in names]
            [prompt] = self.prompts([replace(request, language=None, prefix=LANGUAGE_WORD)])
            if len(set(tokens)) < len(tokens) or isinstance(prompt, Exception):
                found.append({})
                continue
            network, prefiller = self.network, self.network.prefiller
            batch = packed.stage([prompt], network)
            flash = network.flash and prefiller.dtype == network.decoder.dtype
            last = packed.run(network, prefiller, batch, flash=flash)[-1:]
            logits = network.head(last.to(network.decoder.dtype))[0]
            scores = logits.float().softmax(-1)[torch.tensor(tokens, device=logits.device)].tolist()
            found.append(dict(zip(names, scores, strict=True)))
        return found

    def job(self, request: SegmentRequest) -> Job:
        """What the generator must know of a request before its prompt is made."""
        frames = mel.frames_of(len(request.waveform))
        budget = self.processor.budget(request)
        tokens = len(self.processor.prompt(request, 0)) + self.network.encoder.tokens(frames) + budget
        return Job(tokens, budget, request.duration, request.repetition_penalty)

    def prompts(self, requests: Sequence[SegmentRequest]) -> list[Prompt | Exception]:
        """The prompts of requests with their features; in place of one that cannot be made, the error."""
        waveforms = [request.waveform for request in requests]
        found = extract_features(self.checkpoint.extractor, waveforms, self.network)
        prompts: list[Prompt | Exception] = []
        for request, features in zip(requests, found, strict=True):
            try:
                prompts.append(Prompt(self.processor.prompt(request, features.tokens), features))
            except Exception as error:
                prompts.append(error)
        return prompts

    def probe(self, rows: int, seconds: float) -> float:
        """Seconds that a call takes, with segments of noise and answers of the usual length; for `measure`.

        Args:
            rows: number of segments.
            seconds: length of each.
        """
        noise = np.random.default_rng(0).integers(-3000, 3000, int(seconds * SAMPLING_RATE), dtype=np.int16)
        requests = [SegmentRequest(noise) for _ in range(rows)]
        budget = max(1, int(ANSWER_TOKENS * seconds))
        jobs = [replace(self.job(request), budget=budget) for request in requests]
        took = 0.0
        # No token ends an answer. The first round captures the CUDA graphs.
        generator = Generator(self.network, [])
        for _ in range(2):
            started = time.perf_counter()
            generator.generate(
                jobs,
                lambda positions: self.prompts([requests[position] for position in positions]),
                self.limits(),
                lambda number, answer: None,
            )
            took = time.perf_counter() - started
        generator.release()
        return took

    def limits(self) -> Limits:
        """How much may be decoded at once, by the settings and the device's memory."""
        limits = batch_limits(self.config, self.gpu_memory)
        return Limits(limits.max_seconds, limits.max_size, cache_bytes(self.network, self.gpu_memory))
