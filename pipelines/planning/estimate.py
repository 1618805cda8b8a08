"""What a plan will take, before anything is paid for: hours, GPUs, money, time and disk space.

The amounts of audio come from headers. Speeds and prices are assumptions from the settings (section
`estimate`), and the output says so.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.config_sections import EstimateConfig
from pipelines.planning.codec_names import format_name
from pipelines.plurals import counted

# Upper bounds of the duration histogram in seconds, and their labels.
BINS: tuple[tuple[float, str], ...] = (
    (10, "up to 10 s"),
    (60, "up to 1 min"),
    (600, "up to 10 min"),
    (3600, "up to 1 h"),
    (np.inf, "over 1 h"),
)
# Assumptions about the size of the output: 150 words per minute; 14 bytes per word in zstd Parquet with its
# times, 4 without; each text is stored twice, in shards and in transcripts; a row takes about a kilobyte
# without its words.
WORDS_PER_HOUR = 9_000
BYTES_PER_WORD = {True: 14, False: 4}
COPIES = 2
_BOUNDS = {"gpu": "GPUs", "decode": "decoding", "cpu": "CPUs: no GPUs here"}
BYTES_PER_ROW = 1_000


@dataclass(frozen=True)
class Share:
    """A subset of the recordings."""

    recordings: int
    hours: float


@dataclass(frozen=True)
class Estimate:
    """What would run. Hours are audio hours, unless they are named GPU, core or wall-clock hours."""

    recordings: int
    shards: int
    hours: float
    audio_bytes: int
    by_codec: dict[str, Share]
    by_format: dict[str, Share]  # the same by names that people know
    by_language: dict[str, Share]  # as declared; "auto": the model decides
    by_duration: dict[str, Share]
    unknown_duration: int  # recordings without a duration in the header; not in `hours`
    failures: dict[str, int]  # unreadable recordings by error code; they would become dead letters
    gpus: int  # 0: the models run on CPUs
    cores: int
    gpu_hours: float
    core_hours: float
    wall_hours: float
    bound_by: str  # gpu | decode | cpu, if the models run on CPUs
    cost: float
    currency: str
    output_bytes: int
    assumptions: dict[str, float]
    measured: dict[str, str]  # where those of the assumptions that are no assumptions were measured

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return dataclasses.asdict(self)


def estimate(
    rows: pa.Table,
    settings: EstimateConfig,
    *,
    recognise: bool = True,
    words: bool = True,
    gpus: int | None = None,
    cores: int | None = None,
    measured: Mapping[str, str] | None = None,
) -> Estimate:
    """Sum up planned shards.

    Args:
        rows: PLAN columns, and `probe_error` if it is known.
        settings: speeds and prices.
        recognise: whether own GPUs recognise, rather than a server.
        words: whether words are aligned.
        gpus: GPUs to plan for if the settings do not say; by default those of this machine.
        cores: CPU cores to plan for if the settings do not say; by default those of this machine.
        measured: where speeds of `settings` were measured, by name; the others are assumptions.
    """
    first = rows.filter(pc.equal(rows["index"], 0))
    duration = first["duration"].to_numpy()
    hours = float(np.nansum(duration)) / 3600
    errors = (
        first["probe_error"] if "probe_error" in first.column_names else pa.nulls(first.num_rows, pa.string())
    )
    failures = _counts(errors)
    gpus = settings.gpus if settings.gpus is not None else gpus_here() if gpus is None else gpus
    cores = settings.cores or cores or os.cpu_count() or 1
    recognising, aligning, core_hours = stage_hours(hours, settings, recognise=recognise, words=words)
    gpu_hours = recognising + aligning
    if gpus:
        wall_hours = max(gpu_hours / gpus, core_hours / cores)
        bound_by = "gpu" if gpu_hours / gpus >= core_hours / cores else "decode"
        # GPUs are also paid for while they wait for decoding.
        cost = wall_hours * gpus * settings.gpu_hour_price
    else:
        models = hours / settings.asr_rtfx_per_core * recognise
        models += hours / settings.aligner_rtfx_per_core * words
        bound_by = "cpu" if models >= core_hours else "decode"
        gpu_hours, core_hours = 0.0, core_hours + models
        wall_hours = core_hours / cores
        cost = wall_hours * cores * settings.core_hour_price
    assumptions = _assumptions(settings, gpus, recognise, words)
    return Estimate(
        recordings=first.num_rows,
        shards=rows.num_rows,
        hours=hours,
        audio_bytes=_bytes(first),
        by_codec=_shares(pc.fill_null(first["codec"], "unknown"), duration),
        by_format=_shares(_formats(first), duration),
        by_language=_shares(pc.fill_null(first["language"], "auto"), duration),
        by_duration=_histogram(duration),
        unknown_duration=int(np.isnan(duration).sum()) - sum(failures.values()),
        failures=failures,
        gpus=gpus,
        cores=cores,
        gpu_hours=gpu_hours,
        core_hours=core_hours,
        wall_hours=wall_hours,
        bound_by=bound_by,
        cost=cost,
        currency=settings.currency,
        output_bytes=round(
            COPIES * (hours * WORDS_PER_HOUR * BYTES_PER_WORD[words] + BYTES_PER_ROW * first.num_rows)
        ),
        assumptions=assumptions,
        measured={name: origin for name, origin in (measured or {}).items() if assumptions.get(name)},
    )


def stage_hours(
    hours: float, settings: EstimateConfig, *, recognise: bool = True, words: bool = True
) -> tuple[float, float, float]:
    """The hours that the stages need for an amount of audio.

    Args:
        hours: audio hours.
        settings: the speeds.
        recognise: whether own GPUs recognise, rather than a server or the manifest providing the text.
        words: whether words are aligned.

    Returns:
        GPU hours of the recogniser, GPU hours of the aligner, and core hours of decoding.
    """
    return (
        hours / settings.asr_rtfx * recognise,
        hours / settings.aligner_rtfx * words,
        hours / settings.decode_rtfx,
    )


def _assumptions(settings: EstimateConfig, gpus: int, recognise: bool, words: bool) -> dict[str, float]:
    """The settings that an estimate depends on; 0: not on this one."""
    asr, aligner, price = (
        ("asr_rtfx", "aligner_rtfx", "gpu_hour_price")
        if gpus
        else ("asr_rtfx_per_core", "aligner_rtfx_per_core", "core_hour_price")
    )
    return {
        asr: getattr(settings, asr) if recognise else 0.0,
        aligner: getattr(settings, aligner) if words else 0.0,
        "decode_rtfx": settings.decode_rtfx,
        price: getattr(settings, price),
        "words_per_hour": WORDS_PER_HOUR,
    }


def render(figures: Estimate) -> RenderableType:
    """Render the estimate for a terminal."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(justify="right")
    for name, value in (
        ("recordings", f"{figures.recordings:,}"),
        ("shards", f"{figures.shards:,}"),
        ("audio", in_words(figures.hours)),
        ("audio size", _size(figures.audio_bytes)),
        ("output size", f"about {_size(figures.output_bytes)}"),
        ("GPU time", f"{in_words(figures.gpu_hours)} on {counted(figures.gpus, 'GPU')}"),
        ("core time", f"{in_words(figures.core_hours)} on {counted(figures.cores, 'core')}"),
        ("time", f"{in_words(figures.wall_hours)}, bound by {_BOUNDS[figures.bound_by]}"),
        ("cost", f"{figures.cost:,.2f} {figures.currency}".strip()),
    ):
        if figures.gpus or name != "GPU time":
            facts.add_row(name, value)
    parts: list[RenderableType] = [facts]
    for title, shares in (
        ("format", figures.by_format),
        ("language", figures.by_language),
        ("length", figures.by_duration),
    ):
        parts += [Text(), _table(title, shares, figures)]
    if figures.unknown_duration:
        number = figures.unknown_duration
        parts.append(
            Text(
                f"\n{counted(number, 'recording')} without a duration in {'its' if number == 1 else 'their'} "
                f"header {'is' if number == 1 else 'are'} not included",
                style="yellow",
            )
        )
    if figures.failures:
        codes = ", ".join(f"{count:,} {code}" for code, count in figures.failures.items())
        number = sum(figures.failures.values())
        become = "become a dead letter" if number == 1 else "become dead letters"
        parts.append(
            Text(f"\n{counted(number, 'recording')} cannot be read and would {become}: {codes}", style="red")
        )
    values = {name: f"{name} {value:,g}" for name, value in figures.assumptions.items() if value}
    for origin in dict.fromkeys(figures.measured.values()):
        names = ", ".join(values.pop(name) for name, found in figures.measured.items() if found == origin)
        parts.append(Text(f"\nmeasured by {origin}: {names}", style="dim"))
    assumed = ", ".join(values.values())
    parts.append(
        Text(f"\nassumed, not measured (section `estimate` of the settings): {assumed}", style="dim")
    )
    return Group(*parts)


def gpus_here() -> int:
    """The number of NVIDIA GPUs of this machine, without loading any library."""
    folder = Path("/proc/driver/nvidia/gpus")
    return len([*folder.iterdir()]) if folder.is_dir() else 0


def _bytes(first: pa.Table) -> int:
    """The size of all files; a file with several recordings counts once."""
    if "window" in first.column_names and first["window"].null_count < first.num_rows:
        uri = pc.coalesce(first["location"], first["audio"])
        sizes = (
            pa.table({"uri": uri, "bytes": first["audio_bytes"]})
            .group_by("uri")
            .aggregate([("bytes", "max")])
        )
        return pc.sum(sizes["bytes_max"]).as_py() or 0
    return pc.sum(first["audio_bytes"]).as_py() or 0


def _shares(column: pa.ChunkedArray, duration: np.ndarray) -> dict[str, Share]:
    """Recordings and hours for each value of a column, most hours first."""
    table = pa.table({"key": column, "seconds": pa.array(np.nan_to_num(duration))})
    sums = table.group_by("key").aggregate([("seconds", "sum"), ("seconds", "count")]).to_pylist()
    sums.sort(key=lambda row: (-row["seconds_sum"], -row["seconds_count"], row["key"]))
    return {row["key"]: Share(row["seconds_count"], row["seconds_sum"] / 3600) for row in sums}


def _formats(first: pa.Table) -> pa.ChunkedArray:
    pairs = zip(first["codec"].to_pylist(), first["container"].to_pylist(), strict=True)
    return pa.chunked_array([pa.array([format_name(*pair) for pair in pairs], pa.string())])


def _histogram(duration: np.ndarray) -> dict[str, Share]:
    known = duration[~np.isnan(duration)]
    bins = np.searchsorted([bound for bound, _ in BINS], known)
    return {
        name: Share(int((bins == bin).sum()), float(known[bins == bin].sum()) / 3600)
        for bin, (_, name) in enumerate(BINS)
    }


def _counts(column: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    counts = {
        row["values"]: row["counts"]
        for row in pc.value_counts(column).to_pylist()
        if row["values"] is not None
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _table(title: str, shares: Mapping[str, Share], figures: Estimate) -> Table:
    table = Table(title, "recordings", "audio", "share", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, share in shares.items():
        part = share.hours / figures.hours if figures.hours else 0.0
        table.add_row(Text(name), f"{share.recordings:,}", in_words(share.hours), f"{part:.1%}")
    return table


def in_words(hours: float) -> str:
    """A duration in hours as text in seconds, minutes or hours."""
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if hours < 1.5 else f"{hours:,.1f} h"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
