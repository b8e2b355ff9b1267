"""
Links from a task to what a router tells of its object or its bulk, as JSON. Imports names only.

A link holds no token: where the routers want one, a browser that does not bring it is refused. It leads to the connection's
first router, by the address that the workers use.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_mictlanx.bulks.records import bucket_of
from airflow_provider_mictlanx.client.names import ball_id_of


class MictlanXLink(BaseOperatorLink):
    """A link whose URL the operator keeps as XCom as soon as it begins, so that it is there while it works and if it fails."""

    @property
    @abstractmethod
    def xcom_key(self) -> str:
        """The key that the URL is kept under."""

    @abstractmethod
    def path_of(self, operator: Any) -> str:
        """Give the path below a router's API, from the operator's rendered fields."""

    def url_of(self, operator: Any) -> str:
        """Give the URL; looks the operator's connection up."""
        return f"{operator.hook.settings.api_url}{self.path_of(operator)}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Give the URL that a task instance kept; empty where it has not begun."""
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")


class MictlanXObjectLink(MictlanXLink):
    """What is known of an object: size, checksum, and for every chunk its tags and the peers that keep it."""

    name = "MictlanX object"
    xcom_key = "mictlanx_object"

    def path_of(self, operator: Any) -> str:
        """Lead to the metadata of all chunks."""
        return f"/buckets/{quote(operator.bucket_id, safe='')}/metadata/{ball_id_of(operator.key)}/chunks"


class MictlanXBulkLink(MictlanXLink):
    """The records of a bulk: who uploads what, and how far it is, in the tags of each."""

    name = "MictlanX bulk"
    xcom_key = "mictlanx_bulk"

    def path_of(self, operator: Any) -> str:
        """Lead to the listing of the records' bucket."""
        return f"/buckets/{bucket_of(operator.bulk_id)}/metadata"
