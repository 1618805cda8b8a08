"""Who may call, and how often. Pure but for the clock."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from pipelines.serving.web.errors import Problem

_SUBPROTOCOL = (
    "openai-insecure-api-key."  # how a browser sends its key with a WebSocket, which takes no header there
)
_REMEMBERED = 10_000  # callers whose rate is known


class Keys:
    """The keys of the settings.

    Args:
        entries: SHA-256 in hex, with a name and a colon in front or not.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        named = [entry.rpartition(":") for entry in entries]
        self._known = [
            (name or f"key{number}", bytes.fromhex(digest))
            for number, (name, _, digest) in enumerate(named, 1)
        ]

    def caller(self, headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
        """The name of the key that a request shows; None where no key is asked for.

        Raises:
            Problem: 401 where there is none, or an unknown one.
        """
        if not self._known:
            return None
        shown = _shown(headers, subprotocols)
        if shown is None:
            raise _refused("an API key is needed: `Authorization: Bearer KEY`", "missing_api_key")
        # The very bytes that were sent, which headers are given as latin-1: what `printf %s KEY | sha256sum` has hashed.
        digest = hashlib.sha256(shown.encode("latin-1", "backslashreplace")).digest()
        # All are compared, each in constant time: how long it takes tells nothing about which is nearly right.
        found = [name for name, known in self._known if hmac.compare_digest(known, digest)]
        if not found:
            raise _refused("this API key is not known", "invalid_api_key")
        return found[0]


class Rates:
    """How often each caller may call: a bucket that fills all the time and holds a minute's worth.

    Args:
        per_minute: requests; None: no limit.
        clock: in seconds.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # what is left, and when that was

    def count(self, caller: str) -> None:
        """One more request.

        Raises:
            Problem: 429, with the seconds until there is room again.
        """
        if self._per_minute is None:
            return
        now, most = self._clock(), max(1.0, self._per_minute)
        left, since = self._buckets.pop(caller, (most, now))
        left = min(most, left + (now - since) * self._per_minute / 60)
        enough = left >= 1
        self._buckets[caller] = (left - 1 if enough else left, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if not enough:
            wait = (1 - left) * 60 / self._per_minute
            message = f"more than {self._per_minute:g} requests a minute: the next one in {wait:.1f} s"
            raise Problem(429, message, "rate_limit_exceeded", headers={"retry-after": str(int(wait) + 1)})


def _shown(headers: Mapping[str, str], subprotocols: Sequence[str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return next(
        (name.removeprefix(_SUBPROTOCOL) for name in subprotocols if name.startswith(_SUBPROTOCOL)), None
    )


def _refused(message: str, code: str) -> Problem:
    return Problem(401, message, code, headers={"www-authenticate": "Bearer"})
