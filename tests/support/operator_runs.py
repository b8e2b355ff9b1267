"""Helpers of the tests of operators."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook


def run(operator: BaseOperator) -> Any:
    """Run an operator as a task; what it gives fits into XCom."""
    result = operator.execute({})
    json.dumps(result)
    return result


def store(hook: MictlanXHook, bucket_id: str, *keys: str) -> None:
    """Store objects whose content is their key."""
    for key in keys:
        hook.put(bucket_id, key, key)
