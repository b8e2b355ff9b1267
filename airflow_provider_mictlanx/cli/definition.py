"""
The commands of the shell and their arguments, once for Airflow's parser and once for the shell's own.

Every ``airflow`` command reads this module, so it imports neither the client nor Airflow. A new command is an entry in
``COMMANDS``, and a coroutine of its name in ``commands.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

EXIT_CODES = {
    0: "done",
    1: "failed, or some of the objects failed",
    2: "wrong usage: an argument, the URI, the connection or a local path is invalid",
    3: "not found: an object or a bulk does not exist, or nothing matches",
    4: "the storage is not reachable, or a peer does not answer; try again",
    5: "the bulk is still being uploaded",
    130: "interrupted by Ctrl-C",
    141: "the reader of the output has ended, as in | head",
    143: "ended by SIGTERM",
}

DESCRIPTION = "Inspect a MictlanX storage space, and transfer objects."


class Argument(NamedTuple):
    """One argument of a command, in the words of ``argparse``."""

    flags: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    """
    One command.

    :ivar waits: whether it waits for a router that can't be reached, as long transfers do; others fail at once
    """

    name: str
    help: str
    arguments: Sequence[Argument]
    waits: bool = False


def _argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


def _flag(*flags: str, help: str) -> Argument:
    return Argument(flags, {"action": "store_true", "help": help})


_OBJECTS = _argument("objects", metavar="BUCKET/KEY", nargs="+", help="the objects")
_BUCKET = _argument("bucket", metavar="BUCKET[/PREFIX]", help="the bucket, or a part of it")
_PREFIX = _argument("prefix", metavar="PREFIX", nargs="?", default="", help="only keys that begin with it")
_GLOB = _argument(
    "-g", "--glob", metavar="PATTERN", default="", help="every key of the bucket that matches, such as '2026/*.csv'"
)
_OLDER_THAN = _argument(
    "--older-than",
    metavar="AGE",
    help="only what was written before, such as 30d, '12 hours' or 2026-11-01T00:00+00:00",
)
_DRY_RUN = _flag("-n", "--dry-run", help="change nothing, and show what would be done")
_REPLACE = _flag("-f", "--replace", help="replace different content, instead of failing")
_CONCURRENCY = _argument(
    "--max-concurrency",
    metavar="NUMBER",
    type=int,
    help="chunks in flight; default: the connection's, else chosen by their size",
)

_STORING = (
    _argument("--rf", metavar="NUMBER", type=int, default=1, help="peers that must store every chunk; default: 1"),
    _argument("--chunk-size", metavar="SIZE", help="such as 256kb or 8MB; default: chosen by the size of the object"),
    _argument("--tag", dest="tags", metavar="NAME=VALUE", action="append", default=[], help="stored with every object"),
)

COMMON = (
    _argument("-o", "--output", choices=("table", "json", "yaml"), default="table", help="output format"),
    _argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="limit for one request; default: the connection's, else 120",
    ),
    _flag("-v", "--verbose", help="log to standard error; show the traceback of an unexpected error"),
)
"""Arguments of every command."""

COMMANDS = (
    Command("check", "Ask every router for its peers", ()),
    Command(
        "ls",
        "List objects, and the folders below a prefix",
        (_BUCKET, _PREFIX, _flag("-r", "--recursive", help="list every object, without folders")),
    ),
    Command(
        "stat",
        "Show the metadata of objects",
        (_OBJECTS, _flag("--check", help="read and verify every chunk: a listing shows announcements, not data")),
    ),
    Command("cat", "Write objects to standard output", (_OBJECTS, _CONCURRENCY)),
    Command(
        "get",
        "Read an object into a file, or many into a folder",
        (
            _argument("object", metavar="BUCKET/KEY", help="the object; for many, BUCKET or BUCKET/FOLDER"),
            _argument("path", metavar="PATH", help="file or folder, such as ."),
            _flag("-r", "--recursive", help="read every object of the bucket, or of the folder"),
            _GLOB,
            _REPLACE,
            _CONCURRENCY,
        ),
        waits=True,
    ),
    Command(
        "put",
        "Store a file, a folder, the files of a glob, or standard input",
        (
            _argument("source", metavar="SOURCE", help="file, folder, quoted glob, or - for standard input"),
            _argument(
                "object",
                metavar="BUCKET[/KEY]",
                help="the object; without KEY, or if KEY ends with /, the file keeps its name. For a folder or glob, "
                "KEY is the folder above all keys",
            ),
            _REPLACE,
            *_STORING,
            _CONCURRENCY,
            _argument(
                "--bulk-id",
                metavar="ID",
                help="store a folder or glob as this bulk: its records stay, so sensors can wait for it",
            ),
        ),
        waits=True,
    ),
    Command(
        "sync",
        "Make a destination like its source; only what differs is sent",
        (
            _argument("source", metavar="SOURCE", help="a folder, or mictlanx://[CONN_ID@]BUCKET[/FOLDER]"),
            _argument("destination", metavar="DESTINATION", help="the same; one of the two is in MictlanX"),
            _flag("--delete-extra", help="delete what the source lacks, if nothing failed"),
            _flag("--allow-empty", help="accept an empty source with --delete-extra"),
            _flag("--trust-listing", help="do not read the objects of a destination that seem equal"),
            _DRY_RUN,
            *_STORING[:2],
            _CONCURRENCY,
        ),
        waits=True,
    ),
    Command(
        "publish",
        "Publish a folder of DAGs as the current version of a bundle",
        (
            _argument("folder", metavar="FOLDER", help="the folder; hidden files and __pycache__ are left out"),
            _argument("bucket", metavar="BUCKET", help="the bucket; the list of versions is in BUCKET-versions"),
            _argument("--bundle", metavar="NAME", default="dags", help="the bundle's name in BUCKET; default: dags"),
            _argument(
                "--rf", metavar="NUMBER", type=int, default=3, help="peers that must store every file; default: 3"
            ),
            _CONCURRENCY,
        ),
        waits=True,
    ),
    Command(
        "rm",
        "Delete objects of a bucket",
        (
            _argument(
                "objects", metavar="BUCKET/KEY", nargs="+", help="the objects; for many, BUCKET or BUCKET/FOLDER"
            ),
            _flag("-r", "--recursive", help="delete every object of the folder"),
            _GLOB,
            _OLDER_THAN,
            _argument("--keep-last", metavar="NUMBER", type=int, help="keep this number of newest objects"),
            _flag("--allow-whole-bucket", help="accept a selection that every key matches"),
            _DRY_RUN,
            _flag("-f", "--force", help="succeed if nothing matches"),
            _CONCURRENCY,
        ),
        waits=True,
    ),
    Command(
        "sweep",
        "Show, and with --delete delete, the uploads of a bucket that stopped half-way",
        (
            _argument("bucket", metavar="BUCKET", help="the bucket; bulk-ID for the records of a bulk"),
            Argument(_OLDER_THAN.flags, _OLDER_THAN.options | {"required": True}),
            _flag("--delete", help="delete them; without it, only show them"),
            _CONCURRENCY,
        ),
    ),
    Command("du", "Count the objects and bytes of a bucket, and of its folders", (_BUCKET, _PREFIX)),
    Command(
        "bulk",
        "Show the state of bulks; the exit code is that of the worst",
        (
            _argument("bulk_ids", metavar="BULK_ID", nargs="+", help="the bulks"),
            _flag("-w", "--wait", help="wait until they are complete or have failed"),
        ),
    ),
)
