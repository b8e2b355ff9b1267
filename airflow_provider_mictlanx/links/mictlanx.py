"""
Links from a task to its object, its bucket or its bulk.

From Airflow 3.2 on, a link leads to the page *MictlanX* of Airflow's UI. Before that it leads to the JSON of the
connection's first router, at the address that the workers use. It contains no token: routers that require one refuse a
browser that does not send it.
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
from airflow_provider_mictlanx.links import page


class MictlanXLink(BaseOperatorLink):
    """A link whose URL the task stores as XCom when it starts, so it also exists after a failure."""

    @property
    @abstractmethod
    def xcom_key(self) -> str:
        """Key of the XCom with the URL."""

    @abstractmethod
    def select(self, operator: Any) -> dict[str, Any]:
        """Return the rendered names of the linked data: ``bucket``, ``bucket`` and ``key``, or ``bulk``."""

    def get_hook(self, operator: Any) -> Any:
        """Return the hook of the connection that the link leads to."""
        return operator.hook

    def build_url(self, operator: Any) -> str | None:
        """Return the URL, or None if a name is not a str. Before Airflow 3.2, this reads the connection."""
        names = self.select(operator)
        if not all(isinstance(name, str) for name in names.values()):
            return None
        hook = self.get_hook(operator)
        if page.HAS_PAGE:
            return page.build_page_url(connection=hook.mictlanx_conn_id, **names)
        uri = hook.settings.uri
        router = AsyncRouter.at(uri.routers[0], replace(uri, http2=False))
        return f"{router.base_url()}/api/v{uri.api_version}{_build_router_path(**names)}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL that a task instance stored; an empty str before it has started."""
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")


class MictlanXObjectLink(MictlanXLink):
    """A link to an object: its size, its checksum, and when it was written."""

    name = "MictlanX object"
    xcom_key = "mictlanx_object"

    def select(self, operator: Any) -> dict[str, Any]:
        """Return the object's names."""
        return {"bucket": operator.bucket_id, "key": operator.key}


class MictlanXBucketLink(MictlanXLink):
    """A link to the objects of a bucket."""

    name = "MictlanX bucket"
    xcom_key = "mictlanx_bucket"

    def select(self, operator: Any) -> dict[str, Any]:
        """Return the bucket's name."""
        return {"bucket": operator.bucket_id}


class MictlanXDestinationLink(MictlanXLink):
    """A link to the objects of the bucket that a copy or a sync writes to."""

    name = "MictlanX destination"
    xcom_key = "mictlanx_destination"

    def select(self, operator: Any) -> dict[str, Any]:
        """Return the destination bucket's name."""
        return {"bucket": operator.dest_bucket_id}

    def get_hook(self, operator: Any) -> Any:
        """Return the hook of the copies' connection."""
        return operator.dest_hook


class MictlanXBulkLink(MictlanXLink):
    """A link to a bulk: its uploaders and its progress."""

    name = "MictlanX bulk"
    xcom_key = "mictlanx_bulk"

    def select(self, operator: Any) -> dict[str, Any]:
        """Return the bulk's id."""
        return {"bulk": operator.bulk_id}


def push_links(operator: Any, context: Mapping[str, Any]) -> None:
    """Store the URLs of a task's links as XComs; without a task instance, do nothing."""
    task_instance = context.get("ti")
    if task_instance is None:
        return
    for link in operator.operator_extra_links:
        if isinstance(link, MictlanXLink) and (url := link.build_url(operator)) is not None:
            task_instance.xcom_push(key=link.xcom_key, value=url)


def _build_router_path(bucket: str = "", key: str | None = None, bulk: str | None = None) -> str:
    """Return the path, below a router's API, of an object's metadata, or of the listing of a bucket or of records."""
    if key is not None:
        return f"/buckets/{quote(bucket, safe='')}/metadata/{make_ball_id(key)}/chunks"
    return f"/buckets/{quote(bucket if bulk is None else records_bucket(bulk), safe='')}/metadata"
