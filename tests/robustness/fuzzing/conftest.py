"""Settings of Hypothesis for busy machines. Retry at once, and wait less for other writers."""

from __future__ import annotations

import pytest

import tests.support.hypothesis_profile  # noqa: F401


@pytest.fixture(autouse=True)
def _no_waits(no_retry_waits: None, short_grace: None) -> None:
    """Retry at once, and wait less for other writers, in all tests of this folder."""
