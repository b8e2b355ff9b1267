"""
The plugin: it adds the page *MictlanX* to the UI of Airflow 3.2 and later, and registers the filesystem for Airflow 2.

Every process of Airflow imports this module, so it imports nothing that only the API server needs. Airflow 2's paths
work only if fsspec's registry contains the filesystem before the first; Airflow 3 finds it by its entry point.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import airflow
from airflow.plugins_manager import AirflowPlugin

from airflow_provider_mictlanx import __version__
from airflow_provider_mictlanx.links.page import HAS_PAGE, URL_ROUTE, base_path

if airflow.__version__.startswith("2."):
    from airflow_provider_mictlanx.fs import upath  # noqa: F401 (registers the class)

NAME = "MictlanX"
URL_PREFIX = "/mictlanx"


class LazyApp:
    """An ASGI application that imports the page's routes at the first request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on."""
        routes = await asyncio.to_thread(importlib.import_module, "airflow_provider_mictlanx.plugins.web.app")
        await routes.app(scope, receive, send)


class MictlanXPlugin(AirflowPlugin):
    """Adds the page and its routes; before Airflow 3.2 it contains nothing."""

    name = "mictlanx"
    if HAS_PAGE:
        fastapi_apps = [{"app": LazyApp(), "url_prefix": URL_PREFIX, "name": NAME}]
        react_apps = [
            {
                "name": NAME,
                "bundle_url": f"{base_path()}{URL_PREFIX[1:]}/static/main.js?v={__version__}",
                "destination": "nav",
                "category": "browse",
                "url_route": URL_ROUTE,
            }
        ]
