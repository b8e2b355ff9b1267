"""The settings of Hypothesis, which a busy machine does not break."""

from __future__ import annotations

import tests.support.hypothesis_profile  # noqa: F401
