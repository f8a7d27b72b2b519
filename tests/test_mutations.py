"""The table of mutations is sound; every night each mistake in it has to be caught."""

import ast
from collections import Counter

import pytest
from mutations import MUTATIONS, ROOT, Mutation, is_caught, main, mutated, run_tests

FILES = list(dict.fromkeys(mutation.file for mutation in MUTATIONS))


def test_the_table_is_large_and_its_names_differ() -> None:
    assert len(MUTATIONS) >= 450 and len(FILES) >= 45
    assert [name for name, times in Counter(mutation.name for mutation in MUTATIONS).items() if times > 1] == []
    for test in {test for mutation in MUTATIONS for test in mutation.tests}:
        file, _, name = test.partition("[")[0].partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("file", FILES)
def test_each_changes_the_program_at_one_place_and_differently(file: str) -> None:
    """The old text stands there once, and the new one makes a valid program that is another one."""
    text = (ROOT / file).read_text(encoding="utf-8")
    trees = {ast.dump(ast.parse(text)): "as it is"}
    for mutation in MUTATIONS:
        if mutation.file == file:
            assert text.count(mutation.old) == 1, mutation
            tree = ast.dump(ast.parse(mutated(mutation)))
            assert tree not in trees, f"{mutation.name} is the same as {trees[tree]}"
            trees[tree] = mutation.name


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="stands 0 times in"):
        mutated(MUTATIONS[0]._replace(old="a text that nobody wrote"))
    with pytest.raises(ValueError, match="no mutation is called"):
        main(["a name that nobody gave"])


@pytest.mark.nightly
@pytest.mark.parametrize("tests", sorted({mutation.tests for mutation in MUTATIONS}), ids=" ".join)
def test_without_a_mistake_nothing_fails(tests: tuple[str, ...]) -> None:
    """Else all mistakes would seem to be caught."""
    result = run_tests(tests, {})
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


@pytest.mark.nightly
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mistake_is_caught(mutation: Mutation) -> None:
    before = (ROOT / mutation.file).read_bytes()
    assert is_caught(mutation), f"{mutation.tests} pass with {mutation.new!r} for {mutation.old!r} in {mutation.file}"
    assert (ROOT / mutation.file).read_bytes() == before
