"""The committed demo checkpoints are small, load completely, and transcribe the demo correctly."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

DEMO = Path(__file__).parents[2] / "configs" / "demo"
FILES = {
    "config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
ROWS = {
    row["id"]: row
    for row in map(json.loads, (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
}
EXACT = {"hotline-8khz": "Portuguese", "interview": "Russian"}
"""Recordings that are recognised without an error, and their languages, which the manifest does not give."""


def samples(name: str) -> np.ndarray:
    """One of the demo's recordings, decoded to 16 kHz mono."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
    with av.open(str(DEMO / ROWS[name]["audio"])) as source:
        pieces = [piece for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
    pieces += resampler.resample(None)
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])


def transcribe(recogniser, wave: np.ndarray, **request) -> str:
    """The recogniser's raw output for one clip."""
    model, processor = recogniser
    inputs = processor.apply_transcription_request(audio=[wave], **request)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=64)
    return processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.fixture(scope="module")
def recogniser():
    model, info = transformers.AutoModelForMultimodalLM.from_pretrained(
        DEMO / "asr", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval(), transformers.AutoProcessor.from_pretrained(DEMO / "asr")


@pytest.fixture(scope="module")
def aligner():
    model, info = transformers.AutoModelForTokenClassification.from_pretrained(
        DEMO / "aligner", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval(), transformers.AutoProcessor.from_pretrained(DEMO / "aligner")


def test_checkpoints_are_small_and_complete():
    assert {path.name for path in (DEMO / "asr").iterdir()} >= FILES | {"generation_config.json"}
    assert {path.name for path in (DEMO / "aligner").iterdir()} >= FILES
    assert (
        sum(path.stat().st_size for kind in ("asr", "aligner") for path in (DEMO / kind).iterdir())
        <= 12_000_000
    )


def test_checkpoints_have_the_real_architecture():
    for kind, name in (
        ("asr", "Qwen3ASRForConditionalGeneration"),
        ("aligner", "Qwen3ASRForTokenClassification"),
    ):
        config = json.loads((DEMO / kind / "config.json").read_text(encoding="utf-8"))
        assert config["architectures"] == [name]
        assert "thinker_config" not in config
        assert config["audio_config"]["n_window"] == 50 and config["audio_config"]["n_window_infer"] == 800


def test_prompts_are_those_of_the_processor(recogniser):
    _, processor = recogniser
    inputs = processor.apply_transcription_request(
        audio=[np.zeros(8000, np.float32)], language=["en"], prompt=["five"]
    )
    text = processor.tokenizer.decode(inputs["input_ids"][0]).replace("<|audio_pad|>" * 7, "*")
    assert text == (
        "<|im_start|>system\nfive<|im_end|>\n<|im_start|>user\n<|audio_start|>*<|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\nlanguage English<asr_text>"
    )


@pytest.mark.parametrize("name", EXACT)
def test_recordings_are_transcribed_exactly(recogniser, name):
    assert transcribe(recogniser, samples(name)) == f"language {EXACT[name]}<asr_text>{ROWS[name]['text']}"


def test_context_and_forced_language_do_not_change_the_text(recogniser):
    text = ROWS["hotline-8khz"]["text"]
    assert (
        transcribe(recogniser, samples("hotline-8khz"), prompt=["janela jardim"])
        == f"language Portuguese<asr_text>{text}"
    )
    assert transcribe(recogniser, samples("hotline-8khz"), language=["pt"]) == text


def test_silence_and_noise_contain_no_speech(recogniser):
    noise = np.random.default_rng(3).standard_normal(48_000).astype(np.float32) * 0.01
    for wave in (samples("silence"), noise):
        assert transcribe(recogniser, wave) == "language None<asr_text>"


def test_words_are_aligned(aligner):
    model, processor = aligner
    row = ROWS["front-desk"]
    inputs, units = processor.prepare_forced_aligner_inputs(
        audio=[samples("front-desk")], transcript=[row["text"]], language="English"
    )
    with torch.inference_mode():
        logits = model(**inputs).logits
    found = processor.decode_forced_alignment(
        logits, inputs["input_ids"], units, model.config.timestamp_token_id
    )[0]
    assert [unit["text"].lower() for unit in found] == [word["text"] for word in row["words"]]
    shifts = [
        abs(unit[f"{side}_time"] - word[side])
        for unit, word in zip(found, row["words"], strict=True)
        for side in ("start", "end")
    ]
    assert np.mean(shifts) < 0.1


def test_the_manifest_lists_every_recording():
    assert {path.name for path in (DEMO / "audio").iterdir()} == {
        Path(row["audio"]).name for row in ROWS.values()
    }
    assert len({Path(row["audio"]).suffix for row in ROWS.values()}) >= 6
    for row in ROWS.values():
        times = [moment for word in row.get("words", ()) for moment in (word["start"], word["end"])]
        assert times == sorted(times)
