"""Who is compared: how each is called, where its rows are found, and what is fair and unfair about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.peers.environments import FOLDER, ROOT, python_of
from tests.benchmarks.workloads.checkpoints import DEMO, to_original

SCRIPTS = Path(__file__).with_name("scripts")
FAKE = ("asr.backend=fake", "aligner.backend=fake")
# The other contestants give the model one thread, too. They pass whole clips, up to 15 s long; with words
# we keep to the 8 s of the demo's settings, because its aligner loses its position in longer segments.
DEMO_SETTINGS = ("asr.threads=1", "aligner.threads=1")
WHOLE_CLIPS = "segmenter.max_duration=15"


@dataclass(frozen=True)
class Contestant:
    """One pipeline in one setting.

    Attributes:
        name: of the setting.
        family: what the command line calls it.
        title: in tables.
        script: its arguments before MANIFEST and OUT: a file in `scripts`, or nothing for ours.
        rest: its arguments behind them.
        rows: reads its output: (id, text) of every stored recording, in any order.
        decoding: whose decoding is in it: ours, pyav or ffmpeg.
        environment: the file in `requirements`; None: this project's own.
    """

    name: str
    family: str
    title: str
    rows: Callable[[Path], list[tuple[str, str]]]
    decoding: str
    script: str | None = None
    rest: tuple[str, ...] = ()
    environment: str | None = None

    def command(self, manifest: Path, out: Path, install: bool = True) -> list[str]:
        """The command line.

        Raises:
            Skipped: its environment cannot be made here.
        """
        rest = [part.format(**_checkpoints()) for part in self.rest]
        if self.script is None:
            return [sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *rest]
        python = sys.executable if self.environment is None else str(python_of(self.environment, install))
        return [python, str(SCRIPTS / self.script), str(manifest), str(out), *rest]


def _checkpoints() -> dict[str, str]:
    """The demo models, and the same in the layout that the official package reads."""
    found = {}
    for name in ("asr", "aligner"):
        folder = FOLDER / "models" / name
        if not folder.exists():
            to_original(DEMO / name, folder)
        found[name], found[f"native_{name}"] = str(folder), str(DEMO / name)
    generation = json.loads((DEMO / "asr/generation_config.json").read_text())
    found["ends"] = ",".join(map(str, generation["eos_token_id"]))
    return found


def _settings(*settings: str) -> tuple[str, ...]:
    return tuple(part for setting in settings for part in ("--set", setting))


def _listed(out: Path) -> list[tuple[str, str]]:
    return [(name, "") for name in (out / "done").read_text().splitlines()]


def _json_lines(out: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (out / "result.jsonl").read_text().splitlines()]
    return [(row["id"], row.get("text") or "") for row in rows]


def _peer_parquet(out: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(out, columns=["path", "text"]).to_pylist()
    return [(Path(row["path"]).name, row["text"]) for row in rows if row["text"] is not None]


def _transcripts(out: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(out / "transcripts", columns=["recording_id", "text"]).to_pylist()
    return [(row["recording_id"], row["text"]) for row in rows]


_DEMO = ("--config", str(ROOT / "configs/demo.yaml"))
_NO_WORDS = _settings("aligner.backend=none")

WITHOUT_MODEL = (
    Contestant("ffmpeg", "ffmpeg", "bare ffmpeg, two at a time", _listed, "ffmpeg", "ffmpeg_files.py"),
    Contestant(
        "ray",
        "ray",
        "Ray's own example",
        _peer_parquet,
        "pyav",
        "ray_example.py",
        ("none",),
        "ray",
    ),
    Contestant("daft", "daft", "Daft and PyAV", _peer_parquet, "pyav", "daft_example.py", (), "daft"),
    Contestant(
        "nemo",
        "nemo",
        "NeMo Curator 1.4.0 on Ray Data",
        _json_lines,
        "ffmpeg",
        "nemo_example.py",
        ("ray_data",),
        "nemo",
    ),
    Contestant(
        "nemo-xenna",
        "nemo",
        "NeMo Curator 1.4.0 on Xenna",
        _json_lines,
        "ffmpeg",
        "nemo_example.py",
        ("xenna",),
        "nemo",
    ),
    Contestant("ours", "ours", "Scriptorium", _transcripts, "ours", rest=_settings(*FAKE)),
)
WITH_MODEL = (
    Contestant(
        "ours-demo",
        "ours",
        "Scriptorium",
        _transcripts,
        "ours",
        rest=(*_DEMO, *_NO_WORDS, *_settings(*DEMO_SETTINGS, WHOLE_CLIPS)),
    ),
    Contestant(
        "ours-demo-words",
        "ours",
        "Scriptorium, with words",
        _transcripts,
        "ours",
        rest=(*_DEMO, *_settings(*DEMO_SETTINGS)),
    ),
    Contestant(
        "ray-demo",
        "ray",
        "Ray's own example",
        _peer_parquet,
        "pyav",
        "ray_example.py",
        ("{native_asr}",),
        "ray",
    ),
    Contestant(
        "qwen",
        "qwen",
        "qwen-asr 0.0.6, one process",
        _json_lines,
        "pyav",
        "qwen_package.py",
        ("{asr}", "none", "{ends}"),
        "qwen",
    ),
    Contestant(
        "qwen-words",
        "qwen",
        "qwen-asr 0.0.6, one process, with words",
        _json_lines,
        "pyav",
        "qwen_package.py",
        ("{asr}", "{aligner}", "{ends}"),
        "qwen",
    ),
)
FAMILIES = ("ffmpeg", "ray", "daft", "nemo", "qwen", "ours")

# For whoever reads the tables.
FAIR = (
    "the same files, the same machine, rounds interleaved; every process counts, also those of Ray",
    "none has a model (or all have the same one): what is measured is everything around it",
    "each has the settings of its own documentation; Ray's example and Daft decode with the same function",
)
UNFAIR_TO_OTHERS = (
    "an hour in six files or in hundreds of clips: NeMo Curator and Ray are made for clusters and long jobs",
    "NeMo Curator writes resampled files and manifests that other stages of its can use",
    "NeMo Curator on Xenna has one core more in its settings, without which its stages do not fit",
    "qwen-asr is a package, not a pipeline: its cost has no start of Ray in it, and all files are WAV",
)
UNFAIR_TO_US = (
    "we find silence, cut segments, check what was decoded, plan from headers, and write durable rows "
    "twice (shards, then transcripts) with word times; the others do none of it",
    "Ray's example and Daft hold each file in memory as a whole",
    "bare ffmpeg writes to /dev/null",
)


def rows_of(contestant: Contestant, out: Path) -> list[tuple[str, str]]:
    """Its stored rows; none where there is no readable output."""
    try:
        return contestant.rows(out)
    except Exception:  # half an output, in whatever form
        return []
