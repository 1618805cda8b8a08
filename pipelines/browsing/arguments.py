"""The arguments of `scriptorium browse`; imports nothing heavy."""

from __future__ import annotations

import argparse

EXAMPLES = (
    "out",
    "s3://bucket/out --editor ada",
    "out --port 9001 --read-only",
    "out --host 0.0.0.0 --allowed-host transcripts.example.org",
)
MORE = """The page needs the token in the printed address. It searches words, "phrases in quotes" and
-excluded words; press ? on the page for its keys. #RECORDING@SECONDS at the end of its address links to a
moment. The search index is OUT/browse/index.sqlite3, for object stores a file in this user's
cache. It is built once, and later only takes in what is new.
Corrections are stored in OUT/corrections; transcripts stay as the model wrote them.
"""


def add_browse_arguments(command: argparse.ArgumentParser, out_help: str) -> None:
    """Add the arguments of the command to its parser."""
    command.add_argument("out", metavar="OUT", help=out_help)
    command.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (127.0.0.1: this machine)",
    )
    command.add_argument("--port", type=int, default=8010, metavar="N", help="0: any that is free (8010)")
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name of this machine in a browser's address, with --host; may be repeated",
    )
    command.add_argument("--editor", metavar="NAME", help="whose corrections they are (the user's name)")
    command.add_argument("--read-only", action="store_true", help="nobody can correct")
    command.add_argument("--open", action="store_true", help="open the page in the browser of this machine")


def run_browse(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments are wrong, or the extra `serve` is not installed.
    """
    from actors.errors import UsageError

    try:
        from pipelines.browsing.command import run
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[serve]'") from None
    return run(given)
