"""Records of runs as tables: in the terminal and in Markdown, short for the README and full elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from tests.benchmarks.peers.contestants import WITH_MODEL, WITHOUT_MODEL, Contestant
from tests.benchmarks.peers.costs import Record, cost_of
from tests.benchmarks.peers.data import Data

Table = list[tuple[str, ...]]
NOTHING = "-"


def cost_table(records: Sequence[Record], sets: Mapping[str, Data]) -> Table:
    """Cost and memory without a model, a line for each contestant that ran."""
    table: Table = [
        (
            "",
            "start: s / core-s",
            "long: s",
            "core-s/h net (x ffmpeg)",
            "short: s",
            "core-s",
            "core-ms a clip net",
            "beside decoding",
            "peak MiB long / short",
        )
    ]
    costs = {one: cost_of(one, records, sets) for one in WITHOUT_MODEL if _ran(one, records, "cost")}
    bare = next((cost.long_net for one, cost in costs.items() if one.family == "ffmpeg"), None)
    for one, cost in costs.items():
        times = "" if not bare or cost.long_net is None else f" ({cost.long_net / bare:.2f})"
        table.append(
            (
                one.title,
                f"{_text(cost.start_wall)} / {_text(cost.start_cpu)}",
                _text(cost.long_wall),
                _text(cost.long_net, 2) + times,
                _text(cost.short_wall),
                _text(cost.short_cpu),
                _text(cost.short_net),
                _text(cost.short_beside),
                f"{_text(cost.peak_long, 0)} / {_text(cost.peak_short, 0)}",
            )
        )
    return table


def broken_table(records: Sequence[Record]) -> Table:
    """Ten damaged files among good ones."""
    table: Table = [("", "exit code", "good files lost", "damaged: text / reason / nothing said")]
    for one, record in _of_part(records, "broken", WITHOUT_MODEL):
        reasons = len(record.get("reasons", {}))
        silent = 10 - record["damaged_rows"] - reasons
        told = f"{record['damaged_rows']} / {reasons} / {silent}"
        table.append((one.title, _code(record), f"{record['lost']}", told))
    return table


def kill_table(records: Sequence[Record], sets: Mapping[str, Data]) -> Table:
    """kill -9 in the middle and the same command again."""
    table: Table = [
        (
            "",
            "recordings",
            "stored at the kill",
            "last line said",
            "then lost / twice",
            "core-s done again",
            "left running",
        )
    ]
    for one, killed in _of_part(records, "kill", WITHOUT_MODEL):
        again = next(r for r in records if (r["part"], r["who"]) == ("again", one.name))
        said = NOTHING
        if "said_committed" in killed:
            said = f"{killed['said_committed']} + {killed['said_under_way']} under way"
        cost = [r for r in records if (r["part"], r["who"]) == ("cost", one.name)]
        start, whole = (
            median(r["cpu"] for r in cost if r["data"] == data) for data in ("one", killed["data"])
        )
        redone = max(0.0, killed["cpu"] + again["cpu"] - whole - start)
        table.append(
            (
                one.title,
                f"{len(sets[killed['data']].ids)}",
                f"{killed['stored']}",
                said,
                f"{again['lost']} / {again['doubled']}",
                _text(redone),
                f"{len(killed['left'])}",
            )
        )
    return table


def model_table(records: Sequence[Record], sets: Mapping[str, Data]) -> Table:
    """The demo models on 200 clips: what they cost, and whether the texts are the same."""
    table: Table = [("", "start: core-s", "clips: s", "core-s", "core-s net", "texts as ours", "peak MiB")]
    ours = _texts(records, "ours-demo")
    for one in WITH_MODEL:
        runs = [r for r in records if (r["part"], r["who"]) == ("models", one.name) and not r["code"]]
        clips, start = ([r for r in runs if r["data"] == data] for data in ("clips", "one"))
        if not clips or not start:
            continue
        cpu, start_cpu = (median(r["cpu"] for r in some) for some in (clips, start))
        inner = [r["inner_cpu"] for r in clips if "inner_cpu" in r]
        same = sum(_same(text, ours.get(name)) for name, text in _texts(records, one.name).items())
        table.append(
            (
                one.title,
                _text(start_cpu),
                _text(median(r["wall"] for r in clips)),
                _text(cpu),
                _text(median(inner) if inner else cpu - start_cpu),
                f"{same} of {len(sets['clips'].ids)}" if ours else NOTHING,
                _text(max(r["peak_mib"] for r in clips), 0),
            )
        )
    return table


def short_table(records: Sequence[Record], sets: Mapping[str, Data]) -> Table:
    """What a README has room for."""
    table: Table = [
        (
            "",
            "start, s",
            "core-s for an hour of long files",
            "core-ms a short clip",
            "peak MiB",
            "good files lost beside damaged ones",
            "lost / twice after kill -9",
        )
    ]
    broken = {one: record for one, record in _of_part(records, "broken", WITHOUT_MODEL)}
    again = {one: record for one, record in _of_part(records, "again", WITHOUT_MODEL)}
    for one in WITHOUT_MODEL:
        if not _ran(one, records, "cost"):
            continue
        cost = cost_of(one, records, sets)
        table.append(
            (
                one.title,
                _text(cost.start_wall),
                _text(cost.long_net, 1),
                _text(cost.short_net),
                _text(cost.peak_short, 0),
                f"{broken[one]['lost']}" if one in broken else NOTHING,
                f"{again[one]['lost']} / {again[one]['doubled']}" if one in again else NOTHING,
            )
        )
    return table


def markdown(table: Table) -> str:
    """A table in Markdown; our own line is bold."""
    lines = [table[0], ("---",) * len(table[0]), *table[1:]]
    return "\n".join(
        "| "
        + " | ".join(f"**{cell}**" if cells[0].startswith("Scriptorium") else cell for cell in cells)
        + " |"
        for cells in lines
    )


def plain(table: Table) -> str:
    """A table for the terminal."""
    wide = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, wide, strict=True)).rstrip()
        for cells in table
    )


def _ran(contestant: Contestant, records: Iterable[Record], part: str) -> bool:
    return any((record["part"], record["who"]) == (part, contestant.name) for record in records)


def _of_part(
    records: Sequence[Record], part: str, contestants: Sequence[Contestant]
) -> list[tuple[Contestant, Record]]:
    """The last record of each contestant in a part."""
    last = {record["who"]: record for record in records if record["part"] == part}
    return [(one, last[one.name]) for one in contestants if one.name in last]


def _texts(records: Sequence[Record], who: str) -> Mapping[str, str]:
    found = [r["texts"] for r in records if (r["part"], r["who"], r["data"]) == ("models", who, "clips")]
    return found[-1] if found else {}


def _same(text: str | None, other: str | None) -> bool:
    return (text or "").strip() == (other or "").strip()


def _code(record: Record) -> str:
    return "took too long" if record["timed_out"] else f"{record['code']}"


def _text(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"
