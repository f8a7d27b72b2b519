"""Taggers: what they count, what they know of new words, and that Viterbi's row of tags is the likeliest of all."""

from itertools import product

import numpy as np
import pytest

from minilm.classical.tagger import (
    CLASSES,
    BigramTagger,
    GreedyTagger,
    HMMTagger,
    MajorityTagger,
    bio_allows,
    look,
)
from minilm.tasks.tagging import TAGS

TRAIN = [
    (("the", " light", " went", " out", "."), ("DET", "NOUN", "VERB", "ADV", "MARK")),
    (("they", " light", " the", " lamp", "."), ("PRON", "VERB", "DET", "NOUN", "MARK")),
    (("the", " lamp", " is", " light", "."), ("DET", "NOUN", "VERB", "ADJ", "MARK")),
    (("the", " light", " is", " out", "."), ("DET", "NOUN", "VERB", "ADV", "MARK")),
    (("Ada", " lamped", " slowly", "."), ("NAME", "VERB", "ADV", "MARK")),
]


def test_the_majority_of_each_word() -> None:
    tagger = MajorityTagger().fit(TRAIN)
    given = tagger.predict([("they", "light", "the", "light", "out")])
    assert given == [["PRON", "NOUN", "DET", "NOUN", "ADV"]]
    assert tagger.predict([("The", "Zora", "jumped", "?", "gladly", "qua")]) == [
        ["DET", "NAME", "VERB", "MARK", "ADV", "VERB"]
    ] or tagger.predict([("Zora", "jumped", "gladly")]) == [["NAME", "VERB", "ADV"]]


def test_the_bigram_looks_at_its_last_guess() -> None:
    tagger = BigramTagger().fit(TRAIN)
    assert tagger.predict([("they", "light", "the", "light")]) == [["PRON", "VERB", "DET", "NOUN"]]
    assert tagger.predict([("light",)]) == [["NOUN"]]  # never seen there: its most frequent tag
    assert tagger.predict([("the", "lamp", "is", "light")]) == [["DET", "NOUN", "VERB", "ADJ"]]


def test_viterbi_is_the_likeliest_row() -> None:
    """All rows of tags of 30 sentences, by their probability; sentences of different lengths side by side."""
    rng = np.random.default_rng(0)
    tagger = HMMTagger(pseudo_count=0.3).fit(TRAIN)
    words = sorted({word for sentence, _ in TRAIN for word in sentence} | {"new", "Bo", "7"})
    sentences = [tuple(rng.choice(words, rng.integers(1, 5))) for _ in range(30)]
    for sentence, row in zip(sentences, tagger.predict(sentences), strict=True):
        ids = tagger.word_ids(sentence)

        def probability(states, ids=ids):
            p = tagger.start[states[0]] * tagger.emission[states[0], ids[0]]
            for a, b, word in zip(states, states[1:], ids[1:], strict=False):
                p *= tagger.transition[a, b] * tagger.emission[b, word]
            return p

        found = probability([tagger.tags.index(tag) for tag in row])
        best = max(probability(states) for states in product(range(len(tagger.tags)), repeat=len(ids)))
        assert found == pytest.approx(best, rel=1e-12)


def test_its_numbers_are_shares_of_counts() -> None:
    tagger = HMMTagger(pseudo_count=0.5).fit(TRAIN)
    K, V = len(tagger.tags), len(tagger.words)
    det, noun, name = (tagger.tags.index(tag) for tag in ("DET", "NOUN", "NAME"))
    assert tagger.start[det] == pytest.approx(3.5 / (5 + 0.5 * K))
    assert tagger.transition[det, noun] == pytest.approx(4.5 / (4 + 0.5 * K))
    seen = tagger.counts.emission[noun].sum()
    assert tagger.emission[noun, tagger.words["light"]] == pytest.approx(2.5 / (seen + 0.5 * V))
    assert tagger.counts.emission[name, tagger.words["<name>"]] == 1  # Ada was seen once
    for array in (tagger.start, tagger.transition, tagger.emission):
        np.testing.assert_allclose(array.sum(-1), 1, rtol=0, atol=1e-12)


def test_new_words_are_known_by_their_look() -> None:
    assert [look(word) for word in ("?!", "'", "3rd", "Élan", "glow-worm", "sing", "red", "missed", "gladly", "his")] == [
        "<mark>", "<mark>", "<number>", "<name>", "<hyphen>", "<word>", "<word>", "<-ed>", "<-ly>", "<-s>"
    ]  # fmt: skip
    assert all(look(f"qu{name[2:-1]}") in CLASSES for name in CLASSES)
    tagger = HMMTagger().fit(TRAIN)
    assert tagger.word_ids(("The", " Zora", "\nlight", "singing")).tolist() == [
        tagger.words[word] for word in ("the", "<name>", "light", "<-ing>")
    ]
    assert tagger.predict([("Zora", "jumped", "slowly", ".")]) == [["NAME", "VERB", "ADV", "MARK"]]
    # no word of training looks like a number: the column says what all words seen once say together
    column = tagger.counts.emission[:, tagger.words["<number>"]]
    assert column.sum() > 0
    every = MajorityTagger().fit([(("a", "b", "a", "b"), ("X", "Y", "X", "X"))])  # no word seen once at all
    assert every.predict([("7", "c")]) == [["X", "X"]]


def test_a_rule_is_never_broken() -> None:
    """BIO tags: I-X behind B-X or I-X only, in any sentence; without the rule, they break it."""
    rng = np.random.default_rng(1)
    train = []
    for _ in range(60):
        tags: list[str] = []
        while len(tags) < 8:
            kind = rng.choice(["HERO", "HELPER"])
            tags += ["O"] if rng.random() < 0.5 else [f"B-{kind}", f"I-{kind}"]
        train.append((tuple(rng.choice(["the", "fox", "owl", "old"], len(tags))), tuple(tags)))
    odd = [tuple(rng.choice(["the", "fox", "owl", "old", "new"], 9)) for _ in range(100)]
    ruled, free = HMMTagger(0.5, bio_allows).fit(train), MajorityTagger().fit(train)
    for rows in (ruled.predict(odd), GreedyTagger(0.5, bio_allows).fit(train).predict(odd)):
        assert all(bio_allows(a, b) for row in rows for a, b in zip(["", *row], row, strict=False))
    assert ruled.start[[tag.startswith("I-") for tag in ruled.tags]].sum() == 0
    np.testing.assert_allclose(ruled.transition.sum(-1), 1, rtol=0, atol=1e-12)
    assert free.tags == ruled.tags
    allowed = [(a, b) for a in ("", *TAGS) for b in TAGS if bio_allows(a, b)]
    kinds = (len(TAGS) - 1) // 2
    assert len(allowed) == (1 + len(TAGS)) * (1 + kinds) + 2 * kinds


def test_a_rule_has_a_direction() -> None:
    """DET before NOUN is forbidden here, NOUN before DET is not: training has met neither."""
    single = [(("the",), ("DET",)), (("fox",), ("NOUN",))] * 20
    tagger = HMMTagger(0.001, lambda before, tag: (before, tag) != ("DET", "NOUN")).fit(single)
    assert tagger.predict([("fox", "the")]) == [["NOUN", "DET"]]
    assert tagger.predict([("the", "fox")]) != [["DET", "NOUN"]]
    place = {tag: i for i, tag in enumerate(tagger.tags)}
    forbidden = tagger.transition[place["DET"], place["NOUN"]], tagger.transition[place["NOUN"], place["DET"]]
    assert forbidden == (0.0, 0.5)


def test_greedy_cannot_take_back() -> None:
    """The first word is likelier A; what follows fits B only. Viterbi knows when it has read on."""
    train = [(("x", "y"), ("A", "D"))] * 3 + [(("x", "z"), ("B", "C"))] * 2
    greedy, whole = GreedyTagger(1e-6).fit(train), HMMTagger(1e-6).fit(train)
    assert whole.predict([("x", "z"), ("x", "y")]) == [["B", "C"], ["A", "D"]]
    assert greedy.predict([("x", "z")])[0][0] == "A"


@pytest.mark.parametrize("kind", [MajorityTagger, BigramTagger, HMMTagger, GreedyTagger])
def test_empty_sentences_and_bad_input(kind) -> None:
    tagger = kind()
    with pytest.raises(ValueError, match="call fit"):
        tagger.predict([("a",)])
    with pytest.raises(ValueError, match="no sentences"):
        tagger.fit([])
    with pytest.raises(ValueError, match="sentence 1 has 2 words and 1 tags"):
        tagger.fit([(("a",), ("X",)), (("a", "b"), ("X",))])
    tagger.fit([*TRAIN, ((), ())])
    rows = tagger.predict([(), ("the", "light"), (), ("Ada",)])
    assert [len(row) for row in rows] == [0, 2, 0, 1] and rows[1] == ["DET", "NOUN"]
    assert tagger.predict([]) == []


def test_the_pseudo_count_is_above_zero() -> None:
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            HMMTagger(bad)
