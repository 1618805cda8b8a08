"""The fake backends: text, times, simulated duration, and faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.backends import create_aligner, create_asr
from actors.backends.fake import FakeAligner, FakeASR
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError, RowError
from actors.records import AlignmentRequest, SegmentRequest


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * 3000).astype(np.int16)


def test_each_half_second_of_sound_is_one_word() -> None:
    backend = FakeASR(ASRConfig(backend="fake"))
    silence = np.zeros(16_000, dtype=np.int16)
    [spoken, nothing] = backend.transcribe(
        [SegmentRequest(np.concatenate([noise(2), silence, noise(1.2)])), SegmentRequest(silence)]
    )
    assert len(spoken.text.split()) == spoken.tokens == 4 + 3
    assert spoken.language == "English"
    assert spoken.text.endswith(".")
    assert 0.9 <= spoken.confidence <= 1
    assert (nothing.text, nothing.language, nothing.confidence) == ("", None, None)


def test_equal_audio_gives_equal_text_and_other_audio_another() -> None:
    backend = FakeASR(ASRConfig(backend="fake"))
    [first, again, moved, other] = backend.transcribe(
        [SegmentRequest(audio) for audio in (noise(3), noise(3), noise(3)[1:], noise(3, 1))]
    )
    assert first == again
    assert len({first.text, moved.text, other.text}) == 3


def test_the_text_does_not_depend_on_the_process() -> None:
    """Two replicas, or the same run tomorrow, must agree: no salted hash may be used."""
    request = SegmentRequest(np.arange(8000, dtype=np.int16))
    [hypothesis] = FakeASR(ASRConfig(backend="fake")).transcribe([request])
    assert hypothesis.text == "Dezudu."


def test_a_forced_language_is_the_language_of_the_hypothesis() -> None:
    [hypothesis] = FakeASR(ASRConfig(backend="fake")).transcribe(
        [SegmentRequest(noise(1), language="German")]
    )
    assert hypothesis.language == "German"
    assert hypothesis.raw.startswith("language German<asr_text>")


def test_words_are_spread_evenly() -> None:
    requests = [AlignmentRequest(noise(2), ("a", "b", "c", "d")), AlignmentRequest(noise(1), ())]
    times = FakeAligner(AlignerConfig(backend="fake")).align(requests)
    assert times == [[(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.0)], []]


def test_the_duration_of_a_call_is_read_from_the_model_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setenv("SCRIPTORIUM_FAKE_CALLS", str(tmp_path))
    requests = [SegmentRequest(noise(2)), SegmentRequest(noise(1))]
    FakeASR(ASRConfig(backend="fake", model="fake:1000")).transcribe(requests)
    FakeASR(ASRConfig(backend="fake", model="fake:0:1000:500")).transcribe(requests)
    FakeASR(ASRConfig(backend="fake")).transcribe(requests)
    # Four padded seconds; four steps, for half seconds of the longer one, and the call. The computing time of
    # the fake is a part of it.
    assert slept == [pytest.approx(4000, rel=0.01), pytest.approx(4500, rel=0.01)]
    [calls] = [file.read_text().splitlines() for file in tmp_path.iterdir()]
    assert len(calls) == 3
    assert all(float(begin) <= float(end) for begin, end in map(str.split, calls))
    for wrong in ("fake:slow", "fake:1:2:3:4"):
        with pytest.raises(FatalError, match="up to three numbers"):
            FakeASR(ASRConfig(backend="fake", model=wrong))


def faulty(kind: str) -> SegmentRequest:
    return SegmentRequest(noise(1), context=f"fault:{kind}")


@pytest.mark.parametrize("kind", ["segfault", "kill"])
def test_some_faults_end_the_process(kind: str) -> None:
    program = (
        "import numpy as np; from actors.backends.fake import *;"
        f"request = SegmentRequest(np.ones(16000, np.int16), context='fault:{kind}');"
        "FakeASR(ASRConfig(backend='fake')).transcribe([request])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert finished.returncode == {"segfault": -11, "kill": -9}[kind]


def test_some_faults_are_raised() -> None:
    pytest.importorskip("torch")
    backend = FakeASR(ASRConfig(backend="fake"))
    with pytest.raises(ValueError, match="asked for"):
        backend.transcribe([faulty("raise")])
    with pytest.raises(FatalError, match="device is broken: CUDA error"):
        backend.transcribe([faulty("engine")])
    with pytest.raises(RowError, match="does not fit the device"):
        backend.transcribe([faulty("never"), SegmentRequest(noise(2))])
    fine = backend.transcribe([SegmentRequest(noise(1)), SegmentRequest(noise(2))])
    assert backend.transcribe([faulty("oom"), SegmentRequest(noise(2))]) == fine
    # Two segments of two seconds were too much.
    assert backend.memory.max_seconds == 2.0


def test_faults_of_the_aligner_are_words_of_the_recogniser() -> None:
    [hypothesis] = FakeASR(ASRConfig(backend="fake")).transcribe([faulty("align:raise")])
    assert hypothesis.text.endswith(" faultraise.")
    with pytest.raises(ValueError, match="asked for"):
        FakeAligner(AlignerConfig(backend="fake")).align([AlignmentRequest(noise(1), ("one", "faultraise"))])


def test_the_trace_has_every_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTORIUM_FAKE_TRACE", str(tmp_path))
    backend = FakeASR(ASRConfig(backend="fake"))
    backend.transcribe([SegmentRequest(noise(1)), SegmentRequest(noise(2))])
    backend.transcribe([SegmentRequest(noise(1))])
    [file] = tmp_path.iterdir()
    first, second, again = file.read_text().splitlines()
    assert first == again != second
    assert second.endswith(" 2.000")


def test_the_settings_create_the_fakes() -> None:
    assert isinstance(create_asr(ASRConfig(backend="fake")), FakeASR)
    assert isinstance(create_aligner(AlignerConfig(backend="fake")), FakeAligner)
    with pytest.raises(FatalError, match=r"aligner\.backend is none"):
        create_aligner(AlignerConfig(backend="none"))


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "actors.backends.transformers.asr", None)
    with pytest.raises(FatalError, match=r"pip install 'scriptorium\[transformers\]'"):
        create_asr(ASRConfig())


def test_the_fakes_import_no_heavy_library() -> None:
    program = (
        "import sys; from actors.asr import ASRActor; from actors.aligner import AlignerActor;"
        "from actors.config import *;"
        "ASRActor(ASRConfig(backend='fake')); AlignerActor(AlignerConfig(backend='fake'));"
        "print([name for name in ('torch', 'transformers', 'ray', 'pyarrow', 'nagisa') if name in "
        "sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_the_defaults_of_a_backend() -> None:
    for backend in (FakeASR(ASRConfig(backend="fake")), FakeAligner(AlignerConfig(backend="fake"))):
        assert backend.usage() == {}
        assert backend.max_concurrent_calls == 1
        assert not backend.on_gpu
        assert not backend.batches_itself
        assert backend.cost_model is None
