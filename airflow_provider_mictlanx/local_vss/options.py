"""The options of the local VSS: one field each, from which the command line is made and by which it is checked."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Number = Annotated[int, Field(ge=1, le=100)]


class StartError(Exception):
    """The local VSS can't start; the message says why, for the person who started it."""


class Options(BaseModel):
    """What the local VSS is started with."""

    model_config = ConfigDict(frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    allow_remote: bool = Field(False, description="allow a --host that other machines can reach")
    port: Port = Field(60666, description="port of the first router, the others follow; 0 = any free one")
    routers: Number = Field(1, description="routers before the same peers, each with a cache of its own")
    peers: Number = Field(3, description="storage peers; a folder that has more keeps them")
    peer_port_base: Port = Field(25000, description="port of the first peer, the others follow; 0 = any free ones")
    data: Path = Field(Path("vss"), description="folder that holds everything; made if missing")
    path_prefix: str = Field("", description="path that the routers answer under too, as behind a proxy")
    fsync: bool = Field(False, description="wait for the disk before acknowledging: survives a power failure too")
    cache_size: ByteSize = Field(ByteSize(64 * 1024**2), description="size of each router's cache, such as 64MiB")
    task_lifetime: float = Field(
        600.0, gt=0, allow_inf_nan=False, description="seconds that an announced chunk waits for its data"
    )
    certificate: Path | None = Field(None, description="PEM file with the routers' certificate: they speak https")
    private_key: Path | None = Field(None, description="PEM file with the key, unless it is in the certificate's file")
    client_ca: Path | None = Field(None, description="PEM file with a CA: clients need a certificate of it")
    exit_with_parent: bool = False  # undocumented: stop when standard input ends

    @field_validator("data", mode="before")
    @classmethod
    def _check_folder(cls, folder: str) -> str:
        if not folder:
            raise ValueError("must be the name of a folder")
        return folder

    @field_validator("path_prefix")
    @classmethod
    def _normalize_prefix(cls, prefix: str) -> str:
        path = prefix.strip("/")
        if not re.fullmatch(r"(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)?", path):
            raise ValueError("must be a path of letters, digits, '.', '_', '~' and '-' between '/'")
        return f"/{path}" if path else ""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"--host must be a loopback address, got {self.host!r}: this development tool checks nobody's rights, "
                "so everybody who reaches it can read, write and delete; add --allow-remote if that is intended"
            )
        if self.certificate is None and (self.private_key or self.client_ca):
            raise ValueError("--private-key and --client-ca need --certificate")
        return self


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line; raise ``StartError`` for values that make no sense."""
    parser = argparse.ArgumentParser(
        prog="mictlanx-local-vss",
        description="A complete MictlanX storage space in one process, for development and tests. "
        "Production uses the real routers.",
    )
    for name, field in Options.model_fields.items():
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(option, action="store_true", help=field.description or argparse.SUPPRESS)
        else:
            shown = field.default.human_readable() if isinstance(field.default, ByteSize) else field.default
            default = "" if shown in (None, "") else f" (default: {shown})"
            parser.add_argument(option, default=field.default, help=f"{field.description}{default}")
    try:
        return Options.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        problems = [(problem["loc"], problem["msg"], problem["input"]) for problem in error.errors()]
        raise StartError("; ".join(_explain(*problem) for problem in problems)) from error


def _explain(location: tuple[int | str, ...], message: str, value: object) -> str:
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"--{str(location[0]).replace('_', '-')} {message}, got {value!r}" if location else message


def is_loopback(host: str) -> bool:
    """Return whether an address or a name means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
