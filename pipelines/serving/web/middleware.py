"""Access checks on every request: host, origin, API key, rate, and body size. Responses: see `exchange.py`.

It is plain ASGI around the application, because the limit on a body must hold before anything reads it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.config_sections import ServeConfig
from pipelines.serving.web.auth import Keys, Rates
from pipelines.serving.web.errors import Problem, bad_request, unavailable
from pipelines.serving.web.exchange import ClientNotReading, Exchange, is_public_path, route_path
from pipelines.serving.web.forms import bodies

_MIB = 1 << 20
_ABSOLUTE = re.compile(r"\Ahttps?://[^/]*", re.IGNORECASE)
log = logging.getLogger(__name__)


class AccessMiddleware:
    """ASGI middleware that decides which requests reach the application.

    Args:
        app: the wrapped ASGI application.
        config: settings of the server.
        behind_proxy: a proxy listens and forwards requests for any host name, so `serve.host` does not
            restrict them.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, behind_proxy: bool = False) -> None:
        self._app, self._config = app, config
        self._keys, self._rates = Keys(config.api_keys), Rates(config.requests_per_minute)
        self._loopback_only = _is_loopback(config.host) and not behind_proxy
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._config.log_text)
        scope = _as_routed(scope)
        try:
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
            }
            self._check_origin(scope, headers)
            if not is_public_path(scope) and scope.get("method") != "OPTIONS":
                self._authorize(scope, headers, exchange)
            if scope["type"] == "http":
                max_bytes = round(self._config.max_upload * _MIB)
                if headers.get("content-type", "").lower().startswith("application/json"):
                    max_bytes = min(max_bytes, bodies.MAX_JSON_BYTES)
                limited = bodies.limit_body(receive, headers, max_bytes, self._config.upload_timeout)
                receive = exchange.counting(limited)
            await self._app(scope, receive, exchange.send)
        except Problem as problem:
            await exchange.refuse(problem)
        except ClientNotReading:  # the exchange has recorded it
            pass
        except asyncio.CancelledError:  # the server ends after its drain timeout
            await exchange.refuse(
                unavailable("the server stopped before the request was finished", 5, "draining")
            )
            raise
        except Exception as error:
            log.error("request %s failed", exchange.id, exc_info=error)
            await exchange.refuse(
                Problem(500, f"internal server error; see request {exchange.id} in the log", "internal_error")
            )
        finally:
            exchange.write_log()

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse unknown host names (DNS rebinding) and requests from pages of other sites."""
        host = _hostname(headers.get("host", ""))
        allowed = self._config.allowed_hosts
        # Health checks by HTTP/1.0 send no name; browsers always do.
        if "host" in headers and (
            host not in allowed if allowed else self._loopback_only and not _is_loopback(host)
        ):
            raise Problem(
                421,
                f"{host[:100]!r} is not a name of this server; serve.allowed_hosts lists its names",
                "wrong_host",
            )
        origin = headers.get("origin")
        if origin is None or origin in self._config.cors_origins or "*" in self._config.cors_origins:
            return
        if _origin_host(origin) != headers.get("host", "").lower() and (
            scope["type"] == "websocket" or scope["method"] != "GET"
        ):
            raise Problem(
                403,
                f"pages of {origin[:100]!r} may not call this server; serve.cors_origins lists allowed sites",
                "wrong_origin",
            )

    def _authorize(self, scope: Scope, headers: dict[str, str], exchange: Exchange) -> None:
        caller = self._keys.caller(headers, scope.get("subprotocols") or ())
        exchange.caller = caller
        self._rates.count(caller or (scope.get("client") or ("",))[0])
        if self.draining:
            raise unavailable(
                "the server is shutting down: retry, and another server will respond", 5, "draining"
            )


def _as_routed(scope: Scope) -> Scope:
    """The scope for the application, which has routes for GET and for paths without a slash at the end.

    A target may be a whole URL (RFC 9112, 3.2.2), and clients whose base URL ends with a slash double it.
    HEAD is answered like GET: `Exchange`, which has the original scope, leaves out the body. A redirect to
    the path without the slash would lose the body of a POST with some clients. Pages keep theirs, because
    their links are relative.
    """
    routed = dict(scope)
    if scope.get("method") == "HEAD":
        routed["method"] = "GET"
    path = re.sub("/{2,}", "/", _ABSOLUTE.sub("", scope["path"])) or "/"
    if route_path({**scope, "path": path}).startswith("/v1/"):
        path = path.rstrip("/")
    if path != scope["path"]:
        routed["path"] = path
        routed.pop("raw_path", None)
    return routed


def _origin_host(origin: str) -> str | None:
    """Host and port in an Origin header; None if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _hostname(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(config: ServeConfig) -> None:
    """Refuse to listen on a public address without API keys.

    Raises:
        Problem: 400, with the setting to change.
    """
    if not (_is_loopback(config.host) or config.api_keys or config.allow_anonymous):
        raise bad_request(
            f"serve.host={config.host} lets other machines connect, but there are no API keys: set "
            "serve.api_keys, or serve.allow_anonymous=true if a proxy in front authenticates clients"
        )
