"""Figures as people read them: `12 min 4 s`, `4.7 min of audio`, `3.2 h`."""

from __future__ import annotations

from datetime import datetime


def duration(seconds: float | None) -> str:
    """A length of time: `0.4 s`, `12 min 4 s`, `3 h 5 min`, `2 d 4 h`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s" if round(seconds, 1) % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, name, below, below_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        # 59.7 minutes are rounded to 60 minutes, which is an hour.
        rounded = round(whole / below) * below
        if rounded >= unit:
            rest = rounded % unit // below
            return f"{rounded // unit:,} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def amount(seconds: float | None) -> str:
    """An amount of audio in one unit: `41.3 s`, `4.7 min`, `12.4 h`, `103,500 h`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            value = seconds / unit
            return f"{value:,.0f} {name}" if value >= 1000 else f"{value:,.1f} {name}"
    return f"{seconds:.1f} s"


def percent(share: float | None) -> str:
    """A share of one as per cent: `97 %`, `0.3 %`; `unknown` for None."""
    if share is None:
        return "unknown"
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or not value else f"{value:.1f} %" if value >= 0.1 else "<0.1 %"


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands separators, and no more than `digits` decimals; `unknown` for None."""
    if value is None:
        return "unknown"
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def speed(rtfx: float | None) -> str:
    """Audio seconds per second: `12x real time`; `unknown` for None."""
    return "unknown" if rtfx is None else f"{number(rtfx, 0 if rtfx >= 10 else 1)}x"


def money(value: float | None, currency: str = "") -> str:
    """An amount of money with its currency; fractions of a cent are shown where there is nothing else."""
    if value is None:
        return "unknown"
    text = f"{value:,.2f}" if value >= 1 or not value else f"{value:.2g}" if value >= 1e-4 else "under 0.0001"
    return f"{text} {currency}".strip()


def moment(text: str | None) -> str:
    """A time of run.json without its `T` and its offset from UTC: `2026-11-27 22:10:08`."""
    if not text:
        return "not finished"
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
