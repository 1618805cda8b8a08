"""Fetches audio from URLs that clients send: only below allowed prefixes, and never from private networks.

DNS may return a private address, or a different address a moment later. Each host is therefore resolved once,
every address must be public, and the connection goes to one of those. Redirects are refused, because their
target has not been checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from pipelines.planning.uri_policy import is_inside
from pipelines.serving.web.errors import Problem, bad_request
from pipelines.serving.web.forms.uploads import reporting_full_disk

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from yarl import URL

_CONNECT_TIMEOUT = 10.0  # seconds
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # its last four bytes are an IPv4 address


async def fetch(uri: str, allowed: Sequence[str], max_bytes: int, timeout: float, file: BinaryIO) -> None:
    """Download a URL into a file.

    Args:
        uri: sent by a client.
        allowed: prefixes (`serve.allowed_uris`).
        max_bytes: largest download.
        timeout: seconds for the whole download.
        file: to write to.

    Raises:
        Problem: 400 if the URL is not allowed, not public, or does not return 200; 413 if the file is too
            large; 503 if the disk is full.
    """
    import aiohttp

    url = check_uri(uri, allowed)
    limits = aiohttp.ClientTimeout(total=timeout, connect=_CONNECT_TIMEOUT)
    connector = aiohttp.TCPConnector(resolver=_public_resolver(), use_dns_cache=False)
    size = 0
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=limits, trust_env=False, auto_decompress=False
            ) as session,
            session.get(url, allow_redirects=False, headers={"accept-encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise _invalid_url(
                    f"its server returned {response.status} instead of 200 (redirects are not followed)"
                )
            async for chunk in response.content.iter_chunked(1 << 16):
                size += len(chunk)
                if size > max_bytes:
                    message = f"the file at this URL is larger than {max_bytes / 2**20:g} MiB"
                    raise Problem(413, message, "too_large", "audio_url")
                with reporting_full_disk():
                    await asyncio.to_thread(file.write, chunk)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise _invalid_url(f"the URL could not be fetched: {type(error).__name__}") from None


def check_uri(uri: str, allowed: Sequence[str]) -> URL:
    """The URL to connect to, if clients may use it.

    The host is also checked as the HTTP library normalizes it: `127。0。0。1` is not an IP address, but the
    library turns it into 127.0.0.1.

    Raises:
        Problem: 400.
    """
    from yarl import URL

    try:
        parts, url = urlsplit(uri), URL(uri)
        host, scheme = parts.hostname or "", parts.scheme.lower()
    except ValueError:
        raise _invalid_url("this is not a valid URL") from None
    if scheme not in ("http", "https") or not host or not url.raw_host:
        raise _invalid_url("only data: URIs, http:// and https:// are supported")
    if not host.isascii():
        raise _invalid_url("the host must be ASCII: encode other names as `xn--...`")
    if not any(is_inside(uri, prefix) for prefix in allowed):
        raise _invalid_url("the URL is not below a prefix in serve.allowed_uris")
    for spelling in (host, url.raw_host):
        address = ip_address_in(spelling)
        if address is not None and not is_public(address):
            raise _invalid_url("the host is a private address")
    return url


def ip_address_in(host: str) -> str | None:
    """The IP address that `host` spells in any form that resolvers accept; None for names."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return None


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet. IPv4 embedded in IPv6 is checked as IPv4."""
    outer = ipaddress.ip_address(address.partition("%")[0])
    embedded = getattr(outer, "ipv4_mapped", None) or getattr(outer, "sixtofour", None)
    if isinstance(outer, ipaddress.IPv6Address) and embedded is None and outer in _NAT64:
        embedded = ipaddress.IPv4Address(int(outer) & 0xFFFFFFFF)
    return (embedded or outer).is_global and not (embedded or outer).is_multicast


def _public_resolver() -> Any:
    from aiohttp.abc import AbstractResolver

    class PublicResolver(AbstractResolver):
        """Resolves host names, and refuses those with a private address."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            addresses = [(kind, str(socket_address[0])) for kind, _, _, _, socket_address in found]
            if not addresses or not all(is_public(address) for _, address in addresses):
                raise OSError(f"{host} is not on the public internet")
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": kind,
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
                for kind, address in addresses
            ]

        async def close(self) -> None:
            pass

    return PublicResolver()


def _invalid_url(message: str) -> Problem:
    return bad_request(f"audio_url: {message}", "audio_url", "invalid_url")
