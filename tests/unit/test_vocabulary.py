"""Docstrings, messages and comments of the package are plain English; docstrings of tests and scripts begin so."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_mictlanx

PACKAGE = Path(airflow_provider_mictlanx.__file__).parent

FIRST_WORDS = re.compile(r"(?:Give|Tell|Say|Know|Look|Make of|Do as)\b")
"""Words that must not begin the docstring of a function; Return, Raise, Read, Write and List are better."""

SENTENCE_STARTS = re.compile(r"(?:^|[.!?]\s+)(?:What|Who|Whether|Where|Whoever|Whatever)\b(?![^.!?]*\?)")
"""Words that must not begin a sentence of a docstring, unless it is a question."""

PHRASES = re.compile(
    r"\b(?i:(?:is|are|was|were) no (?!longer\b)\w+|so many\b|as (?:it is|they are)\b|whole\b|"
    r"(?:is|are|was|were) (?:not )?there\b(?! (?:a|an|any|no)\b)|(?:is|are|was|were|be) away\b|the giver\b|"
    r"at any rate\b|again and again\b|near[- ]at[- ]hand\b)|\b(?:is|are) none\b"
)
"""Phrases that must not occur in any text. ``None`` is a value, so ``is None`` is allowed."""


BALL = re.compile(r"\bballs?\b(?! id\b)(?! must be a list)(?!')", re.IGNORECASE)
"""MictlanX's word in a message, where people read "object"; parameters and fields keep it."""


def texts(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and text of every docstring, message and comment."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text)) as constant):
                    docstrings.add(constant)
                    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and statement is body[0]
                    yield statement.lineno, "docstring of a function" if is_function else "docstring", text.strip()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if node not in docstrings and " " in text:
                yield node.lineno, "message", text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], "comment", token.string.lstrip("#! ")


def offences(source: str) -> Iterator[str]:
    """Yield line, kind and phrase of every offence. Code between double backquotes is skipped."""
    for line, kind, text in texts(source):
        prose = re.sub(r"``.*?``", "x", " ".join(text.split()))
        found = list(PHRASES.finditer(prose))
        if kind == "message":
            found += BALL.finditer(prose)
        if kind == "docstring of a function" and (start := FIRST_WORDS.match(prose)):
            found.append(start)
        if kind.startswith("docstring"):
            found += SENTENCE_STARTS.finditer(prose)
        yield from (f"{line}: {kind}: {phrase[0].lstrip('.!? ')!r}" for phrase in found)


def test_package_has_no_banned_phrase() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{offence}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for offence in offences(path.read_text())
    ]
    assert not found, "write these in plain English:\n" + "\n".join(found)


def test_helpers_docstrings_begin_with_a_plain_verb() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno}: {text.splitlines()[0]}"
        for folder in ("tests", "scripts", "benchmarks", "example_dags")
        for path in sorted((PACKAGE.parent / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node) or "")
        and FIRST_WORDS.match(text)
    ]
    assert not found, "begin these with a verb such as Return or Read:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        *(
            (f'def function():\n    """{word} the size."""', f"2: docstring of a function: '{word}'")
            for word in ("Give", "Tell", "Say", "Know", "Look", "Make of", "Do as")
        ),
        *(
            (f'"""Read a ball. {word} it is."""', f"1: docstring: '{word}'")
            for word in ("What", "Who", "Whether", "Where", "Whoever", "Whatever")
        ),
        ('class Ball:\n    """Whether it exists."""', "2: docstring: 'Whether'"),
        ('SIZE = 1\n"""What a chunk takes."""', "2: docstring: 'What'"),
        *(
            (f'raise ValueError(f"{{key}} {phrase}")', f"1: message: '{phrase}'")
            for phrase in (
                "is no key",
                "are no texts",
                "was no router",
                "is none",
                "are none",
                "is there",
                "were there",
            )
        ),
        ('log.warning("peer %s is away", peer)', "1: message: 'is away'"),
        ('log.info("%s of %s balls", done, total)', "1: message: 'balls'"),
        ('log.info("it will be away")', "1: message: 'be away'"),
        *(
            (f"size = 1  # {phrase} bytes", f"1: comment: '{phrase}'")
            for phrase in (
                "so many",
                "as it is",
                "as they are",
                "the whole",
                "is not there",
                "the giver",
                "at any rate",
                "again and again",
                "near-at-hand",
                "near at hand",
            )
        ),
        (
            'def function():\n    """Read a ball.\n\n    A ball that is\n    none."""',
            "2: docstring of a function: 'is none'",
        ),
    ],
)
def test_vocabulary_with_a_banned_phrase_names_it(source: str, offence: str) -> None:
    assert list(offences(source)) == [offence.replace("the whole", "whole")]


@pytest.mark.parametrize(
    "source",
    [
        'def function():\n    """Return the size, or None."""',
        'def function():\n    """Return whether a ball is complete. The caller gives its key."""',
        'def function():\n    """Return ``what is no size`` unchanged."""',
        '"""A peer is no longer available. Where is it?"""',
        'raise ValueError("the value is None; check the key")',
        'raise ValueError("balls must be a list of dicts, got the ball id x")',
        'log.info("%s is stored; %s has no replica", key, peer)',
        "size = 1  # Is there a limit? The peers know where the chunk is.",
        'PATTERN = "whole"',
    ],
)
def test_vocabulary_with_plain_english_finds_nothing(source: str) -> None:
    assert list(offences(source)) == []
