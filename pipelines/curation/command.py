"""The command `scriptorium select`."""

from __future__ import annotations

import argparse


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pipelines.curation.selection import select

    return select(given)
