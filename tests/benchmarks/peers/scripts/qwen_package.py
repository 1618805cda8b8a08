"""The official package qwen-asr on the demo's weights in its own layout: one process, all files in one call.

    python qwen_package.py MANIFEST OUT RECOGNISER none|ALIGNER ENDS

ENDS are the numbers of the tokens that end an answer, with commas: the package knows those of the real
vocabulary only. Writes OUT/result.jsonl and prints the core-seconds without loading.
"""

import json
import os
import sys
import time
from pathlib import Path

import qwen_asr
import soundfile
import torch
import transformers

BATCH, TOKENS = 32, 512


def main() -> None:
    """Transcribe."""
    manifest, out, recogniser, aligner, ends = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    transformers.logging.set_verbosity_error()
    options = {"dtype": torch.float32, "device_map": "cpu"}
    words = aligner != "none"
    extra = {"forced_aligner": aligner, "forced_aligner_kwargs": options} if words else {}
    model = qwen_asr.Qwen3ASRModel.from_pretrained(recogniser, **extra, **options)
    numbers = [int(number) for number in ends.split(",")]
    generate = type(model.model).generate.__get__(model.model)
    model.model.generate = lambda **arguments: generate(
        eos_token_id=numbers, pad_token_id=numbers[0], **arguments
    )
    model.max_inference_batch_size, model.max_new_tokens = BATCH, TOKENS
    started = time.process_time()
    rows = [json.loads(line) for line in Path(manifest).read_text().splitlines()]
    audio = [soundfile.read(row["audio"], dtype="float32") for row in rows]
    results = model.transcribe(audio=audio, return_time_stamps=words)
    Path(out).mkdir(parents=True)
    with open(Path(out) / "result.jsonl", "w") as file:
        for row, result in zip(rows, results, strict=True):
            print(json.dumps({"id": row["id"], "text": result.text}, ensure_ascii=False), file=file)
    print(json.dumps({"cpu": time.process_time() - started}))


main()
