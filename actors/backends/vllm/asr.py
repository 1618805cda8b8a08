"""Qwen3-ASR through vLLM: greedy, all segments of a call in the engine at once.

Prompts are ours, as token ids, and so are the features: vLLM's own transcription endpoint leaves the system turn out, and makes features one
by one. The engine decides in every step whom it gives a token and whose prompt it begins; a segment that has ended makes room for the next.
"""

from __future__ import annotations

from typing import Any

from actors.backends.qwen import features as mel
from actors.backends.qwen.asr_processor import ASRProcessor
from actors.backends.qwen.checkpoint import fetch
from actors.backends.vllm import engine
from actors.backends.vllm.engine_args import asr_arguments, shape_of
from actors.config import ASRConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest


class VLLMASR:
    """A recogniser. Satisfies `ASRBackend`."""

    batches_itself = True

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        import torch

        device = engine.device_for(config)
        files = fetch(config.model, "asr", config)
        self.config, self.model, self.revision = config, config.model, files.revision
        self.device = torch.device(device)
        self.processor = ASRProcessor(files.tokenizer, config)
        self.extractor = files.extractor
        self._n_window: int = files.n_window
        dtype = engine.dtype_for(config.dtype, device, files)
        arguments = asr_arguments(config, shape_of(files.content), device, engine.ITEM_BYTES[dtype])
        self.engine = engine.Engine(config, files, device, {"dtype": dtype, **arguments})

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        """Recognise all; in the place of a segment that cannot be done stands its error. See `ASRBackend`."""
        return self.engine.each(requests, self._ask)

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    async def _ask(self, request: SegmentRequest) -> Hypothesis:
        features = await self.engine.aside(self._extract, request)
        output = await self.engine.generate(
            self.processor.prompt(request, 1), features, self._parameters(request)
        )
        [answer] = output.outputs
        if answer.finish_reason not in ("stop", "length"):
            raise RowError(
                f"vLLM gave up a segment of {request.duration:.1f} s: {answer.finish_reason}", "model_failed"
            )
        tokens = list(answer.token_ids)
        return self.processor.hypothesis(
            request,
            tokens,
            [entry[token].logprob for token, entry in zip(tokens, answer.logprobs, strict=True)],
        )

    def _parameters(self, request: SegmentRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=0,
            max_tokens=self.processor.budget(request),
            stop_token_ids=self.processor.ends,
            logprobs=0,  # that of the token itself
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _extract(self, request: SegmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self._n_window)
