"""What clients are told when something is wrong, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Any

# Codes of dead letters that are not the file's fault.
OURS = frozenset(
    {
        "storage_unavailable",
        "model_failed",
        "server_unavailable",
        "device_out_of_memory",
        "model_timeout",
        "worker_lost",
        "internal_error",
    }
)


GONE = 499  # of a client who left: nobody reads it, the log tells it from an answer


class Problem(Exception):
    """An answer other than 2xx.

    Args:
        status: of HTTP.
        message: what was wrong, with what, and what to do.
        code: stable, for programs.
        param: the field it is about.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = message.encode(
            "utf-8", "replace"
        ).decode()  # half a character in what it repeats could not be sent
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = (
            status,
            message,
            code,
            param,
            headers or {},
        )

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "error": {
                "message": self.message,
                "type": _type(self.status),
                "param": self.param,
                "code": self.code,
            }
        }


def wrong(message: str, param: str | None = None, code: str | None = "invalid_value") -> Problem:
    """400: the client asked for something that cannot be."""
    return Problem(400, message, code, param)


def busy(message: str, seconds: float, code: str = "overloaded") -> Problem:
    """503: later, please."""
    return Problem(503, message, code, headers={"retry-after": str(max(1, round(seconds)))})


def of_dead_letter(row: dict[str, Any], path: str, name: str) -> Problem:
    """What a client is told about a file that has no transcript.

    Args:
        row: DEAD_LETTER.
        path: ours, which is nobody's business.
        name: what the client calls the file.
    """
    code = row["error_code"]
    message = f"{row['error_stage']} failed: {(row['error_message'] or code).replace(path, name)}"
    return Problem(500 if code in OURS else 400, message, code, "file")


def _type(status: int) -> str:
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
