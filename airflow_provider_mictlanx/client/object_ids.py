"""
Which names are safe ids, and how any other key maps to one. Standard library and errors only.

The placement service keeps only ``[A-Za-z0-9_-]`` of a name and collapses runs of separators, while the peers keep
everything: what is written under any other name is acknowledged and can never be read back (protocol page, *Terms*). So
a bucket id that is not a safe id is refused, and a key that is not becomes the SHA-256 of itself as ball id, with the
key kept in the ball's tags.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_mictlanx.client.errors import ValidationError

RESERVED_BUCKETS = "bulk-"
"""Buckets that begin like this contain the records of bulks."""

_SAFE_ID = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")
_SAFE_CHARACTERS = "letters, digits, and single '-' or '_' between them"


def is_safe_id(name: str) -> bool:
    """Return whether the service keeps the name exactly as it is."""
    return _SAFE_ID.fullmatch(name) is not None


def check_bucket_id(bucket_id: str) -> str:
    """
    Return a bucket id, or raise ``ValidationError``: bucket ids are never mapped.

    :param bucket_id: only letters, digits, and single ``-`` or ``_`` between them
    """
    if not isinstance(bucket_id, str) or not is_safe_id(bucket_id):
        raise ValidationError(
            f"bucket_id must be a safe id ({_SAFE_CHARACTERS}), got {bucket_id!r}; an object written under another "
            "name could never be read back"
        )
    return bucket_id


def check_bucket_may_change(bucket_id: str, allow_reserved_bucket: bool, parameter: str = "bucket_id") -> str:
    """
    Return the id of a bucket that is written to or deleted from; raise ``ValidationError`` for a reserved one.

    :param allow_reserved_bucket: whether a bucket of bulk records may be changed too
    :param parameter: the bucket's name in the call, for the error
    """
    check_bucket_id(bucket_id)
    if not isinstance(allow_reserved_bucket, bool):
        raise ValidationError(f"allow_reserved_bucket must be True or False, got {allow_reserved_bucket!r}")
    if bucket_id.startswith(RESERVED_BUCKETS) and not allow_reserved_bucket:
        raise ValidationError(
            f"{parameter} must not begin with {RESERVED_BUCKETS!r}, got {bucket_id!r}: it may contain the records of a "
            "bulk, which delete_bulk deletes; choose another bucket, or set allow_reserved_bucket=True"
        )
    return bucket_id


def make_ball_id(key: str) -> str:
    """
    Return the ball id under which a key is stored: a safe id is its own, any other key its SHA-256 in hex.

    :param key: the ball as a user names it; any text but the empty one
    """
    if not isinstance(key, str) or not key:
        raise ValidationError(f"key must be a text that is not empty, not {key!r}")
    if is_safe_id(key):
        return key
    try:
        return hashlib.sha256(key.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise ValidationError(f"key {key!r} is no valid Unicode text: {error.reason}") from error


def original_key(ball_id: str, tags: Mapping[str, str]) -> str:
    """Return the key of a listed ball: its ``full_path`` if the ball id was made of that, else the ball id."""
    full_path = tags.get("full_path", "")
    if not full_path or is_safe_id(full_path):
        return ball_id
    return full_path if hashlib.sha256(full_path.encode("utf-8", "surrogatepass")).hexdigest() == ball_id else ball_id


def path_tags(path: str) -> dict[str, str]:
    """
    Return the tags that clients agree on for a path or a key with folders.

    The keys are ``full_path``, ``fullname``, ``filename`` (without extension), ``extension`` (no dot) and
    ``bucket_relative_path`` (the folder, with a trailing ``/``; left out where there is none).
    """
    path = path.encode("utf-8", "replace").decode()  # a file's name may be no text; tags are
    folder, fullname = posixpath.split(path)
    filename, extension = posixpath.splitext(fullname)
    tags = {"full_path": path, "fullname": fullname, "filename": filename, "extension": extension.lstrip(".")}
    if folder:
        tags["bucket_relative_path"] = folder.rstrip("/") + "/"
    return tags


def safe_file_name(name: str) -> str | None:
    """
    Return a plain file name made of what some writer sent, or None if nothing usable is left.

    Folders are dropped, whichever way the slashes lean; control characters become ``_``; ``.``, ``..`` and the name of
    a part (``part_name``) are nothing.
    """
    name = re.split(r"[/\\]", name)[-1]
    name = re.sub(r"[\x00-\x1f\x7f]", "_", name).strip()
    if name in ("", ".", "..") or is_part_name(name):
        return None
    encoded = name.encode("utf-8", "replace")
    return name if len(encoded) <= 255 and name.isprintable() else None


def part_name(file_name: str, slot: int | str) -> str:
    """
    Return the name of a file while it is made.

    :param slot: 0 for the first who makes a file of that name, 1 for who does it at the same time, and so on
    """
    digest = hashlib.sha256(file_name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return f".mictlanx-{digest}-{slot}.part"


def is_part_name(name: str) -> bool:
    """Return whether a name could be that of a part; no target may have one."""
    return name.startswith(".mictlanx-") and name.endswith(".part")


@dataclass(frozen=True)
class ObjectId:
    """A ball by its bucket id and its ball id, and the key that it was asked for with."""

    bucket_id: str
    ball_id: str
    key: str = ""

    def __str__(self) -> str:
        if self.key in ("", self.ball_id):
            return f"{self.bucket_id}/{self.ball_id}"
        ball_id = f"{self.ball_id[:12]}…" if len(self.ball_id) > 12 else self.ball_id
        return f"{self.bucket_id}/{self.key} (ball {ball_id})"

    @property
    def key_tags(self) -> dict[str, str]:
        """The tags that keep a key which is not a safe id."""
        return {} if is_safe_id(self.key) else path_tags(self.key)

    def chunk(self, index: int) -> str:
        """Return the key of one of its chunks."""
        return f"{self.ball_id}_{index}"


def make_object_id(bucket_id: str, key: str) -> ObjectId:
    """Return the id of a ball, checked: by its id or by any key."""
    return ObjectId(check_bucket_id(bucket_id), make_ball_id(key), key)


def check_chunk_key(key: str) -> str:
    """Return a chunk's key, or raise ``ValidationError``: it is made of the ball id, never of any key."""
    if not isinstance(key, str) or not is_safe_id(key):
        raise ValidationError(f"key is a chunk's here, {{ball_id}}_{{index}}, made of the ball id; {key!r} is none")
    return key
