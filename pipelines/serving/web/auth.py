"""API keys and rate limits. Pure, apart from the clock."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from pipelines.serving.web.errors import Problem

# Browsers cannot set headers on a WebSocket; they send the key as a subprotocol with this prefix.
_SUBPROTOCOL = "openai-insecure-api-key."
_MAX_BUCKETS = 10_000  # callers whose request rate is tracked


class Keys:
    """The API keys of the settings.

    Args:
        entries: SHA-256 digests in hex, each optionally prefixed with a name and a colon.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        named = [entry.rpartition(":") for entry in entries]
        self._known = [
            (name or f"key{number}", bytes.fromhex(digest))
            for number, (name, _, digest) in enumerate(named, 1)
        ]

    def caller(self, headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
        """The name of the key in a request; None if the server requires no key.

        Raises:
            Problem: 401 if the key is missing or unknown.
        """
        if not self._known:
            return None
        key = _key_in(headers, subprotocols)
        if key is None:
            raise _unauthorized("an API key is required: `Authorization: Bearer KEY`", "missing_api_key")
        # Headers are decoded as latin-1: encoding restores the sent bytes, which `printf %s KEY | sha256sum`
        # hashes.
        digest = hashlib.sha256(key.encode("latin-1", "backslashreplace")).digest()
        # Every key is compared, in constant time: response times must not reveal which key almost matches.
        found = [name for name, known in self._known if hmac.compare_digest(known, digest)]
        if not found:
            raise _unauthorized("the API key is unknown", "invalid_api_key")
        return found[0]


class Rates:
    """Rate limit per caller: a token bucket that refills continuously and holds one minute's requests.

    Args:
        per_minute: requests; None for no limit.
        clock: returns seconds.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        # Tokens left per caller, and when they were counted.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, caller: str) -> None:
        """Count one request.

        Raises:
            Problem: 429, with the seconds until the next request is allowed.
        """
        if self._per_minute is None:
            return
        now, capacity = self._clock(), max(1.0, self._per_minute)
        tokens, counted_at = self._buckets.pop(caller, (capacity, now))
        tokens = min(capacity, tokens + (now - counted_at) * self._per_minute / 60)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = (1 - tokens) * 60 / self._per_minute
            message = f"more than {self._per_minute:g} requests per minute: retry in {wait:.1f} s"
            raise Problem(429, message, "rate_limit_exceeded", headers={"retry-after": str(int(wait) + 1)})


def _key_in(headers: Mapping[str, str], subprotocols: Sequence[str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return next(
        (name.removeprefix(_SUBPROTOCOL) for name in subprotocols if name.startswith(_SUBPROTOCOL)), None
    )


def _unauthorized(message: str, code: str) -> Problem:
    return Problem(401, message, code, headers={"www-authenticate": "Bearer"})
