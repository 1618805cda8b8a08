"""Qwen3-ForcedAligner on vLLM's pooling: one pass over a clip, which returns the scores at the slots only.

vLLM reads this model only in its original layout. The scores of every token would be 24 MB for a minute of
speech, so vLLM's pooling of type STEP, made for judging single steps, selects the slots in the engine's
process.
"""

from __future__ import annotations

from actors.backends.base import AlignerBackend
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.aligner_processor import AlignerProcessor
from actors.backends.vllm.backend import VLLMBackend
from actors.backends.vllm.engine_args import aligner_arguments, shape_of
from actors.config import AlignerConfig
from actors.errors import RowError
from actors.records import AlignmentRequest

# The checkpoint's config.json names the recogniser's architecture.
_ARCHITECTURE = "Qwen3ASRForcedAlignerForTokenClassification"

Times = list[tuple[float, float]]


class VLLMAligner(VLLMBackend[AlignerConfig], AlignerBackend):
    """A forced aligner. See `AlignerBackend`."""

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        super().__init__(config, "aligner")
        from vllm.config import PoolerConfig

        files = self.files
        original_checkpoint.check_layout(config.model, files.content)
        classes = files.content["thinker_config"]["classify_num"]
        self.processor = AlignerProcessor(config.model, files.tokenizer, classes, files.timestamp_ms)
        longest = self.processor.max_duration
        self.max_duration = min(longest, config.vllm.max_duration or longest)
        pooler = PoolerConfig(tok_pooling_type="STEP", step_tag_id=self.processor.token, use_activation=False)
        self.start(
            {
                "runner": "pooling",
                "hf_overrides": {"architectures": [_ARCHITECTURE]},
                "pooler_config": pooler,
                **aligner_arguments(config, shape_of(files.content), self.device_type, self.item_bytes),
            }
        )

    def align(self, requests: list[AlignmentRequest]) -> list[Times | Exception]:
        """Find word times; the error of a segment takes the place of its times."""
        return self.engine.each(requests, self._align)

    async def _align(self, request: AlignmentRequest) -> Times:
        from vllm import PoolingParams

        self.processor.check(request)
        if not request.units:
            return []
        features = await self.features(request)
        prompt = self.processor.prompt(request, 1)
        output = await self.engine.encode(prompt, features, PoolingParams(task="token_classify"))
        scores = output.outputs.data
        if len(scores) != 2 * len(request.units):
            raise RowError(
                f"vLLM answered at {len(scores)} slots instead of {2 * len(request.units)}",
                "alignment_failed",
            )
        return self.processor.times(request, scores.argmax(-1).tolist())
