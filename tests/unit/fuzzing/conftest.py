"""How Hypothesis runs here: as in the client's own unit tests."""

from __future__ import annotations

import tests.unit.client.conftest  # noqa: F401
