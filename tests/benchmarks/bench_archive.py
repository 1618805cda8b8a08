"""Everything but the model: a mixed archive through the whole job with models that cost nothing, against bare ffmpeg on the same files."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import archive, cpu
from tests.benchmarks.rows import Row, Skipped

LIMIT_SECONDS = 540
AIM = "<= 1.25"
LONG_SECONDS, CLIPS = 3600, 20  # of each format
CONFIG = ["asr.backend=fake", "asr.model=fake", "aligner.backend=fake", "aligner.model=fake"]


def measure(full: bool) -> Iterator[Row]:
    """Core-seconds of all processes, user and system, per audio hour and relative to ffmpeg's."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise Skipped("there is no ffmpeg command to compare with: install one (apt-get install ffmpeg)")
    with tempfile.TemporaryDirectory() as folder:
        files = archive.build(Path(folder), LONG_SECONDS, CLIPS)
        long = [file for file in files if file.seconds >= LONG_SECONDS]
        clips = [file for file in files if file.seconds < LONG_SECONDS]
        for run in range(3 if full else 1):
            yield from _compare(Path(folder), long, clips, ffmpeg, f", run {run + 1}" if full else "")


def _compare(folder: Path, long: list[archive.File], clips: list[archive.File], ffmpeg: str, which: str) -> Iterator[Row]:
    by_format = {file.format.name: bare(ffmpeg, [file]) for file in long}
    bare_long, bare_clips = sum(by_format.values()), bare(ffmpeg, clips)
    fixed = job(folder, clips[:1])
    ours_long, ours_clips = job(folder, long), job(folder, clips)
    hours = archive.hours(long)
    yield Row(f"Ray and imports: a job of one clip{which}", fixed.total, "core-s", note=parts(fixed.roles))
    decoders = ", ".join(f"{name} {seconds:.1f}" for name, seconds in by_format.items())
    yield Row(f"long files: ffmpeg{which}", bare_long / hours, "core-s/h", note=f"{decoders} core-s for {LONG_SECONDS / 3600:g} h of each")
    net_long = {role: seconds - fixed.roles.get(role, 0.0) for role, seconds in ours_long.roles.items()}
    yield Row(f"long files: the job, without its fixed part{which}", sum(net_long.values()) / hours, "core-s/h", note=parts(net_long))
    yield Row(f"long files: job / ffmpeg{which}", sum(net_long.values()) / bare_long, "x", AIM)
    net_clips = {role: seconds - fixed.roles.get(role, 0.0) for role, seconds in ours_clips.roles.items()}
    mean = 3600 * archive.hours(clips) / len(clips)
    yield Row(f"short clips: ffmpeg{which}", 1000 * bare_clips / len(clips), "core-ms a clip", note=f"{len(clips)} clips of {mean:.0f} s")
    yield Row(
        f"short clips: the job, without its fixed part{which}",
        1000 * sum(net_clips.values()) / len(clips),
        "core-ms a clip",
        note=parts(net_clips),
    )
    both = sum(net_long.values()) + sum(net_clips.values())
    yield Row(f"the whole archive: job / ffmpeg{which}", both / (bare_long + bare_clips), "x", AIM, f"{hours + archive.hours(clips):.2f} h")
    whole = (both + fixed.total) / (bare_long + bare_clips)
    yield Row(f"the whole archive, fixed part included: job / ffmpeg{which}", whole, "x")


def bare(ffmpeg: str, files: list[archive.File]) -> float:
    """Core-seconds of ffmpeg, one command a file as its users do, to 16 kHz mono that goes nowhere."""
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


def job(folder: Path, files: list[archive.File]) -> cpu.Usage:
    """The job on these files, and whether it did all of them."""
    manifest, out = folder / "manifest.jsonl", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    manifest.write_text("".join(json.dumps({"audio": str(file.path)}) + "\n" for file in files))
    settings = [part for setting in CONFIG for part in ("--set", setting)]
    usage = cpu.measure([sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *settings])
    if usage.code != 0:
        raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
    return usage


def parts(roles: dict[str, float]) -> str:
    """Roles and their core-seconds, largest first."""
    return ", ".join(f"{role} {seconds:.1f}" for role, seconds in sorted(roles.items(), key=lambda item: -item[1]) if seconds >= 0.15)
