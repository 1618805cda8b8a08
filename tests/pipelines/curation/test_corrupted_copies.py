"""Corrupted copies are dropped, and good recordings stay (slow: an hour of audio is measured)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from tests.pipelines.curation.corrupted import CORPUS, make


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.exists(), reason="needs the corpus")
def test_corrupted_copies_are_dropped_and_good_ones_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other, kinds = make(tmp_path / "made", 80, seed=19)
    for name, options in (("alone", []), ("against", ["--against", other])):
        dest = tmp_path / name
        assert main(["select", out, str(dest), "--unit", "recording", "--json", *options]) == 0
        capsys.readouterr()
        rows = pq.read_table(
            dest / "selection.parquet", columns=["recording_id", "kept", "reasons"]
        ).to_pylist()
        total, kept = Counter(kinds.values()), Counter[str]()
        reasons = Counter(
            reason for row in rows for reason in row["reasons"] if kinds[row["recording_id"]] == "good"
        )
        for row in rows:
            kept[kinds[row["recording_id"]]] += row["kept"]
        bad = sum(total.values()) - total["good"]
        rejected = 1 - (sum(kept.values()) - kept["good"]) / bad
        lost = 1 - kept["good"] / total["good"]
        figures = {
            "rejected": round(rejected, 4),
            "good_rejected": round(lost, 4),
            "kept": dict(kept),
            "of": dict(total),
            "good_reasons": dict(reasons),
        }
        with capsys.disabled():
            print(name, json.dumps(figures))
        if name == "against":
            assert rejected >= 0.95
            assert lost <= 0.03
