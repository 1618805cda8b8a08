"""Everything but the model: a mixed archive through the whole job with free models, against bare ffmpeg on
the same files.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.workloads import archive, cpu
from tests.benchmarks.workloads.rows import Row, Skipped

LIMIT_SECONDS = 540
EXPECTED_MINUTES = 4
AIM = "<= 1.25"
# Files of each format.
LONG_SECONDS, CLIPS = 1800, 10
CONFIG = ["asr.backend=fake", "asr.model=fake", "aligner.backend=fake", "aligner.model=fake"]


def measure(full: bool) -> Iterator[Row]:
    """Core-seconds of all processes, user and system, per audio hour, and relative to ffmpeg.

    The job runs on the archive once, and on the archive listed three times: the difference is the cost of
    audio, the rest is the fixed cost of Ray.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise Skipped("there is no ffmpeg command to compare with: install one (apt-get install ffmpeg)")
    with tempfile.TemporaryDirectory() as folder:
        files = archive.build(Path(folder), LONG_SECONDS, CLIPS)
        for run in range(3 if full else 1):
            yield from _compare(Path(folder), files, ffmpeg, f", run {run + 1}" if full else "")


def _compare(folder: Path, files: list[archive.File], ffmpeg: str, which: str) -> Iterator[Row]:
    long = [file for file in files if file.seconds >= LONG_SECONDS]
    clips = [file for file in files if file.seconds < LONG_SECONDS]
    hours = archive.hours(files)
    by_format = {file.format.name: bare(ffmpeg, [file]) for file in long}
    of_clips = bare(ffmpeg, clips)
    ffmpeg_total = sum(by_format.values()) + of_clips
    decoders = ", ".join(f"{name} {seconds:.1f}" for name, seconds in by_format.items())
    mean = 3600 * archive.hours(clips) / len(clips)
    note = (
        f"core-s for {LONG_SECONDS / 3600:g} h each: {decoders}; "
        f"{1000 * of_clips / len(clips):.0f} core-ms for a clip of {mean:.0f} s"
    )
    yield Row(
        f"ffmpeg, one command a file{which}", ffmpeg_total / hours, "core-s/h", note=f"{hours:.2f} h: {note}"
    )
    once, thrice = job(folder, files, 1), job(folder, files, 3)
    roles = {role: (thrice.roles[role] - once.roles.get(role, 0.0)) / 2 for role in thrice.roles}
    audio = sum(roles.values())
    yield Row(
        f"the job, for each audio hour{which}",
        audio / hours,
        "core-s/h",
        note=parts({role: cpu_seconds / hours for role, cpu_seconds in roles.items()}),
    )
    yield Row(
        f"the job / ffmpeg{which}", audio / ffmpeg_total, "x", AIM, "what two more archives cost, halved"
    )
    decode = roles.get("decode, segment", 0.0) + roles.get("headers", 0.0)
    yield Row(f"of this headers, fetching, decoding, resampling, cutting{which}", decode / ffmpeg_total, "x")
    fixed = {role: once.roles[role] - roles.get(role, 0.0) for role in once.roles}
    yield Row(f"Ray and imports, once a job{which}", once.total - audio, "core-s", note=parts(fixed))
    yield Row(f"the job once, start included / ffmpeg{which}", once.total / ffmpeg_total, "x")


def bare(ffmpeg: str, files: list[archive.File]) -> float:
    """Core-seconds of ffmpeg, one command per file, to 16 kHz mono with discarded output."""
    total = 0.0
    for file in files:
        command = [
            ffmpeg,
            "-nostdin",
            "-v",
            "error",
            "-threads",
            "1",
            "-i",
            str(file.path),
            "-ac",
            "1",
            "-ar",
            "16000",
            "-f",
            "s16le",
            "-y",
            "/dev/null",
        ]
        total += cpu.measured_child(command)
    return total


def job(folder: Path, files: list[archive.File], times: int) -> cpu.Usage:
    """The job on these files, each listed `copies` times, and whether it transcribed all of them."""
    manifest, out = folder / "manifest.jsonl", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    rows = [
        {"audio": str(file.path), "id": f"{number}-{file.path.name}"}
        for number in range(times)
        for file in files
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [part for setting in CONFIG for part in ("--set", setting)]
    usage = cpu.measure([sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *settings])
    if usage.code != 0:
        raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
    return usage


def parts(roles: dict[str, float]) -> str:
    """Roles and their core-seconds, largest first."""
    return ", ".join(
        f"{role} {seconds:.2f}"
        for role, seconds in sorted(roles.items(), key=lambda item: -item[1])
        if seconds >= 0.05
    )
