"""Who may use the page: the access checks of the server, with a token that a browser keeps as a cookie.

An element such as `<audio>` cannot send an API key, so the first request brings the token in its path, and
the answer sets a cookie that scripts cannot read and that no other site can send. `Authorization: Bearer
TOKEN` works, too, for programs.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.config_sections import ServeConfig
from pipelines.serving.web.middleware import AccessMiddleware

ENTRANCE = "/open/"  # before the token in the path of the first request
_MAX_BODY_MIB = 1.0


def make_token() -> str:
    """A new token that nobody can guess."""
    return secrets.token_urlsafe(24)


def cookie_name(port: int) -> str:
    """Browsers send the cookies of a host to all of its ports, so each port has a name of its own."""
    return f"scriptorium_browse_{port}"


def guarded(app: ASGIApp, token: str, host: str, port: int, allowed_hosts: Sequence[str] = ()) -> ASGIApp:
    """An application behind the access checks of `scriptorium serve`: host, origin, token, size of bodies."""
    config = ServeConfig(
        host=host,
        port=port,
        api_keys=[f"browse:{hashlib.sha256(token.encode()).hexdigest()}"],
        allowed_hosts=list(allowed_hosts),
        max_upload=_MAX_BODY_MIB,
    )
    checked = AccessMiddleware(app, config)
    name = cookie_name(port)

    async def with_key_of_cookie(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = list(scope["headers"])
            given: str | None
            if scope["path"].startswith(ENTRANCE):
                given = scope["path"].removeprefix(ENTRANCE)
                headers = [pair for pair in headers if pair[0] != b"authorization"]
            else:
                given = _cookie(headers, name)
            if given is not None and not any(header == b"authorization" for header, _ in headers):
                headers.append((b"authorization", b"Bearer " + given.encode("latin-1", "replace")))
            scope = {**scope, "headers": headers, "is_head": scope["method"] == "HEAD"}
        await checked(scope, receive, send)

    return with_key_of_cookie


def _cookie(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    for header, value in headers:
        if header == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(name)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return None
