"""The way of Ray's public audio examples: files, map(decode and resample), map_batches(model), write_parquet.

    python ray_example.py MANIFEST OUT none|CHECKPOINT

Runs in an environment of its own, so it imports nothing of this project. CHECKPOINT is the demo recogniser.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import ray
from pyav_decoding import RATE, decoded

BATCH = 16
FULL_SCALE = 32_768


def decode(row: dict) -> dict:
    """Bytes to samples."""
    row["samples"] = decoded(row.pop("bytes"))
    row["duration"] = len(row["samples"]) / RATE
    return row


class NoModel:
    """A model that recognises nothing."""

    def __call__(self, batch: dict) -> dict:
        """Say how long each recording is."""
        batch["text"] = np.array(
            [f"{len(samples)} samples" for samples in batch.pop("samples")], dtype=object
        )
        return batch


class Transcriber:
    """The recogniser through transformers, as its model card shows."""

    def __init__(self, checkpoint: str) -> None:
        import torch
        from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration

        torch.set_num_threads(int(os.environ.get("THREADS", "1")))
        self.torch, self.processor = torch, AutoProcessor.from_pretrained(checkpoint)
        self.model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def __call__(self, batch: dict) -> dict:
        """Transcribe a batch."""
        waves = [samples.astype(np.float32) / FULL_SCALE for samples in batch.pop("samples")]
        inputs = self.processor.apply_transcription_request(waves)
        with self.torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=512)
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.decode(answers, return_format="transcription_only")
        batch["text"] = np.array(texts, dtype=object)
        return batch


manifest, out, model = sys.argv[1:]
# Workers import `pyav_decoding` from this script's folder, which Ray adds to their path.
ray.init("local", include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
paths = [json.loads(line)["audio"] for line in Path(manifest).read_text().splitlines()]
rows = ray.data.read_binary_files(paths, include_paths=True).map(decode)
stage = (NoModel, ()) if model == "none" else (Transcriber, (model,))
rows = rows.map_batches(stage[0], fn_constructor_args=stage[1], batch_size=BATCH, concurrency=1, num_cpus=0)
rows.write_parquet(out)
