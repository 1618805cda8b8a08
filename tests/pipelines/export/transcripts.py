"""Transcripts for the tests of exports: made ones in several languages, and some of the demo run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.schema import PLAN, TRANSCRIPT

DEMO_AUDIO = Path(__file__).parents[3] / "configs/demo/audio"
_DEMO = Path(__file__).parent / "fixtures/demo_transcripts.jsonl"
# Ids that no file system takes as they are, and that must not leave the destination.
HOSTILE_IDS = [
    "../../etc/passwd",
    "a/../b",
    "CON",
    "x" * 400,
    "tab\tnew\nline",
    "talk.wav",
    "Talk.wav",
    "été/ça va?.mp3",
]


def make_segment(
    start: float,
    words: list[str],
    *,
    speakers: list[str | None] | None = None,
    language: str = "en",
    step: float = 0.4,
    confidence: float | None = 0.9,
    flags: tuple[str, ...] = (),
    unheard: tuple[int, ...] = (),
) -> dict[str, Any]:
    """A segment with a word every `step` seconds; the words with numbers in `unheard` have no times."""
    space = "" if language in ("zh", "ja", "th") else " "
    rows: list[dict[str, Any]] = []
    offset = 0
    for number, word in enumerate(words):
        begin = start + number * step
        times = (
            {"start": None, "end": None} if number in unheard else {"start": begin, "end": begin + 0.9 * step}
        )
        rows.append(
            {
                "text": word.strip(".,?!。，"),
                **times,
                "char_start": offset,
                "char_end": offset + len(word),
                "confidence": confidence,
                "speaker": speakers[number] if speakers else None,
            }
        )
        offset += len(word) + len(space)
    return {
        "start": start,
        "end": start + len(words) * step,
        "language": language,
        "text": space.join(words),
        "confidence": confidence,
        "words": rows,
        "word_source": "aligner",
        "flags": list(flags),
        "speaker": None,
    }


def make_transcript(recording_id: str, segments: list[dict[str, Any]], **columns: Any) -> dict[str, Any]:
    """A row of OUT/transcripts."""
    return {
        "recording_id": recording_id,
        "audio": f"/archive/{recording_id}",
        "duration": max((segment["end"] for segment in segments), default=5.0),
        "language": segments[0]["language"] if segments else None,
        "text": " ".join(segment["text"] for segment in segments),
        "segments": segments,
        "status": "ok" if segments else "no_speech",
        "flags": [],
        "metadata": "{}",
        "text_source": "model" if segments else None,
        **columns,
    }


def interview() -> dict[str, Any]:
    """Two people by name, words without times, low confidence, a flag, and markup in the text."""
    first = make_segment(
        1.0,
        ["So,", "what", "do", "you", "think?", "Yes.", "I", "agree", "<fully>", "&", "more."],
        speakers=["S1"] * 5 + ["S2"] * 6,
        unheard=(7,),
    )
    second = make_segment(7.5, ['"Quoted"', "-->", "words."], confidence=0.4, flags=("repetitive",))
    return make_transcript(
        "interview 1.wav",
        [first, second],
        speakers=[
            {"speaker": "S1", "name": "Ada L.", "score": 0.9, "duration": 2.0},
            {"speaker": "S2", "name": None, "score": None, "duration": 2.4},
        ],
        metadata=json.dumps({"show": "news", "year": 1999}),
    )


def demo_rows() -> list[dict[str, Any]]:
    """Some transcripts of the demo run, whose audio is in the repository."""
    rows = [json.loads(line) for line in _DEMO.read_text().splitlines()]
    return [{**row, "audio": str(DEMO_AUDIO / row["audio"])} for row in rows]


def made_rows() -> list[dict[str, Any]]:
    """Transcripts without audio: several languages, channels, hostile ids."""
    chinese = make_segment(
        0.5, [*"我们明天去北京参加会议。今天天气很好，我们去公园吧。"], language="zh", step=0.2
    )
    japanese = make_segment(
        0.2, ["今日", "は", "天気", "が", "いい", "です", "ね。"], language="ja", step=0.3
    )
    channels = [
        make_segment(0.0, ["left", "side", "speaks."], flags=("channel:0",)),
        make_segment(0.2, ["right", "answers", "now."], flags=("channel:1",)),
    ]
    rows = [
        interview(),
        make_transcript("zh.wav", [chinese]),
        make_transcript("ja.wav", [japanese], metadata=json.dumps({"show": "weather"})),
        make_transcript("two.wav", channels, flags=["clipped"]),
        make_transcript("quiet.wav", []),
    ]
    return rows + [make_transcript(name, [make_segment(0, ["hello", "there."])]) for name in HOSTILE_IDS]


def write_output(
    out: Path, rows: list[dict[str, Any]], files: int = 1, schema: pa.Schema = TRANSCRIPT
) -> str:
    """An output directory with transcripts, and a plan that says where their audio is."""
    (out / "transcripts").mkdir(parents=True)
    (out / "plan").mkdir()
    for number in range(files):
        table = pa.Table.from_pylist(rows[number::files], schema=schema)
        pq.write_table(table, out / "transcripts" / f"{number:03}.parquet", row_group_size=4)
    plan = [
        {"recording_id": row["recording_id"], "audio": row["audio"], "index": 0, "attempt": 1, "start": 0.0}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(plan, schema=PLAN), out / "plan" / "plan-0.parquet")
    if not files:
        (out / "run.json").write_text("{}")
    return str(out)
