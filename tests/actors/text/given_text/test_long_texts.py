"""Texts of 25 minutes through the actors with the demo models: what is said has right times, else none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.aligner import AlignerActor
from actors.config import AlignerConfig, ASRConfig, SegmenterConfig
from actors.known_text import KnownTextActor
from actors.records import SAMPLING_RATE, Row
from actors.segmentation.energy import segment
from pipelines.evaluation.metrics.word_times import LIMITS_MS, compare
from tests.benchmarks.models.bench_long import FRONT_MATTER, speech, text_of
from tests.benchmarks.workloads.checkpoints import DEMO
from tests.benchmarks.workloads.labelled import Speech, joined

pytestmark = pytest.mark.slow
MAX_AAS_MS = 150  # of the demo aligner on utterances one by one: 40 to 60


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Speech], list[Speech]]:
    return speech(tmp_path_factory.mktemp("speech") / "clips")


@pytest.fixture(scope="module")
def whole(parts: tuple[list[Speech], list[Speech]]) -> Speech:
    return joined(parts[0], np.random.default_rng(5))


@pytest.fixture(scope="module")
def align(whole: Speech) -> Any:
    samples = np.clip(whole.samples * 32768, -32768, 32767).astype("<i2")
    segments = [
        {
            "start": span.start / SAMPLING_RATE,
            "end": span.end / SAMPLING_RATE,
            "channel": None,
            "flags": [],
            "samples": samples[span.start : span.end].tobytes(),
        }
        for span in segment(samples, SegmenterConfig(max_duration=8))
    ]
    known = KnownTextActor(ASRConfig(model=str(DEMO / "asr"), threads=1), 8.0)
    aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), threads=1))

    def times(text: str) -> Row:
        row = {"status": "ok", "language": None, "context": "", "error_code": None, "flags": [], "text": text}
        [done] = aligner(known([{**row, "segments": segments}]))
        return done

    return times


def words_of(row: Row) -> list[Any]:
    return [word for part in row["segments"] for word in part["words"]]


def timed(row: Row) -> list[tuple[str, float, float]]:
    return [(word["text"], word["start"], word["end"]) for word in words_of(row) if word["start"] is not None]


@pytest.mark.parametrize("front", ["", FRONT_MATTER])
def test_the_words_that_are_said_are_where_they_are_said(align: Any, whole: Speech, front: str) -> None:
    done = align(front + whole.text)
    shifts = compare([(word["text"], word["start"], word["end"]) for word in whole.words], timed(done))
    assert shifts.matched > 0.95 * shifts.words
    assert shifts.shift_ms / 2 / shifts.matched < MAX_AAS_MS
    without_times = sum(word["start"] is None for word in words_of(done))
    assert abs(without_times - len(front.split())) < 0.02 * shifts.words
    assert done["status"] == "ok"
    assert max(end - start for _, start, end in timed(done)) < 3


def test_another_recordings_text_has_no_times_and_the_row_is_partial(
    align: Any, parts: tuple[list[Speech], list[Speech]]
) -> None:
    done = align(text_of(parts[1]))
    assert len(timed(done)) < 0.05 * len(words_of(done))
    assert done["status"] == "partial"


def test_half_a_text_stays_where_it_is_said(
    align: Any, parts: tuple[list[Speech], list[Speech]], whole: Speech
) -> None:
    half = parts[0][: len(parts[0]) // 2]
    done = align(text_of(half))
    said = whole.words[: sum(len(part.words) for part in half)]
    shifts = compare([(word["text"], word["start"], word["end"]) for word in said], timed(done))
    # Words at the end of the text may be matched with later ones: the clips have ten words for each language.
    assert shifts.within[LIMITS_MS.index(200)] > 0.8 * shifts.words
    assert done["status"] == "partial"
