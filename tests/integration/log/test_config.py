"""The logging configuration: Airflow's own, with task logs in MictlanX."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from airflow.exceptions import AirflowConfigException, AirflowException

from airflow_provider_mictlanx.log.mictlanx import MictlanXRemoteLogIO
from tests.support.pages import blocks

DOCS = Path(__file__).parents[3] / "docs"
PAGE = dict(line.split(" = ") for line in blocks(DOCS / "logs.md", "ini")[0].splitlines()[1:])
"""The options of the page on logs."""
STOCK = "airflow.config_templates.airflow_local_settings"
CONFIG = "airflow_provider_mictlanx.log.config"
is_airflow_2 = version("apache-airflow").startswith("2.")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ModuleType]:
    """Import a logging configuration as a new process does, with options of ``[logging]``."""

    def load_with(module: str = CONFIG, **options: str) -> ModuleType:
        for name in (STOCK, CONFIG):
            monkeypatch.delitem(sys.modules, name, raising=False)
        for name, value in (PAGE | {"base_log_folder": str(tmp_path)} | options).items():
            monkeypatch.setenv(f"AIRFLOW__LOGGING__{name.upper()}", value)
        return importlib.import_module(module)

    return load_with


@pytest.mark.skipif(is_airflow_2, reason="Airflow 2 has other remote logs")
def test_config_has_remote_logs_by_the_options(load: Callable[..., ModuleType], tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match="Incorrect remote log configuration"):
        load(STOCK)  # the reason for this module
    config = load(
        remote_task_handler_kwargs=json.dumps({"rf": 2, "upload_timeout": 5, "max_bytes": 1000}),
        delete_local_logs="True",
        remote_log_conn_id="logs",
    )
    remote = config.REMOTE_TASK_LOG
    assert isinstance(remote, MictlanXRemoteLogIO)
    assert (remote.base_log_folder, remote.base_bucket) == (tmp_path, "airflow-logs")
    assert (remote.mictlanx_conn_id, remote.delete_local_copy, remote.rf, remote.upload_timeout) == ("logs", True, 2, 5)
    assert config.LOGGING_CONFIG["handlers"]["task"]["max_bytes"] == 1000
    assert remote.processors == ()
    remote = load(remote_log_conn_id="", remote_task_handler_kwargs="").REMOTE_TASK_LOG
    assert remote.mictlanx_conn_id == config.DEFAULT_REMOTE_CONN_ID == "mictlanx_default"


@pytest.mark.skipif(is_airflow_2, reason="Airflow 2 has other remote logs")
def test_airflow_finds_the_remote_logs(load: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    load(logging_config_class=f"{CONFIG}.LOGGING_CONFIG")
    for module in ("airflow.logging_config", "airflow.sdk.log"):
        found = importlib.import_module(module)
        monkeypatch.setattr(found._ActiveLoggingConfig, "logging_config_loaded", False)
        monkeypatch.setattr(found._ActiveLoggingConfig, "remote_task_log", None)
        monkeypatch.setattr(found._ActiveLoggingConfig, "default_remote_conn_id", None)
        found._load_logging_config()
        assert isinstance(found._ActiveLoggingConfig.remote_task_log, MictlanXRemoteLogIO)
        assert found._ActiveLoggingConfig.default_remote_conn_id == "mictlanx_default"


def test_config_without_remote_logging_is_airflows(load: Callable[..., ModuleType]) -> None:
    config = load(remote_logging="False")
    assert config.REMOTE_TASK_LOG is None
    assert config.LOGGING_CONFIG == sys.modules[STOCK].DEFAULT_LOGGING_CONFIG  # type: ignore[attr-defined]


@pytest.mark.skipif(not is_airflow_2, reason="Airflow 3 has remote logs")
def test_config_on_airflow_2_refuses_remote_logging(load: Callable[..., ModuleType]) -> None:
    with pytest.raises(AirflowConfigException, match="need Airflow 3"):
        load()


@pytest.mark.skipif(is_airflow_2, reason="Airflow 2 has other remote logs")
@pytest.mark.parametrize("folder", ["s3://logs", "mictlanx://", "mictlanx://logs/folder", "mictlanx://logs?rf=2", ""])
def test_config_with_another_folder_names_it(load: Callable[..., ModuleType], folder: str) -> None:
    with pytest.raises((ValueError, AirflowConfigException), match="remote_base_log_folder"):
        load(remote_base_log_folder=folder)


@pytest.mark.parametrize("arguments", ["[]", '{"unknown": 1}'])
def test_config_with_invalid_arguments_is_an_error(load: Callable[..., ModuleType], arguments: str) -> None:
    with pytest.raises((ValueError, TypeError, AirflowConfigException)):
        load(remote_task_handler_kwargs=arguments)
