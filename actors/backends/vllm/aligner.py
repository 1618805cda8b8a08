"""Qwen3-ForcedAligner through vLLM's pooling: one pass over a clip, of which only what is said at the slots comes back.

vLLM knows this model in its original layout alone. The classes of every token would be 24 MB for a minute of speech, so vLLM's way of judging
single steps (a pooling of type STEP) picks the slots out, in its own process.
"""

from __future__ import annotations

from actors.backends.qwen import features as mel
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.aligner_processor import AlignerProcessor
from actors.backends.qwen.checkpoint import fetch
from actors.backends.vllm import engine
from actors.backends.vllm.engine_args import aligner_arguments, shape_of
from actors.config import AlignerConfig
from actors.errors import RowError
from actors.records import AlignmentRequest

_ARCHITECTURE = "Qwen3ASRForcedAlignerForTokenClassification"  # its config.json says that it is a recogniser

Times = list[tuple[float, float]]


class VLLMAligner:
    """A forced aligner. Satisfies `AlignerBackend`."""

    batches_itself = True

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        import torch
        from vllm.config import PoolerConfig

        device = engine.device_for(config)
        files = fetch(config.model, "aligner", config)
        original_checkpoint.check_layout(config.model, files.content)
        self.config, self.model, self.revision = config, config.model, files.revision
        self.device = torch.device(device)
        self.processor = AlignerProcessor(
            config.model, files.tokenizer, files.content["thinker_config"]["classify_num"], files.timestamp_ms
        )
        self.max_duration = min(
            self.processor.max_duration, config.vllm.max_duration or self.processor.max_duration
        )
        self.extractor = files.extractor
        self._n_window: int = files.n_window
        dtype = engine.dtype_for(config.dtype, device, files)
        arguments = {
            "dtype": dtype,
            "runner": "pooling",
            "hf_overrides": {"architectures": [_ARCHITECTURE]},
            "pooler_config": PoolerConfig(
                tok_pooling_type="STEP", step_tag_id=self.processor.token, use_activation=False
            ),
            **aligner_arguments(config, shape_of(files.content), device, engine.ITEM_BYTES[dtype]),
        }
        self.engine = engine.Engine(config, files, device, arguments)

    def align(self, requests: list[AlignmentRequest]) -> list[Times | Exception]:
        """Find word times; in the place of a segment that cannot be done stands its error. See `AlignerBackend`."""
        return self.engine.each(requests, self._ask)

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    async def _ask(self, request: AlignmentRequest) -> Times:
        from vllm import PoolingParams

        self.processor.check(request)
        if not request.units:
            return []
        features = await self.engine.aside(self._extract, request)
        output = await self.engine.encode(
            self.processor.prompt(request, 1), features, PoolingParams(task="token_classify")
        )
        logits = output.outputs.data
        if len(logits) != 2 * len(request.units):
            raise RowError(
                f"vLLM answered at {len(logits)} slots instead of {2 * len(request.units)}",
                "alignment_failed",
            )
        return self.processor.times(request, logits.argmax(-1).tolist())

    def _extract(self, request: AlignmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self._n_window)
