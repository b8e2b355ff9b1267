"""The settings of Hypothesis, which a busy machine does not break. Retry at once."""

from __future__ import annotations

import pytest

import tests.support.hypothesis_profile  # noqa: F401


@pytest.fixture(autouse=True)
def _no_retry_waits(no_retry_waits: None) -> None:
    """Retry at once in all tests of this folder."""
