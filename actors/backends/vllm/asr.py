"""Qwen3-ASR on vLLM: greedy decoding, with all segments of a call in the engine at once.

Prompts (as token ids) and features are made here: vLLM's own transcription endpoint omits the system turn,
and makes features one by one. In every step the engine decides which segments get a token and which prompts
start; a segment that has ended makes room for the next one.
"""

from __future__ import annotations

from typing import Any

from actors.backends.base import ASRBackend
from actors.backends.qwen.asr_processor import ASRProcessor
from actors.backends.vllm.backend import VLLMBackend
from actors.backends.vllm.engine_args import asr_arguments, shape_of
from actors.config import ASRConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest


class VLLMASR(VLLMBackend[ASRConfig], ASRBackend):
    """A recogniser. See `ASRBackend`."""

    takes_repetition_penalty = True

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        super().__init__(config, "asr")
        self.processor = ASRProcessor(self.files.tokenizer, config)
        shape = shape_of(self.files.content)
        self.start(asr_arguments(config, shape, self.device_type, self.item_bytes))

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        """Recognise all segments; the error of a segment takes the place of its hypothesis."""
        return self.engine.each(requests, self._recognise)

    async def _recognise(self, request: SegmentRequest) -> Hypothesis:
        features = await self.features(request)
        prompt = self.processor.prompt(request, 1)
        output = await self.engine.generate(prompt, features, self._parameters(request))
        [answer] = output.outputs
        if answer.finish_reason not in ("stop", "length"):
            raise RowError(
                f"vLLM gave up a segment of {request.duration:.1f} s: {answer.finish_reason}", "model_failed"
            )
        tokens = list(answer.token_ids)
        logprobs = [entry[token].logprob for token, entry in zip(tokens, answer.logprobs, strict=True)]
        return self.processor.hypothesis(request, tokens, logprobs)

    def _parameters(self, request: SegmentRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=0,
            # vLLM also counts the tokens of the prompt.
            repetition_penalty=request.repetition_penalty,
            max_tokens=self.processor.budget(request),
            stop_token_ids=self.processor.ends,
            logprobs=0,  # only that of the generated token
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
