"""Open the client of an Airflow connection, also one of the database; importing this module imports Airflow."""

from __future__ import annotations

from argparse import Namespace

from airflow.models.connection import Connection

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks.connection import load_settings
from airflow_provider_mictlanx.hooks.mictlanx import new_client


def client_of_connection(args: Namespace, *, waits: bool) -> AsyncClient:
    """
    Return the client of a connection, and fill unset arguments from it.

    :param waits: whether requests wait for a while if no router can be reached
    """
    settings = load_settings(args.conn_id, Connection.get_connection_from_secrets)
    for name in ("timeout", "chunk_size", "max_concurrency"):
        if getattr(args, name, "") is None:
            setattr(args, name, getattr(settings, name))
    if not waits:
        settings = settings.model_copy(update={"connect_patience": 0.0})
    return new_client(settings, settings.tls())
