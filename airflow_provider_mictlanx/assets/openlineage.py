"""What a task read, wrote and deleted, as OpenLineage wants it. Its provider is optional, and imported only when it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.openlineage.facet import (
    Dataset,
    LifecycleStateChange,
    LifecycleStateChangeDatasetFacet,
    PreviousIdentifier,
)

from airflow_provider_mictlanx.assets.places import Place, Trace

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def lineage_of(trace: Trace) -> OperatorLineage[Any, Any]:
    """Give inputs and outputs; what was deleted is an input that was dropped."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[*map(_dataset, trace.reads), *map(_dropped, trace.drops)],
        outputs=[*map(_dataset, trace.writes)],
    )


def _dataset(place: Place) -> Dataset:
    namespace, name = _named(place)
    return Dataset(namespace=namespace, name=name)


def _dropped(place: Place) -> Dataset:
    namespace, name = _named(place)
    facet = LifecycleStateChangeDatasetFacet(
        lifecycleStateChange=LifecycleStateChange.DROP,
        previousIdentifier=PreviousIdentifier(namespace=namespace, name=name),
    )
    return Dataset(namespace=namespace, name=name, facets={"lifecycleStateChange": facet})


def _named(place: Place) -> tuple[str, str]:
    if place.scheme == "file":
        return "file", place.name
    return f"{place.scheme}://{place.container}", place.name or "/"
