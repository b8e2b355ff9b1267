"""
Check bucket ids, and map keys to ball ids.

The placement service keeps only ``[A-Za-z0-9_-]`` of a name and collapses runs of separators; the peers keep the
complete name. An object under any other name is acknowledged, and can never be read back (protocol page, *Terms*). So
a bucket id must be a safe id. A key that is not a safe id is stored under its SHA-256, with the key in its tags.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.validation import check_bool
from airflow_provider_mictlanx.safe_ids import is_safe_id

RESERVED_BUCKETS = "bulk-"
"""Prefix of the buckets that contain the records of bulks."""

_SAFE_CHARACTERS = "letters, digits, and single '-' or '_' between them"


def is_path_segment(key: str) -> bool:
    """Return whether another client can have used a key as the key of a chunk, which is one segment of a path."""
    return key not in ("", ".", "..") and "/" not in key and key.isprintable() and len(key) <= 255


def check_bucket_id(bucket_id: str, parameter: str = "bucket_id") -> str:
    """
    Return a bucket id, or raise ``ValidationError`` if it is not a safe id.

    :param bucket_id: only letters, digits, and single ``-`` or ``_`` between them
    :param parameter: name of the caller's parameter, for the error
    """
    if not isinstance(bucket_id, str) or not is_safe_id(bucket_id):
        raise ValidationError(
            f"{parameter} must be a safe id ({_SAFE_CHARACTERS}), got {bucket_id!r}; MictlanX changes other "
            "names, so their objects can't be found"
        )
    return bucket_id


def check_bucket_may_change(bucket_id: str, allow_reserved_bucket: bool, parameter: str = "bucket_id") -> str:
    """
    Return the id of a bucket to write to or delete from, or raise ``ValidationError`` for a reserved one.

    :param allow_reserved_bucket: allow a bucket that contains records of bulks
    :param parameter: name of the caller's parameter, for the error
    """
    check_bucket_id(bucket_id, parameter)
    check_bool("allow_reserved_bucket", allow_reserved_bucket)
    if bucket_id.startswith(RESERVED_BUCKETS) and not allow_reserved_bucket:
        raise ValidationError(
            f"{parameter} must not begin with {RESERVED_BUCKETS!r}, got {bucket_id!r}: it may contain the records of a "
            "bulk, which delete_bulk deletes; choose another bucket, or set allow_reserved_bucket=True"
        )
    return bucket_id


def make_ball_id(key: str) -> str:
    """
    Return the ball id of a key: the key itself if it is a safe id, else its SHA-256 in hex.

    :param key: any str that is not empty
    """
    if not isinstance(key, str) or not key:
        raise ValidationError(f"key must be a str that is not empty, got {key!r}")
    if is_safe_id(key):
        return key
    try:
        return hashlib.sha256(key.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise ValidationError(f"key must be valid Unicode, got {key!r}: {error.reason}") from error


def original_key(ball_id: str, tags: Mapping[str, str]) -> str:
    """Return the key of a listed ball: its tag ``full_path`` if the ball id is made of that, else the ball id."""
    full_path = tags.get("full_path", "")
    if not full_path or is_safe_id(full_path):
        return ball_id
    return full_path if hashlib.sha256(full_path.encode("utf-8", "surrogatepass")).hexdigest() == ball_id else ball_id


def folders(keys: Iterable[str], prefix: str, delimiter: str) -> list[str]:
    """Return the start of each key up to the first delimiter behind a prefix, once each in the order of the keys."""
    rests = (key.removeprefix(prefix).partition(delimiter) for key in keys)
    return list(dict.fromkeys(f"{prefix}{folder}{found}" for folder, found, _ in rests if found))


def path_tags(path: str) -> dict[str, str]:
    """
    Return the tags that all clients use for a path, or for a key with folders.

    The keys are ``full_path``, ``fullname``, ``filename`` (without extension), ``extension`` (without dot) and
    ``bucket_relative_path`` (the folder, with a trailing ``/``; omitted for a path without folder).
    """
    path = path.encode("utf-8", "replace").decode()  # a file name may have bytes that are not UTF-8
    folder, fullname = posixpath.split(path)
    filename, extension = posixpath.splitext(fullname)
    tags = {"full_path": path, "fullname": fullname, "filename": filename, "extension": extension.lstrip(".")}
    if folder:
        tags["bucket_relative_path"] = folder.rstrip("/") + "/"
    return tags


def safe_file_name(name: str) -> str | None:
    """
    Return a safe file name made of a name that a writer sent, or None if no usable name is left.

    Folders are dropped, with either kind of slash. Control characters become ``_``. ``.``, ``..`` and names of
    ``part_name`` are not usable.
    """
    name = re.split(r"[/\\]", name)[-1]
    name = re.sub(r"[\x00-\x1f\x7f]", "_", name).strip()
    if name in ("", ".", "..") or is_part_name(name):
        return None
    encoded = name.encode("utf-8", "replace")
    return name if len(encoded) <= 255 and name.isprintable() else None


def part_name(file_name: str, slot: int | str) -> str:
    """
    Return the name of an incomplete file.

    :param slot: 0 for the first writer of the file, 1 for the next writer at the same time, and so on
    """
    digest = hashlib.sha256(file_name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return f".mictlanx-{digest}-{slot}.part"


def is_part_name(name: str) -> bool:
    """Return whether a name has the form of ``part_name``; no target file may have such a name."""
    return name.startswith(".mictlanx-") and name.endswith(".part")


@dataclass(frozen=True)
class ObjectId:
    """The bucket id and ball id of a ball, and the key that the caller used."""

    bucket_id: str
    ball_id: str
    key: str = ""

    def __str__(self) -> str:
        if self.key in ("", self.ball_id):
            return f"{self.bucket_id}/{self.ball_id}"
        ball_id = f"{self.ball_id[:12]}…" if len(self.ball_id) > 12 else self.ball_id
        return f"{self.bucket_id}/{self.key} (ball id {ball_id})"

    @property
    def key_tags(self) -> dict[str, str]:
        """Return the tags that keep a key which is not a safe id."""
        return {} if is_safe_id(self.key) else path_tags(self.key)

    def chunk(self, index: int) -> str:
        """Return the key of a chunk of this ball."""
        return f"{self.ball_id}_{index}"


def make_object_id(bucket_id: str, key: str) -> ObjectId:
    """Return the checked id of a ball, from its ball id or any key."""
    return ObjectId(check_bucket_id(bucket_id), make_ball_id(key), key)


def check_chunk_key(key: str) -> str:
    """Return the key of a chunk, or raise ``ValidationError`` if no chunk can have it."""
    if not isinstance(key, str) or not is_path_segment(key):
        raise ValidationError(
            f"key must be the key of a chunk, {{ball_id}}_{{index}} or a name without '/', got {key!r}"
        )
    return key
