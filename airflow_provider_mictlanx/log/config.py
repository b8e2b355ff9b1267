"""
Airflow's logging configuration with task logs in MictlanX, for ``[logging] logging_config_class``.

Airflow's own configuration refuses schemes that it does not know, if remote logging is on when it is imported. So it is
imported with remote logging off.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import airflow
from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from airflow_provider_mictlanx.log.mictlanx import DEFAULT_CONN_ID, MictlanXRemoteLogIO, handler_arguments

_SWITCH = "AIRFLOW__LOGGING__REMOTE_LOGGING"


@contextmanager
def _remote_logging_off() -> Iterator[None]:
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "False"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before


with _remote_logging_off():
    from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

LOGGING_CONFIG: dict[str, Any] = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
REMOTE_TASK_LOG: MictlanXRemoteLogIO | None = None
DEFAULT_REMOTE_CONN_ID = DEFAULT_CONN_ID

if conf.getboolean("logging", "remote_logging"):
    if airflow.__version__.startswith("2."):
        raise AirflowConfigException(
            "remote task logs in MictlanX need Airflow 3; set [logging] remote_logging = False"
        )
    REMOTE_TASK_LOG = MictlanXRemoteLogIO.from_config()
    LOGGING_CONFIG["handlers"]["task"].update(handler_arguments()[0])
