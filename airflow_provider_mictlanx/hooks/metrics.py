"""Count what the hook transfers and deletes, through Airflow's ``Stats``: statsd, OpenTelemetry or Datadog."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from airflow.providers.common.compat.sdk import Stats, conf

Operation = Literal["put", "get", "copy", "delete"]


def count(operation: Operation, objects: int, size: int, seconds: float) -> None:
    """
    Count the work of one call, unless ``[mictlanx] metrics`` is False in Airflow's configuration.

    :param objects: number of objects that were transferred or deleted; others, such as unchanged ones, do not count
    :param size: their size (bytes); 0 if unknown
    :param seconds: duration of the call
    """
    if not conf.getboolean("mictlanx", "metrics", fallback=True):
        return
    Stats.incr(f"mictlanx.{operation}.objects", objects)
    Stats.incr(f"mictlanx.{operation}.bytes", size if objects else 0)
    Stats.timing(f"mictlanx.{operation}.seconds", timedelta(seconds=seconds))
