"""What numbers say of a model: surprise and bits per byte, right labels, right answers. Standard library only."""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence


def negative_log_likelihood(probabilities: Iterable[float]) -> float:
    """-sum log p in nats: the surprise at a text, from the probability that the model gave to each token that came.

    A sum of logarithms, because the product of a few hundred probabilities is 0 for a computer. A token that the model
    held impossible costs infinitely much; no tokens cost 0. ValueError where a number is no probability.

    >>> negative_log_likelihood([0.5, 0.25, 1.0]) / math.log(2)  # one chance in eight: three coins
    3.0
    """
    nats = 0.0
    for p in probabilities:
        if not 0 <= p <= 1:
            raise ValueError(f"{p} is no probability: it must be from 0 to 1 (a logarithm or a logit needs exp first)")
        nats += -math.log(p) if p > 0 else math.inf
    return nats


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens): among how many equally likely tokens the model seems to choose. Depends on the tokenizer.

    >>> perplexity(2 * math.log(6), tokens=2)  # two rolls of a die
    6.0
    """
    if tokens < 1:
        raise ValueError(f"perplexity of {tokens} tokens: at least 1 is needed")
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """nats / ln 2 / bytes: what the model needs to write down a byte of the original UTF-8 text, in bits.

    Comparable between tokenizers, because the text has the same bytes under all of them; 8 is no compression at all.

    >>> bits_per_byte(8 * math.log(2), n_bytes=4)  # one choice among 256 tokens, each 4 bytes long
    2.0
    """
    if n_bytes < 1:
        raise ValueError(f"bits per byte of {n_bytes} bytes: at least 1 is needed")
    return nats / math.log(2) / n_bytes


def text_bits_per_byte(nats: float, text: str) -> float:
    """nats / ln 2 / bytes, where the bytes are those of the text in UTF-8: the original, not cleaned, cut or normalised.

    >>> text_bits_per_byte(8 * math.log(2), "🦔")  # one character, four bytes
    2.0
    """
    return bits_per_byte(nats, len(text.encode("utf-8")))


def accuracy(given: Sequence[str], truth: Sequence[str]) -> float:
    """The share of labels that are right. ValueError here and below where there are none, or not one for each.

    >>> accuracy(["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"])
    0.75
    """
    check_labels(given, truth)
    return sum(a == b for a, b in zip(given, truth, strict=True)) / len(truth)


def f1(given: Sequence[str], truth: Sequence[str], positive: str) -> float:
    """How well one label is found: 2 right / (times given + times true), the harmonic mean of precision and recall.

    0.0 where the label neither was given nor is true: nothing has been found.

    >>> f1(["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"], "bad")  # precision 2/3, recall 1
    0.8
    """
    check_labels(given, truth)
    right = sum(a == b == positive for a, b in zip(given, truth, strict=True))
    asked = sum(a == positive for a in given) + sum(b == positive for b in truth)
    return 2 * right / asked if asked else 0.0


def macro_f1(given: Sequence[str], truth: Sequence[str]) -> float:
    """The mean of `f1` over all labels that were given or are true: a rare label counts as much as a frequent one.

    >>> macro_f1(["bad"] * 4, ["good", "bad", "bad", "bad"])  # 0 and 6/7, at an accuracy of 3/4
    0.42857142857142855
    """
    check_labels(given, truth)
    labels = sorted({*given, *truth})
    return math.fsum(f1(given, truth, label) for label in labels) / len(labels)


def confusion_matrix(given: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Counts (C, C): row i, column j says how often label i is true and label j was given. ValueError for other labels.

    >>> confusion_matrix(["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"], ["bad", "good"])
    [[2, 0], [1, 1]]
    """
    check_labels(given, truth)
    place = {label: i for i, label in enumerate(labels)}
    if unknown := sorted({*given, *truth} - set(place)):
        raise ValueError(f"label {unknown[0]!r} is not among {', '.join(map(repr, labels))}: give all labels")
    counts = [[0] * len(labels) for _ in labels]
    for a, b in zip(given, truth, strict=True):
        counts[place[b]][place[a]] += 1
    return counts


def check_labels(given: Sequence[str], truth: Sequence[str]) -> None:
    """ValueError where labels cannot be compared."""
    if not truth or len(given) != len(truth):
        raise ValueError(f"{len(given)} labels given, {len(truth)} true: give one for each, at least one")


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The names in a row of BIO tags, as (first word, word behind the last, kind). An I without its B begins a name, too.

    >>> entities(["B-HERO", "O", "B-HELPER", "I-HELPER", "B-HELPER"])
    [(0, 1, 'HERO'), (2, 4, 'HELPER'), (4, 5, 'HELPER')]
    """
    found: list[tuple[int, int, str]] = []
    for i, one in enumerate(tags):
        place, _, kind = one.partition("-")
        if place == "I" and found and found[-1][1:] == (i, kind):
            found[-1] = (found[-1][0], i + 1, kind)
        elif place != "O":
            found.append((i, i + 1, kind))
    return found


def are_bio(tags: Iterable[str]) -> bool:
    """Whether all tags are BIO: O, or B or I, with a kind behind a dash or without any kinds.

    >>> are_bio(["B-HERO", "I-HERO", "O"]), are_bio(["NOUN", "VERB"])
    (True, False)
    """
    return all(re.fullmatch("O|[BI](-.+)?", one) for one in tags)


def entity_f1(given: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> float:
    """How well names are found, from rows of BIO tags: 2 right / (given + true); right are the same words and the same kind.

    The measure of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003). Where no name is true and none was given: 1.0.
    ValueError for rows of other lengths, and for tags that are not BIO.

    >>> entity_f1([["B-HERO", "I-HERO", "B-THING"]], [["B-HERO", "O", "B-THING"]])
    0.5
    """
    if [len(row) for row in given] != [len(row) for row in truth]:
        raise ValueError("the rows of tags differ in length: give one tag for each word")
    if other := [one for row in (*given, *truth) for one in row if not are_bio([one])]:
        raise ValueError(
            f"{other[0]!r} is no BIO tag, as O, B-x and I-x are: names cannot be read from it, use macro_f1"
        )
    ours, theirs = ({(i, *name) for i, row in enumerate(rows) for name in entities(row)} for rows in (given, truth))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 1.0


def comparable_words(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them: in lower case, without punctuation, without "a", "an" and "the".

    Punctuation is taken out, not replaced by a blank: "well-known" is the word "wellknown". The rules are those of SQuAD's own
    script (Rajpurkar et al. 2016) on ASCII text, and go on as it would on other text: every sign that Unicode calls
    punctuation, case folding ("ß" is "ss"), and composed characters ("é" is one character or two, and equal).

    >>> comparable_words("The well-known Café!")
    ['wellknown', 'café']
    """
    folded = unicodedata.normalize("NFC", text.casefold())
    kept = [c for c in folded if c not in string.punctuation and not unicodedata.category(c).startswith("P")]
    return [word for word in "".join(kept).split() if word not in ("a", "an", "the")]


def exact_match(answer: str, truth: str) -> float:
    """1.0 if the comparable words of both are the same in the same order, else 0.0.

    Of several accepted truths take the best score, over many questions the mean; so also for `token_f1` and `rouge_l`.

    >>> exact_match("the fox.", "Fox")
    1.0
    """
    return float(comparable_words(answer) == comparable_words(truth))


def token_f1(answer: str, truth: str) -> float:
    """How far the comparable words of both overlap, in any order, from 0 to 1: F1 = 2 shared / (words here + words there).

    A word counts as often as both have it. An empty answer is right, 1.0, exactly if the truth is empty.

    >>> token_f1("a small red fox", "the red fox")  # precision 2/3, recall 1
    0.8
    """
    words, wanted = comparable_words(answer), comparable_words(truth)
    if not words or not wanted:
        return float(words == wanted)
    return 2 * (Counter(words) & Counter(wanted)).total() / (len(words) + len(wanted))


def rouge_words(text: str) -> list[str]:
    """The words of a summary as ROUGE sees them: letters, marks and digits in lower case; all else stands between words.

    >>> rouge_words("The well-known Café!")
    ['the', 'well', 'known', 'café']
    """
    folded = unicodedata.normalize("NFC", text.casefold())
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split()


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest list of words that stands in both, in this order, gaps allowed. Time len(a) * len(b).

    >>> longest_common_subsequence("the fox saw the owl".split(), "the owl saw a fox".split())  # the, saw
    2
    """
    row = [0] * (len(b) + 1)  # row[j]: the length for the words of a so far and the first j of b
    for word in a:
        above = row
        row = [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    return row[-1]


def rouge_l(summary: str, truth: str) -> float:
    """F1 of the longest common subsequence of words, from 0 to 1 (Lin 2004, with beta = 1; no stemming).

    In contrast to `token_f1` the order counts. An empty summary is right, 1.0, exactly if the truth is empty.

    >>> rouge_l("the owl saw a fox", "the fox saw the owl")  # 2 of 5 words, both ways
    0.4
    """
    words, wanted = rouge_words(summary), rouge_words(truth)
    if not words or not wanted:
        return float(words == wanted)
    return 2 * longest_common_subsequence(words, wanted) / (len(words) + len(wanted))
