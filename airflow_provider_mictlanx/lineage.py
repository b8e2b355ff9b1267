"""
Report the locations that a task read, wrote and deleted to Airflow's hook lineage collector and to OpenLineage.

The number of locations is limited, however many objects a task uses. ``[mictlanx] lineage = False`` in Airflow's
configuration disables lineage, for operators too.
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
"""Limit for the locations of one task that are read, written and deleted, each; also that of Airflow's collector."""


@dataclass(frozen=True)
class DataLocation:
    """
    An object, a part of a bucket, a file or a folder.

    :ivar scheme: ``mictlanx``, ``file``, or the scheme of another store
    :ivar container: the bucket; empty for files of the worker
    :ivar name: the key, a prefix, or the path
    """

    scheme: str
    container: str
    name: str


def bucket_location(bucket_id: str, key: str = "") -> DataLocation:
    """
    Return the location of an object, of all objects with a prefix, or of a bucket.

    :param key: a key or a prefix; empty for the bucket
    """
    return DataLocation(SCHEME, bucket_id, key)


def selected_location(bucket_id: str, prefix: str, glob: str) -> DataLocation:
    """Return the location that a prefix or a glob selects; for a glob, the part before its first wildcard."""
    return bucket_location(bucket_id, prefix or re.split(r"[*?[]", glob)[0])


def file_location(path: str | os.PathLike[str]) -> DataLocation:
    """Return the location of a file or a folder on this machine."""
    return DataLocation("file", "", os.path.abspath(os.fspath(path)))


def source_location(source: str) -> DataLocation:
    """Return the location of a bulk's source, a path or the URI of another store; for a glob, its folder."""
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
    Return the locations of a bulk's sources; for many single files, their folders.

    :param sources: paths, or URIs of other stores
    :param balls: dicts that may have a path in ``source``
    """
    paths = [str(ball["source"]) for ball in balls if ball.get("source") is not None]
    if len(paths) > MAX_LOCATIONS:
        paths = [path.rpartition("/")[0] or "." for path in paths]
    return list(dict.fromkeys(map(source_location, [*sources, *paths])))


def key_locations(bucket_id: str, keys: Iterable[str]) -> list[DataLocation]:
    """Return the locations of keys; for many keys, only their bucket."""
    found = list(dict.fromkeys(keys))
    if len(found) > MAX_LOCATIONS:
        return [bucket_location(bucket_id)]
    return [bucket_location(bucket_id, key) for key in found]


@dataclass
class LineageTrace:
    """The locations that a hook has read, written and deleted, each once and up to ``MAX_LOCATIONS``."""

    reads: dict[DataLocation, None] = field(default_factory=dict)
    writes: dict[DataLocation, None] = field(default_factory=dict)
    deletes: dict[DataLocation, None] = field(default_factory=dict)

    def add(
        self, reads: Iterable[DataLocation], writes: Iterable[DataLocation], deletes: Iterable[DataLocation]
    ) -> None:
        """Add locations that were read, written and deleted."""
        for kept, locations in ((self.reads, reads), (self.writes, writes), (self.deletes, deletes)):
            for location in locations:
                if len(kept) < MAX_LOCATIONS:
                    kept.setdefault(location)


def is_enabled() -> bool:
    """Return whether lineage is enabled in Airflow's configuration."""
    return bool(conf.getboolean("mictlanx", "lineage", fallback=True))


def report(hook: BaseHook, reads: Sequence[DataLocation], writes: Sequence[DataLocation]) -> None:
    """
    Report locations to Airflow's hook lineage collector. Never raises.

    Blocks: the first use of the collector in a process loads Airflow's plugins.

    :param hook: the hook that read and wrote
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        _add(collector.add_input_asset, hook, reads)
        _add(collector.add_output_asset, hook, writes)
    except Exception:
        log.warning(
            "Reporting %d read and %d written locations to the hook lineage collector failed; the task continues",
            len(reads),
            len(writes),
            exc_info=True,
        )


def _add(add: Callable[..., None], hook: BaseHook, locations: Sequence[DataLocation]) -> None:
    for location in locations:
        if location.scheme == SCHEME:
            add(hook, scheme=SCHEME, asset_kwargs={"bucket": location.container, "key": location.name})
        elif location.scheme == "file":
            add(hook, scheme="file", asset_kwargs={"path": location.name})
        else:
            add(hook, uri=f"{location.scheme}://{location.container}/{location.name}")


def to_openlineage(trace: LineageTrace) -> OperatorLineage[Any, Any]:
    """Return inputs and outputs for OpenLineage; a deleted location is an input that was dropped."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[*map(_dataset, trace.reads), *map(_dropped_dataset, trace.deletes)],
        outputs=[*map(_dataset, trace.writes)],
    )


def _dataset(location: DataLocation, **facets: Any) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = _namespace_and_name(location)
    return Dataset(namespace=namespace, name=name, facets=facets)


def _dropped_dataset(location: DataLocation) -> Dataset:
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
