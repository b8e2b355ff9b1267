"""Tries follow one another at once, as in the client's own tests."""

from __future__ import annotations

from tests.integration.client.conftest import _no_waiting  # noqa: F401
