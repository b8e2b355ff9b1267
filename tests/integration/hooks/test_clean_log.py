"""Everything that runs in Airflow logs lines that nobody can forge, whichever logger the installed Airflow gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client.texts import remember_secret
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXListOperator
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXObjectTrigger

LOGGING: dict[str, Callable[[], Any]] = {
    "hook": MictlanXHook,
    "operator": lambda: MictlanXListOperator(task_id="list", bucket_id="b"),
    "sensor": lambda: MictlanXObjectSensor(task_id="wait", bucket_id="b", key="k"),
    "trigger": lambda: MictlanXObjectTrigger(
        mictlanx_conn_id="c", poke_interval=1, ends_at=None, bucket_id="b", key="k"
    ).create_condition(),
}


@pytest.mark.parametrize("make", LOGGING.values(), ids=LOGGING)
def test_log_lines_are_clean(make: Callable[[], Any], logged: Callable[[], list[str]]) -> None:
    remember_secret("l0g/of+airflow")
    logger = make().log
    logger.warning("%s is %d%% of l0g\\/of\\u002Bairflow", "a\n\x1b[2K\u202eb", 5)
    logger.error("50% of\nit", exc_info=False)
    assert logged()[-2:] == ["a\\n\\x1b[2K\\u202eb is 5% of ***", "50% of\\nit"]
