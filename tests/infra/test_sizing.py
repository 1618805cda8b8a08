"""The page on sizing is consistent: inputs are in their sources, and the tables follow from the inputs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "infra" / "sizing.md").read_text()
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text()
STUDY = ROOT.parent / "shared" / "reference" / "model.md"
JOB, OPUS, MEL, ALIGN, SAMPLES = 8.00, 11.9 * 1.5, 1800, 962, 32


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize("name, value, source", rows("Inputs"), ids=lambda cell: cell[:30])
def test_an_input_is_in_its_source(name, value, source):
    if "RESULTS.md" in source:
        text = RESULTS
    elif STUDY.is_file():
        text = STUDY.read_text()
    else:
        pytest.skip("the study of the models is not available")
    known = set(numbers(re.sub(r"(\d)-(\d)", r"\1 \2", text)))
    assert set(numbers(value)) - {16.0} <= known


def test_cores_follow_from_the_inputs():
    for row in rows("Cores per GPU"):
        [speed], *cells = (numbers(cell) for cell in row)
        mixed, opus, mel = speed * JOB / 3600, speed * OPUS / 3600, speed / MEL
        expected = [[mixed], [opus], [mel], [mixed + mel, opus + mel], [speed * SAMPLES / 1000]]
        for cell, wanted in zip(cells, expected, strict=True):
            assert cell == pytest.approx(wanted, abs=0.5 if wanted is expected[-1] else 0.051)


def test_costs_follow_from_the_inputs():
    for row in rows("Cost of 1,000 hours"):
        [speed], [asr], [aligner], [both] = (numbers(cell) for cell in row)
        assert (asr, aligner) == (round(1000 / speed, 2), round(1000 / ALIGN, 2))
        assert both == pytest.approx(asr + aligner, abs=0.011)
    assert f"= {1000 * JOB / 3600 + 1000 / MEL:.1f}." in PAGE
    assert (
        f"= {(0.245 + 0.13) * 1000:.0f} hours" in PAGE and f"{(0.245 + 0.13) * 2000:.0f} core hours" in PAGE
    )
