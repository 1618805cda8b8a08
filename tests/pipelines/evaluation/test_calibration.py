"""The calibrating map: the best monotone one, of the file's model only, and better on recordings not seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from actors.confidence.calibration import Calibration, ConfidenceMap, parse
from actors.config import ASRConfig
from actors.errors import UsageError
from pipelines.evaluation.metrics.calibration import calibration, isotonic, logistic, to_bytes
from pipelines.evaluation.metrics.confidence import Confidences, summary
from pipelines.evaluation.metrics.edits import Edits
from pipelines.output import calibrations

NOW = "2026-01-01T00:00:00+00:00"
RIGHT, WRONG = Edits(hits=1), Edits(insertions=1)


def test_isotonic_pools_adjacent_violators() -> None:
    x, y = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.6, 0.2, 0.9])
    # 0.6 and 0.2 are in the wrong order: both become their mean 0.4.
    assert isotonic(x, y, np.ones(4)) == ([0.1, 0.2, 0.3, 0.4], pytest.approx([0.1, 0.4, 0.4, 0.9]))


def test_isotonic_respects_weights() -> None:
    _, y = isotonic(np.array([0.1, 0.2]), np.array([1.0, 0.0]), np.array([3.0, 1.0]))
    assert y == pytest.approx([0.75, 0.75])


def test_isotonic_gives_one_value_to_equal_confidences() -> None:
    x, y = isotonic(np.array([0.5, 0.5, 0.9]), np.array([0.0, 1.0, 1.0]), np.ones(3))
    assert (x, y) == ([0.5, 0.9], pytest.approx([0.5, 1.0]))


def test_isotonic_is_the_best_of_all_monotone_maps() -> None:
    random = np.random.default_rng(3)
    x, y, weights = np.sort(random.random(7)), random.random(7), random.integers(1, 5, 7).astype(float)
    knots = isotonic(x, y, weights)
    fitted = np.interp(x, *knots)
    assert (np.diff(fitted) >= -1e-12).all()

    def loss(values: np.ndarray) -> float:
        return float((weights * (values - y) ** 2).sum())

    for _ in range(2000):
        other = np.sort(np.clip(fitted + 0.1 * random.standard_normal(7), 0, 1))
        assert loss(other) >= loss(fitted) - 1e-9


def boastful(seed: int, cases: int = 4000) -> Confidences:
    """Words of a model that says 1 - x / 3 where x of them are wrong."""
    random = np.random.default_rng(seed)
    found = Confidences()
    for error in random.random(cases) * 0.9:
        found.add(1 - error / 3, WRONG if random.random() < error else RIGHT)
    return found


def mapped(words: Confidences) -> Calibration:
    return parse(to_bytes(calibration(Confidences(), words, "m", NOW)), "f")


def test_a_map_goes_straight_between_its_knots_and_is_constant_outside() -> None:
    found = ConfidenceMap((0.5, 0.9), (0.5, 1.0))
    assert [found(value) for value in (0.1, 0.7, 0.95, None)] == [0.5, 0.75, 1.0, None]


def test_a_few_cases_change_little_and_an_empty_half_nothing() -> None:
    segments = Confidences()
    segments.add(0.9, Edits(hits=9, insertions=1))
    found = parse(to_bytes(calibration(segments, Confidences(), "m", NOW)), "f")
    assert found.segments and found.words is None
    assert found.segments(0.9) == pytest.approx(0.9, abs=1e-3)
    assert found.segments(0.5) == pytest.approx(0.5, abs=0.01)


def test_the_logistic_map_finds_the_curve_that_made_the_data() -> None:
    x = np.random.default_rng(1).uniform(0.01, 0.99, 20_000)
    odds = (x / (1 - x)) ** 0.5 * np.exp(-0.3)
    knots = logistic(x, odds / (1 + odds), np.ones_like(x))
    assert np.interp([0.2, 0.5, 0.9], *knots) == pytest.approx([0.2703, 0.4256, 0.6897], abs=2e-3)


def test_confidences_that_say_the_opposite_become_one_value() -> None:
    x = np.linspace(0.05, 0.95, 200)
    assert logistic(x, 1 - x, np.ones_like(x)) == ([0.5], [pytest.approx(0.5)])


def test_outcomes_that_are_all_alike_are_no_obstacle() -> None:
    _, y = logistic(np.linspace(0.5, 1, 500), np.ones(500), np.ones(500))
    assert all(np.diff(y) >= 0) and np.isfinite(y).all()


def test_the_method_is_the_one_that_is_better_on_other_cases() -> None:
    random, stepped = np.random.default_rng(2), Confidences()
    for value in random.random(4000):
        # Half of the words are right, whatever the model says between 0.1 and 0.7; all above, none below.
        right = value > 0.7 or (value > 0.1 and random.random() < 0.5)
        stepped.add(value, RIGHT if right else WRONG)
    assert calibration(boastful(1), stepped, "m", NOW)["words"]["method"] == "isotonic"
    content = calibration(Confidences(), Confidences(), "m", NOW)
    assert content["segments"] is content["words"] is None


def test_the_calibration_error_falls_on_words_that_were_not_learned_from() -> None:
    learned = mapped(boastful(1)).words
    fresh, better = boastful(2), Confidences()
    assert learned
    for confidence, hit in zip(fresh.confidence, fresh.hits, strict=True):
        better.add(learned(confidence) or 0.0, RIGHT if hit else WRONG)
    before, after = summary(fresh, "words"), summary(better, "words")
    assert before["calibration_error"] > 0.25 and after["calibration_error"] < 0.03
    assert after["auc"] == pytest.approx(before["auc"], abs=0.01)


def test_all_confidences_of_a_segment_are_mapped_but_those_of_the_language_and_of_candidates() -> None:
    line = ConfidenceMap((0.5, 1.0), (0.0, 1.0))
    both = Calibration("m", "digest", line, line)
    word = {"text": "a", "confidence": 0.75}
    before = {
        "confidence": 0.75,
        "min_confidence": 0.5,
        "language_confidence": 0.75,
        "candidates": [{"confidence": 0.75}],
    }
    after = both.apply({**before, "words": [word, {**word, "confidence": None}]})
    assert (after["confidence"], after["min_confidence"], after["language_confidence"]) == (0.5, 0.0, 0.75)
    assert [part["confidence"] for part in after["words"]] == [0.5, None]
    assert after["candidates"] == before["candidates"] and word["confidence"] == 0.75


def file_of(folder: Path, model: str) -> str:
    (folder / "c.json").write_bytes(to_bytes(calibration(boastful(1), boastful(1), model, NOW)))
    return str(folder / "c.json")


def test_a_calibration_belongs_to_its_model(tmp_path: Path) -> None:
    uri = file_of(tmp_path, "Qwen/A")
    assert calibrations.read(ASRConfig(model="Qwen/A", calibration=uri))
    assert calibrations.read(ASRConfig(model="Qwen/A")) is None
    with pytest.raises(UsageError, match=r"learned from Qwen/A, and this run has Qwen/B"):
        calibrations.read(ASRConfig(model="Qwen/B", calibration=uri))


def test_a_folder_is_the_same_model_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    uri = file_of(tmp_path, str(tmp_path / "model"))
    assert calibrations.read(ASRConfig(model="model", calibration=uri))


def written(**content: object) -> str:
    return json.dumps({"kind": "scriptorium calibration", "version": 2} | content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("no JSON", "is no calibration"),
        ("[]", "is no calibration"),
        (written(version=9), "of version 9"),
        (
            json.dumps(
                {
                    "kind": "scriptorium calibration",
                    "version": 2,
                    "segments": {"confidence": [1, 0], "calibrated": [0, 1]},
                }
            ),
            "is damaged",
        ),
        (
            json.dumps(
                {
                    "kind": "scriptorium calibration",
                    "version": 2,
                    "words": {"confidence": [], "calibrated": []},
                }
            ),
            "is damaged",
        ),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        calibrations.read(ASRConfig(calibration=str(path)))
