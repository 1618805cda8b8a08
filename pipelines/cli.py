"""The `scriptorium` command: reads the arguments, tells people what happened, and ends with the contract's exit code.

Heavy imports stay inside the commands, so that `--help` and bad usage answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.errors import CODES, ScriptoriumError, StorageError, UsageError
from pipelines.supervision import shutdown

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.transcribe import Outcome

EXIT_CODES = """exit codes:
  0  all transcribed
  1  stopped before the end: the same command goes on where it stopped
  2  bad usage, config or manifest; nothing was started
  3  finished, but some recordings failed: see OUT/dead_letters, `scriptorium retry OUT`
"""

MANIFEST_HELP = (
    "JSONL, CSV, TSV, Parquet, a NeMo manifest, lhotse recordings or cuts, a folder or a glob; a local path or any fsspec URI (s3://...). "
    "Columns: audio (or audio_filepath, uri, url, path) and optionally id, language, context, text, duration, channel; "
    "all others are carried along as metadata"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not hasattr(given, "run"):
        parser.print_help()
        return 2
    try:
        with shutdown.handle_signals():
            return int(given.run(given))
    except UsageError as error:
        _say(f"scriptorium: {error.message}")
        return 2
    except KeyboardInterrupt:
        _say("scriptorium: interrupted. What was finished is kept; the same command goes on from there.")
        return 1
    except BrokenPipeError:
        return 1
    except StorageError as error:
        _say(
            f"scriptorium: {error.message}. What was finished is kept; when that is put right, the same command goes on from there."
        )
        return 1
    except ScriptoriumError as error:
        _say(f"scriptorium: {error.message}")
        return 1
    except Exception as error:
        if os.environ.get("SCRIPTORIUM_TRACEBACK"):
            raise
        _say(
            f"scriptorium: {_cause(error)}\nSet SCRIPTORIUM_TRACEBACK=1 for the whole story. What was finished is kept."
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scriptorium",
        description="Bulk transcription with Qwen3-ASR and Qwen3-ForcedAligner on Ray Data.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    plan = commands.add_parser(
        "plan", help="what would run: hours, shards, cost, ETA; reads headers only, starts nothing"
    )
    plan.add_argument("manifest", metavar="MANIFEST", nargs="?", help=MANIFEST_HELP)
    plan.add_argument("--json", action="store_true", help="print the figures as JSON")
    _settings(plan)
    plan.set_defaults(run=_plan)

    for name, what in (
        ("transcribe", "the job; the same line again resumes it, or takes in what is new"),
        ("align", "word times for text that the manifest already has"),
    ):
        command = commands.add_parser(
            name,
            help=what,
            description=what,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("manifest", metavar="MANIFEST", nargs="?", help=MANIFEST_HELP)
        command.add_argument(
            "out", metavar="OUT", nargs="?", help="output directory, local or any fsspec URI"
        )
        command.add_argument(
            "--accept-changes",
            action="store_true",
            help="go on in OUT although the settings are not those it was made with",
        )
        command.add_argument(
            "--dry-run",
            action="store_true",
            help="print which node would hold which models and how much decoding, refuse what does not fit; stop",
        )
        command.add_argument(
            "--nodes",
            metavar="NODES",
            help="with --dry-run: on nodes like these, not those of cluster.address: 2x(CPU=16,GPU=2,type=L4,memory=64),4x(CPU=32); memory in GiB",
        )
        command.add_argument(
            "--show", action="store_true", help="print the transcripts as a table at the end (the first 100)"
        )
        _settings(command)
        command.set_defaults(run=_transcribe, command=name)

    status = commands.add_parser("status", help="progress of a run, while it runs or after")
    status.add_argument("out", metavar="OUT", help="output directory of the run")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.set_defaults(run=_status)

    again = commands.add_parser("retry", help="run the dead letters of a run again")
    again.add_argument("out", metavar="OUT", help="output directory of the run")
    again.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="CODE",
        choices=CODES,
        help="only those with this error code; may be repeated",
    )
    _settings(again)
    again.set_defaults(run=_retry)

    server = commands.add_parser("serve", help="OpenAI-compatible HTTP, streaming WebSocket, and a web page")
    _settings(server)
    server.set_defaults(run=_serve)

    page = commands.add_parser("report", help="write OUT/report.html and OUT/report.json and print the sums")
    page.add_argument("out", metavar="OUT", help="output directory of the run")
    page.set_defaults(run=_report)
    return parser


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings, local or any fsspec URI")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting by its dotted name, such as asr.language=German",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as they would be used, and stop"
    )


def _config(given: argparse.Namespace) -> RunConfig:
    from pipelines.config import load_config

    return load_config(given.config, given.set)


def _printed(given: argparse.Namespace, config: RunConfig) -> bool:
    if given.print_config:
        from pipelines.config import describe

        print("\n".join(describe(config)).strip())
    return bool(given.print_config)


def _plan(given: argparse.Namespace) -> int:
    config = _config(given)
    if _printed(given, config):
        return 0
    from actors import retries
    from pipelines.manifests.manifest import read_manifest
    from pipelines.planning import estimate, planner

    retries.apply(config.storage)
    plan = planner.plan_table(read_manifest(_wanted(given.manifest, "MANIFEST")), config)
    figures = estimate.estimate(
        plan,
        config.estimate,
        recognise=config.asr.backend != "openai",
        words=config.aligner.backend != "none",
    )
    _show(figures.as_dict() if given.json else estimate.render(figures), given.json)
    return 0


def _transcribe(given: argparse.Namespace) -> int:
    config = _config(given)
    if _printed(given, config):
        return 0
    if given.dry_run:
        from pipelines.execution import preflight

        there = _folder(given.out) if given.out else None
        arguments = {
            "command": given.command,
            "described": given.nodes,
            "accept_changes": given.accept_changes,
        }
        _show(preflight.dry_run(given.manifest, there, config, **arguments), False)
        return 0
    if given.nodes:
        raise UsageError("--nodes is for --dry-run: a run takes the nodes of cluster.address")
    manifest, out = _wanted(given.manifest, "MANIFEST"), _wanted(given.out, "OUT")
    there = _folder(out)
    from pipelines import transcribe

    outcome = transcribe.transcribe(
        manifest, there, config, command=given.command, accept_changes=given.accept_changes
    )
    if given.show:
        from pipelines.reporting import transcript_table

        _show(transcript_table.table(there), False)
    return _finished(outcome, out)


def _retry(given: argparse.Namespace) -> int:
    from pipelines import transcribe
    from pipelines.output import run_record, saved_settings

    out = _folder(given.out)
    config = saved_settings.load_settings(out, run_record.require(out), given.config, given.set)
    if _printed(given, config):
        return 0
    return _finished(transcribe.retry(out, config, given.code), out)


def _status(given: argparse.Namespace) -> int:
    from pipelines.reporting import status

    state = status.read(_folder(given.out))
    _show(state if given.json else status.render(state), given.json)
    return 0


def _serve(given: argparse.Namespace) -> int:
    config = _config(given)
    if _printed(given, config):
        return 0
    try:
        from pipelines.serving import server
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[serve]'") from None
    return server.serve(config)


def _report(given: argparse.Namespace) -> int:
    from pipelines.reporting import report
    from pipelines.storage.files import join

    out = _folder(given.out)
    sums = report.write(out)
    print(f"{report.sentence(sums)}\n{join(out, 'report.html')}")
    return 0


def _finished(outcome: Outcome, out: str) -> int:
    if not outcome.shards_done and outcome.complete:
        print(f"nothing to do: all {outcome.recordings:,} recordings are done in {out}")
    counts = f"{outcome.transcripts:,} transcripts + {outcome.dead_letters:,} dead letters"
    if outcome.complete:
        print(f"{outcome.recordings:,} recordings = {counts}")
    else:
        print(
            f"{outcome.recordings:,} recordings, but {counts}: not finished; the same command goes on from there"
        )
    if outcome.dead_letters:
        print(f"see {out}/dead_letters; `scriptorium retry {out}` runs them again")
    return outcome.exit_code


def _show(value: Any, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        from rich.console import Console

        # Without a terminal nobody wraps lines for us: wide enough for a table with text.
        Console(width=None if sys.stdout.isatty() else 160).print(value)


def _wanted(value: str | None, name: str) -> str:
    if not value:
        raise UsageError(f"{name} is missing: see --help")
    return value


def _folder(out: str) -> str:
    """OUT as an absolute address; nothing is made there.

    Raises:
        UsageError: it cannot be a folder.
    """
    from pipelines.storage.files import absolute, is_remote, parent

    place = there = absolute(out)
    while not is_remote(place) and not os.path.exists(place) and parent(place) != place:
        place = parent(place)
    if not is_remote(place) and os.path.exists(place) and not os.path.isdir(place):
        raise UsageError(f"{place} is a file: OUT must be a folder, or a place where one can be made")
    return there


def _cause(error: BaseException) -> str:
    """The line of a Ray error that names the cause, without the stacks of every process that it passed through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line and not line.startswith(("File ", "ray::"))]
    return (named[-1] if named else lines[0] if lines else type(error).__name__)[:1000]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
