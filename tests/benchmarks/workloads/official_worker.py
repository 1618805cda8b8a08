"""The official package at work in a process and an environment of its own: reads commands from stdin, answers
on stdout, one JSON a line.

    python official_worker.py CLIPS.npz THREADS ASR_FOLDER|- ALIGNER_FOLDER|-

Commands: {"do": "transcribe" | "align", "clips": [indices], "words": bool, "batch": n, "tokens": most new
tokens, "texts": [...], "languages": [...], "ends": [ids of the tokens that end an answer]}. Answers:
{"seconds", "cpu", "texts", "words"}. Runs outside this project's environment, so it imports nothing of it.
"""

import json
import sys
import time

import numpy as np
import torch


def main() -> None:
    """Load what was asked for, say {"ready": versions}, then work until stdin ends."""
    clips_path, threads, asr_folder, aligner_folder = sys.argv[1:]
    # Library output must not mix with the answers on stdout.
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(int(threads))
    import qwen_asr
    import transformers

    transformers.logging.set_verbosity_error()
    clips = [clip.astype(np.float32) / 32768 for clip in np.load(clips_path).values()]
    options = {"dtype": torch.float32, "device_map": "cpu"}
    aligner = aligner_folder if aligner_folder != "-" else None
    if asr_folder != "-":
        model = qwen_asr.Qwen3ASRModel.from_pretrained(
            asr_folder, forced_aligner=aligner, forced_aligner_kwargs=options, **options
        )
        forced_aligner = model.forced_aligner
    else:
        model, forced_aligner = None, qwen_asr.Qwen3ForcedAligner.from_pretrained(aligner, **options)
    print(
        json.dumps({"ready": f"transformers {transformers.__version__}, torch {torch.__version__}"}),
        file=answers,
        flush=True,
    )
    for line in sys.stdin:
        command = json.loads(line)
        audio = [(clips[index], 16_000) for index in command["clips"]]
        if model is not None and "ends" in command:
            _end_at(model, command["ends"])
        started, cpu = time.perf_counter(), time.process_time()
        if command["do"] == "align":
            found = forced_aligner.align(audio=audio, text=command["texts"], language=command["languages"])
            texts, words = command["texts"], [len(items) for items in found]
        else:
            model.max_inference_batch_size, model.max_new_tokens = command["batch"], command["tokens"]
            results = model.transcribe(audio=audio, return_time_stamps=command["words"])
            texts, words = (
                [result.text for result in results],
                [len(result.time_stamps or ()) for result in results],
            )
        answer = {
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - cpu,
            "texts": texts,
            "words": words,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _end_at(model: object, ends: list) -> None:
    """The package ends an answer at two tokens by number; another vocabulary has other numbers."""
    generate = type(model.model).generate.__get__(model.model)
    model.model.generate = lambda **arguments: generate(eos_token_id=ends, pad_token_id=ends[0], **arguments)


main()
