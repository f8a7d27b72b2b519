"""Word vectors: neighbours, analogies and correlations by brute force; their files, whole, packed, and broken in every way."""

import doctest
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.classical import vector_file, vectors
from minilm.classical.vector_file import read_vectors, write_vectors
from minilm.classical.vectors import (
    WordVectors,
    analogy_accuracy,
    project,
    ranks,
    similarity_correlation,
    spearman,
    unit_rows,
)


def some(V: int = 9, D: int = 4, seed: int = 0) -> WordVectors:
    rng = np.random.default_rng(seed)
    return WordVectors(tuple(f"w{i}" for i in range(V)), rng.normal(size=(V, D)) * rng.uniform(0.1, 9, size=(V, 1)))


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


# ---- questions


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_by_brute_force(seed: int) -> None:
    of = some(seed=seed)
    for word in of.words:
        expected = {
            other: cosine(of.matrix[of.row(word)], of.matrix[of.row(other)]) for other in of.words if other != word
        }
        found = of.nearest(word, 20)
        assert [name for name, _ in found] == sorted(expected, key=lambda name: -expected[name])
        assert dict(found) == pytest.approx(expected, abs=1e-12)
        assert of.nearest(word, 3) == found[:3]
        for other, score in found:
            assert of.similarity(word, other) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_analogies_by_brute_force(seed: int) -> None:
    of = some(V=8, seed=seed)
    unit = {word: row / math.sqrt(sum(x * x for x in row)) for word, row in zip(of.words, of.matrix, strict=True)}
    for a, b, c in (("w0", "w1", "w2"), ("w3", "w3", "w5"), ("w7", "w2", "w7")):
        wanted = unit[b] - unit[a] + unit[c]
        others = [word for word in of.words if word not in (a, b, c)]
        expected = sorted(others, key=lambda word: -cosine(unit[word], wanted))
        found = of.analogy(a, b, c, 20)
        assert [word for word, _ in found] == expected
        assert [score for _, score in found] == pytest.approx([cosine(unit[word], wanted) for word in expected])


def test_an_analogy_never_answers_with_its_question() -> None:
    """king is nearest to king - man + woman, and is not the answer."""
    of = WordVectors(("man", "king", "woman", "queen"), np.array([[1, 0.1], [1, 3], [0.9, 0], [0.5, 2.9]]))
    assert of.analogy("man", "king", "woman") == [("queen", pytest.approx(0.99, abs=0.02))]
    assert analogy_accuracy(of, [("man", "king", "woman", "queen"), ("man", "woman", "king", "queen")]) == (2, 2)
    assert analogy_accuracy(of, [("man", "king", "woman", "duke"), ("king", "man", "queen", "king")]) == (0, 1)
    assert of.part(("man", "king", "woman")).analogy("man", "king", "woman") == []


def test_lengths_play_no_part() -> None:
    of = some()
    scaled = WordVectors(of.words, of.matrix * np.geomspace(1e-170, 1e170, 9)[:, None])
    assert [w for w, _ in scaled.nearest("w4", 9)] == [w for w, _ in of.nearest("w4", 9)]
    assert scaled.analogy("w0", "w8", "w3", 2) == [(w, pytest.approx(s)) for w, s in of.analogy("w0", "w8", "w3", 2)]


def test_a_vector_of_zeros_is_like_nothing() -> None:
    of = WordVectors(("a", "b", "nil"), np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    assert of.nearest("a", 5) == [("nil", 0.0), ("b", -1.0)]
    np.testing.assert_array_equal(unit_rows(np.zeros((2, 3))), np.zeros((2, 3)))


def test_a_part_of_the_words() -> None:
    of = some()
    part = of.part(["w5", "w2"])
    assert part.words == ("w5", "w2")
    np.testing.assert_array_equal(part.matrix, of.matrix[[5, 2]])


def test_questions_that_cannot_be_asked() -> None:
    of = some()
    for ask in (lambda: of.nearest("zebra"), lambda: of.analogy("w1", "zebra", "w2"), lambda: of.part(["zebra"])):
        with pytest.raises(ValueError, match="there is no vector for 'zebra' among 9 words"):
            ask()
    with pytest.raises(ValueError, match="0 words are asked for"):
        of.nearest("w1", 0)


@pytest.mark.parametrize(
    ("words", "matrix", "message"),
    [
        ("ab", np.zeros((3, 2)), r"2 words with vectors \(3, 2\)"),
        ("ab", np.zeros(2), r"2 words with vectors \(2,\)"),
        ("", np.zeros((0, 2)), "at least"),
        ("ab", np.zeros((2, 0)), "at least"),
        ("aba", np.zeros((3, 2)), "the word 'a' has two vectors"),
        ("ab", np.array([[0, 1], [0, np.nan]]), "the vector of 'b' holds a NaN"),
        ("ab", np.array([[0, -np.inf], [0, 0]]), "the vector of 'a' holds a NaN or an infinity"),
    ],
)
def test_no_vectors(words: str, matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordVectors(tuple(words), matrix)


# ---- correlation


def ranks_by_definition(values: list[float]) -> list[float]:
    """The mean of the places, from 1, that a value takes in the sorted list."""
    places = {v: [i for i, other in enumerate(sorted(values), 1) if other == v] for v in values}
    return [sum(places[v]) / len(places[v]) for v in values]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-5, 5)), min_size=3, max_size=12))
def test_spearman_is_the_correlation_of_the_ranks(pairs: list[tuple[int, float]]) -> None:
    x, y = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert ranks(x).tolist() == ranks_by_definition(x)
    if len(set(x)) > 1 and len(set(y)) > 1:
        expected = np.corrcoef(ranks_by_definition(x), ranks_by_definition(y))[0, 1]
        assert spearman(x, y) == pytest.approx(expected, abs=1e-12)


def test_spearman_without_ties_is_the_formula_of_the_squares() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 11))
    gaps = np.array(ranks_by_definition(x.tolist())) - ranks_by_definition(y.tolist())
    assert spearman(x, y) == pytest.approx(1 - 6 * (gaps**2).sum() / (11 * (121 - 1)), abs=1e-12)
    assert spearman(x, x**3) == 1 and spearman(x, -np.exp(x)) == -1


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2, 3], "2 and 3 values"),
        ([1], [1], "at least 2"),
        ([2, 2, 2], [1, 2, 3], "they have no order"),
        ([1, 2], [7, 7], "they have no order"),
        ([1, math.nan], [1, 2], "NaN or infinite"),
    ],
)
def test_no_correlation(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spearman(x, y)


def test_people_and_vectors() -> None:
    of = WordVectors(("a", "b", "c"), np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    scores = [("a", "b", 9.0), ("a", "c", 1.0), ("b", "c", 2.0), ("a", "zebra", 5.0)]
    assert similarity_correlation(of, scores) == (1.0, 3)
    assert similarity_correlation(of, [("a", "b", 1.0), ("a", "c", 2.0)]) == (-1.0, 2)
    with pytest.raises(ValueError, match="1 of the pairs have vectors"):
        similarity_correlation(of, scores[2:])


# ---- projection


@pytest.mark.parametrize(("N", "D", "n"), [(7, 4, 2), (3, 9, 2), (20, 5, 3)])
def test_the_plane_is_that_of_the_covariance(N: int, D: int, n: int) -> None:
    matrix = np.random.default_rng(D).normal(size=(N, D)) * np.arange(1, D + 1) + 50
    points, shares = project(matrix, n)
    centred = matrix - matrix.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    expected = centred @ directions[:, ::-1][:, :n]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares, values[::-1][:n] / values.sum(), atol=1e-12)
    np.testing.assert_allclose(points, project(matrix + 3, n)[0], atol=1e-9)


def test_a_direction_has_one_sign() -> None:
    points, _ = project(np.array([[0.0, 0.0], [-3.0, 1.0], [-6.0, 2.0]]), 1)
    turned, _ = project(np.array([[0.0, 0.0], [-3.0, 1.0], [-6.0, 2.0]])[::-1], 1)
    np.testing.assert_allclose(points, turned[::-1], atol=1e-12)  # the order of the points does not change it
    x = np.array([0.0, -3.0, -6.0])
    np.testing.assert_allclose(points[:, 0], (x - x.mean()) * math.sqrt(10) / 3, atol=1e-12)  # the larger number up


def test_no_plane() -> None:
    for n in (0, 4):
        with pytest.raises(ValueError, match="there are at most 3"):
            project(np.zeros((3, 5)), n)
    points, shares = project(np.ones((3, 2)), 2)
    assert (points == 0).all() and (shares == 0).all()


# ---- files

WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n \ufeff"), min_size=1, max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(WORD, unique=True, min_size=1, max_size=6),
    st.integers(1, 4),
    st.data(),
    st.sampled_from(["v.txt", "v.gz"]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], D: int, data: st.DataObject, name: str
) -> None:
    row = st.lists(FLOATS, min_size=D, max_size=D)
    matrix = np.array(data.draw(st.lists(row, min_size=len(words), max_size=len(words))))
    path = tmp_path_factory.mktemp("vectors") / name
    write_vectors(WordVectors(tuple(words), matrix), path)
    back = read_vectors(path)
    assert back.words == tuple(words)
    assert back.matrix.tobytes() == matrix.tobytes()  # also -0.0
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_the_format_is_that_of_glove(tmp_path: Path) -> None:
    write_vectors(WordVectors(("the", "été"), np.array([[0.5, -1e-7], [3.0, 0.1]])), tmp_path / "v.txt")
    assert (tmp_path / "v.txt").read_bytes() == "the 0.5 -1e-07\nété 3.0 0.1\n".encode()
    write_vectors(some(), tmp_path / "a.gz")
    write_vectors(some(), tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()  # no time stamp
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.gz", "v.txt"]


@pytest.mark.parametrize(
    ("text", "words", "matrix"),
    [
        ("2 3\na 1 2 3\nb 4 5 6\n", "a b", [[1, 2, 3], [4, 5, 6]]),  # word2vec's first line
        ("a 1 2\nb 3 4", "a b", [[1, 2], [3, 4]]),  # no line end at the end
        ("a 1 2 \r\nb 3 4 \r\n", "a b", [[1, 2], [3, 4]]),  # fastText's blank, Windows' line ends
        ("5 0.5\n6 1\n", "5 6", [[0.5], [1]]),  # a word may be a number
        ("5 1 2\n7 8 9\n", "5 7", [[1, 2], [8, 9]]),
        ("-0.5 1e-3 +2\n", "-0.5", [[0.001, 2]]),
        ("nan 1 2\ninf 3 4\n", "nan inf", [[1, 2], [3, 4]]),
        (
            "a\u00a07 1 2\n\u00a0 3 4\n",
            "a\u00a07 \u00a0",
            [[1, 2], [3, 4]],
        ),  # a no-break space is no blank, and may be a word
    ],
)
def test_files_of_others(tmp_path: Path, text: str, words: str, matrix: list[list[float]]) -> None:
    (tmp_path / "v.txt").write_bytes(text.encode())
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("v.txt", "v.txt.gz"):
        found = read_vectors(tmp_path / name)
        assert found.words == tuple(words.split(" ")) and found.matrix.tolist() == matrix


def test_words_with_blanks(tmp_path: Path) -> None:
    """glove.840B has some."""
    (tmp_path / "v.txt").write_text(". . 1 2\nat name@domain.com 3 4\n", encoding="utf-8")
    found = read_vectors(tmp_path / "v.txt")
    assert found.words == (". .", "at name@domain.com") and found.matrix.tolist() == [[1, 2], [3, 4]]
    write_vectors(found, tmp_path / "w.txt")
    assert read_vectors(tmp_path / "w.txt").words == found.words


BROKEN = [
    ("", "holds no vectors"),
    ("2 3\n", "says that it has 2 words, it has 0: get a whole copy"),
    ("3 2\na 1 2\nb 3 4\n", "says that it has 3 words, it has 2"),
    ("1 2\na 1 2\nb 3 4\n", "says that it has 1 words, it has 2"),
    ("2 0\na\nb\n", "line 1 of .* promises vectors of 0 numbers"),
    ("2 3\na 1 2\nb 3 4\n", "line 2 of .* has 2 numbers for 'a', it should have 3"),
    ("a 1 2\nb 3\n", "line 2 of .* has 1 numbers for 'b', it should have 2"),
    ("a 1 2\nb 3 4 5\n", "line 2 of .* has 3 numbers for 'b 3', it should have 2"),
    ("a 1 2\nb c 3\n", "line 2 of .* has 'c' where a number should be"),
    ("a 1 2\nb\n", "line 2 of .* has 0 numbers for 'b'"),
    ("hello\n", "line 1 of .* has 0 numbers for 'hello', it should have some"),
    ("a b c\n", "line 1 of .* has 0 numbers"),
    ("a 1 2\n\nb 3 4\n", "line 2 of .* does not begin with a word"),
    ("a 1 2\n 3 4\n", "line 2 of .* does not begin with a word"),
    ("a  1 2\n", "line 1 of .* does not begin with a word"),
    ("a 1 2\nb 3 4\na 5 6\n", r"line 3 of .* has a second vector for 'a' \(the first is in line 1\)"),
    ("2 2\na 1 2\na 5 6\n", r"line 3 of .* has a second vector for 'a' \(the first is in line 2\)"),
    ("a 1 2\nb 3 nan\n", "line 2 of .* has a number that is NaN or infinite for 'b'"),
    ("a 1 -inf\n", "line 1 of .* NaN or infinite for 'a'"),
    ("a 1 1e999\n", "line 1 of .* NaN or infinite for 'a'"),
    ("a 1 2\nb 3 four\n", "line 2 of .* has 'four' where a number should be"),
    ("a 1 x 3\n", "line 1 of .* has 'x' where a number should be"),
    ("a 1 2\nb 3 1_000\n", "line 2 of .* has '1_000' where a number should be"),
    ("a 1 2\nb 3 ٣\n", "line 2 of .* where a number should be"),
    ("a\t1\t2\n", "line 1 of .* has 0 numbers"),
    ("\ufeffa 1 2\n", "line 1 of .* does not begin with a word"),
    ('{"a": [1, 2]}\n', "line 1 of .* has 0 numbers"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[repr(text)[:24] for text, _ in BROKEN])
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(text.encode())
    with pytest.raises(ValueError, match=message) as failed:
        read_vectors(path)
    assert "\n" not in str(failed.value) and str(path) in str(failed.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(b"2 2\nthe \x00\xff\xfe\x9a\x12")
    with pytest.raises(ValueError, match=r"line 2 of .* is not UTF-8"):
        read_vectors(path)


def test_files_that_were_never_packed_or_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"w{i} {i / 7} {i / 9}\n" for i in range(500)).encode())
    for data in (b"a 1 2\n", whole[:-9], whole[: len(whole) // 2], whole[:400] + b"\0" + whole[401:]):
        path = tmp_path / "v.gz"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"v.gz is damaged or was not packed by gzip|is not UTF-8|line \d+ of"):
            read_vectors(path)
    with pytest.raises(FileNotFoundError):
        read_vectors(tmp_path / "absent.txt")


@pytest.mark.parametrize("word", ["a\nb", "a 1", "x nan", " a", "a ", "a  b", "", "\ufeffa"])
def test_words_that_no_file_can_hold(tmp_path: Path, word: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a file of vectors"):
        write_vectors(WordVectors(("the", word), np.ones((2, 1))), tmp_path / "v.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", [vectors, vector_file])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
