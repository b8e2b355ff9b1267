"""
Telling Airflow's hook lineage collector what the hook read and wrote. Imports Airflow and ``assets``.

``[mictlanx] lineage = False`` switches it off, for operators too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_mictlanx.assets.mictlanx import SCHEME
from airflow_provider_mictlanx.assets.places import Place

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


def is_on() -> bool:
    """Tell whether lineage is reported at all."""
    return bool(conf.getboolean("mictlanx", "lineage", fallback=True))


def report(hook: BaseHook, reads: Sequence[Place], writes: Sequence[Place]) -> None:
    """
    Tell the collector. Blocks: its first use in a process loads Airflow's plugins. Never raises: the work is done by now.

    :param hook: who read and wrote
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        _add(collector.add_input_asset, hook, reads)
        _add(collector.add_output_asset, hook, writes)
    except Exception:
        log.warning("What was read and written could not be told to the hook lineage collector", exc_info=True)


def _add(add: Callable[..., None], hook: BaseHook, places: Sequence[Place]) -> None:
    for place in places:
        if place.scheme == SCHEME:
            add(hook, scheme=SCHEME, asset_kwargs={"bucket": place.container, "key": place.name})
        elif place.scheme == "file":
            add(hook, scheme="file", asset_kwargs={"path": place.name})
        else:
            add(hook, uri=f"{place.scheme}://{place.container}/{place.name}")
