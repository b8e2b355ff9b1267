"""Retry at once."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_retry_waits(no_retry_waits: None) -> None:
    """Retry at once in all tests of this folder."""
