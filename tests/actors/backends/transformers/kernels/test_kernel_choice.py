"""The setting `attention`: which kernels it means, and what is said where they cannot be used."""

from __future__ import annotations

import logging
from types import ModuleType

import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.backends.transformers.kernels import choice  # noqa: E402
from actors.backends.transformers.kernels.choice import Kernels, Shape, choose_kernels  # noqa: E402
from actors.config import AlignerConfig, ASRConfig  # noqa: E402
from actors.errors import FatalError  # noqa: E402

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TRITON = ModuleType("kernels")


def shape(device: torch.device = CUDA, dtype: torch.dtype = torch.bfloat16, size: int = 64) -> Shape:
    return Shape(device, dtype, 96, 4, 2, size)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A card on which all kernels work."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(choice, "flash_problem", lambda *shape: None)
    monkeypatch.setattr(choice, "triton_problem", lambda *shape: None)
    monkeypatch.setattr(choice.importlib, "import_module", lambda name: TRITON)
    return monkeypatch


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("auto", Kernels(True, True, TRITON)),
        ("triton", Kernels(True, True, TRITON)),
        ("flash", Kernels(True, True)),
        ("sdpa", Kernels()),
    ],
)
def test_a_card_runs_what_the_setting_names(card: object, setting: str, expected: Kernels) -> None:
    assert choose_kernels(setting, shape(), shape()) == expected


@pytest.mark.parametrize("setting", ["triton", "flash"])
def test_what_cannot_be_used_is_refused_if_demanded_and_else_logged(
    card: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    name = "triton_problem" if setting == "triton" else "flash_problem"
    card.setattr(choice, name, lambda *shape: "no compiler")
    with caplog.at_level(logging.WARNING):
        chosen = choose_kernels("auto", shape(), shape())
    assert chosen == (Kernels(True, True) if setting == "triton" else Kernels(fused=TRITON))
    assert "cannot be used, the model will be slower: no compiler" in caplog.text
    with pytest.raises(ValueError, match=f"attention={setting}, but .* cannot be used: no compiler"):
        choose_kernels(setting, shape(), shape())


@pytest.mark.parametrize(
    ("decoder", "capability", "reason"),
    [
        (shape(CPU), (9, 0), "needs a GPU, and the model runs on cpu"),
        (shape(dtype=torch.float32), (9, 0), "needs dtype bfloat16 or float16, and the model has float32"),
        (shape(dtype=torch.float64), (9, 0), "float64"),
        (shape(), (7, 5), "compute capability 8.0 .* has 7.5"),
    ],
)
def test_other_hardware_is_no_warning(
    card: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    decoder: Shape,
    capability: tuple[int, int],
    reason: str,
) -> None:
    card.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with caplog.at_level(logging.WARNING):
        assert choose_kernels("auto", shape(), decoder) == Kernels()
    assert not caplog.text
    with pytest.raises(ValueError, match=f"attention=flash .*{reason}.*attention=auto takes what works"):
        choose_kernels("flash", shape(), decoder)


def test_a_model_without_the_demanded_kernels_is_not_loaded(tiny_models) -> None:
    with pytest.raises(FatalError, match=r"cannot be run: attention=triton needs a GPU"):
        TransformersASR(ASRConfig(model=str(tiny_models.asr), attention="triton"))


@pytest.mark.parametrize(
    ("given", "meaning"), [("eager", "sdpa"), ("flash_attention_2", "auto"), ("flash", "flash")]
)
def test_names_of_version_0_1_0_are_accepted(given: str, meaning: str) -> None:
    assert AlignerConfig.model_validate({"attention": given}).attention == meaning


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "flash", "device": "cpu"},
        {"attention": "triton", "dtype": "float32"},
        {"attention": "triton", "dtype": "int8"},
        {"attention": "paged"},
        {"attention": True},
        {"attention": ["sdpa"]},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ASRConfig.model_validate(settings)
