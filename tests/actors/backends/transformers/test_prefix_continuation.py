"""Going on from a settled prefix, with the real demo recogniser: what streams build on."""

from pathlib import Path

import numpy as np
import pytest

from actors.audio.decoding import decode_span
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.backends import create_asr
from actors.backends.base import ASRBackend
from actors.config import ASRConfig
from actors.records import SAMPLING_RATE, SegmentRequest

DEMO = Path(__file__).resolve().parents[4] / "configs/demo"


@pytest.fixture(scope="module")
def backend() -> ASRBackend:
    return create_asr(ASRConfig(model=str(DEMO / "asr"), threads=1))


def wave(name: str) -> np.ndarray:
    with open_audio(str(DEMO / "audio" / name)) as file:
        return decode_span(SampleReader(file), 0, None).samples[0]


@pytest.mark.parametrize("name", ["hotline-8khz.wav", "street.mp3"])
def test_the_answer_goes_on_from_its_prefix(backend: ASRBackend, name: str) -> None:
    samples = wave(name)
    whole = backend.transcribe([SegmentRequest(samples)])[0]
    first = backend.transcribe([SegmentRequest(samples[: 4 * SAMPLING_RATE], unsettled_tokens=5)])[0]
    assert (
        first.raw.startswith(first.settled) and "<asr_text>" in first.settled and first.settled != first.raw
    )
    rest = backend.transcribe([SegmentRequest(samples, prefix=first.settled, unsettled_tokens=5)])[0]
    assert rest.raw.startswith(first.settled) and rest.settled.startswith(first.settled)
    assert rest.text == whole.text and rest.tokens < whole.tokens


def test_what_is_settled_ends_with_a_whole_character(backend: ASRBackend) -> None:
    samples = wave("announcement.opus")
    for unsettled in range(1, 16):
        settled = backend.transcribe([SegmentRequest(samples, unsettled_tokens=unsettled)])[0].settled
        assert "\ufffd" not in settled
    assert backend.transcribe([SegmentRequest(samples, unsettled_tokens=1000)])[0].settled == ""


def test_prefixes_of_a_batch_are_each_rows_own(backend: ASRBackend) -> None:
    samples = wave("hotline-8khz.wav")
    prefix = backend.transcribe([SegmentRequest(samples[: 4 * SAMPLING_RATE], unsettled_tokens=5)])[0].settled
    both = backend.transcribe(
        [SegmentRequest(samples, prefix=prefix), SegmentRequest(wave("street.mp3")), SegmentRequest(samples)]
    )
    assert both[0].text == both[2].text and both[0].tokens < both[2].tokens and both[1].language == "Chinese"
