"""Regular expressions against Python's own `re`, and automata against what makes them minimal.

The oracle for languages is `re.fullmatch` on texts; for sizes it is a count of the continuations that differ.
"""

import doctest
import itertools
import random
import re

import numpy as np
import pytest

from minilm.decoding import automaton, expressions, regular
from minilm.decoding.automaton import Automaton
from minilm.decoding.expressions import characters, complement, utf8_ranges
from minilm.decoding.regular import compile_pattern, parse

ALPHABET = "abcz09_ -.\n\té\xa0ßΩ√\u2028€\ud7ff\ue000￿𐀀😀\U0010ffff"
ATOMS = [
    *"abc0_",
    ".",
    "é",
    "€",
    "😀",
    r"\d",
    r"\w",
    r"\s",
    r"\D",
    r"\W",
    r"\S",
    r"\.",
    r"\n",
    r"\x62",
    r"\u20ac",
    r"\U0001f600",
]
MEMBERS = [
    *"abcz09_",
    "é",
    "€",
    r"\d",
    r"\s",
    r"\W",
    r"\n",
    r"\]",
    "a-c",
    "0-9",
    "b-é",
    "é-Ω",
    "Ω-😀",
    r"\u0100-\uffff",
    ".",
]
REPEATS = ["*", "+", "?", "{2}", "{1,}", "{,2}", "{1,3}", "{0}", "{0,0}"]


def random_pattern(draw: random.Random, depth: int) -> str:
    """A pattern of the supported syntax, whose meaning is the same for Python."""
    kind = draw.random()
    if depth == 0 or kind < 0.3:
        return draw.choice(ATOMS)
    if kind < 0.45:
        inside = "".join(draw.choice(MEMBERS) for _ in range(draw.randint(1, 3)))
        return f"[{draw.choice(['', '^'])}{draw.choice(['', '-'])}{inside}]"
    if kind < 0.6:
        return f"({draw.choice(['', '?:'])}{random_pattern(draw, depth - 1)})" + draw.choice(REPEATS)
    if kind < 0.7:
        return draw.choice(ATOMS) + draw.choice(REPEATS)
    if kind < 0.85:
        options = [random_pattern(draw, depth - 1) for _ in range(2)] + [""] * (draw.random() < 0.2)
        return "(" + "|".join(options) + ")"
    return "".join(random_pattern(draw, depth - 1) for _ in range(draw.randint(0, 3)))


def near_texts(found: Automaton, draw: random.Random, count: int) -> list[str]:
    """Texts by a random walk through the automaton, which match much more often than random ones, and some spoilt ones."""
    texts = []
    for _ in range(count):
        state, data = 0, bytearray()
        while len(data) < 12 and (data == b"" or draw.random() < 0.9):
            bytes_on = np.flatnonzero(found.table[state] >= 0)
            if not len(bytes_on):
                break
            data.append(int(draw.choice(bytes_on)))
            state = int(found.table[state, data[-1]])
        text = data.decode(errors="ignore")
        if draw.random() < 0.3 and text:
            place = draw.randrange(len(text))
            text = text[:place] + draw.choice(ALPHABET) + text[place + draw.randint(0, 1) :]
        texts.append(text)
    return texts


@pytest.mark.parametrize("module", [automaton, expressions, regular])
def test_the_examples_in_the_docstrings(module) -> None:
    assert doctest.testmod(module, extraglobs={"parse": parse}).failed == 0


def test_the_same_texts_match_as_for_python() -> None:
    """600 patterns on 60 texts each: every answer is that of re.fullmatch; both answers occur thousands of times."""
    draw, wrong, answers = random.Random(5), [], [0, 0]
    for _ in range(600):
        pattern = random_pattern(draw, 4)
        found, python = compile_pattern(pattern), re.compile(pattern, re.ASCII)
        texts = ["", *("".join(draw.choices(ALPHABET, k=draw.randint(1, 4))) for _ in range(24))]
        for text in texts + near_texts(found, draw, 35):
            expected = python.fullmatch(text) is not None
            answers[expected] += 1
            if found.matches(text.encode()) is not expected:
                wrong.append((pattern, text))
    assert wrong == []
    assert min(answers) > 7_000
    assert sum(answers) == 36_000


def test_all_short_texts_of_a_small_alphabet() -> None:
    """120 patterns, all 1,093 texts of up to 6 letters: nothing hangs on which texts were drawn."""
    draw = random.Random(8)
    texts = ["".join(text) for n in range(7) for text in itertools.product("abc", repeat=n)]
    for _ in range(120):
        pattern = re.sub(r"\\.|[^abc(){}|*+?:,\d]", "c", re.sub(r"\[.*?\]|\\[xuU]\w*", "[ab]", random_pattern(draw, 4)))
        found, python = compile_pattern(pattern), re.compile(pattern)
        assert [found.matches(text.encode()) for text in texts] == [
            python.fullmatch(text) is not None for text in texts
        ]


def test_only_utf8_is_accepted() -> None:
    """All strings of up to two bytes, and 30,000 longer ones: what matches .* with line feeds is what can be decoded."""
    every, draw = compile_pattern(r"(.|\n)*"), random.Random(3)
    heads = [0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]
    longer = []
    for _ in range(30_000):
        tail = draw.choices(
            [0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF], weights=[1, 6, 6, 6, 6, 6, 6], k=draw.randint(2, 3)
        )
        longer.append(bytes([draw.choice(heads), *tail]))
    short = [bytes(data) for n in range(3) for data in itertools.product(range(256), repeat=n)]
    decoded = 0
    for data in short + longer:
        try:
            data.decode("utf-8")
            decodes = True
        except UnicodeDecodeError:
            decodes = False
        decoded += decodes
        assert every.matches(data) is decodes, data
    assert decoded > 16_384 + 1_000


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0x10FFFF), (0x7F, 0x80), (0x7FF, 0x800), (0xFFFF, 0x10000), (0x3A9, 0x1F600), (0xE9, 0xE9)]
)
def test_utf8_ranges_spell_each_character_once(low: int, high: int) -> None:
    """Every character near a border, in or out of the range: it is in exactly one sequence, or in none."""
    borders = [low, high, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF, 0x40000, 0x3FFFF, 0xFFF]
    sequences = [part for a, b in characters((low, high)).ranges for part in utf8_ranges(a, b)]
    for code in {code for border in borders for code in range(border - 70, border + 70)}:
        if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
            data = chr(code).encode()
            hits = sum(
                len(part) == len(data) and all(a <= byte <= b for byte, (a, b) in zip(data, part, strict=True))
                for part in sequences
            )
            assert hits == (low <= code <= high), code


def test_character_sets() -> None:
    draw = random.Random(1)
    around = [*range(0xD7F0, 0xD808), *range(0xDFF8, 0xE010)]  # the surrogates; ranges lie in one another too
    for _ in range(300):
        ranges = [tuple(sorted(draw.choices(around, k=2))) for _ in range(draw.randint(0, 4))]
        wanted = {code for a, b in ranges for code in range(a, b + 1) if not 0xD800 <= code <= 0xDFFF}
        found = characters(*ranges)
        assert {code for a, b in found.ranges for code in range(a, b + 1)} == wanted
        assert all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(found.ranges))
        others = complement(found).ranges
        assert sum(b - a + 1 for a, b in others) + len(wanted) == 0x110000 - 0x800
        assert not any(a <= code <= b for a, b in others for code in wanted)


@pytest.mark.parametrize("pattern", [".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S"])
def test_the_sets_are_those_of_python(pattern: str) -> None:
    found, characters = compile_pattern(pattern), [chr(code) for code in range(0x300)]
    expected = [re.fullmatch(pattern, character, re.ASCII) is not None for character in characters]
    assert [found.matches(character.encode()) for character in characters] == expected


# ---- minimal, without dead states


@pytest.mark.parametrize(
    ("pattern", "n_states"),
    [
        ("", 1),
        ("a", 2),
        ("a*", 1),
        ("(a|b)*abb", 4),  # the textbook example
        ("(a|b)*a(a|b){7}", 256),  # which of the last 8 were a
        ("abc|abd|xbc|xbd", 4),  # tails are shared
        ("a{2,4}", 5),
        ("(a*)*(aa)*", 1),
        ("a|[^\\s\\S]b", 2),  # the second option can match nothing: its state is dead
        ("[^\\s\\S]*", 1),
        ("(1(01*0)*1|0)*", 3),  # binary numbers that 3 divides
        (".", 9),  # the start, the end, 1 to 3 more bytes, and fewer second bytes after E0, ED, F0 and F4
    ],
)
def test_known_sizes(pattern: str, n_states: int) -> None:
    found = compile_pattern(pattern)
    assert found.table.shape == (n_states, 256)
    assert found.accepting.shape == (n_states,)


def n_distinguishable(found: Automaton) -> int:
    """How many states differ, by the table of pairs: a pair differs if one accepts, or a byte leads to a pair that does."""
    n = len(found.table)
    table = np.where(found.table < 0, n, found.table).astype(int)
    table = np.unique(np.vstack([table, np.full((1, 256), n)]), axis=1)
    ends = np.append(found.accepting, False)
    differ = ends[:, None] != ends[None, :]
    while True:
        more = differ | np.any([differ[np.ix_(column, column)] for column in table.T], axis=0)
        if (more == differ).all():
            return len({tuple(row) for row in differ.tolist()})
        differ = more


def test_every_automaton_is_minimal_and_alive() -> None:
    """150 patterns: all states differ from each other and from the dead one, are reached, and reach an end."""
    draw = random.Random(11)
    for _ in range(150):
        found = compile_pattern(random_pattern(draw, 3))
        n = len(found.table)
        assert n_distinguishable(found) == n + 1
        reached, order = {0}, [0]
        for state in order:
            for target in dict.fromkeys(found.table[state].tolist()):
                if target >= 0 and target not in reached:
                    reached.add(target)
                    order.append(target)
        assert order == list(range(n))  # numbered by their shortest texts
        alive = set(np.flatnonzero(found.accepting).tolist())
        while more := {s for s in range(n) if s not in alive and alive & set(found.table[s].tolist())}:
            alive |= more
        assert alive == set(range(n))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a|b)*", "(a*b*)*"),
        ("a(ba)*", "(ab)*a"),
        ("x{2,}", "xxx*"),
        ("[a-c]|[b-d]", "[^\x00-`e-\U0010ffff]"),
        (r"\d\D?", r"[0-9]([^0-9]|)"),
        ("é|è", "[éè]"),
        ("a+", "aa*"),
    ],
)
def test_equal_languages_have_equal_arrays(one: str, other: str) -> None:
    first, second = compile_pattern(one), compile_pattern(other)
    assert np.array_equal(first.table, second.table)
    assert np.array_equal(first.accepting, second.accepting)


# ---- what cannot be read


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("^a", "at 0: the anchor ^"),
        ("a$", "at 1: the anchor $"),
        (r"a\b", r"at 1: the anchor \b"),
        (r"\Aa", "the anchor"),
        ("a*?", "lazy"),
        ("a{2}?", "lazy"),
        ("a*+", "possessive"),
        ("a**", "a repetition of a repetition"),
        ("a+{2}", "a repetition of a repetition"),
        ("(?=a)b", "at 0: of the groups"),
        ("(?<!a)b", "of the groups"),
        ("(?P<n>a)", "of the groups"),
        ("(?i)a", "of the groups"),
        (r"(a)\1", "back-references"),
        (r"\0", "octal"),
        (r"\q", r"the escape \q is unknown"),
        (r"[\b]", "the anchor"),
        ("*a", "at 0: nothing to repeat"),
        ("a|+", "at 2: nothing to repeat"),
        ("(?:{2})", "at 3: nothing to repeat"),
        ("a{", "no } follows"),
        ("a{x}", "at 1: repetitions are"),
        ("a{}", "repetitions are"),
        ("a{,}", "repetitions are"),
        ("a{1,2,3}", "repetitions are"),
        ("a{²}", "repetitions are"),
        ("a{3,2}", "at least 3, at most 2"),
        ("a{10001}", "counts to at most 10,000"),
        ("a{" + "9" * 5000 + "}", "counts to at most 10,000"),
        ("(a", "at 0: this group is not closed"),
        ("a)", "at 1: this ) closes no group"),
        ("[a", "at 0: this class is not closed"),
        ("[]", "at 0: this class is not closed"),
        ("[^]", "this class is not closed"),
        ("[z-a]", "at 1: a range goes"),
        (r"[a-\d]", "a range goes"),
        (r"[\d-a]", "a range goes"),
        ("a\\", "at 2: the pattern ends"),
        (r"\x4", r"\x takes 2 hexadecimal"),
        (r"\u00g0", r"\u takes 4 hexadecimal"),
        (r"\ud800", "U+D800 is not a character"),
        (r"\U00110000", "U+110000 is not a character"),
        ("\udc80", "U+DC80 is not a character"),
        ("(" * 100_000, "more than 100 groups"),
        (r"[^\s\S]", "no text matches"),
        (r"a[^\s\S]+", "no text matches"),
        ("((a{1000}){1000}){1000}", "more than 50,000 states"),
        ("((()*){1000}){1000}", "more than 50,000 states"),
        ("(a|b)*a(a|b){16}", "more than 30,000 states"),
    ],
)
def test_what_cannot_be_read_is_one_line(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        compile_pattern(pattern)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["a]b}", "a-b", "[]", "*.{}()|^$?+\\", "é €\n\t😀", "#&~ -", ""])
def test_what_re_escape_writes_is_read_as_itself(text: str) -> None:
    found = compile_pattern(re.escape(text))
    assert found.matches(text.encode())
    assert len(found.table) == len(text.encode()) + 1


@pytest.mark.parametrize(
    "pattern", ["a]", "a}", "[]a]", "[^]a]", "[a-]", "[-a]", "[.*+(){}|$]", r"[\]\-\\^]", "[a^]", r"a\ \#"]
)
def test_signs_that_are_characters_where_they_stand(pattern: str) -> None:
    found, python = compile_pattern(pattern), re.compile(pattern)
    texts = ["".join(text) for n in range(3) for text in itertools.product("a]}-^.*+(){|$\\b #", repeat=n)] + ["a #"]
    hits = [text for text in texts if python.fullmatch(text)]
    assert hits
    assert [text for text in texts if found.matches(text.encode())] == hits


def test_states_are_followed_from_anywhere() -> None:
    found = compile_pattern("(ab)+é")
    state = found.next(b"ab")
    assert found.next("é".encode(), state) == found.next("ababé".encode())
    assert found.next(b"x", state) == -1
    assert found.next(b"a", -1) == -1
    assert found.next(b"", 2) == 2
    assert not found.matches(b"ababx")
    assert not found.matches(b"")
