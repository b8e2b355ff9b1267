"""
Lineage: the locations that a task read, wrote and deleted, for Airflow's hook lineage collector and for OpenLineage.

A task reports few locations, however many objects there are. ``[mictlanx] lineage = False``
switches lineage off, for operators too.
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
"""Limit for the locations of one task in each direction; Airflow's own collector has the same."""


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
    Return the location of an object, of the objects with a prefix, or of a bucket.

    :param key: a key or a prefix; empty for the bucket
    """
    return DataLocation(SCHEME, bucket_id, key)


def selected_location(bucket_id: str, prefix: str, glob: str) -> DataLocation:
    """Return the location that a prefix or a glob selects; of a glob, the part before its first wildcard."""
    return bucket_location(bucket_id, prefix or re.split(r"[*?[]", glob)[0])


def file_location(path: str | os.PathLike[str]) -> DataLocation:
    """Return the location of a file or a folder of this machine."""
    return DataLocation("file", "", os.path.abspath(os.fspath(path)))


def source_location(source: str) -> DataLocation:
    """Return the location of a bulk's source: a path, or the URI of another store; of a glob, its folder."""
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
    Return the locations of a bulk's sources; of many single files, their folders.

    :param balls: with a path in their ``source``
    """
    paths = [str(ball["source"]) for ball in balls if ball.get("source") is not None]
    if len(paths) > MAX_LOCATIONS:
        paths = [path.rpartition("/")[0] or "." for path in paths]
    return list(dict.fromkeys(map(source_location, [*sources, *paths])))


def key_locations(bucket_id: str, keys: Iterable[str]) -> list[DataLocation]:
    """Return the locations of keys; of many, their bucket."""
    found = list(dict.fromkeys(keys))
    if len(found) > MAX_LOCATIONS:
        return [bucket_location(bucket_id)]
    return [bucket_location(bucket_id, key) for key in found]


@dataclass
class LineageTrace:
    """The locations that a hook has read, written and deleted, each once, up to ``MAX_LOCATIONS``."""

    reads: dict[DataLocation, None] = field(default_factory=dict)
    writes: dict[DataLocation, None] = field(default_factory=dict)
    deletes: dict[DataLocation, None] = field(default_factory=dict)

    def add(
        self, reads: Iterable[DataLocation], writes: Iterable[DataLocation], deletes: Iterable[DataLocation]
    ) -> None:
        """Add locations."""
        for kept, locations in ((self.reads, reads), (self.writes, writes), (self.deletes, deletes)):
            for location in locations:
                if len(kept) < MAX_LOCATIONS:
                    kept.setdefault(location)


def is_enabled() -> bool:
    """Return whether lineage is reported."""
    return bool(conf.getboolean("mictlanx", "lineage", fallback=True))


def report(hook: BaseHook, reads: Sequence[DataLocation], writes: Sequence[DataLocation]) -> None:
    """
    Report locations to the collector. Blocks: its first use in a process loads Airflow's plugins. Never raises.

    :param hook: the hook that read and wrote
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        _add(collector.add_input_asset, hook, reads)
        _add(collector.add_output_asset, hook, writes)
    except Exception:
        log.warning("What was read and written could not be told to the hook lineage collector", exc_info=True)


def _add(add: Callable[..., None], hook: BaseHook, locations: Sequence[DataLocation]) -> None:
    for location in locations:
        if location.scheme == SCHEME:
            add(hook, scheme=SCHEME, asset_kwargs={"bucket": location.container, "key": location.name})
        elif location.scheme == "file":
            add(hook, scheme="file", asset_kwargs={"path": location.name})
        else:
            add(hook, uri=f"{location.scheme}://{location.container}/{location.name}")


def to_openlineage(trace: LineageTrace) -> OperatorLineage[Any, Any]:
    """Return inputs and outputs; a deleted location is an input that was dropped."""
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


def _namespace_and_name(location: DataLocation) -> tuple[str, str]:
    if location.scheme == "file":
        return "file", location.name
    return f"{location.scheme}://{location.container}", location.name or "/"
