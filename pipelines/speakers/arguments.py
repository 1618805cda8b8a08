"""The arguments of `scriptorium speakers`; imports nothing heavy."""

from __future__ import annotations

import argparse

EXAMPLES = ("out", "out --link", "out --link --threshold 0.6 --json")


def add_speakers_arguments(command: argparse.ArgumentParser, out_help: str) -> None:
    """Add the arguments of the command to its parser."""
    command.add_argument("out", metavar="OUT", help=out_help)
    command.add_argument(
        "--link",
        action="store_true",
        help="group the same voice across recordings, and write OUT/voices.parquet",
    )
    command.add_argument(
        "--threshold",
        type=float,
        metavar="SIMILARITY",
        help="similarity (cosine) from which two voices are one; default: that of the speaker model",
    )
    command.add_argument("--json", action="store_true", help="print the rows as JSON")


def run_speakers(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments do not fit together, or OUT has no speakers.
    """
    from pipelines.speakers.command import run

    return run(given)
