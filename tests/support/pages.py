"""The fenced blocks of the README and the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def console_examples(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every command of a page's console blocks with the lines below it."""
    for block in blocks(page, "console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = example.splitlines()
            yield command, lines


def matches(shown: list[str], printed: list[str]) -> bool:
    """Compare lines without their numbers; ``…`` stands for any text, also of several lines."""
    pattern = "\n".join(re.escape(_without_numbers(line)).replace("…", ".*") for line in shown)
    return re.fullmatch(pattern, "\n".join(map(_without_numbers, printed)), re.DOTALL) is not None


def _without_numbers(line: str) -> str:
    line = re.sub(r"\b[0-9a-f]{64}\b", "SHA-256", line)
    line = re.sub(r"\d[\d.,:]*(?: (?:bytes|[KM]B))?", "N", line)
    return " ".join(line.split())
