"""What an HTTP answer that is not a good one means for whoever asked a recognition server. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Meaning = Literal["fine", "busy", "failing", "fatal", "refused"]
# What accounts and addresses are told, with whatever status: another request would be told the same.
FATAL_CODES = {
    "model_not_found",
    "modelnotfound",
    "insufficient_quota",
    "invalid_api_key",
    "invalidapikey",
    "accessdenied",
    "arrearage",
    "commoditynotpurchased",
    "prepaidbilloverdue",
    "postpaidbilloverdue",
    "billing_hard_limit_reached",
    "account_deactivated",
}


def meaning_of(status: int, data: bytes, *, of_dashscope: bool = False) -> tuple[Meaning, str]:
    """What an HTTP status means for whoever asked, and what the server says about it, in one line.

    `busy`: later, and it is nobody's fault. `failing`: it may be better next time. `fatal`: every request will be answered so.
    `refused`: this one will. DashScope calls what passes within a minute `insufficient_quota`, too; OpenAI an account without money.
    """
    if 200 <= status < 300:
        return "fine", ""
    message, code = _complaint(data)
    said = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    final = code.lower() in FATAL_CODES and not (of_dashscope and code.lower() == "insufficient_quota")
    if final or status in (401, 402, 403, 404, 405, 501) or 300 <= status < 400:
        return "fatal", said
    if status == 429:
        return "busy", said
    return ("failing" if status >= 500 or status in (408, 409, 425) else "refused"), said


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a server asks to be left alone: a number, or a date (RFC 9110, 10.2.3); None where it does not ask, or nonsense.

    Args:
        headers: of the answer, names in lower case or a mapping that does not mind.
        now: with its time zone.
    """
    value = (headers.get("retry-after") or "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):  # TypeError: a date without time zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _complaint(data: bytes) -> tuple[str, str]:
    """Message and code in an error's body, in any of the shapes in use; the message as one line."""
    try:
        body = json.loads(data)
    except ValueError:
        return "", ""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(inner, dict):
        return " ".join(str(inner).split()), ""
    message = inner.get("message") or inner.get("detail") or ""
    return " ".join(str(message).split()).encode(errors="replace").decode(), str(inner.get("code") or "")
