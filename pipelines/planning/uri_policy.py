"""Which audio a manifest may name: it may come from a stranger, but its audio is fetched with our rights.

Without `plan.allowed_uris`, addresses that only this process can reach are refused: chained addresses,
unusual protocols, the cloud's metadata service, which hands out credentials, and, for manifests that come
over a network, files and servers of this machine. With `plan.allowed_uris`, everything outside its prefixes
is refused.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import fsspec

from actors.audio.files.slices import CELL, SLICE, file_of, is_part
from actors.errors import UsageError
from pipelines.manifests.columns import Recording
from pipelines.storage import files

_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hf", "hdfs", "http", "https"}
)
_WEB = ("http://", "https://")
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_METADATA_HOSTS = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
    )
)


def check_allowed(recording: Recording, allowed: Sequence[str]) -> None:
    """Refuse a recording whose audio the manifest may not name.

    Args:
        recording: of a manifest, with the absolute address of its audio.
        allowed: prefixes (`plan.allowed_uris`); empty: the default rules.

    Raises:
        UsageError: the address is not allowed; the message names file and line, and says what to do.
    """
    # Of a member of an archive or a cell of a table, the file that is read. If a file has the name of such a
    # member, that one is read.
    check_address(file_of(recording.location or recording.audio), recording.origin, allowed)
    if recording.location is None and is_part(recording.audio):
        check_address(recording.audio, recording.origin, allowed)


def check_address(audio: str, origin: str, allowed: Sequence[str]) -> None:
    """Refuse an address that a manifest may not name; see `check_allowed`."""
    if any(is_inside(audio, prefix) for prefix in allowed):
        host = _host(audio)
        if host is None or not _is_metadata(host) or any(_host(prefix) == host for prefix in allowed):
            return
    if allowed:
        raise UsageError(
            f"{origin}: {audio} is outside of what plan.allowed_uris allows "
            f"({', '.join(allowed)}); move it, or add its folder"
        )
    reason = _refusal(audio, origin)
    if reason:
        raise UsageError(f"{origin}: {audio}: {reason}; to allow it, add its prefix to plan.allowed_uris")


def check_readable(recording: Recording) -> None:
    """Refuse a recording whose address no library here can read, before anything starts.

    Raises:
        UsageError: the scheme is unknown, or its package is not installed; the message names file and line.
    """
    for part in recording.audio.split("::"):
        scheme, mark, _ = part.partition("://")
        problem = _problem_of_scheme(scheme.lower()) if mark else None
        if problem:
            raise UsageError(f"{recording.origin}: {recording.audio}: {problem}")


@functools.lru_cache(maxsize=64)
def _problem_of_scheme(scheme: str) -> str | None:
    """Why addresses with this scheme cannot be read here; None where they can."""
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        return f"unknown kind of address ({scheme}://); check the part before `://`"
    except ImportError as error:
        hint = "pip install 'scriptorium[s3]'" if scheme in ("s3", "s3a") else str(error)
        return f"reading {scheme}:// needs a package that is not installed: {hint}"
    return None


def _refusal(audio: str, origin: str) -> str | None:
    """Why a manifest from `origin` may not name this address by default; None if it may."""
    # In the store of the manifest itself, which a person has named.
    if _store(audio) == _store(origin) and files.is_remote(origin):
        return None
    if "::" in audio or audio.startswith((SLICE, CELL)):
        return "an address chained with `::` opens addresses within other addresses"
    if not files.is_remote(audio):
        return (
            "a manifest that came over a network names a file of this machine"
            if files.is_remote(origin)
            else None
        )
    scheme = audio.partition("://")[0].lower()
    if scheme not in _STORES:
        return f"{scheme}:// is not a protocol that manifests usually name"
    host = _host(audio)
    if host is None:
        return None
    if _is_metadata(host):
        return "this is the metadata service of a cloud, which hands out credentials"
    if files.is_remote(origin) and _is_here(host):
        return "a manifest that came over a network names a server of this machine"
    return None


def is_inside(audio: str, prefix: str) -> bool:
    """Whether an address is under a prefix: in the same store, by whole path names, without `..`."""
    if "::" in audio or "::" in prefix:
        return "::" in prefix and audio.startswith(prefix)
    if not files.is_remote(audio):
        return not files.is_remote(prefix) and _within(os.path.realpath(audio), _real(prefix))
    if not files.is_remote(prefix):
        return False
    wanted, given = _parts(prefix), _parts(audio)
    if wanted is None or given is None or wanted[0] != given[0] or (wanted[1] and wanted[1] != given[1]):
        return False
    return _within(given[2], wanted[2])


def _within(path: str, folder: str) -> bool:
    folder = folder.rstrip("/")
    return path == folder or path.startswith(folder + "/")


@functools.lru_cache(maxsize=256)
def _real(prefix: str) -> str:
    return os.path.realpath(files.absolute(prefix if prefix.rstrip("/") not in ("file:", "local:") else "/"))


def _parts(uri: str) -> tuple[str, str, str] | None:
    """(scheme, store, path) of an address; None if it has `..` in any spelling, or a user name."""
    scheme, _, rest = uri.partition("://")
    if uri.lower().startswith(_WEB):
        try:
            web = urlsplit(uri)
            store = (
                f"{web.hostname or ''}:{web.port or (443 if web.scheme == 'https' else 80)}"
                if web.netloc
                else ""
            )
        except ValueError:
            return None
        if "@" in web.netloc:
            return None
        path = unquote(unquote(web.path)).replace("\\", "/")
    else:
        store, _, path = rest.partition("/")
        path = f"/{path}"
    if any(part in ("..", ".") for part in path.split("/")):
        return None
    return scheme.lower(), store, path


def _store(uri: str) -> tuple[str, str]:
    """The part that all addresses in a store share; of chained addresses, all but the innermost path."""
    first, _, outer = uri.partition("::")
    scheme, _, rest = first.partition("://")
    return scheme.lower(), re.sub(r":\d+$", "", outer) if outer else rest.partition("/")[0]


def _host(uri: str) -> str | None:
    """The host of a web address in lower case; "" if it cannot be parsed; None for other addresses."""
    if not uri.lower().startswith(_WEB):
        return None
    try:
        return (urlsplit(uri).hostname or "").rstrip(".")
    except ValueError:
        return ""


@functools.lru_cache(maxsize=4096)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` spells in any form (`2852039166`, `0xa9.254.43518`); None for names."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            found = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return mapped or found


def _is_metadata(host: str) -> bool:
    address = _address(host)
    if address is None:
        return not host or unquote(host) != host or host in _METADATA_NAMES
    return address.is_link_local or address in _METADATA_HOSTS


def _is_here(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
