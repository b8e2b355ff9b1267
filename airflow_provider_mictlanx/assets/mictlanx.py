"""
Asset URIs, ``mictlanx://bucket/key``, and the functions that ``get_provider_info`` registers for them.

An asset is the same through every connection, so its URI contains none. Keys are percent-encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from airflow_provider_mictlanx.safe_ids import is_safe_id

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
    """Return the asset of an object or a bucket; parameters: see ``uri_of``."""
    from airflow.providers.common.compat.assets import Asset  # it imports Airflow's database models

    return Asset(uri=uri_of(bucket, key), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return an asset URI without the connection, which may stand before an ``@`` (``mictlanx://conn@bucket/key``).

    The key is percent-encoded unless it is already: ``str(ObjectStoragePath(…))`` contains it as it was written.

    Raises ``ValueError`` if it is not the URI of a bucket or object, but of routers for example.
    """
    bucket = uri.netloc.rpartition("@")[2]
    asset = uri._replace(netloc=bucket, path=quote(unquote_to_bytes(uri.path), safe="/"))
    if not is_safe_id(bucket) or uri.query:
        # Without the part before the @: in the URI of a router that may be a token.
        raise ValueError(
            "an asset URI must be mictlanx://bucket/key, with a bucket id of letters, digits, '-' and '_', got "
            f"{asset.geturl()!r}"
        )
    return asset


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """Return an asset as OpenLineage dataset: namespace ``mictlanx://bucket``, name ``key``; ``/`` is the bucket."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{uri.netloc}", name=unquote(uri.path.removeprefix("/")) or "/")
