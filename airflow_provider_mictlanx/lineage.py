"""
Lineage: the locations that a task read, wrote and deleted, for Airflow's hook lineage collector and for OpenLineage.

A task reports few locations, however many objects there are. ``[mictlanx] lineage = False`` switches lineage off, for operators too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import conf

from airflow_provider_mictlanx.assets.mictlanx import SCHEME
from airflow_provider_mictlanx.client.texts import get_logger

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import BaseHook
    from airflow.providers.openlineage.extractors import OperatorLineage

log = get_logger(__name__)


MAX_LOCATIONS = 100
"""How many places one task tells of, in each direction: what Airflow's own collector takes."""


@dataclass(frozen=True)
class DataLocation:
    """
    An object, a part of a bucket, a file or a folder.

    :ivar scheme: ``mictlanx``, ``file``, or that of another store
    :ivar container: the bucket; empty for files of the worker
    :ivar name: the key, its beginning, or the path
    """

    scheme: str
    container: str
    name: str


def bucket_location(bucket_id: str, key: str = "") -> DataLocation:
    """
    Give the place of an object, of the objects that begin with a prefix, or of a whole bucket.

    :param key: a key or a prefix; empty for the bucket
    """
    return DataLocation(SCHEME, bucket_id, key)


def selected_location(bucket_id: str, prefix: str, glob: str) -> DataLocation:
    """Give the place of what a prefix or a glob chooses: of a glob, what stands before its first wildcard."""
    return bucket_location(bucket_id, prefix or re.split(r"[*?[]", glob)[0])


def file_location(path: str | os.PathLike[str]) -> DataLocation:
    """Give the place of a file or a folder of this machine."""
    return DataLocation("file", "", os.path.abspath(os.fspath(path)))


def source_location(source: str) -> DataLocation:
    """Give the place of what a bulk uploads: a path of this machine, or the URI of another store; of a glob, the folder before it."""
    fixed = re.split(r"[*?[]", source)[0]
    if fixed != source:
        fixed = fixed[: fixed.rfind("/") + 1] or "."
    uri = urlsplit(fixed)
    if not uri.scheme or "://" not in fixed:
        return file_location(fixed)
    if uri.scheme == "file":
        return file_location(uri.path)
    return DataLocation(uri.scheme, uri.netloc.rpartition("@")[2], uri.path.strip("/"))


def source_locations(sources: Iterable[str], balls: Iterable[Mapping[str, Any]]) -> list[DataLocation]:
    """
    Give the places of what a bulk uploads; of many single files, their folders.

    :param balls: with a path in their ``source``
    """
    paths = [str(ball["source"]) for ball in balls if ball.get("source") is not None]
    if len(paths) > MAX_LOCATIONS:
        paths = [path.rpartition("/")[0] or "." for path in paths]
    return list(dict.fromkeys(map(source_location, [*sources, *paths])))


def key_locations(bucket_id: str, keys: Iterable[str]) -> list[DataLocation]:
    """Give the places of some keys; of many, their bucket."""
    found = list(dict.fromkeys(keys))
    return (
        [bucket_location(bucket_id, key) for key in found]
        if len(found) <= MAX_LOCATIONS
        else [bucket_location(bucket_id)]
    )


@dataclass
class LineageTrace:
    """
    What a hook has read, written and deleted so far, each place once, no more than ``MAX_LOCATIONS`` of them.

    :ivar deletes: what was deleted
    """

    reads: dict[DataLocation, None] = field(default_factory=dict)
    writes: dict[DataLocation, None] = field(default_factory=dict)
    deletes: dict[DataLocation, None] = field(default_factory=dict)

    def add(
        self, reads: Iterable[DataLocation], writes: Iterable[DataLocation], deletes: Iterable[DataLocation]
    ) -> None:
        """Remember places."""
        for kept, places in ((self.reads, reads), (self.writes, writes), (self.deletes, deletes)):
            for place in places:
                if len(kept) < MAX_LOCATIONS:
                    kept.setdefault(place)


def is_enabled() -> bool:
    """Tell whether lineage is reported at all."""
    return bool(conf.getboolean("mictlanx", "lineage", fallback=True))


def report(hook: BaseHook, reads: Sequence[DataLocation], writes: Sequence[DataLocation]) -> None:
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


def _add(add: Callable[..., None], hook: BaseHook, places: Sequence[DataLocation]) -> None:
    for place in places:
        if place.scheme == SCHEME:
            add(hook, scheme=SCHEME, asset_kwargs={"bucket": place.container, "key": place.name})
        elif place.scheme == "file":
            add(hook, scheme="file", asset_kwargs={"path": place.name})
        else:
            add(hook, uri=f"{place.scheme}://{place.container}/{place.name}")


def to_openlineage(trace: LineageTrace) -> OperatorLineage[Any, Any]:
    """Give inputs and outputs; what was deleted is an input that was dropped."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[*map(_dataset, trace.reads), *map(_dropped, trace.deletes)], outputs=[*map(_dataset, trace.writes)]
    )


def _dataset(location: DataLocation, **facets: Any) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = _namespace_and_name(location)
    return Dataset(namespace=namespace, name=name, facets=facets)


def _dropped(location: DataLocation) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import (
        LifecycleStateChange,
        LifecycleStateChangeDatasetFacet,
        PreviousIdentifier,
    )

    namespace, name = _namespace_and_name(location)
    facet = LifecycleStateChangeDatasetFacet(
        lifecycleStateChange=LifecycleStateChange.DROP,
        previousIdentifier=PreviousIdentifier(namespace=namespace, name=name),
    )
    return _dataset(location, lifecycleStateChange=facet)


def _namespace_and_name(place: DataLocation) -> tuple[str, str]:
    if place.scheme == "file":
        return "file", place.name
    return f"{place.scheme}://{place.container}", place.name or "/"
