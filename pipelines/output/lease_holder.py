"""The holder of a lease: the facts in OUT/lease.json, and what another driver can conclude from them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from datetime import UTC, datetime
from typing import Any

# The facts that every version writes; later versions added the others.
_REQUIRED = {"holder", "host", "pid", "since", "renewed_at", "beat"}


def own_facts(command: str) -> dict[str, Any]:
    """The facts of this process as a new holder.

    Args:
        command: the command that runs, shown to other drivers.
    """
    return {
        "holder": uuid.uuid4().hex,
        "command": command,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "kernel": boot_id(),
        "pids": pid_namespace(),
        "since": now(),
        "renewed_at": now(),
        "beat": 0,
    }


def encode(facts: dict[str, Any]) -> bytes:
    """Encode facts for storage."""
    return json.dumps(facts).encode()


def decode(data: bytes) -> dict[str, Any] | None:
    """Decode the facts of a lease; None if `data` is not a lease, which then has no holder."""
    try:
        facts = json.loads(data)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and facts.keys() >= _REQUIRED else None


def died_here(facts: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether the holder was a process in this PID namespace that does not exist any more.

    The host name is not compared: several containers may have the same name, and each has its own process
    numbers.
    """
    if facts.get("pids") != own["pids"]:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(facts["pid"], 0)
        except ProcessLookupError:
            return True
    return False


def locks_here(facts: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether this process would see a file lock of the holder, because both run under the same kernel.

    The host name is not compared: a pod that is restarted on another node has the name of its predecessor,
    which may still be at work on a node that is cut off.
    """
    return bool(facts.get("kernel") == own["kernel"])


def describe(facts: dict[str, Any] | None) -> str:
    """Describe a holder, for messages."""
    if facts is None:
        return "another driver"
    process = f"process {facts['pid']} on {facts['host']}"
    times = f"since {facts['since']}, last seen {facts['renewed_at']}"
    return f"`scriptorium {facts.get('command')}` ({process}, {times})"


def age(facts: dict[str, Any]) -> float:
    """Seconds since the last renewal, if both clocks are right."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(facts["renewed_at"])).total_seconds()
    except (ValueError, TypeError, KeyError):
        return float("inf")


def boot_id() -> str:
    """Identifier of this boot of this machine: the same in all of its containers, which share file locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:  # not Linux
        return socket.gethostname()


def pid_namespace() -> str:
    """Identifier of the PID namespace of this process: differs between machines and containers."""
    try:
        return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return boot_id()


def now() -> str:
    """The time, as leases have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
