"""The list of mutants matches the code; ``python -m dev.mutants`` runs it."""

from __future__ import annotations

import pytest

from dev.mutants import MUTANTS, PACKAGE, ROOT


def test_names_are_unique():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_source_and_its_tests_exist(mutant):
    original = (ROOT / PACKAGE / mutant.file).read_text()
    changed = mutant.applied(original)

    assert changed != original
    if mutant.file.endswith(".py"):
        compile(changed, mutant.file, "exec")
    for test in mutant.tests.split():
        file, *names = test.split("::")
        source = (ROOT / file).read_text()
        for name in (name.split("[")[0] for name in names):
            assert f"def {name}(" in source or f"class {name}:" in source
