"""The commands about finished transcripts, with their purposes and arguments; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from pipelines.curation import arguments as select
from pipelines.export import arguments as export
from pipelines.importing import arguments as importing
from pipelines.speakers import arguments as speakers

Add = Callable[..., argparse.ArgumentParser]


def add_output_commands(
    add: Add, out_help: str, add_settings: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add `export`, `select`, `import` and `speakers`.

    Args:
        add: makes the parser of a command: name, purpose, examples, `more`.
        out_help: of the argument OUT.
        add_settings: adds `--config` and `--set`.
    """
    purpose = "write transcripts as subtitles, text, annotations, scoring files or training sets"
    export.add_export_arguments(add("export", purpose, *export.EXAMPLES, more=export.MORE), out_help)
    purpose = "choose the recordings or segments that are good enough, and say why the others are not"
    select.add_select_arguments(add("select", purpose, *select.EXAMPLES, more=select.MORE), out_help)
    purpose = "take in what people corrected in exported files"
    command = add("import", purpose, *importing.EXAMPLES, more=importing.MORE)
    importing.add_import_arguments(command, out_help)
    add_settings(command)
    purpose = "list the speakers of a run; with --link, group the same voice across recordings"
    speakers.add_speakers_arguments(add("speakers", purpose, *speakers.EXAMPLES), out_help)
