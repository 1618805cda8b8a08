"""The command `scriptorium speakers`."""

from __future__ import annotations

import argparse
import io
import json
import sys

from rich.console import Console

from actors.errors import UsageError
from pipelines.output import speakers
from pipelines.plurals import counted
from pipelines.speakers import linking
from pipelines.storage import files

_WIDTH = 160  # where there is no terminal


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments do not fit together, or OUT has no speakers.
    """
    if given.threshold is not None and not given.link:
        raise UsageError("--threshold needs --link")
    if given.threshold is not None and not 0 < given.threshold < 1:
        raise UsageError("--threshold must be between 0 and 1")
    out = files.absolute(given.out)
    if given.link:
        linked = linking.link(out, given.threshold)
        rows, written = linked.rows, linking.write(out, linked)
        people = counted(len(rows), "speaker")
        lines = [f"{counted(linked.voices, 'voice')} among {people}", written]
        if linked.without_voice:
            lines.insert(1, f"{counted(linked.without_voice, 'speaker')} left out: channels have no voices")
    else:
        rows = speakers.read(out, ["recording_id", "speaker", "name", "duration", "quality"]).to_pylist()
        if not rows:
            raise UsageError(f"{out} has no speakers: transcribe with --set speakers.backend=campplus")
        recordings = len({row["recording_id"] for row in rows})
        lines = [f"{counted(len(rows), 'speaker')} in {counted(recordings, 'recording')}"]
    if given.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    if sys.stdout.isatty():
        Console().print(linking.table(rows))
    else:
        console = Console(file=io.StringIO(), width=_WIDTH)
        console.print(linking.table(rows))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        print("\n".join(line.rstrip() for line in text.splitlines()))
    print("\n".join(lines))
    return 0
