"""Open the client of a URI or of a connection."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from contextlib import redirect_stdout

from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.transfer.router_pool import CONNECT_PATIENCE
from airflow_provider_mictlanx.client.uri import MictlanXURI, read_query

CLIENT_ID = "mictlanx"
"""Stored with every object as its producer, unless a connection says otherwise."""


def open_client(args: Namespace, *, waits: bool) -> AsyncClient:
    """
    Return the client of the URI or connection, and fill unset arguments: from the connection, or with defaults.

    :param waits: whether requests wait for a while if no router can be reached
    """
    uri = getattr(args, "uri", None) or ("" if args.conn_id else os.environ.get("MICTLANX_URI", ""))
    if uri:
        ports = {router.port for router in MictlanXURI.parse(uri).routers}
        if "protocol" not in dict(read_query(uri)) and ports - {None, 443}:
            raise ValidationError(
                "the URI must end with /?protocol=http or /?protocol=https, got neither: http uses the given port, "
                "https always uses port 443"
            )
        client = AsyncClient(
            uri,
            CLIENT_ID,
            debug=False,
            log_output_path=None,
            capacity_storage="0",
            verify=True,
            token=os.environ.get("MICTLANX_TOKEN") or None,
            connect_patience=CONNECT_PATIENCE if waits else 0,
        )
    elif args.conn_id:
        with redirect_stdout(sys.stderr):  # standard output is for the result, but Airflow 2 logs to it
            from airflow_provider_mictlanx.cli.airflow_connection import client_of_connection

            client = client_of_connection(args, waits=waits)
    else:
        raise ValidationError("a storage must be given: --uri, --conn-id or the environment variable MICTLANX_URI")
    if args.timeout is None:
        args.timeout = REQUEST_TIMEOUT
    return client
