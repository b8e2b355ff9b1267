"""
Links from a task to a router's JSON about its object, its bucket or its bulk.

A link leads to the connection's first router, at the address that the workers use. It contains no token: routers that
require one refuse a browser that does not send it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_mictlanx.bulks.records import records_bucket
from airflow_provider_mictlanx.client import AsyncRouter
from airflow_provider_mictlanx.client.object_ids import make_ball_id


class MictlanXLink(BaseOperatorLink):
    """A link whose URL the task stores as XCom when it starts, so it also exists after a failure."""

    @property
    @abstractmethod
    def xcom_key(self) -> str:
        """Key of the XCom with the URL."""

    @abstractmethod
    def build_path(self, operator: Any) -> str | None:
        """Return the path below a router's API, built from rendered fields; None if there is nothing to link to."""

    def get_hook(self, operator: Any) -> Any:
        """Return the hook whose router the link leads to."""
        return operator.hook

    def build_url(self, operator: Any) -> str | None:
        """Return the URL, or None if there is nothing to link to. Reads the connection."""
        path = self.build_path(operator)
        if path is None:
            return None
        uri = self.get_hook(operator).settings.uri
        router = AsyncRouter.at(uri.routers[0], replace(uri, http2=False))
        return f"{router.base_url()}/api/v{uri.api_version}{path}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL that a task instance stored; an empty str before it has started."""
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")


class MictlanXObjectLink(MictlanXLink):
    """A link to the metadata of an object: size, checksum, and the tags and peers of every chunk."""

    name = "MictlanX object"
    xcom_key = "mictlanx_object"

    def build_path(self, operator: Any) -> str | None:
        """Return the path of the metadata of all chunks."""
        return f"/buckets/{quote(operator.bucket_id, safe='')}/metadata/{make_ball_id(operator.key)}/chunks"


class MictlanXBucketLink(MictlanXLink):
    """A link to the listing of a bucket: every announced chunk, with its tags."""

    name = "MictlanX bucket"
    xcom_key = "mictlanx_bucket"

    def build_path(self, operator: Any) -> str | None:
        """Return the path of the bucket's listing."""
        return _build_listing_path(operator.bucket_id)


class MictlanXDestinationLink(MictlanXLink):
    """A link to the listing of the bucket that a copy or a sync writes to."""

    name = "MictlanX destination"
    xcom_key = "mictlanx_destination"

    def build_path(self, operator: Any) -> str | None:
        """Return the path of the destination bucket's listing."""
        return _build_listing_path(operator.dest_bucket_id)

    def get_hook(self, operator: Any) -> Any:
        """Return the hook of the copies' connection."""
        return operator.dest_hook


class MictlanXBulkLink(MictlanXLink):
    """A link to the records of a bulk: its uploaders and its progress, in their tags."""

    name = "MictlanX bulk"
    xcom_key = "mictlanx_bulk"

    def build_path(self, operator: Any) -> str | None:
        """Return the path of the listing of the records' bucket."""
        return None if operator.bulk_id is None else _build_listing_path(records_bucket(operator.bulk_id))


def push_links(operator: Any, context: Mapping[str, Any]) -> None:
    """Store the URLs of a task's links as XComs; without a task instance, do nothing."""
    task_instance = context.get("ti")
    if task_instance is None:
        return
    for link in operator.operator_extra_links:
        if isinstance(link, MictlanXLink) and (url := link.build_url(operator)) is not None:
            task_instance.xcom_push(key=link.xcom_key, value=url)


def _build_listing_path(bucket_id: Any) -> str | None:
    return f"/buckets/{quote(bucket_id, safe='')}/metadata" if isinstance(bucket_id, str) else None
