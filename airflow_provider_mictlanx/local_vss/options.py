"""Options of the local VSS. The command line is made of the fields, and checked by them."""

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
    """The local VSS cannot start; the message says why."""


class Options(BaseModel):
    """Options of one start of the local VSS."""

    model_config = ConfigDict(frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    allow_remote: bool = Field(False, description="allow a --host that other machines can reach")
    port: Port = Field(60666, description="port of the first router, the others follow; 0 = any free port")
    routers: Number = Field(1, description="number of routers, each with its own cache, in front of the same peers")
    peers: Number = Field(3, description="number of storage peers; a folder with more peers keeps them")
    peer_port_base: Port = Field(25000, description="port of the first peer, the others follow; 0 = any free ports")
    data: Path = Field(Path("vss"), description="folder of all data; created if missing")
    path_prefix: str = Field("", description="further path prefix of the routers, as behind a proxy")
    fsync: bool = Field(False, description="wait for the disk before acknowledging, to survive a power failure")
    cache_size: ByteSize = Field(ByteSize(64 * 1024**2), description="size of each router's cache, such as 64MiB")
    task_lifetime: float = Field(
        600.0, gt=0, allow_inf_nan=False, description="seconds that an announced chunk waits for its data"
    )
    certificate: Path | None = Field(None, description="PEM file with the routers' certificate, for https")
    private_key: Path | None = Field(None, description="PEM file with the key, unless --certificate contains it")
    client_ca: Path | None = Field(None, description="PEM file with a CA that must have signed clients' certificates")
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
                f"--host must be a loopback address, got {self.host!r}: this development tool checks no permissions, "
                "so anybody who reaches it can read, write and delete; add --allow-remote if that is intended"
            )
        if self.certificate is None and (self.private_key or self.client_ca):
            raise ValueError("--private-key and --client-ca need --certificate")
        return self


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line; raise ``StartError`` for invalid values."""
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
    """Return whether an address or a name means only this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
