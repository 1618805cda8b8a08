"""What contestants cost, by the records of their runs: medians of the rounds, net of a one-file job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.peers.contestants import Contestant
from tests.benchmarks.peers.data import Data

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a contestant costs without a model; medians over the rounds. None: not measured.

    Attributes:
        rounds: how many.
        start_wall, start_cpu: seconds and core-seconds of a job of one file.
        long_net: core-seconds for an audio hour of long files, without those of a one-file job.
        short_cpu: core-seconds of the whole job of short clips.
        short_net: core-milliseconds for a clip, without the start.
        short_beside: the same beside decoding alone.
        peak_long, peak_short: MiB, the largest of all rounds.
        long_wall, short_wall: seconds.
    """

    rounds: int
    start_wall: float | None
    start_cpu: float | None
    long_wall: float | None
    long_net: float | None
    short_wall: float | None
    short_cpu: float | None
    short_net: float | None
    short_beside: float | None
    peak_long: float | None
    peak_short: float | None


def cost_of(contestant: Contestant, records: Sequence[Record], sets: Mapping[str, Data]) -> Cost:
    """The medians of one contestant.

    Args:
        contestant: who.
        records: of all parts.
        sets: the recordings.
    """

    def values(data: str, name: str, who: str = contestant.name, part: str = "cost") -> list[float]:
        return [
            record[name]
            for record in records
            if (record["part"], record["who"], record["data"]) == (part, who, data) and not record.get("code")
        ]

    def middle(data: str, name: str) -> float | None:
        return median(found) if (found := values(data, name)) else None

    # One command for each file: there is nothing to start.
    start = 0.0 if contestant.family == "ffmpeg" else middle("one", "cpu")
    clips = len(sets["short"].ids)
    long_cpu, short_cpu = middle("long", "cpu"), middle("short", "cpu")
    long_net = None if long_cpu is None or start is None else (long_cpu - start) / sets["long"].hours
    short_net = None if short_cpu is None or start is None else 1000 * (short_cpu - start) / clips
    if contestant.decoding == "ffmpeg":
        alone = values("short", "cpu", "ffmpeg")
    else:
        alone = values("short", "cpu", contestant.decoding, "decoding")
    beside = None
    if short_net is not None and alone and contestant.family != "ffmpeg":
        beside = short_net - 1000 * median(alone) / clips
    return Cost(
        len(values("short", "cpu")),
        None if contestant.family == "ffmpeg" else middle("one", "wall"),
        None if contestant.family == "ffmpeg" else start,
        middle("long", "wall"),
        long_net,
        middle("short", "wall"),
        short_cpu,
        short_net,
        beside,
        max(values("long", "peak_mib"), default=None),
        max(values("short", "peak_mib"), default=None),
    )
