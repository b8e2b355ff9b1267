"""Buckets that begin with ``bulk-``: no operator and no call of the hook changes one unless it is told to."""

from __future__ import annotations

import inspect
import uuid
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXPutOperator,
)
from tests.support.operator_runs import run, store
from tests.support.public_names import hook_methods
from tests.support.vss import LocalVSS

CHANGES: list[tuple[Any, dict[str, Any]]] = [
    (MictlanXPutOperator, {"bucket_id": "R", "key": "a", "data": "1"}),
    (MictlanXPutOperator, {"bucket_id": "R", "key": "a", "file_path": __file__}),
    (MictlanXCopyOperator, {"bucket_id": "B", "key": "o", "dest_bucket_id": "R"}),
    (MictlanXCopyOperator, {"bucket_id": "B", "prefix": "", "dest_bucket_id": "R"}),
    (MictlanXDeleteOperator, {"bucket_id": "R", "key": "a"}),
    (MictlanXDeleteOperator, {"bucket_id": "R", "keys": ["a"]}),
    (MictlanXDeleteOperator, {"bucket_id": "R", "prefix": "a"}),
    (MictlanXDeleteBucketOperator, {"bucket_id": "R"}),
    (MictlanXBulkPutOperator, {"bulk_id": "ID", "bucket_id": "R", "source": __file__}),
    (MictlanXBulkPutOperator, {"bulk_id": "ID", "balls": [{"bucket_id": "R", "key": "a", "data": "1"}]}),
]
"""Operators that change a bucket; R is the reserved one, B another with an object in it, ID a fresh bulk id."""


@pytest.mark.parametrize(("kind", "arguments"), CHANGES)
def test_operator_refuses_a_reserved_bucket(
    vss: LocalVSS, hook: MictlanXHook, bucket_id: str, kind: Any, arguments: dict[str, Any]
) -> None:
    reserved = f"bulk-{bucket_id}"
    store(hook, bucket_id, "o")
    names = {"R": reserved, "B": bucket_id, "ID": uuid.uuid4().hex}
    given = {name: names.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()}
    if "balls" in given:
        given["balls"] = [{**ball, "bucket_id": reserved} for ball in given["balls"]]
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match=f"bucket_id must not begin with 'bulk-', got '{reserved}'"):
        run(kind(task_id="change", **given))
    # A wrong ball of a list is found when the bulk is planned: its record of the attempt is written by then.
    assert vss.requests(path=f"/buckets/(bulk-)?{bucket_id}" if "balls" in given else "") == []
    run(kind(task_id="change", **given, allow_reserved_bucket=True))
    assert vss.requests(path=reserved) != []


def test_every_changing_call_of_the_hook_has_the_flag() -> None:
    changing = {name for name in hook_methods() if name.lstrip("a").startswith(("put", "copy", "delete"))}
    assert len(changing) == 20
    without = {
        name
        for name in changing
        if "allow_reserved_bucket" not in inspect.signature(getattr(MictlanXHook, name)).parameters
    }
    assert without == {"delete_bulk", "adelete_bulk"}


def test_bulks_own_records_bucket_is_never_a_destination(hook: MictlanXHook, tmp_path: Path) -> None:
    bulk_id = uuid.uuid4().hex
    (tmp_path / "a").write_text("1")
    with pytest.raises(ValidationError, match="that bucket contains the records of bulk"):
        hook.put_bulk(bulk_id, f"bulk-{bulk_id}", tmp_path, allow_reserved_bucket=True)


def test_bulk_with_a_wrong_bucket_does_not_spend_its_id(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    """It is refused before its first record, so the same bulk id can be used with another bucket."""
    bulk_id = uuid.uuid4().hex
    (tmp_path / "a").write_text("1")
    with pytest.raises(ValidationError, match="must not begin with 'bulk-'"):
        hook.put_bulk(bulk_id, "bulk-x", tmp_path)
    assert hook.put_bulk(bulk_id, bucket_id, tmp_path)["uploaded"] == 1
