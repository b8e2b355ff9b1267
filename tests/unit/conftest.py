"""Airflow with a home of its own, and settings of Hypothesis that a busy machine does not break."""

from __future__ import annotations

import tests.support.airflow_home
import tests.support.hypothesis_profile  # noqa: F401
