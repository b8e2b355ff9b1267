"""Many objects at a time in Airflow: a hook with a connection to the local VSS."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.integration.airflow.conftest import connect, connected, logged  # noqa: F401
from tests.vss import LocalVSS


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:  # noqa: F811
    return MictlanXHook()
