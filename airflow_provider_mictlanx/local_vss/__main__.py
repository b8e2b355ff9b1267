"""The command line of the local VSS: ``python -m airflow_provider_mictlanx.local_vss``, or ``mictlanx-local-vss``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Start the local VSS, and give the exit status: 0 when it was told to stop, 2 when it can't start.

    Standard output is one line, the connection URI, once it answers; reasons go to standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        from airflow_provider_mictlanx.local_vss import server
        from airflow_provider_mictlanx.local_vss.storage_space import StartError
    except ModuleNotFoundError as error:
        return _refused(f"{error.name} is missing; install it with: pip install 'airflow-provider-mictlanx[local-vss]'")
    if not options.allow_remote and not server.is_loopback(options.host):
        return _refused(
            f"--host {options.host} is no loopback address, and this development tool checks nobody's rights: "
            "everybody who reaches it reads, writes and deletes; add --allow-remote if that is what you want"
        )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(options))
    except StartError as error:
        return _refused(str(error))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    from airflow_provider_mictlanx.local_vss.server import LocalVSS
    from airflow_provider_mictlanx.local_vss.storage_space import Options

    vss = LocalVSS(
        Options(
            data=options.data,
            peers=options.peers,
            host=options.host,
            port=options.port,
            routers=options.routers,
            peer_port_base=options.peer_port_base,
            path_prefix=options.path_prefix,
            fsync=options.fsync,
            cache_size=options.cache_size,
            task_lifetime=options.task_lifetime,
            certificate=options.certificate,
            private_key=options.private_key,
            client_ca=options.client_ca,
        )
    )
    if options.exit_with_parent:
        vss.exit_with_parent()
    await vss.run(lambda uri: print(uri, flush=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mictlanx-local-vss",
        description="A whole MictlanX storage space in one process, for development and tests. "
        "Production uses the real routers.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--allow-remote", action="store_true", help="allow a --host that other machines can reach")
    add("--port", type=_port, default=60666, help="port of the first router; 0 = any free one (default: %(default)s)")
    add("--routers", type=_at_least_one, default=1, help="routers before the same peers (default: %(default)s)")
    add("--peers", type=_at_least_one, default=3, help="storage peers (default: %(default)s)")
    add(
        "--peer-port-base",
        type=_port,
        default=25000,
        help="port of the first peer; 0 = any free ones (default: %(default)s)",
    )
    add("--data", type=_folder, default=Path("vss"), help="folder that holds everything (default: ./%(default)s)")
    add("--path-prefix", type=_prefix, default="", help="path that the routers answer under too, as behind a proxy")
    add("--fsync", action="store_true", help="wait for the disk before acknowledging: survives a power failure too")
    add("--cache-size", type=_size, default="64MiB", help="bytes of each router's cache (default: %(default)s)")
    add(
        "--task-lifetime",
        type=_seconds,
        default=600.0,
        help="seconds that an announced chunk waits for its data (default: %(default)s)",
    )
    add("--certificate", type=Path, help="PEM file with the routers' certificate: they speak https")
    add("--private-key", type=Path, help="PEM file with the certificate's key, unless it is in the same file")
    add("--client-ca", type=Path, help="PEM file with a CA: clients need a certificate of it")
    add("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; ports are 1 to 65535, and 0 is any free one")
    return int(text)


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 1 and 100")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _size(text: str) -> int:
    import humanfriendly

    try:
        return int(humanfriendly.parse_size(text))
    except humanfriendly.InvalidSize as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is wanted, not an empty text")
    return Path(text)


def _prefix(text: str) -> str:
    path = text.strip("/")
    if not re.fullmatch(r"(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)?", path):
        raise argparse.ArgumentTypeError(f"{text!r} is no path of letters, digits, '.', '_', '~' and '-' between '/'")
    return f"/{path}" if path else ""


def _refused(reason: str) -> int:
    print(f"mictlanx-local-vss: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
