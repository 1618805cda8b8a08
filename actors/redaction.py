"""Removes user names, passwords and signatures from addresses, before they are stored or shown.

Only the plan keeps an address as it was given, because it is needed to fetch the audio.
"""

from __future__ import annotations

import re

_MARK = "***"
_USER = re.compile(r"(?<=://)[^/\s?#'\"<>]*@")
# The query of a web address in a text, which may be followed by `::` (fsspec's chains) or punctuation.
_QUERY = re.compile(r"(https?://[^\s?'\"<>]*)\?[^\s'\"<>]*?(?=::|[:;,.)]*(?:[\s'\"<>]|$))")
# One parameter of a query, or a value without a name.
_PARAMETER = re.compile(
    r"([?&;])(?:([^=&;?#\s'\"<>:/]+)=)?((?:[^=&;?#\s'\"<>:]|:(?![:\s]|$)|=(?=[=&#\s]|$))+)"
)
# Parts of the names of parameters that hold or belong to credentials: signed URLs of S3, Google, Azure,
# CloudFront and others.
_SECRET_NAME = re.compile(
    r"""amz|goog|access|auth|bearer|cred|expir|hash|hmac|jwt|key|nonce|otp|pass|policy|pin|pwd
    |secret|session|sig|ticket|token|user|^(s[evprtk][rtv]?|skoid|sktid|ske|sks|skt|skv|e|h|p|s|st|t)$""",
    re.IGNORECASE | re.VERBOSE,
)
# Names that say which file it is.
_FILE_NAMES = re.compile(r"^(id|(file)?name|file|path|object|v|version|versionid|generation)$", re.IGNORECASE)
# A value of that many characters without a blank or a dot looks like a key.
_LONG = re.compile(r"[A-Za-z0-9+/=_%~-]{20,}")


def redacted(text: str) -> str:
    """A text for people without the user names, passwords and web queries of the addresses in it."""
    return _QUERY.sub(rf"\1?{_MARK}", redacted_address(text))


def redacted_address(address: str) -> str:
    """An address without credentials, in which parameters that are no secret still tell files apart.

    `https://me:pw@host/get?id=7&sig=abc` becomes `https://***@host/get?id=7&sig=***`. A local path is
    returned unchanged, and so is an address without credentials.
    """
    if "://" not in address:
        return address
    return _PARAMETER.sub(_without_secret, _USER.sub(f"{_MARK}@", address))


def _without_secret(found: re.Match[str]) -> str:
    separator, name, value = found.groups(default="")
    is_secret = _SECRET_NAME.search(name) or _LONG.fullmatch(value)
    if not is_secret or _FILE_NAMES.match(name):
        return found[0]
    return f"{separator}{name}={_MARK}" if name else f"{separator}{_MARK}"
