"""Many objects at a time in Airflow: a hook with a connection to the local VSS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tests.airflow_home  # noqa: F401
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.integration.airflow.conftest import connect, connected, logged  # noqa: F401
from tests.integration.client.conftest import _no_waiting  # noqa: F401
from tests.vss import LocalVSS


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:  # noqa: F811
    return MictlanXHook()


@pytest.fixture
def told(logged: Callable[[], list[str]]) -> Callable[[], list[str]]:  # noqa: F811
    """Give what this provider logged: Airflow 2 tells of each look-up of a connection too."""
    return lambda: [line for line in logged() if "onnection" not in line]
