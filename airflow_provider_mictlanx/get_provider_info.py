"""
The provider's description for Airflow (entry point ``apache_airflow_provider``).

Every Airflow process reads it, so this module imports only the version. Airflow 3.2 and later take the fields of the
connection form from here. Earlier versions ask the hook, which uses ``hooks.connection_form``.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx import __version__

_INTEGRATION = "MictlanX"
_LINKS = "airflow_provider_mictlanx.links.mictlanx"


def get_provider_info() -> dict[str, Any]:
    """Return the description in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-mictlanx",
        "name": "MictlanX",
        "description": "MictlanX, a decentralized object store\n",
        "versions": [__version__],
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        **{kind: [_modules(kind)] for kind in ("hooks", "operators", "sensors", "triggers", "bundles")},
        "cli": ["airflow_provider_mictlanx.cli.airflow_commands.get_cli_commands"],
        "filesystems": ["airflow_provider_mictlanx.fs.mictlanx"],
        "extra-links": [f"{_LINKS}.MictlanX{what}Link" for what in ("Object", "Bucket", "Destination", "Bulk")],
        "asset-uris": [_ASSET_URIS],
        "dataset-uris": [_ASSET_URIS],  # the same for Airflow 2
        "config": _CONFIG,
        "connection-types": [
            {
                "connection-type": "mictlanx",
                "hook-class-name": "airflow_provider_mictlanx.hooks.mictlanx.MictlanXHook",
                "hook-name": "MictlanX",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": _conn_fields(),
            }
        ],
    }


_ASSET_URIS: dict[str, Any] = {
    "schemes": ["mictlanx"],
    "handler": "airflow_provider_mictlanx.assets.mictlanx.sanitize_uri",
    "factory": "airflow_provider_mictlanx.assets.mictlanx.create_asset",
    "to_openlineage_converter": "airflow_provider_mictlanx.assets.mictlanx.convert_asset_to_openlineage",
}

_CONFIG: dict[str, Any] = {
    "mictlanx": {
        "description": "Settings of the MictlanX provider.",
        "options": {
            "lineage": {
                "description": "Report what hook and operators read, write and delete to OpenLineage and Airflow's "
                "hook lineage collector.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "metrics": {
                "description": "Count what the hook stores, reads, copies and deletes in Airflow's metrics: "
                "mictlanx.put.bytes, .seconds, .objects, and the same for get, copy and delete.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
        },
    }
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema"],
    "relabeling": {"host": "Router", "password": "Token"},
    "placeholders": {
        "host": "one router, such as http://host:60666; several go into Routers (Extra Fields)",
        "port": "for routers without a port, such as 60666; Test needs it",
        "password": "sent as 'Authorization: Bearer …'",
    },
}


def _modules(kind: str) -> dict[str, Any]:
    return {"integration-name": _INTEGRATION, "python-modules": [f"airflow_provider_mictlanx.{kind}.mictlanx"]}


def _field(label: str, description: str, type_: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [type_, "null"], **schema}}


def _conn_fields() -> dict[str, dict[str, Any]]:
    """Return the fields in the order of the form: common ones first, the field with a JSON editor last."""
    return {
        "routers": _field(
            "Routers",
            "One per line: http://host:60666, https://host/path, or mictlanx://router-0@host:60666/?protocol=http (one "
            "or more routers, separated by commas). All routers must belong to one storage space.",
            "array",
            items={"type": "string"},
        ),
        "protocol": _field(
            "Protocol",
            "http or https, for routers given by host name or by a mictlanx:// URI without a protocol. http uses the "
            "router's port; https always uses port 443. Required for every other port.",
            "string",
            enum=["http", "https", None],
            values_display={"None": "as the routers' URIs say"},
        ),
        "verify": _field(
            "Verify TLS", "Check the routers' certificates (https). Leave it on in production.", "boolean", default=True
        ),
        "ca_file": _field(
            "CA file", "PEM file on the workers, with the certificates to trust instead of the usual ones.", "string"
        ),
        "client_cert": _field(
            "Client certificate", "PEM file on the workers, with the certificate to present to the routers.", "string"
        ),
        "client_key": _field(
            "Client key",
            "PEM file on the workers, with the key of the certificate, if it is in a separate file.",
            "string",
        ),
        "proxy": _field(
            "Proxy",
            "HTTP proxy in front of the routers: http://user:password@proxy.example.org:3128.",
            "string",
            format="password",
        ),
        "trust_env": _field(
            "Proxies of the environment",
            "If Proxy is empty, use HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the worker's environment.",
            "boolean",
            default=False,
        ),
        "client_id": _field("Client id", "Stored with every object as its producer. Default: airflow.", "string"),
        "timeout": _field(
            "Request timeout (seconds)", "For one request, not for a complete transfer. Default: 120.", "number"
        ),
        "chunk_size": _field(
            "Chunk size",
            'Size of chunks, such as "256kb" or "8MB" (1 MB = 1,000,000 bytes). Default: chosen by the size of the '
            "object.",
            "string",
        ),
        "max_concurrency": _field(
            "Concurrency", "Chunks in flight per transfer. Default: chosen by their size.", "integer", minimum=1
        ),
        "connect_patience": _field(
            "Connect patience (seconds)",
            "For how long a request waits while no router can be reached, such as during a restart. Default: 20.",
            "number",
            minimum=0,
        ),
        "headers": _field("Extra headers", 'Sent with every request, as JSON: {"X-Tenant": "genomics"}.', "object"),
    }
