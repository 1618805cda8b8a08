"""Reading transcripts: filters, parts, and tables of older versions."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from actors.errors import UsageError
from pipelines.output.transcript_filters import Filters, filters_of, recording_confidence
from pipelines.output.transcript_reader import (
    audio_sources,
    divide,
    find_parts,
    iter_tables,
    iter_transcripts,
)
from pipelines.schema import TRANSCRIPT
from tests.pipelines.export.transcripts import (
    interview,
    made_rows,
    make_segment,
    make_transcript,
    write_output,
)

ROWS = made_rows()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_output(tmp_path_factory.mktemp("reader") / "out", ROWS, files=2)


def ids(out: str, filters: Filters) -> set[str]:
    return {row["recording_id"] for row in iter_transcripts(find_parts(out), filters, ["recording_id"])}


def test_all_rows_are_read_once(out: str) -> None:
    parts = find_parts(out)
    assert len(parts) > 2
    found = [row["recording_id"] for row in iter_transcripts(parts)]
    assert sorted(found) == sorted(row["recording_id"] for row in ROWS)


def test_divided_parts_have_the_same_rows(out: str) -> None:
    parts = divide(find_parts(out), 1)
    assert {part.rows for part in parts} == {1}
    assert [row["recording_id"] for row in iter_transcripts(parts)] == [
        row["recording_id"] for row in iter_transcripts(find_parts(out))
    ]


def test_columns_are_those_asked_for(out: str) -> None:
    table = next(iter_tables(find_parts(out), filters_of(["German", "en"]), ["text", "recording_id"]))
    assert table.column_names == ["text", "recording_id"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (filters_of(["Japanese", "zh"]), {"ja.wav", "zh.wav"}),
        (filters_of(statuses=["no_speech"]), {"quiet.wav"}),
        (filters_of(without_flags=["channel", "clipped"], statuses=["ok"], languages=["zh"]), {"zh.wav"}),
        (filters_of(where="metadata->>'$.show' = 'news'"), {"interview 1.wav"}),
        (filters_of(where="len(segments) = 2 AND list_contains(flags, 'clipped')"), {"two.wav"}),
    ],
)
def test_filters_keep_what_meets_them(out: str, filters: Filters, expected: set[str]) -> None:
    assert ids(out, filters) == expected


def test_flags_of_segments_count(out: str) -> None:
    assert "interview 1.wav" in ids(out, Filters())
    assert "interview 1.wav" not in ids(out, filters_of(without_flags=["repetitive"]))
    assert "two.wav" not in ids(out, filters_of(without_flags=["channel"]))


def test_confidence_is_weighted_by_duration(out: str) -> None:
    segments = [make_segment(0, ["a"] * 9, confidence=1.0), make_segment(5, ["b"], confidence=0.0)]
    assert recording_confidence(segments) == pytest.approx(0.9)
    assert recording_confidence([make_segment(0, ["a"], confidence=None)]) is None
    assert "interview 1.wav" not in ids(out, filters_of(min_confidence=0.85))
    assert "quiet.wav" not in ids(out, filters_of(min_confidence=0.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": "duration >"}, "--where"),
        ({"where": "colour = 1"}, "colour"),
        ({"where": "duration > (SELECT count(*) FROM '/etc/passwd')"}, "--where"),
        ({"statuses": ["good"]}, "no status 'good'"),
        ({"without_flags": ["loud"]}, "no flag 'loud'"),
        ({"min_confidence": 80.0}, "probability"),
        ({"languages": ["Klingon"]}, "Klingon"),
    ],
)
def test_wrong_filters_are_refused_before_anything_is_read(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        filters_of(**arguments).check()


def test_filters_can_be_sent_to_other_processes(out: str) -> None:
    filters = filters_of(where="duration > 1")
    filters.check()
    assert ids(out, pickle.loads(pickle.dumps(filters))) == ids(out, filters)


def test_tables_of_older_versions_are_read(tmp_path: Path) -> None:
    def without(kind: pa.DataType, names: set[str]) -> pa.DataType:
        if pa.types.is_list(kind):
            return pa.list_(without(kind.value_type, names))
        if pa.types.is_struct(kind):
            return pa.struct([(f.name, without(f.type, names)) for f in kind if f.name not in names])
        return kind

    new = {"speaker", "min_confidence", "language_confidence", "candidates"}
    schema = pa.schema(
        [
            (field.name, without(field.type, new))
            for field in TRANSCRIPT
            if field.name not in ("speakers", "text_source", "window", "silence")
        ]
    )
    out = write_output(tmp_path / "old", [interview()], schema=schema)
    (row,) = iter_transcripts(find_parts(out), filters_of(where="speakers IS NULL"))
    assert row["speakers"] is None
    assert row["segments"][0]["words"][0]["speaker"] is None


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the output directory"):
        find_parts(str(tmp_path))


def test_a_run_without_transcripts_has_no_parts(tmp_path: Path) -> None:
    assert find_parts(write_output(tmp_path / "out", [], files=0)) == []


def test_the_plan_says_where_audio_is(out: str) -> None:
    found = audio_sources(out, ["zh.wav", "unknown"])
    assert found.keys() == {"zh.wav"}
    assert found["zh.wav"]["audio"] == "/archive/zh.wav"


def test_null_flags_are_no_flags(tmp_path: Path) -> None:
    row = make_transcript("a", [{**make_segment(0, ["x"]), "flags": None}], flags=None)
    out = write_output(tmp_path / "out", [row])
    assert ids(out, filters_of(without_flags=["clipped"])) == {"a"}
