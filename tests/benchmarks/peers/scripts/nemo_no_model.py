"""An adapter of NeMo Curator's ASR stage that recognises nothing."""

from nemo_curator.models.asr.base import ASRResult


class NoModel:
    """See nemo_curator's ASR adapters."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def download_weights_on_node(self) -> None:
        """Nothing to download."""

    def load_model(self, *, num_gpus: float) -> None:
        """Nothing to load."""

    def unload_model(self) -> None:
        """Nothing to unload."""

    def transcribe_batch(self, items: list[dict]) -> list[ASRResult]:
        """Say how long each recording is."""
        return [ASRResult(text=f"{len(item['waveform'])} samples") for item in items]
