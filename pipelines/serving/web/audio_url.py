"""Audio from addresses that clients name: only below prefixes that the settings allow, and never from inside our own network.

A name may point anywhere, and elsewhere a moment later: it is resolved once, all that it resolves to must be public, and the connection goes to
exactly that. Redirections are refused, because where they lead has not been asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from pipelines.planning.uri_policy import is_inside
from pipelines.serving.web.errors import Problem, wrong
from pipelines.serving.web.uploads import room

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from yarl import URL

_CONNECT = 10.0  # seconds


async def fetched(uri: str, allowed: Sequence[str], most: int, seconds: float, file: BinaryIO) -> None:
    """What stands at an address, into a file.

    Args:
        uri: from a client.
        allowed: prefixes (`serve.allowed_uris`).
        most: bytes.
        seconds: that it may take.
        file: where to write it.

    Raises:
        Problem: 400: not allowed, not public, or it did not answer as it should; 503 where the disk is full.
    """
    import aiohttp

    url = check_uri(uri, allowed)
    timeout = aiohttp.ClientTimeout(total=seconds, connect=_CONNECT)
    connector = aiohttp.TCPConnector(resolver=_public_resolver(), use_dns_cache=False)
    size = 0
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, trust_env=False, auto_decompress=False
            ) as session,
            session.get(url, allow_redirects=False, headers={"accept-encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise _bad(
                    f"the server there answered {response.status}, and 200 is wanted (redirections are not followed)"
                )
            async for chunk in response.content.iter_chunked(1 << 16):
                size += len(chunk)
                if size > most:
                    raise Problem(
                        413, f"what stands there has more than {most / 2**20:g} MiB", "too_large", "audio_url"
                    )
                with room():
                    await asyncio.to_thread(file.write, chunk)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise _bad(f"it could not be fetched: {type(error).__name__}") from None


def check_uri(uri: str, allowed: Sequence[str]) -> URL:
    """The address to connect to; one that clients may not name is refused.

    The host is looked at as the library spells it that connects: `127。0。0。1` is no address yet, and 127.0.0.1 by then.

    Raises:
        Problem: 400.
    """
    from yarl import URL

    try:
        parts, url = urlsplit(uri), URL(uri)
        host, scheme = parts.hostname or "", parts.scheme.lower()
    except ValueError:
        raise _bad("this is no address") from None
    if scheme not in ("http", "https") or not host or not url.raw_host:
        raise _bad("only data: URIs, http:// and https:// can be read")
    if not host.isascii():
        raise _bad("its host must be ASCII: `xn--...` spells other names")
    if not any(is_inside(uri, prefix) for prefix in allowed):
        raise _bad("this address is not below one that serve.allowed_uris lists")
    for spelled in (host, url.raw_host):
        address = literal(spelled)
        if address is not None and not is_public(address):
            raise _bad("this is an address inside of a network")
    return url


def literal(host: str) -> str | None:
    """The IP address that `host` spells in any way that resolvers take; None for names."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet's, in whatever it is wrapped."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    if isinstance(found, ipaddress.IPv6Address) and inner is None and found in _TRANSLATED:
        inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return (inner or found).is_global and not (inner or found).is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64: the IPv4 address stands in the last bytes


def _public_resolver() -> Any:
    from aiohttp.abc import AbstractResolver

    class PublicResolver(AbstractResolver):
        """Names to public addresses only."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            addresses = [(kind, str(place[0])) for kind, _, _, _, place in found]
            if not addresses or not all(is_public(address) for _, address in addresses):
                raise OSError(f"{host} is not on the open internet")
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


def _bad(message: str) -> Problem:
    return wrong(f"audio_url: {message}", "audio_url", "invalid_url")
