"""ARPA files against a reader of tuples and dictionaries, and against files written by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from minilm.classical import arpa
from minilm.classical.arpa import ArpaLM, from_word, read_arpa, to_word, write_arpa
from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM

V, EOT, RARE = 9, 3, 6  # the last token of the vocabulary is never used
NAMES = [b"a", b" the", b"\n", b"<|endoftext|>", b"", b"<s>", b"%", b"\xff\x80", "é<unk>".encode()]


def some_ids(seed: int, n: int = 400) -> np.ndarray:
    """Documents, one of them empty, in which some tokens follow some others often."""
    rng = np.random.default_rng(seed)
    ids = [EOT]
    while len(ids) < n:
        ids.append(int((ids[-1] * 2 + rng.geometric(0.6)) % (V - 1)))
    ids[50:52] = [EOT, EOT]
    return np.array(ids)


class SlowArpa:
    """What an ARPA file says, by the rule of backing off: the lines as a dictionary of tuples of words."""

    def __init__(self, path: Path) -> None:
        self.p: dict[tuple[str, ...], float] = {}
        self.weight: dict[tuple[str, ...], float] = {}
        sections = path.read_text(encoding="ascii").split("\n\\")
        self.announced = [int(line.split("=")[1]) for line in sections[0].splitlines() if line.startswith("ngram")]
        self.sizes = []
        for section in sections[1:-1]:
            first, *lines = section.strip().split("\n")
            assert first == f"{len(self.sizes) + 1}-grams:"
            self.sizes.append(len(lines))
            for line in lines:
                p, words, *weight = line.split("\t")
                gram = tuple(words.split(" "))
                assert len(gram) == len(self.sizes) and gram not in self.p
                self.p[gram] = float(p)
                self.weight[gram] = float(weight[0]) if weight else 0.0
        assert sections[-1].strip() == "end\\"

    def log10_p(self, word: str, context: tuple[str, ...]) -> float:
        if (*context, word) in self.p:
            return self.p[*context, word]
        return self.weight.get(context, 0.0) + self.log10_p(word, context[1:])

    def nats(self, words: list[str]) -> list[float]:
        """Of each word of a document and of its end."""
        text, longest = ["<s>", *words, "</s>"], len(self.sizes) - 1
        contexts = [tuple(text[max(0, t - longest) : t]) for t in range(1, len(text))]
        found = [self.log10_p(word, context) for word, context in zip(text[1:], contexts, strict=True)]
        return [x * math.log(10) for x in found]


def scores(model: NgramLM, document: np.ndarray) -> np.ndarray:
    return model.token_log_probs(np.concatenate([[model.end_of_text], document, [model.end_of_text]]))[1:]


@pytest.mark.parametrize("smoothing", ["kneser-ney", "interpolated-kneser-ney", "maximum-likelihood"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_file_says_what_the_model_says(smoothing: str, order: int, tmp_path: Path) -> None:
    model = NgramLM(NgramConfig(V, order, smoothing)).fit(some_ids(1), EOT)
    write_arpa(model, tmp_path / "a.arpa", NAMES, unknown=RARE)
    slow, again = SlowArpa(tmp_path / "a.arpa"), read_arpa(tmp_path / "a.arpa")
    assert slow.sizes == slow.announced and len(slow.sizes) == order
    assert slow.weight["</s>",] == 0 and slow.p["<s>",] == -99
    assert slow.sizes[0] == V + 1 and sum(slow.sizes) > model.n_parameters  # <s>, and tokens that never came
    words = [to_word(name) for name in NAMES]
    words[RARE], rng = "<unk>", np.random.default_rng(2)
    inner = [token for token in range(V) if token != EOT]
    for length in (0, 1, 2, 7, 40):
        document = rng.choice(inner, length)
        expected = scores(model, document)
        if smoothing == "maximum-likelihood":  # 10^-99 stands for 0
            expected = np.where(np.isneginf(expected), -99 * math.log(10), expected)
            found = np.maximum(slow.nats([words[token] for token in document]), -99 * math.log(10))
            np.testing.assert_array_equal(np.isneginf(scores(again, document)), expected < -200)
        else:
            found = np.array(slow.nats([words[token] for token in document]))
            np.testing.assert_allclose(scores(again, document), expected, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    assert again.names == [*NAMES[:RARE], b"<unk>", *NAMES[RARE + 1 :]]
    assert (again.unknown, again.end_of_text, again.config.order) == (RARE, EOT, order)


def test_a_model_read_back_is_used_like_any_other(tmp_path: Path) -> None:
    model = NgramLM(NgramConfig(V, 4)).fit(some_ids(3), EOT)
    write_arpa(model, tmp_path / "a.arpa", NAMES)
    again, ids = read_arpa(tmp_path / "a.arpa"), some_ids(4, 90)
    np.testing.assert_allclose(again.log_probs(ids), model.log_probs(ids), rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.exp(again.log_probs(ids)).sum(1), 1, rtol=0, atol=1e-7)
    assert again.score(ids[1:40]) == pytest.approx(model.score(ids[1:40]), abs=1e-6)
    assert again.unknown is None and again.context_tokens == 3
    np.testing.assert_array_equal(again.encode([b"\n", b"", b" the"]), [2, 4, 1])
    with pytest.raises(ValueError, match="no <unk>"):
        again.encode([b"a", b"nobody"])
    with pytest.raises(ValueError, match="no counts for a checkpoint"):
        again.arrays()
    write_arpa(again, tmp_path / "b.arpa", again.names)
    slow, slower = SlowArpa(tmp_path / "a.arpa"), SlowArpa(tmp_path / "b.arpa")
    assert slow.p.keys() == slower.p.keys() and slow.weight == pytest.approx(slower.weight, abs=1e-7)
    assert slow.p == pytest.approx(slower.p, abs=1e-7)


def test_any_bytes_are_a_word() -> None:
    rng = np.random.default_rng(5)
    names = [bytes([i]) for i in range(256)] + [rng.bytes(int(n)) for n in rng.integers(0, 9, 300)]
    for name in [*names, b"<s>", b"</s>", b"<unk>", b"%", b"%20", b"\\end\\"]:
        word = to_word(name)
        assert from_word(word.encode("ascii")) == name
        assert word.isascii() and word.isprintable() and " " not in word and "<" not in word and word
    assert [to_word(name) for name in (b"don't", b" a%", b"")] == ["don't", "%20a%25", "%"]


FOREIGN = """made by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-1.0 <unk>
-99 <s> -0.25
-0.5 </s>
-0.7 la -0.3
-0.8 the -0.1
-2.0\tol\u00a0d

\\2-grams:
-0.2\t<s> la\t-0.4
-0.6 la la
-0.9 the </s> 0.2
-0.1 la the 0.15

\\3-grams:
-0.05 <s> la the
-1.5 la the la 0

\\end\\
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_someone_else(line_end: str, tmp_path: Path) -> None:
    """Its ids are the places of its words; (la the la) ends with a pair, (the la), that the file does not have."""
    path = tmp_path / "foreign.arpa"
    path.write_bytes(FOREIGN.replace("\n", line_end).encode())
    model = read_arpa(path)
    assert isinstance(model, ArpaLM) and (model.config.vocab_size, model.config.order) == (5, 3)
    assert model.names == [b"<unk>", b"<|endoftext|>", b"la", b"the", "ol\u00a0d".encode()]
    np.testing.assert_array_equal(model.encode([b"the", b"cat", b"la"]), [3, 0, 2])
    end, la, the, old = 1, 2, 3, 4
    log10 = [
        ([end, la], -0.2),
        ([end, la, the], -0.05),
        ([end, la, the, la], -1.5),
        ([end, the], -0.25 - 0.8),
        ([end, end], -0.25 - 0.5),
        ([end, la, la], -0.4 - 0.6),
        ([end, la, old], -0.4 - 0.3 - 2.0),
        ([the, la], -0.1 - 0.7),
        ([la, the, the], 0.15 - 0.1 - 0.8),
        ([la, the, end], 0.15 - 0.9),
        ([the, la, the, la], -1.5),
        ([old, la, the], -0.1),
        ([old, 0], -1.0),
        ([la, 0], -0.3 - 1.0),
    ]
    for ids, expected in log10:
        assert model.token_log_probs(np.array(ids))[-1] / math.log(10) == pytest.approx(expected, abs=1e-12)
        assert model.next_log_probs(np.array(ids[:-1]))[ids[-1]] / math.log(10) == pytest.approx(expected, abs=1e-12)
    write_arpa(model, tmp_path / "again.arpa", model.names, unknown=0)
    again = read_arpa(tmp_path / "again.arpa")
    for ids, expected in log10:
        assert again.token_log_probs(np.array(ids))[-1] / math.log(10) == pytest.approx(expected, abs=1e-8)


def test_an_n_gram_without_probability(tmp_path: Path) -> None:
    """It must not become a logarithm of less than nothing by rounding."""
    path = tmp_path / "a.arpa"
    path.write_text(FOREIGN.replace("-0.6 la la", "-99 la la"), encoding="utf-8")
    assert -30 < read_arpa(path).token_log_probs(np.array([4, 2, 2]))[-1] < -20


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "\\date\\", "no line"),
        ("ngram 2=4", "ngram 3=4", "how many 2-grams"),
        ("ngram 2=4", "ngram 2=5", "is no 2-gram"),
        ("ngram 2=4", "ngram 2=3", "3-grams: is due"),
        ("ngram 2=4", "ngram 2=0", "how many 2-grams"),
        ("ngram 2=4", "ngram 2=-4", "how many 2-grams"),
        ("ngram 2=4", "ngram 2=four", "how many 2-grams"),
        ("ngram 3=2", "ngram 3=" + "9" * 18, "is no 3-gram"),
        ("ngram 3=2", "ngram 3=" + "9" * 9000, "how many 3-grams"),
        ("ngram 1=6\nngram 2=4\nngram 3=2\n", "", "how many n-grams"),
        ("\\2-grams:", "\\3-grams:", "2-grams: is due"),
        ("-0.6 la la", "-0.6 la", "is no 2-gram"),
        ("-0.6 la la", "-0.6 la la 0 0", "is no 2-gram"),
        ("-0.6 la la", "minus la la", "is no 2-gram"),
        ("-0.6 la la", "0.6 la la", "not at most 0"),
        ("-0.6 la la", "nan la la", "not at most 0"),
        ("-0.6 la la", "-0.6 la la nan", "above 10"),
        ("-0.6 la la", "-0.6 la la 1e300", "above 10"),
        ("-0.6 la la", "-0.6 la li", "b'li' is not among its words"),
        ("-0.6 la la", "-0.6 la <s>", "b'<s>' is not among"),
        ("-0.6 la la", "-0.6 </s> la", "b'</s>' is not among"),
        ("-1.5 la the la", "-1.5 la </s> la", "b'</s>' is not among"),
        ("-1.5 la the la", "-1.5 the the la", "not there"),
        ("-0.6 la la", "-0.6 la the", "there twice"),
        ("-0.7 la", "-0.7 the", "must differ"),
        ("-99 <s>", "-99 <z>", "<s> and </s>"),
        ("-0.5 </s>", "-0.5 <z>", "<s> and </s>"),
        ("\\end\\", "", "is due, not b''"),
    ],
)
def test_a_damaged_file(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    assert FOREIGN.count(old) == 1
    path.write_text(FOREIGN.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_arpa(path)
    assert str(error.value).startswith(f"{path} is not a whole ARPA file: ") and "\n" not in str(error.value)


def test_a_file_that_was_cut_anywhere(tmp_path: Path) -> None:
    path, whole = tmp_path / "cut.arpa", FOREIGN.encode()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a whole ARPA file"):
            read_arpa(path)


def test_a_file_of_noise(tmp_path: Path) -> None:
    path = tmp_path / "noise.arpa"
    for noise in (b"", b"\x00" * 99, np.random.default_rng(6).bytes(4000), b"\\data\\" * 9):
        path.write_bytes(noise)
        with pytest.raises(ValueError, match="no line"):
            read_arpa(path)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path, ids = tmp_path / "a.arpa", some_ids(7)
    model = NgramLM(NgramConfig(V, 2)).fit(ids, EOT)
    for bad, names, unknown, message in [
        (NgramLM(NgramConfig(V, 2)), NAMES, None, "call fit"),
        (NgramLM(NgramConfig(V, 2, "add-k")).fit(ids, EOT), NAMES, None, "never backs off"),
        (model, NAMES[:-1], None, "8 names and unknown = None for 9 tokens"),
        (model, NAMES, V, "unknown = 9"),
        (model, NAMES, -1, "unknown = -1"),
        (model, NAMES, EOT, "unknown = 3"),
        (model, [*NAMES[:-1], b"a"], None, "two tokens are named a:"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_arpa(bad, path, names, unknown)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.arpa"
    model = NgramLM(NgramConfig(V, 3)).fit(some_ids(8), EOT)
    write_arpa(model, path, NAMES)
    before = path.read_bytes()

    def full_disk(*_: object):
        yield "\\data\\\n"
        raise OSError("no space left")

    monkeypatch.setattr(arpa, "lines_of", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_arpa(model, path, NAMES)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_certainty_is_not_more_than_certain(tmp_path: Path) -> None:
    """In a vocabulary of one token p is 1 whatever the text, but for rounding, which may be upwards."""
    for length in range(2, 60):
        model = NgramLM(NgramConfig(1, 3, "interpolated-kneser-ney", discounts=((0.3,) * 3,) * 3))
        write_arpa(model.fit(np.zeros(length, dtype=int), 0), tmp_path / "a.arpa", [b"x"])
        assert all(-1e-12 < p <= 0 for gram, p in SlowArpa(tmp_path / "a.arpa").p.items() if gram != ("<s>",))
        assert read_arpa(tmp_path / "a.arpa").score([0, 0]) == pytest.approx(0, abs=1e-12)


def test_a_text_shorter_than_the_order(tmp_path: Path) -> None:
    """Of the lengths that the text never reached the file says nothing."""
    model = NgramLM(NgramConfig(V, 5)).fit(np.array([EOT, 1, EOT]), EOT)
    write_arpa(model, tmp_path / "a.arpa", NAMES)
    slow, again = SlowArpa(tmp_path / "a.arpa"), read_arpa(tmp_path / "a.arpa")
    assert slow.sizes == [V + 1, 2, 1] and again.config.order == 3
    for document in ([], [1], [0, 1, 1, 7]):
        expected = scores(model, np.array(document, dtype=np.int64))
        np.testing.assert_allclose(slow.nats([to_word(NAMES[t]) for t in document]), expected, rtol=0, atol=1e-7)
        np.testing.assert_allclose(scores(again, np.array(document, dtype=np.int64)), expected, rtol=0, atol=1e-7)
