"""OUT/run.json: the settings and versions that made an output directory, and the runs on it.

A later command on the directory goes on with the same settings, or refuses to.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import uuid
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from actors.errors import UsageError
from actors.redaction import redacted
from pipelines import __version__
from pipelines.config import RunConfig, is_secret
from pipelines.config_files import current_name
from pipelines.output import calibrations
from pipelines.storage import files

PACKAGES = ("ray", "pyarrow", "av", "soundfile", "soxr", "numpy", "torch", "transformers", "silero-vad")

# Settings of a runtime environment that list packages.
PACKAGE_LISTS = ("pip", "uv", "conda", "packages", "dependencies")
# A package with or without a version: anything else in such a list may contain a secret.
PACKAGE = re.compile(r"[A-Za-z][\w.-]*(\[[\w,. -]*\])?(\s*([=<>!~]=|[=<>]|===)\s*\d[\w.*+!]*\s*(,|$))*")


def open_run(
    out: str, config: RunConfig, command: str, manifest: str, *, accept_changes: bool = False
) -> tuple[str, dict[str, Any]]:
    """Register a new run on `out`.

    Args:
        out: the output directory.
        config: the settings of the run.
        command: transcribe or align.
        manifest: the address of the manifest, for the record.
        accept_changes: go on although the settings have changed.

    Returns:
        The id of the run, and the record, which is already written.

    Raises:
        UsageError: see `checked`.
    """
    record = checked(out, config, command, accept_changes=accept_changes) or {"created_at": now(), "runs": []}
    run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S") + "-" + uuid.uuid4().hex[:6]
    record |= {
        "command": command,
        "version": __version__,
        "config_hash": config.hash(),
        "identity": config.identity(),
        "config": _without_secrets(config),
        "models": {
            "asr": {
                "backend": config.asr.backend,
                "model": config.asr.model,
                "revision": config.asr.revision,
            },
            "aligner": {
                "backend": config.aligner.backend,
                "model": config.aligner.model,
                "revision": config.aligner.revision,
            },
        },
        "calibration": calibrations.facts(config.asr),
        "packages": _versions(),
    }
    record["runs"].append(
        {
            "run_id": run_id,
            # The name of a file may be invalid UTF-8.
            "manifest": redacted(manifest).encode(errors="backslashreplace").decode(),
            "started_at": now(),
            "finished_at": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
    )
    write(out, record)
    return run_id, record


def checked(
    out: str, config: RunConfig, command: str, *, accept_changes: bool = False
) -> dict[str, Any] | None:
    """Check that a run may start or go on in a directory; returns its record, or None if there is none yet.

    Raises:
        UsageError: the directory was made by another command or with other settings, or is not a run at all.
    """
    record = read(out)
    if record is None:
        _refuse_unknown_files(out)
    elif record["command"] != command:
        raise UsageError(
            f"{out} was made by `scriptorium {record['command']}`: "
            f"give `scriptorium {command}` a directory of its own"
        )
    elif record["config_hash"] != config.hash() and not accept_changes:
        changed = ", ".join(sorted(_differences(record["identity"], config.identity())))
        raise UsageError(
            f"{out} was made with other settings ({changed}): its rows and new ones would not be alike. "
            f"Give the same settings, or another directory, or run `scriptorium {command}` with "
            "--accept-changes to use the new settings for what is not done yet"
        )
    if record and not accept_changes:
        _refuse_changed_calibration(out, record, config)
    return record


def note(out: str, record: dict[str, Any], run_id: str, **facts: Any) -> None:
    """Add facts to the entry of a run, which may be unfinished."""
    for run in record["runs"]:
        if run["run_id"] == run_id:
            run |= facts
    write(out, record)


def close_run(out: str, record: dict[str, Any], run_id: str, **facts: Any) -> None:
    """Mark a run as finished, and add facts to its entry."""
    note(out, record, run_id, finished_at=now(), **facts)


def read(out: str) -> dict[str, Any] | None:
    """The record of `out`; None if there is none.

    Raises:
        UsageError: there is a run.json, but not one of Scriptorium.
    """
    uri = files.join(out, "run.json")
    try:
        record = json.loads(files.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{uri} does not describe a run of Scriptorium: {error}") from None
    if not isinstance(record, dict) or "config_hash" not in record:
        raise UsageError(f"{uri} does not describe a run of Scriptorium: choose another directory")
    # Early versions stored the whole address, with signatures.
    for run in record.get("runs", []):
        run["manifest"] = redacted(run.get("manifest", ""))
    return record


def require(out: str) -> dict[str, Any]:
    """The record of `out`, which must exist.

    Raises:
        UsageError: there is no run in `out`.
    """
    record = read(out)
    if record is None:
        raise UsageError(f"there is no run in {out}: it has no run.json")
    return record


def write(out: str, record: dict[str, Any]) -> None:
    """Write run.json atomically."""
    files.write_atomic(files.join(out, "run.json"), json.dumps(record, indent=2, ensure_ascii=False).encode())


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse_unknown_files(out: str) -> None:
    for name in ("transcripts", "shards", "plan", "checkpoint"):
        if files.list(files.join(out, name), ".parquet"):
            raise UsageError(
                f"{out} has files in {name}/ but no run.json, so their origin is unknown: "
                "choose another directory"
            )


def _refuse_changed_calibration(out: str, record: dict[str, Any], config: RunConfig) -> None:
    before, now = record.get("calibration") or {}, calibrations.facts(config.asr) or {}
    if before.get("digest") != now.get("digest"):
        raise UsageError(
            f"asr.calibration={config.asr.calibration} has changed since {out} was begun: old and new "
            "transcripts would not be alike. Give the same file, or another directory, or --accept-changes"
        )


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [
        current_name(f"{section}.{name}")
        for section in {*old, *new}
        for name in {*old.get(section, {}), *new.get(section, {})}
        if old.get(section, {}).get(name) != new.get(section, {}).get(name)
    ]


def _without_secrets(config: RunConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    settings["cluster"]["runtime_env"] = _masked(settings["cluster"]["runtime_env"])
    for name in ("asr", "aligner"):
        engine = settings[name]["vllm"]["engine"]
        settings[name]["vllm"]["engine"] = {
            key: "***" if is_secret(key) else value for key, value in engine.items()
        }
    return settings


def _masked(value: Any, packages: bool = False) -> Any:
    """A runtime environment with all values masked but plain packages: any other may contain a secret."""
    if isinstance(value, dict):
        return {
            name: dict.fromkeys(part, "***")
            if name in ("env_vars", "variables") and isinstance(part, dict)
            else _masked(part, name in PACKAGE_LISTS)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_masked(part, packages) for part in value]
    if (
        value is None
        or isinstance(value, bool)
        or (packages and isinstance(value, str) and PACKAGE.fullmatch(value))
    ):
        return value
    return "***"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
