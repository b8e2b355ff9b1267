"""
Links from a task to what a router tells of its object, its bucket or its bulk, as JSON. Imports Airflow, and names only of the client.

A link holds no token: where the routers want one, a browser that does not bring it is refused. It leads to the connection's
first router, by the address that the workers use.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_mictlanx.bulks.records import bucket_of
from airflow_provider_mictlanx.client.names import ball_id_of


class MictlanXLink(BaseOperatorLink):
    """A link whose URL the task keeps as XCom as soon as it begins, so that it is there while it works and if it fails."""

    @property
    @abstractmethod
    def xcom_key(self) -> str:
        """The key that the URL is kept under."""

    @abstractmethod
    def path_of(self, operator: Any) -> str | None:
        """Give the path below a router's API, from the operator's rendered fields; None where they name no such thing."""

    def hook_of(self, operator: Any) -> Any:
        """Give the hook whose router is asked."""
        return operator.hook

    def url_of(self, operator: Any) -> str | None:
        """Give the URL, or None where there is none; looks the connection up."""
        path = self.path_of(operator)
        return None if path is None else f"{self.hook_of(operator).settings.api_url}{path}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Give the URL that a task instance kept; empty where it has not begun."""
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")


class MictlanXObjectLink(MictlanXLink):
    """What is known of an object: size, checksum, and for every chunk its tags and the peers that keep it."""

    name = "MictlanX object"
    xcom_key = "mictlanx_object"

    def path_of(self, operator: Any) -> str | None:
        """Lead to the metadata of all chunks."""
        return f"/buckets/{quote(operator.bucket_id, safe='')}/metadata/{ball_id_of(operator.key)}/chunks"


class MictlanXBucketLink(MictlanXLink):
    """What a bucket lists: every chunk that was announced, with its tags."""

    name = "MictlanX bucket"
    xcom_key = "mictlanx_bucket"

    def path_of(self, operator: Any) -> str | None:
        """Lead to the bucket's listing."""
        return _listing_of(operator.bucket_id)


class MictlanXDestinationLink(MictlanXLink):
    """What is listed in the bucket that was copied to."""

    name = "MictlanX destination"
    xcom_key = "mictlanx_destination"

    def path_of(self, operator: Any) -> str | None:
        """Lead to that bucket's listing."""
        return _listing_of(operator.dest_bucket_id)

    def hook_of(self, operator: Any) -> Any:
        """Give the hook of the other connection, where there is one."""
        return operator.dest_hook


class MictlanXBulkLink(MictlanXLink):
    """The records of a bulk: who uploads what, and how far it is, in the tags of each."""

    name = "MictlanX bulk"
    xcom_key = "mictlanx_bulk"

    def path_of(self, operator: Any) -> str | None:
        """Lead to the listing of the records' bucket."""
        return None if operator.bulk_id is None else _listing_of(bucket_of(operator.bulk_id))


def keep_links(operator: Any, context: Mapping[str, Any]) -> None:
    """Keep the links of a task as XComs, where a task instance runs it."""
    task_instance = context.get("ti")
    if task_instance is None:
        return
    for link in operator.operator_extra_links:
        if isinstance(link, MictlanXLink) and (url := link.url_of(operator)) is not None:
            task_instance.xcom_push(key=link.xcom_key, value=url)


def _listing_of(bucket_id: Any) -> str | None:
    return f"/buckets/{quote(bucket_id, safe='')}/metadata" if isinstance(bucket_id, str) else None
