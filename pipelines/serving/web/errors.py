"""Error responses in the format of OpenAI's API."""

from __future__ import annotations

from typing import Any

# Error codes of dead letters that the server caused, not the file.
SERVER_ERROR_CODES = frozenset(
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

# Status of a request whose client disconnected. Nobody receives it; it marks the line in the access log.
CLIENT_CLOSED_REQUEST = 499


class Problem(Exception):
    """A response other than 2xx.

    Args:
        status: the HTTP status.
        message: what is wrong, with which value, and what to do.
        code: a stable code for programs.
        param: the request field that is wrong.
        headers: additional response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        # The message may quote a lone surrogate from the request, which UTF-8 cannot encode.
        message = message.encode("utf-8", "replace").decode()
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return {
            "error": {
                "message": self.message,
                "type": _type(self.status),
                "param": self.param,
                "code": self.code,
            }
        }


def bad_request(message: str, param: str | None = None, code: str | None = "invalid_value") -> Problem:
    """400: the request is invalid."""
    return Problem(400, message, code, param)


def unavailable(message: str, retry_after: float, code: str = "overloaded") -> Problem:
    """503: the client may retry after `retry_after` seconds."""
    return Problem(503, message, code, headers={"retry-after": str(max(1, round(retry_after)))})


def from_dead_letter(row: dict[str, Any], path: str, name: str) -> Problem:
    """The error response for a file without a transcript.

    Args:
        row: DEAD_LETTER.
        path: the server's local path, which must not be disclosed.
        name: the client's name of the file, which replaces the path in the message.
    """
    code = row["error_code"]
    message = f"{row['error_stage']} failed: {(row['error_message'] or code).replace(path, name)}"
    return Problem(500 if code in SERVER_ERROR_CODES else 400, message, code, "file")


def _type(status: int) -> str:
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
