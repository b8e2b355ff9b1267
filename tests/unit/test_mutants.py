"""The table of ``scripts/mutants.py`` fits the package: what it takes away is there once, and what it runs exists."""

from __future__ import annotations

import ast

import pytest

from scripts.mutants import MUTANTS, PROJECT, Mutant, source_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.guard}")
def test_mutant_fits_the_package(mutant: Mutant) -> None:
    text = source_of(mutant).read_text()
    assert text.count(mutant.old) == 1, "the guard is gone, or there twice: mend the table in scripts/mutants.py"
    assert mutant.new != mutant.old
    ast.parse(text.replace(mutant.old, mutant.new))
    tests = (PROJECT / mutant.tests).read_text()
    missing = [name for name in mutant.names if f"def {name.partition('[')[0]}(" not in tests]
    assert not missing, f"{mutant.tests} has no such tests"
