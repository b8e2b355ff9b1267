"""The address of the page *MictlanX* in Airflow's UI, for links to it and for the plugin that adds it."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import airflow
from airflow.providers.common.compat.sdk import conf

HAS_PAGE = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 2)
"""True if this Airflow can show the page: 3.1 has React apps too, but does not share Chakra UI."""

URL_ROUTE = "mictlanx"


def base_path() -> str:
    """Return the path below which Airflow is served: ``/``, or ``/airflow/`` for ``https://host/airflow``."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + "/"


def build_page_url(**selection: str) -> str:
    """
    Return the page's URL without host, so that it works at every address of this Airflow.

    :param selection: ``connection`` with ``bulk``, or with ``bucket`` and optionally ``prefix``
    """
    return f"{base_path()}plugin/{URL_ROUTE}?{urlencode(selection)}"
