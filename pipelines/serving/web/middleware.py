"""What every request passes on its way in: who it is from, how much it may send. What its answer passes on its way out is in `visit.py`.

Plain ASGI around the application, because a limit on a body must hold before anything reads it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.config import ServeConfig
from pipelines.serving.web import uploads
from pipelines.serving.web.auth import Keys, Rates
from pipelines.serving.web.errors import Problem, busy, wrong
from pipelines.serving.web.exchange import Exchange, Unread, is_open

_MIB = 1 << 20
log = logging.getLogger(__name__)


class AccessMiddleware:
    """ASGI middleware.

    Args:
        app: what lies behind.
        config: of the server.
        fronted: something else listens, and passes on what came to whatever name it has: `serve.host` says nothing about that.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, fronted: bool = False) -> None:
        self._app, self._config = app, config
        self._keys, self._rates = Keys(config.api_keys), Rates(config.requests_per_minute)
        self._local = _is_loopback(config.host) and not fronted
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = Exchange(scope, receive, send, self._config.log_text)
        try:
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
            }
            self._check_origin(scope, headers)
            if not is_open(scope) and scope.get("method") != "OPTIONS":
                self._admit(scope, headers, visit)
            if scope["type"] == "http":
                most = round(self._config.max_upload * _MIB)
                if headers.get("content-type", "").lower().startswith("application/json"):
                    most = min(most, uploads.MAX_JSON)
                receive = visit.watched(uploads.limited(receive, headers, most, self._config.upload_timeout))
            await self._app(scope, receive, visit.send)
        except Problem as problem:
            await visit.refuse(problem)
        except Unread:  # the visit has noted it
            pass
        except asyncio.CancelledError:  # the server ends and did not wait any longer
            await visit.refuse(busy("the server has ended before this was done", 5, "draining"))
            raise
        except Exception as error:
            log.error("request %s failed", visit.id, exc_info=error)
            await visit.refuse(
                Problem(500, f"an error of ours; our log has it under {visit.id}", "internal_error")
            )
        finally:
            visit.write()

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse names that are not ours (another site's name that was made to point here), and other sites' pages."""
        host = _name(headers.get("host", ""))
        allowed = self._config.allowed_hosts
        if (allowed and host not in allowed) or (not allowed and self._local and not _is_loopback(host)):
            raise Problem(
                421,
                f"{host[:100]!r} is not a name of this server; serve.allowed_hosts lists its names",
                "wrong_host",
            )
        origin = headers.get("origin")
        if origin is None or origin in self._config.cors_origins or "*" in self._config.cors_origins:
            return
        if _place(origin) != headers.get("host", "").lower() and (
            scope["type"] == "websocket" or scope["method"] != "GET"
        ):
            raise Problem(
                403,
                f"pages of {origin[:100]!r} may not call this server; serve.cors_origins lists those that may",
                "wrong_origin",
            )

    def _admit(self, scope: Scope, headers: dict[str, str], visit: Exchange) -> None:
        caller = self._keys.caller(headers, scope.get("subprotocols") or ())
        visit.caller = caller
        self._rates.count(caller or (scope.get("client") or ("",))[0])
        if self.draining:
            raise busy("the server is about to end: ask again, another one will answer", 5, "draining")


def _place(origin: str) -> str | None:
    """Host and port in an Origin header; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
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
    """Refuse to listen beyond this machine without keys.

    Raises:
        Problem: 400, with what to set.
    """
    if not (_is_loopback(config.host) or config.api_keys or config.allow_anonymous):
        raise wrong(
            f"serve.host={config.host} lets other machines in, but there are no keys: set serve.api_keys, or serve.allow_anonymous=true "
            "where something in front asks who it is"
        )
