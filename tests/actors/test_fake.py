"""The backends without a model."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from actors.backends import create_aligner, create_asr
from actors.backends.fake import FakeAligner, FakeASR
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError
from actors.results import AlignmentRequest, SegmentRequest


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * 3000).astype(np.int16)


def test_one_word_for_each_half_second_of_sound() -> None:
    backend = FakeASR(ASRConfig(backend="fake"))
    silence = np.zeros(16_000, dtype=np.int16)
    [said, nothing] = backend.transcribe([SegmentRequest(np.concatenate([noise(2), silence, noise(1.2)])), SegmentRequest(silence)])
    assert len(said.text.split()) == said.tokens == 4 + 3
    assert said.language == "English" and said.text.endswith(".") and 0.9 <= said.confidence <= 1
    assert (nothing.text, nothing.language, nothing.confidence) == ("", None, None)


def test_the_text_tells_the_audio() -> None:
    backend = FakeASR(ASRConfig(backend="fake"))
    [first, again, moved, other] = backend.transcribe([SegmentRequest(audio) for audio in (noise(3), noise(3), noise(3)[1:], noise(3, 1))])
    assert first == again
    assert len({first.text, moved.text, other.text}) == 3


def test_it_does_not_depend_on_the_process() -> None:
    """Two replicas, or the same run tomorrow, must agree: no salted hash may be in it."""
    assert FakeASR(ASRConfig(backend="fake")).transcribe([SegmentRequest(np.arange(8000, dtype=np.int16))])[0].text == "Dezudu."


def test_a_forced_language_is_answered() -> None:
    [hypothesis] = FakeASR(ASRConfig(backend="fake")).transcribe([SegmentRequest(noise(1), language="German")])
    assert hypothesis.language == "German" and hypothesis.raw.startswith("language German<asr_text>")


def test_words_are_spread_evenly() -> None:
    requests = [AlignmentRequest(noise(2), ("a", "b", "c", "d")), AlignmentRequest(noise(1), ())]
    times = FakeAligner(AlignerConfig(backend="fake")).align(requests)
    assert times == [[(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.0)], []]


def test_cost_is_read_from_the_model_name(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    FakeASR(ASRConfig(backend="fake", model="fake:0.5")).transcribe([SegmentRequest(noise(2)), SegmentRequest(noise(1))])
    FakeASR(ASRConfig(backend="fake")).transcribe([SegmentRequest(noise(2))])
    assert slept == [pytest.approx(1.5)]
    with pytest.raises(FatalError, match="must be a number"):
        FakeASR(ASRConfig(backend="fake", model="fake:slow"))


def test_it_is_what_the_settings_create() -> None:
    assert isinstance(create_asr(ASRConfig(backend="fake")), FakeASR)
    assert isinstance(create_aligner(AlignerConfig(backend="fake")), FakeAligner)
    with pytest.raises(FatalError, match=r"aligner\.backend is none"):
        create_aligner(AlignerConfig(backend="none"))


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "actors.backends.transformers_asr", None)
    with pytest.raises(FatalError, match=r"pip install 'scriptorium\[transformers\]'"):
        create_asr(ASRConfig())


def test_no_heavy_import() -> None:
    program = (
        "import sys; from actors.asr import ASRActor; from actors.aligner import AlignerActor; from actors.config import *;"
        "ASRActor(ASRConfig(backend='fake')); AlignerActor(AlignerConfig(backend='fake'));"
        "print([name for name in ('torch', 'transformers', 'ray', 'pyarrow', 'nagisa') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
