"""What hook and operators tell of what they read and wrote: by the collector, and by OpenLineage's method."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.lineage import hook as compat
from airflow.providers.common.compat.sdk import HookLineageCollector

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXDeleteOperator, MictlanXPutOperator
from tests.support.vss import LocalVSS

pytestmark = pytest.mark.usefixtures("connected")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    """The collector as it is where somebody reads from it."""
    made = HookLineageCollector()
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: made)
    return compat.get_hook_lineage_collector()  # which adds what Airflow 2 calls otherwise


def uris(collector: HookLineageCollector) -> tuple[list[str], list[str]]:
    collected = collector.collected_assets
    return [told.asset.uri for told in collected.inputs], [told.asset.uri for told in collected.outputs]


def test_hook_tells_the_collector(collector: HookLineageCollector, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    hook = MictlanXHook()
    hook.put_file(bucket_id, "in/a b", tmp_path / "a")
    hook.get_text(bucket_id, "in/a b")
    hook.copy(bucket_id, "in/a b", bucket_id, "out")
    hook.get_to_folder(tmp_path / "folder", bucket_id, glob="in/*")
    assert uris(collector) == (
        [f"file://{tmp_path}/a", f"mictlanx://{bucket_id}/in/a%20b", f"mictlanx://{bucket_id}/in"],
        [f"mictlanx://{bucket_id}/in/a%20b", f"mictlanx://{bucket_id}/out", f"file://{tmp_path}/folder"],
    )


def test_bulk_is_told_as_its_bucket(collector: HookLineageCollector, bucket_id: str, tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number}").write_text(f"{number}")
    MictlanXHook().put_bulk(bucket_id, bucket_id, tmp_path)
    assert uris(collector) == ([f"file://{tmp_path}"], [f"mictlanx://{bucket_id}/"])


def test_what_failed_is_not_told(collector: HookLineageCollector, bucket_id: str) -> None:
    hook = MictlanXHook()
    with pytest.raises(Exception, match="does not exist"):
        hook.get(bucket_id, "nothing")
    assert uris(collector) == ([], [])


def test_collector_that_breaks_fails_nothing(
    bucket_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a plugin is broken")

    monkeypatch.setattr(compat, "get_hook_lineage_collector", broken)
    assert MictlanXHook().put(bucket_id, "key", "x")["uploaded"]
    assert "locations to the hook lineage collector failed" in caplog.text


def test_operators_tell_openlineage(bucket_id: str) -> None:
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="a/b c", data="x")
    assert operator.get_openlineage_facets_on_complete(None).outputs == []
    operator.execute({})
    told = operator.get_openlineage_facets_on_complete(None)
    assert (told.inputs, [(place.namespace, place.name) for place in told.outputs]) == (
        [],
        [(f"mictlanx://{bucket_id}", "a/b c")],
    )
    operator = MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, keys=["a/b c", "d"])
    operator.execute({})
    told = operator.get_openlineage_facets_on_complete(None)
    assert [(place.name, set(place.facets)) for place in told.inputs] == [
        ("a/b c", {"lifecycleStateChange"}),
        ("d", {"lifecycleStateChange"}),
    ]


def test_it_can_be_switched_off(
    vss: LocalVSS, collector: HookLineageCollector, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MICTLANX__LINEAGE", "False")
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", data="x")
    operator.execute({})
    assert uris(collector) == ([], [])
    told = operator.get_openlineage_facets_on_complete(None)
    assert (told.inputs, told.outputs) == ([], [])
