"""Who holds a lease: the facts that stand in OUT/lease.json, and what another driver can make of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from datetime import UTC, datetime
from typing import Any

_WANTED = {"holder", "host", "pid", "since", "renewed_at", "beat"}  # the others came later


def ours(command: str) -> dict[str, Any]:
    """The facts of this process, as a holder that begins now; `command` is what it does there, for others to read."""
    return {
        "holder": uuid.uuid4().hex,
        "command": command,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "kernel": kernel(),
        "pids": pids(),
        "since": now(),
        "renewed_at": now(),
        "beat": 0,
    }


def written(facts: dict[str, Any]) -> bytes:
    """Facts as they are stored."""
    return json.dumps(facts).encode()


def read(data: bytes) -> dict[str, Any] | None:
    """The facts of a lease; None for anything else: what cannot be read is nobody's."""
    try:
        facts = json.loads(data)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and facts.keys() >= _WANTED else None


def died_here(facts: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Whether the holder was a process that this one could see, and is gone. A host's name does not tell: containers may all have one name,
    and each counts its own processes.
    """
    if facts.get("pids") != ours["pids"]:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(facts["pid"], 0)
        except ProcessLookupError:
            return True
    return False


def locks_here(facts: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Whether a lock of the holder's would be seen by this process, wherever it ran. A host's name does not tell: a pod that is started on
    another node has that of the one before, which may still be at work where it is cut off.
    """
    return bool(facts.get("kernel") == ours["kernel"])


def described(facts: dict[str, Any] | None) -> str:
    """A holder, for people."""
    if facts is None:
        return "another driver"
    process = f"process {facts['pid']} on {facts['host']}"
    return f"`scriptorium {facts.get('command')}` ({process}, since {facts['since']}, last seen {facts['renewed_at']})"


def age(facts: dict[str, Any]) -> float:
    """Seconds since the latest sign of life, if both clocks are right."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(facts["renewed_at"])).total_seconds()
    except (ValueError, TypeError, KeyError):
        return float("inf")


def kernel() -> str:
    """What tells this boot of this machine from all others; the same in all of its containers, as are its locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:  # not Linux
        return socket.gethostname()


def pids() -> str:
    """What tells the process numbers that are seen here from those of other machines and containers."""
    try:
        return f"{kernel()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return kernel()


def now() -> str:
    """The time, as leases have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
