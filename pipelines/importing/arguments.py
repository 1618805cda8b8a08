"""The arguments of `scriptorium import`; imports nothing heavy."""

from __future__ import annotations

import argparse

EXAMPLES = (
    "out corrected/talk.srt --who ada",
    "out 'corrected/*.vtt' --dry-run",
    "out project-1-at-2026-11-27.json",
    "out talk.TextGrid --id interviews/talk.wav --no-align",
)
MORE = """what is read:
  .srt .vtt .TextGrid        as `export` writes them: the name of the file says which recording it is
  .csv .json                 the columns `recording_id`, `start`, `end`, `text` · Label Studio's JSON
Corrections are stored in OUT/corrections, and what the model said stays where it is. `export` and `browse`
use them from then on; `evaluate OUT --references OUT` measures the model against them.

exit codes: 0 all read · 2 wrong arguments or file · 3 some files, or parts of them, belong to no recording
"""


def run_import(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pipelines.importing import command

    return command.run(given)


def add_import_arguments(command: argparse.ArgumentParser, out_help: str) -> None:
    """Add the arguments of `scriptorium import` to its parser, without those of settings."""
    command.add_argument("out", metavar="OUT", help=out_help)
    command.add_argument(
        "files", metavar="FILE", nargs="+", help="corrected files, folders or globs; paths or any fsspec URI"
    )
    command.add_argument("--who", metavar="NAME", help="who corrected it (the file's annotator, or the user)")
    command.add_argument(
        "--format",
        choices=("srt", "vtt", "textgrid", "csv", "labelstudio"),
        help="of all files; by default their names say it",
    )
    command.add_argument("--id", metavar="ID", help="the recording that the file is about, whatever its name")
    command.add_argument("--dry-run", action="store_true", help="print what would change, and store nothing")
    command.add_argument(
        "--no-align",
        action="store_true",
        help="do not align the words of changed texts: those that stayed keep their times, others have none",
    )
    command.add_argument(
        "--reviewed",
        action="store_true",
        help="everything in the files was read: segments without a change are stored as right, too",
    )
    command.add_argument(
        "--force", action="store_true", help="also take texts that have next to nothing in common with ours"
    )
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
