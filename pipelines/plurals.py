"""Counts in messages: `1 recording`, `2,000 recordings`."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with thousands separators and its noun in the singular or plural.

    Args:
        number: how many.
        noun: in the singular, with a regular plural, such as "dead letter".
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
