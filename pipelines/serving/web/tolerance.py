"""What is done with values that a request should not have: refuse them, or ignore them with a warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pipelines.serving.web.errors import Problem

WARNING_HEADER = "x-scriptorium-warning"
_MAX_CHARS = 1000  # of the header: proxies refuse long ones
Value = TypeVar("Value")


class Tolerance:
    """Collects the warnings of one request.

    Args:
        lenient: ignore wrong values (`serve.lenient`) instead of refusing them.
    """

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        """Add a warning to the response."""
        self.warnings.append(message)

    def checked(self, check: Callable[[], Value], default: Value) -> Value:
        """The result of a check; if it fails and the server is lenient, the default, with a warning.

        Raises:
            Problem: the check failed, and the server is not lenient.
        """
        try:
            return check()
        except Problem as problem:
            self.refuse(problem)
            return default

    def refuse(self, problem: Problem) -> None:
        """Raise a problem; if the server is lenient, warn that its parameter is ignored.

        Raises:
            Problem: the server is not lenient.
        """
        if not self.lenient:
            raise problem
        self.warn(f"{problem.param} is ignored: {problem.message}")

    @property
    def headers(self) -> dict[str, str]:
        """The header with all warnings, in printable ASCII; empty if there are none."""
        text = " | ".join(self.warnings)[:_MAX_CHARS].encode("ascii", "replace").decode()
        return {WARNING_HEADER: "".join(c if c.isprintable() else "?" for c in text)} if text else {}
