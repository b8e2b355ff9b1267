"""
Asset URIs, ``mictlanx://bucket/key``: the functions that ``get_provider_info`` names for them.

An asset is the same through every connection, so its URI names none. A key is percent-encoded in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow_provider_mictlanx.client.object_ids import is_safe_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.assets import Asset
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

SCHEME = "mictlanx"


def uri_of(bucket: str, key: str = "") -> str:
    """
    Return the URI of an object.

    :param key: empty for the bucket itself
    """
    return f"{SCHEME}://{bucket}/{quote(key, safe='/')}"


def create_asset(*, bucket: str, key: str = "", extra: dict[str, Any] | None = None) -> Asset:
    """Return the asset of an object, or of a bucket."""
    from airflow.providers.common.compat.assets import Asset  # it imports Airflow's database models

    return Asset(uri=uri_of(bucket, key), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return a URI without its connection (``mictlanx://conn@bucket/key``).

    Raises ``ValueError`` if it names no bucket, as the URI of a router.
    """
    bucket = uri.netloc.rpartition("@")[2]
    asset = uri._replace(netloc=bucket)
    if not is_safe_id(bucket) or uri.query:
        # Quoted without what stands before the @: in a router's URI that may be its token.
        raise ValueError(
            f"the URI of an asset is mictlanx://bucket/key, with a bucket id of letters, digits, '-' and '_', not {asset.geturl()!r}"
        )
    return asset


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """Return an asset's dataset for OpenLineage: namespace ``mictlanx://bucket``, name ``key``; ``/`` is the bucket."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{uri.netloc}", name=unquote(uri.path.removeprefix("/")) or "/")
