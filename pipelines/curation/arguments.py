"""The arguments of `scriptorium select`; imports nothing heavy."""

from __future__ import annotations

import argparse

EXAMPLES = (
    "out selected/",
    "out selected/ --against out-of-second-model --min-agreement 0.9",
    "out selected/ --unit recording --min-confidence 0.8 --dry-run",
    "out selected/ --min-snr 20 --min-bandwidth 7000 --max-speakers 1",
)
MORE = """DEST gets
  manifest.jsonl      what was kept: a MANIFEST for `transcribe` and `align`, and for trainers
  selection.parquet   one row for each recording or segment: kept or dropped, why, and all measurements
  summary.json        counts and hours by reason
Every limit can be switched off with `none`, such as --min-snr none.
"""


def run_select(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pipelines.curation import command

    return command.run(given)


def add_select_arguments(command: argparse.ArgumentParser, out_help: str) -> None:
    """Add the arguments of `scriptorium select` to its parser."""
    command.add_argument("out", metavar="OUT", help=out_help)
    command.add_argument("dest", metavar="DEST", help="folder, a local path or any fsspec URI")
    command.add_argument(
        "--unit",
        choices=("segment", "recording"),
        default="segment",
        help="what is kept or dropped: turns of one speaker, or whole recordings (segment)",
    )
    command.add_argument(
        "--against", metavar="OUT2", help="output directory of another run over the same recordings"
    )
    command.add_argument(
        "--original", action="store_true", help="what the model said, without what people corrected"
    )
    command.add_argument("--dry-run", action="store_true", help="print the counts, and write nothing")
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
    command.add_argument("--parallel", type=int, metavar="N", help="processes that measure the audio")
    command.add_argument(
        "--no-audio", action="store_true", help="do not read the audio: nothing is measured, and copies are "
        "found by their bytes and texts only",
    )  # fmt: skip
    text = command.add_argument_group("the text")
    _limit(text, "--min-confidence", "P", 0.5, "mean confidence; what has none passes")
    _limit(text, "--min-agreement", "P", 0.8, "with --against: share of characters that both runs have")
    _limit(text, "--min-chars-per-second", "N", 1.0, "of speech; Chinese, Japanese, Korean: a third of it")
    _limit(text, "--max-chars-per-second", "N", 27.0, "of speech; Chinese, Japanese, Korean: a third of it")
    _limit(
        text, "--max-rate-deviation", "N", 6.0, "robust standard deviations from the language's usual rate"
    )
    text.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        help="of the recording: ok, partial; may be repeated (ok)",
    )
    text.add_argument(
        "--language", action="append", default=[], metavar="NAME", help="only these; may be repeated"
    )
    text.add_argument(
        "--without-flags", metavar="FLAG,...", help="instead of those in docs/curation.md; `none`: any may be"
    )
    sound = command.add_argument_group("the sound")
    _limit(sound, "--min-snr", "DB", 8.0, "speech above noise")
    _limit(sound, "--min-bandwidth", "HZ", 2500.0, "highest frequency with speech; telephones have 3,400")
    _limit(sound, "--max-clipped", "SHARE", 0.002, "samples that are cut off at full swing")
    _limit(sound, "--min-level", "DBFS", -55.0, "of speech")
    _limit(sound, "--min-duration", "S", 0.3, "seconds")
    _limit(sound, "--max-duration", "S", None, "seconds")
    _limit(sound, "--min-speech", "SHARE", 0.1, "of the time that has words or sound like speech")
    sound.add_argument(
        "--max-speakers",
        type=_number,
        default=None,
        metavar="N",
        help="voices in a unit, where speakers are known",
    )
    _limit(sound, "--min-purity", "SHARE", None, "of the words that are the main speaker's")
    copies = command.add_argument_group("copies")
    copies.add_argument(
        "--keep-copies",
        action="store_true",
        help="keep recordings whose audio, or sound and text, is there twice",
    )
    _limit(
        copies,
        "--max-same-text",
        "N",
        5.0,
        "units of four words or more with the same text: more are dropped",
    )


def _limit(group: argparse._ArgumentGroup, name: str, unit: str, default: float | None, about: str) -> None:
    shown = "none" if default is None else f"{default:g}"
    group.add_argument(name, type=_number, default=default, metavar=unit, help=f"{about} ({shown})")


def _number(text: str) -> float | None:
    if text.casefold() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, and not `none`") from None
