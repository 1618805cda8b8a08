"""The arguments of the `scriptorium` command, and its help.

Imports nothing heavy, so that `--help` and wrong arguments are answered at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from actors.errors import CODES
from pipelines.browsing import arguments as browsing
from pipelines.cli_output_commands import add_output_commands
from pipelines.evaluation.protocol import NORMALIZERS, PRESETS
from pipelines.reporting.arguments import add_report_arguments

EXIT_CODES = """exit codes:
  0  everything was transcribed
  1  stopped before the end: the same command goes on from there
  2  wrong arguments, settings or manifest; nothing was started
  3  finished, but some recordings failed: see OUT/dead_letters; `scriptorium retry OUT` runs them again
"""

EXAMPLES = """examples:
  scriptorium plan manifest.jsonl --set estimate.gpus=8
  scriptorium transcribe manifest.jsonl s3://bucket/out --config settings.yaml
  scriptorium align texts.csv out
  scriptorium status out
  scriptorium retry out --code storage_unavailable
  scriptorium report out
  scriptorium evaluate out --references manifest.jsonl
  scriptorium export out srt subtitles/
  scriptorium import out corrected/talk.srt
  scriptorium select out good/
  scriptorium speakers out --link
  scriptorium browse out
  scriptorium serve --set serve.port=9000

`scriptorium COMMAND --help` explains a command; `scriptorium transcribe --print-config` lists all settings.

"""

MANIFEST_HELP = (
    "JSONL, CSV, TSV, Parquet, a NeMo manifest, lhotse recordings or cuts, a folder or a glob; a local path "
    "or any fsspec URI (s3://...); also tar archives, lists of paths and Kaldi's data folders; - for "
    "standard input. Columns: audio (or audio_filepath, uri, url, path, file_name) and optionally id, "
    "language, context, text, duration, channel, offset or start, end; all other columns are copied to the "
    "transcript as metadata"
)
# Columns that `--columns` can name.
COLUMNS = (
    *("audio", "id", "language", "context", "text", "duration", "channel", "offset", "start", "end"),
    *("track", "sampling_rate", "channels", "format"),
)
OUT_HELP = "output directory of the run, a local path or any fsspec URI"

Command = Callable[[argparse.Namespace], int]


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        commands: the function of each command by name; the parser returns it as `run`.
    """
    parser = argparse.ArgumentParser(
        prog="scriptorium",
        description="Bulk transcription with Qwen3-ASR and Qwen3-ForcedAligner on Ray Data.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument(
        "--version", action=_PrintVersion, help="print the versions of scriptorium, Python, Ray and torch"
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, purpose: str, *examples: str, more: str = "") -> argparse.ArgumentParser:
        title = "example" if len(examples) == 1 else "examples"
        lines = "".join(f"  scriptorium {name} {example}\n" for example in examples)
        command = subparsers.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            epilog=f"{title}:\n{lines}" + (f"\n{more}" if more else ""),
            formatter_class=_HelpFormatter,
        )
        command.set_defaults(run=commands[name])
        return command

    plan = add(
        "plan",
        "estimate hours, shards, cost and time; reads headers only and starts nothing",
        "manifest.jsonl",
        "s3://bucket/audio --set estimate.gpus=8 --json",
        "manifest.jsonl --like out --set estimate.gpus=8 --set estimate.gpu_type=H200",
    )
    plan.add_argument("manifest", metavar="MANIFEST", nargs="?", help=MANIFEST_HELP)
    _add_columns(plan)
    plan.add_argument("--json", action="store_true", help="print the figures as JSON")
    plan.add_argument(
        "--like",
        metavar="OUT",
        help="use the speeds that an earlier run in OUT measured on such hardware (estimate.run)",
    )
    _add_settings(plan)

    _add_run_arguments(
        add(
            "transcribe",
            "transcribe a manifest; the same command again resumes the run, or adds new recordings",
            "manifest.jsonl out",
            "recordings/ s3://bucket/out --set asr.language=German",
            "manifest.jsonl out --dry-run --nodes '2x(CPU=16,GPU=2,type=L4,memory=64)'",
            more=EXIT_CODES,
        ),
        "transcribe",
    )
    _add_run_arguments(
        add(
            "align", "add word times to text that the manifest already has", "texts.csv out", more=EXIT_CODES
        ),
        "align",
    )

    status = add("status", "show the progress of a run, during the run or after it", "out")
    status.add_argument("out", metavar="OUT", help=OUT_HELP)
    status.add_argument("--json", action="store_true", help="print the state as JSON")

    retry = add(
        "retry",
        "run the dead letters of a run again",
        "out",
        "out --code storage_unavailable",
        more=EXIT_CODES,
    )
    retry.add_argument("out", metavar="OUT", help=OUT_HELP)
    retry.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="CODE",
        choices=CODES,
        help="only those with this error code; may be repeated",
    )
    _add_settings(retry)

    serve = add(
        "serve",
        "serve an OpenAI-compatible HTTP API, realtime transcription over WebSocket, and a web page",
        "--config settings.yaml",
    )
    _add_settings(serve)

    purpose = "search, read, hear and correct the transcripts of a run, in a page on this machine"
    browsing.add_browse_arguments(add("browse", purpose, *browsing.EXAMPLES, more=browsing.MORE), OUT_HELP)

    purpose = "write OUT/report.html and OUT/report.json, and print the totals"
    add_report_arguments(add("report", purpose, "out", "out --gpu-hour-price 2.1 --currency EUR"), OUT_HELP)

    _add_evaluate_arguments(
        add(
            "evaluate",
            "measure transcripts against references, or against another run; writes OUT/evaluation.html",
            "out --references manifest.jsonl --by collection --json figures.json",
            "out --references fleurs.jsonl --preset qwen3-asr",
            "out --against other-out",
        )
    )
    add_output_commands(add, OUT_HELP, _add_settings)
    return parser


def _add_evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", metavar="OUT", help=OUT_HELP)
    command.add_argument(
        "--references",
        metavar="MANIFEST",
        help="manifest with the ids of the run and what was said: `text`, and optionally `language`, `words` "
        "and `turns` (who spoke when); or an RTTM file; or an output directory with corrections",
    )
    _add_columns(command)
    command.add_argument(
        "--against", metavar="OUT2", help="output directory of another run: how far the two runs agree"
    )
    command.add_argument("--preset", choices=PRESETS, help="a published protocol: which languages take CER")
    command.add_argument(
        "--normalizer",
        choices=NORMALIZERS,
        help="what is no error: Whisper's `basic` or `english`; `auto` (default): `english` for English, "
        "`basic` with its vowel signs for all others; `none`: case and punctuation count",
    )
    command.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a table by the values of this column of the references; may be repeated",
    )
    command.add_argument(
        "--worst", type=int, default=10, metavar="N", help="list the N recordings with the most errors (10)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the intervals (0)")
    command.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    command.add_argument("--csv", metavar="FILE", help="write the figures of all groups as CSV")
    command.add_argument(
        "--write-calibration",
        metavar="FILE",
        help="write the map from confidence to the share of right words, learned from these references",
    )


def _add_run_arguments(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("manifest", metavar="MANIFEST", nargs="?", help=MANIFEST_HELP)
    command.add_argument(
        "out", metavar="OUT", nargs="?", help="output directory, a local path or any fsspec URI"
    )
    _add_columns(command)
    command.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on in OUT although the settings differ from those that it was made with",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print which node would hold which models and how much decoding, refuse what does not fit; stop",
    )
    command.add_argument(
        "--nodes",
        metavar="NODES",
        help="with --dry-run: assume these nodes instead of those of cluster.address, such as "
        "2x(CPU=16,GPU=2,type=L4,memory=64),4x(CPU=32); memory in GiB",
    )
    command.add_argument(
        "--show", action="store_true", help="print the first 100 transcripts as a table at the end"
    )
    _add_settings(command)
    command.set_defaults(command=name)


def _add_columns(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--columns",
        action="extend",
        type=_columns,
        default=[],
        metavar="NAME=COLUMN,...",
        help="what the manifest's columns are called, such as audio=file,id=key; may be repeated",
    )


def _columns(text: str) -> list[tuple[str, str]]:
    """The pairs of an argument such as `audio=file,id=key`: our name and the manifest's."""
    pairs = [tuple(part.strip() for part in pair.partition("=")[::2]) for pair in text.split(",")]
    for ours, theirs in pairs:
        if ours not in COLUMNS or not theirs:
            raise argparse.ArgumentTypeError(
                f"{ours}={theirs} is not NAME=COLUMN with one of the names {', '.join(COLUMNS)}"
            )
    return [(ours, theirs) for ours, theirs in pairs]


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with settings, a local path or any fsspec URI"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting by its dotted name, such as asr.language=German; may be repeated",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as they would be used, and stop"
    )


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks, and has room for the longest command name and its purpose on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        # argparse forgets the indentation of commands when it computes this width.
        self._action_max_length = 14


class _PrintVersion(argparse.Action):
    """Print the versions of everything that determines a result, and exit."""

    def __init__(self, option_strings: list[str], dest: str, **arguments: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **arguments)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version_line())
        parser.exit()


def version_line() -> str:
    """The versions of Scriptorium, Python, Ray and torch in one line; of packages, only those installed.

    They are read from package metadata, without importing the packages.
    """
    import platform
    from importlib import metadata

    from pipelines import __version__

    versions = [f"Python {platform.python_version()}"]
    for package, name in (("ray", "Ray"), ("torch", "torch")):
        try:
            versions.append(f"{name} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"scriptorium {__version__} ({', '.join(versions)})"
