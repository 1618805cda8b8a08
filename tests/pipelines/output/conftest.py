"""Fixtures for the tests of the lease."""

from __future__ import annotations

import pytest

from pipelines.output import lease as leases


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that expire in a time that a test can wait for."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(leases, "LIFE_SECONDS", 1.5)
