"""OUT/run.json: what made this output directory, so that a second command can go on in the same way or refuse."""

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
from pipelines import __version__
from pipelines.config import RunConfig, is_secret
from pipelines.config_files import current_name
from pipelines.storage import files
from pipelines.storage.uris import shown

PACKAGES = ("ray", "pyarrow", "av", "soundfile", "soxr", "numpy", "torch", "transformers", "silero-vad")

LISTS = (
    "pip",
    "uv",
    "conda",
    "packages",
    "dependencies",
)  # settings of a runtime environment that list packages
PACKAGE = re.compile(r"[A-Za-z][\w.-]*(\[[\w,. -]*\])?(\s*([=<>!~]=|[=<>]|===)\s*\d[\w.*+!]*\s*(,|$))*")


def open_run(
    out: str, config: RunConfig, command: str, manifest: str, *, accept_changes: bool = False
) -> tuple[str, dict[str, Any]]:
    """Register one more run on `out`; returns its id and the record, which is already written.

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
        "packages": _versions(),
    }
    record["runs"].append(
        {
            "run_id": run_id,
            "manifest": shown(manifest)
            .encode(errors="backslashreplace")
            .decode(),  # a file's name need not be UTF-8
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
    """The record of a directory in which a run may begin or go on; None where there is none yet.

    Raises:
        UsageError: another command or other settings made what is there, or something that is no run at all.
    """
    record = read(out)
    if record is None:
        _refuse_strangers(out)
    elif record["command"] != command:
        raise UsageError(
            f"{out} was made by `scriptorium {record['command']}`: give `scriptorium {command}` a directory of its own"
        )
    elif record["config_hash"] != config.hash() and not accept_changes:
        changed = ", ".join(sorted(_differences(record["identity"], config.identity())))
        raise UsageError(
            f"{out} was made with other settings ({changed}): its rows and new ones would not be alike. Give the same settings, or another "
            f"directory, or `scriptorium {command}` with --accept-changes to go on with the new settings for what is not done yet"
        )
    return record


def note(out: str, record: dict[str, Any], run_id: str, **facts: Any) -> None:
    """Note what is known of a run that may still end in any way."""
    for run in record["runs"]:
        if run["run_id"] == run_id:
            run |= facts
    write(out, record)


def close_run(out: str, record: dict[str, Any], run_id: str, **facts: Any) -> None:
    """Note how a run ended that did all that there was to do."""
    note(out, record, run_id, finished_at=now(), **facts)


def read(out: str) -> dict[str, Any] | None:
    """The record of `out`; None where there is none.

    Raises:
        UsageError: run.json is there but is not ours.
    """
    uri = files.join(out, "run.json")
    try:
        record = json.loads(files.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{uri} is not a run of Scriptorium: {error}") from None
    if not isinstance(record, dict) or "config_hash" not in record:
        raise UsageError(f"{uri} is not a run of Scriptorium")
    for run in record.get("runs", []):  # of versions that wrote down the whole address
        run["manifest"] = shown(run.get("manifest", ""))
    return record


def require(out: str) -> dict[str, Any]:
    """The record of `out`.

    Raises:
        UsageError: there is no run.
    """
    record = read(out)
    if record is None:
        raise UsageError(f"there is no run in {out}: it has no run.json")
    return record


def write(out: str, record: dict[str, Any]) -> None:
    """Write run.json whole or not at all."""
    files.write_atomic(files.join(out, "run.json"), json.dumps(record, indent=2, ensure_ascii=False).encode())


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse_strangers(out: str) -> None:
    for name in ("transcripts", "shards", "plan", "checkpoint"):
        if files.list(files.join(out, name), ".parquet"):
            raise UsageError(
                f"{out} has files in {name}/ but no run.json, so it is not known what made them: choose another directory"
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
    """A runtime environment by the names in it: of its values only plain packages are told, because any other may be or hold a secret."""
    if isinstance(value, dict):
        return {
            name: dict.fromkeys(part, "***")
            if name in ("env_vars", "variables") and isinstance(part, dict)
            else _masked(part, name in LISTS)
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
