"""Open the client of an Airflow connection, also one of the database; importing this module imports Airflow."""

from __future__ import annotations

import logging
from argparse import Namespace

from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.connection import load_settings
from airflow_provider_mictlanx.hooks.mictlanx import new_client


def client_of_connection(args: Namespace, *, waits: bool) -> AsyncClient:
    """
    Return the client of a connection, and fill unset arguments from it.

    :param waits: whether requests wait for a while if no router can be reached
    """
    if not args.verbose:
        logging.disable(logging.CRITICAL)  # Airflow 2 logs tracebacks
    try:
        settings = load_settings(args.conn_id, _get_connection)
    finally:
        logging.disable(logging.NOTSET)
    for name in ("timeout", "chunk_size", "max_concurrency"):
        if getattr(args, name, "") is None:
            setattr(args, name, getattr(settings, name))
    if not waits:
        settings = settings.model_copy(update={"connect_patience": 0.0})
    return new_client(settings, settings.tls())


def _get_connection(conn_id: str) -> Connection:
    """Return a connection. A hook's ``get_connection`` finds none of the database outside of tasks."""
    try:
        return Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        try:
            with create_session() as session:
                session.scalars(select(Connection.id).limit(1)).first()
        except SQLAlchemyError as error:  # which Airflow reports as a missing connection
            reason = str(error).partition("\n")[0]
            raise MictlanXError(
                f"reading connection {conn_id!r} failed: Airflow's database can't be read: {reason}; check "
                "AIRFLOW_HOME and [database] sql_alchemy_conn, or use --uri"
            ) from error
        raise
