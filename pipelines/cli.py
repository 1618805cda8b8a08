"""The `scriptorium` command: runs one command, reports what happened, and returns its exit code.

Heavy imports stay inside the commands, so that `--help` and wrong arguments are answered at once.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.errors import ScriptoriumError, StorageError, UsageError
from pipelines.browsing.arguments import run_browse
from pipelines.cli_arguments import build_parser
from pipelines.curation.arguments import run_select
from pipelines.environment import prepared_process
from pipelines.export.arguments import run_export
from pipelines.importing.arguments import run_import
from pipelines.plurals import counted
from pipelines.speakers.arguments import run_speakers
from pipelines.supervision import shutdown

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.transcribe import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `scriptorium`; None: those of this process.

    Returns:
        The exit code: see `pipelines.cli_arguments.EXIT_CODES`.
    """
    owns_process = arguments is None
    if owns_process:
        atexit.register(shutdown.ignore_signals)
    with prepared_process() as output:
        parser = _parser()
        try:
            given = parser.parse_args(arguments)
        except SystemExit as end:  # --help, or wrong arguments
            raise SystemExit(output.exit_code(int(end.code or 0), keep=False)) from None
        if hasattr(given, "run"):
            code = _run(given)
        else:
            parser.print_help()
            code = 2
        code = output.exit_code(code, keep=_stores_work(given))
        if owns_process:
            shutdown.leave(code)
        return code


def _run(given: argparse.Namespace) -> int:
    try:
        with shutdown.handle_signals():
            return int(given.run(given))
    except UsageError as error:
        _say(f"scriptorium: {error.message}")
        return 2
    except KeyboardInterrupt:
        advice = " Finished work is kept; the same command goes on from there." if _stores_work(given) else ""
        _say(f"scriptorium: interrupted.{advice}")
        return 1
    except BrokenPipeError:
        return 1
    except StorageError as error:
        advice = (
            ". Finished work is kept; once this is fixed, the same command goes on from there."
            if _stores_work(given)
            else ""
        )
        _say(f"scriptorium: {error.message}{advice}")
        return 1
    except ScriptoriumError as error:
        _say(f"scriptorium: {error.message}")
        return 1
    except Exception as error:
        if os.environ.get("SCRIPTORIUM_TRACEBACK"):
            raise
        advice = "Finished work is kept. " if _stores_work(given) else ""
        _say(f"scriptorium: {_cause(error)}\n{advice}Set SCRIPTORIUM_TRACEBACK=1 to see the whole traceback.")
        return 1


def _stores_work(given: argparse.Namespace) -> bool:
    """Whether the command stores results in OUT that a later run need not do again."""
    is_run = getattr(given, "run", None) in (_transcribe, _retry)
    return is_run and not given.print_config and not getattr(given, "dry_run", False)


def _parser() -> argparse.ArgumentParser:
    return build_parser(COMMANDS)


def _config(given: argparse.Namespace) -> RunConfig:
    from pipelines.config import load_config

    return load_config(given.config, given.set)


def _print_config_if_asked(given: argparse.Namespace, config: RunConfig) -> bool:
    if given.print_config:
        from pipelines.config import describe

        print("\n".join(describe(config)).strip())
    return bool(given.print_config)


def _plan(given: argparse.Namespace) -> int:
    config = _config(given)
    if _print_config_if_asked(given, config):
        return 0
    from actors import retries
    from pipelines.manifests.manifest import read_manifest
    from pipelines.planning import estimate, measured_speeds, planner

    retries.apply(config.storage)
    if given.like:
        update = {"run": _folder(given.like)}
        config = config.model_copy(update={"estimate": config.estimate.model_copy(update=update)})
    measured = measured_speeds.speeds_for_plan(config)
    plan = planner.plan_table(
        read_manifest(_required(given.manifest, "MANIFEST"), dict(given.columns)), config
    )
    figures = estimate.estimate(
        plan,
        measured.apply(config.estimate),
        recognise=config.asr.backend != "openai",
        words=config.aligner.backend != "none",
        measured=measured.origins,
    )
    _show(figures.as_dict() if given.json else estimate.render(figures), given.json)
    return 0


def _transcribe(given: argparse.Namespace) -> int:
    config = _config(given)
    if _print_config_if_asked(given, config):
        return 0
    if given.dry_run:
        from pipelines.execution import preflight

        address = _folder(given.out) if given.out else None
        arguments = {
            "command": given.command,
            "described": given.nodes,
            "accept_changes": given.accept_changes,
            "columns": dict(given.columns),
        }
        _show(preflight.dry_run(given.manifest, address, config, **arguments), False)
        return 0
    if given.nodes:
        raise UsageError("--nodes needs --dry-run: a run uses the nodes of cluster.address")
    manifest, out = _required(given.manifest, "MANIFEST"), _required(given.out, "OUT")
    address = _folder(out)
    from pipelines import transcribe

    outcome = transcribe.transcribe(
        manifest,
        address,
        config,
        command=given.command,
        accept_changes=given.accept_changes,
        columns=dict(given.columns),
    )
    if given.show:
        from pipelines.reporting import transcript_table

        _show(transcript_table.table(address), False)
    return _print_outcome(outcome, out)


def _retry(given: argparse.Namespace) -> int:
    from pipelines import transcribe
    from pipelines.output import run_record, saved_settings

    out = _folder(given.out)
    config = saved_settings.load_settings(out, run_record.require(out), given.config, given.set)
    if _print_config_if_asked(given, config):
        return 0
    return _print_outcome(transcribe.retry(out, config, given.code), out)


def _status(given: argparse.Namespace) -> int:
    from pipelines.reporting import status

    state = status.read(_folder(given.out))
    _show(state if given.json else status.render(state), given.json)
    return 0


def _serve(given: argparse.Namespace) -> int:
    config = _config(given)
    if _print_config_if_asked(given, config):
        return 0
    try:
        from pipelines.serving import server
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[serve]'") from None
    return server.serve(config)


def _report(given: argparse.Namespace) -> int:
    from pipelines.reporting import arguments, report
    from pipelines.storage.files import join

    out = _folder(given.out)
    totals = report.write(out, arguments.prices_of(given))
    print(f"{report.totals_line(totals)}\n{join(out, 'report.html')}")
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from pipelines.evaluation import evaluate, protocol, tables

    if given.write_calibration and not given.references:
        raise UsageError("--write-calibration needs --references: a calibration is learned from references")
    out, against = _folder(given.out), _folder(given.against) if given.against else None
    chosen = protocol.protocol_of(given.preset, given.normalizer)
    options = evaluate.Options(chosen, given.by, given.worst, given.seed)
    result, segments = evaluate.evaluate(out, given.references, against, options, dict(given.columns))
    _show(tables.render(result), False)
    written = evaluate.write(result, segments, given.json, given.csv, given.write_calibration)
    print("\n".join(written))
    return 0


def _print_outcome(outcome: Outcome, out: str) -> int:
    """Print the totals of a run; returns its exit code."""
    recordings = counted(outcome.recordings, "recording")
    if not outcome.shards_done and outcome.complete:
        done = f"all {recordings} are" if outcome.recordings != 1 else f"the {recordings} is"
        print(f"nothing to do: {done} done in {out}")
    totals = f"{counted(outcome.transcripts, 'transcript')} + {counted(outcome.dead_letters, 'dead letter')}"
    if outcome.complete:
        print(f"{recordings} = {totals}")
    else:
        print(f"{recordings}, but only {totals}: not finished; the same command goes on from there")
    if outcome.dead_letters:
        them = "it" if outcome.dead_letters == 1 else "them"
        print(f"see {out}/dead_letters; `scriptorium retry {out}` runs {them} again")
    return outcome.exit_code


def _show(value: Any, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        import io

        from rich.console import Console

        # Without a terminal, nothing wraps long lines: the width must suffice for a table with text.
        if sys.stdout.isatty():
            Console().print(value)
            return
        console = Console(file=io.StringIO(), width=160)
        console.print(value)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        print("\n".join(line.rstrip() for line in lines))  # rich pads its lines with blanks


def _required(value: str | None, name: str) -> str:
    if not value:
        raise UsageError(f"{name} is missing: see `scriptorium COMMAND --help`")
    return value


def _folder(out: str) -> str:
    """OUT as an absolute address; nothing is created.

    Raises:
        UsageError: OUT cannot be a folder, because it or a parent is a file.
    """
    from pipelines.storage.files import absolute, is_remote, parent

    existing = address = absolute(out)
    while not is_remote(existing) and not os.path.exists(existing) and parent(existing) != existing:
        existing = parent(existing)
    if not is_remote(existing) and os.path.exists(existing) and not os.path.isdir(existing):
        raise UsageError(f"{existing} is a file: OUT must be a folder, or a path where one can be created")
    return address


def _cause(error: BaseException) -> str:
    """The line of a Ray error that names the cause, without the tracebacks of all processes involved."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line and not line.startswith(("File ", "ray::"))]
    return (named[-1] if named else lines[0] if lines else type(error).__name__)[:1000]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMANDS = {
    "plan": _plan,
    "transcribe": _transcribe,
    "align": _transcribe,
    "retry": _retry,
    "status": _status,
    "serve": _serve,
    "browse": run_browse,
    "report": _report,
    "evaluate": _evaluate,
    "export": run_export,
    "speakers": run_speakers,
    "import": run_import,
    "select": run_select,
}
