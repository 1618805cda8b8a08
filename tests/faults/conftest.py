"""What all fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import jobs


@pytest.fixture(autouse=True)
def ended_jobs() -> Iterator[None]:
    """Ends what a test has left of its jobs."""
    yield
    while jobs.STARTED:
        jobs.STARTED.pop().end()
