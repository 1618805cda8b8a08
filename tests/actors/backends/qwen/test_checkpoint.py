"""A checkpoint is loaded completely or refused, with a message that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from huggingface_hub import errors as hub_errors  # noqa: E402

from actors.backends.qwen.checkpoint import check_folder, digest  # noqa: E402
from actors.backends.transformers.loading import load  # noqa: E402
from actors.config import AlignerConfig, ASRConfig  # noqa: E402
from actors.errors import FatalError  # noqa: E402


@pytest.fixture
def copy(tmp_path: Path, tiny_models) -> Path:
    return Path(shutil.copytree(tiny_models.asr, tmp_path / "copy"))


def edit(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def asr_logits(checkpoint, processor, waveform: np.ndarray) -> torch.Tensor:
    inputs = processor.apply_transcription_request(
        audio=[waveform.astype(np.float32) / 32768], language=["en"], prompt=["names"]
    )
    with torch.inference_mode():
        return checkpoint.model(**inputs).logits


def test_an_original_recogniser_gives_the_logits_of_its_native_layout(tiny_models, waveforms) -> None:
    config = ASRConfig(dtype="float32")
    processor = transformers.AutoProcessor.from_pretrained(tiny_models.asr)
    native, original = (
        load(str(folder), "asr", config) for folder in (tiny_models.asr, tiny_models.asr_original)
    )
    logits = asr_logits(native, processor, waveforms[0])
    assert torch.equal(logits, asr_logits(original, processor, waveforms[0]))
    assert logits.std() > 0.1
    assert (
        original.tokenizer("language English<asr_text>eins")["input_ids"]
        == native.tokenizer("language English<asr_text>eins")["input_ids"]
    )
    assert original.extractor.to_dict() == native.extractor.to_dict()


def test_an_original_aligner_gives_the_logits_of_its_native_layout(tiny_models, waveforms) -> None:
    config = AlignerConfig(dtype="float32")
    processor = transformers.AutoProcessor.from_pretrained(tiny_models.aligner)
    audio = [waveforms[0].astype(np.float32) / 32768]
    inputs, _ = processor.prepare_forced_aligner_inputs(audio=audio, transcript=["one two"])
    native, original = (
        load(str(folder), "aligner", config) for folder in (tiny_models.aligner, tiny_models.aligner_original)
    )
    with torch.inference_mode():
        logits = native.model(**inputs).logits
        assert torch.equal(logits, original.model(**inputs).logits)
    assert logits.shape[-1] == 160
    assert original.timestamp_ms == native.timestamp_ms == 80


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["asr", "aligner"])
def test_positions_are_as_exact_as_in_transformers(tiny_models, kind: str, dtype: str) -> None:
    """Rounded frequencies turn by half a radian after 400 tokens."""
    folder = getattr(tiny_models, kind)
    config = (ASRConfig if kind == "asr" else AlignerConfig)(dtype=dtype)
    model_class = getattr(
        transformers,
        "Qwen3ASRForConditionalGeneration" if kind == "asr" else "Qwen3ASRForTokenClassification",
    )
    stock = dict(model_class.from_pretrained(folder, dtype=getattr(torch, dtype)).named_buffers())
    for layout in ("", "_original"):
        model = load(str(getattr(tiny_models, kind + layout)), kind, config).model
        assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}
        ours = dict(model.named_buffers())
        assert any(name.endswith("inv_freq") for name in stock) and ours.keys() == stock.keys()
        for name, buffer in stock.items():
            assert torch.equal(ours[name], buffer) and ours[name].dtype == buffer.dtype, name
    inputs = torch.zeros(1, 1, dtype=getattr(torch, dtype)), torch.tensor([[2340]])
    rotary = model.model.language_model.rotary_emb
    angles = 2340 / rotary.config.rope_parameters["rope_theta"] ** (
        torch.arange(0, 1, 1 / len(rotary.inv_freq))
    )
    assert torch.allclose(rotary(*inputs)[0][0, 0, : len(angles)].float(), angles.cos(), atol=0.01)


def test_transformers_itself_loads_an_original_as_random_weights(tiny_models) -> None:
    """The reason for the mapping. A full-size default model would be built, so only its config is checked."""
    config = transformers.AutoConfig.from_pretrained(tiny_models.asr_original)
    assert config.text_config.hidden_size == 2048  # the checkpoint has 64


def test_a_checkpoint_in_half_precision_runs_in_the_configured_precision(tiny_models, tmp_path: Path) -> None:
    model = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(
        tiny_models.asr, dtype=torch.bfloat16
    )
    folder = shutil.copytree(tiny_models.asr, tmp_path / "half")
    model.save_pretrained(folder)
    assert load(str(folder), "asr", ASRConfig()).dtype == torch.float64
    assert load(str(folder), "asr", ASRConfig(dtype="bfloat16")).model.lm_head.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["native", "original"])
def test_missing_weights_are_refused(kind: str, tiny_models, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = tiny_models.asr if kind == "native" else tiny_models.asr_original
    folder = Path(shutil.copytree(source, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.1" in name and "fc1.weight" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FatalError, match=r"incomplete: 1 weights are missing .*fc1.weight"):
        load(str(folder), "asr", ASRConfig())


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    text = json.loads((copy / "config.json").read_text())["text_config"]
    edit(copy, text_config=text | {"intermediate_size": 96})
    with pytest.raises(FatalError, match=r"asr.model"):
        load(str(copy), "asr", ASRConfig())


@pytest.mark.parametrize("layout", ["", "_original"])
def test_the_wrong_kind_is_refused(layout: str, tiny_models) -> None:
    with pytest.raises(
        FatalError, match=r"is a forced aligner, not a recogniser; it belongs in aligner.model"
    ):
        load(str(getattr(tiny_models, "aligner" + layout)), "asr", ASRConfig())
    with pytest.raises(FatalError, match=r"is a recogniser, not a forced aligner; it belongs in asr.model"):
        load(str(getattr(tiny_models, "asr" + layout)), "aligner", AlignerConfig())


def test_other_models_are_refused(copy: Path) -> None:
    edit(copy, model_type="whisper")
    with pytest.raises(FatalError, match="of type 'whisper', not a Qwen3-ASR model"):
        load(str(copy), "asr", ASRConfig())


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    edit(copy, audio_token_id=5)
    with pytest.raises(FatalError, match="do not belong together"):
        load(str(copy), "asr", ASRConfig())


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "configs/no/such"])
def test_a_missing_folder_is_refused(name: str) -> None:
    with pytest.raises(FatalError, match="there is no folder"):
        load(name, "asr", ASRConfig())


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"no config.json"):
        load(str(tmp_path), "asr", ASRConfig())


def test_a_config_that_is_not_json_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(FatalError, match="not JSON"):
        load(str(copy), "asr", ASRConfig())


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(FatalError, match="cannot be loaded"):
        load(str(copy), "asr", ASRConfig())


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            hub_errors.LocalEntryNotFoundError("offline"),
            "the hub cannot be reached: fetch it .* and set asr.model to that folder",
        ),
        (hub_errors.OfflineModeIsEnabled("offline"), "the hub cannot be reached"),
        (ConnectionError("refused"), "the hub cannot be reached"),
        (hub_errors.HFValidationError("bad name"), "the hub has no such model"),
    ],
)
def test_hub_problems_say_what_to_do(
    problem: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> str:
        raise problem

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(FatalError, match=message):
        load("Qwen/Qwen3-ASR-0.6B-hf", "asr", ASRConfig())


def test_a_hub_models_revision_is_its_commit(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the cache's layout; that commit is loaded, even if the branch has moved meanwhile."""
    commit = "0123abcd" * 5
    snapshot = copy.rename(tmp_path / commit)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file, revision: str(snapshot / file))
    asked: list[str] = []

    def snapshot_download(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append(revision)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load("owner/name", "asr", ASRConfig(revision="main")).revision == commit
    assert asked == [commit]


def test_the_digest_follows_the_weights(copy: Path) -> None:
    before = digest(copy)
    assert before == digest(copy) and before.startswith("sha256:")
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert digest(copy) != before


def test_the_last_byte_of_a_large_file_is_in_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.backends.qwen.checkpoint._WHOLE_DIGEST", 2**20)
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(40 * 2**20))
    before = digest(tmp_path)
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert digest(tmp_path) != before


def test_a_folder_can_be_checked_without_loading_it(
    copy: Path, tiny_models, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "model.safetensors").unlink()
    check_folder(str(copy), "asr")
    check_folder("Qwen/Qwen3-ASR-0.6B-hf", "asr")  # a hub id is not searched for on disk
    with pytest.raises(FatalError, match="is a recogniser, not a forced aligner"):
        check_folder(str(copy), "aligner")
    with pytest.raises(FatalError, match="there is no folder"):
        check_folder("./no/such/folder", "asr")
    with pytest.raises(FatalError, match=r"no config\.json"):
        check_folder(str(copy.parent), "asr")


def test_a_full_device_is_reported_with_the_size_of_the_model(tiny_models, monkeypatch) -> None:
    def full(self, *arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(
        FatalError,
        match=r"needs 0\.0 GiB on cpu, which did not take it \(OutOfMemoryError: CUDA out of memory",
    ) as caught:
        load(str(tiny_models.asr), "asr", ASRConfig(dtype="float32"))
    # The pool tries again: the process before it may not have released its memory yet.
    assert caught.value.code == "device_out_of_memory"
