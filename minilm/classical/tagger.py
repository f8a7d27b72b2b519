"""Taggers: a tag for every word of a sentence, learned by counting from sentences whose tags are known.

    MajorityTagger  each word gets the tag it has most often                        looks at the word
    BigramTagger    the tag most often seen on this word after that tag              ... and at its own last guess
    HMMTagger       the likeliest row of tags: tags are states, words are tokens     ... and at the whole sentence

The first two decide from left to right and cannot take a guess back; Viterbi decides when the sentence is over. Words that
training has not seen are known by their look: training counts each word that it saw once also as such a class (a share of
the words seen once of a tag is a good guess at how often the tag makes a new word: Good and Turing's idea; Brants 2000,
"TnT", uses endings so).

A sentence is a sequence of words; blanks around a word are not looked at. What `fit` takes are pairs (words, tags).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from minilm.classical.hmm_chain import viterbi
from minilm.classical.hmm_train import Counts, shares, supervised_counts

ENDINGS = ("ing", "ed", "ly", "er", "est", "s")
CLASSES = ("<mark>", "<number>", "<name>", "<hyphen>", *(f"<-{ending}>" for ending in ENDINGS), "<word>")
Sentence = Sequence[str]
Allowed = Callable[[str, str], bool]  # (tag before, tag) -> whether the one may follow the other; before the first: ""


def look(word: str) -> str:
    """The class of a word by its look alone.

    >>> [look(word) for word in ("?", "1742", "Zora", "half-eaten", "purring", "snow")]
    ['<mark>', '<number>', '<name>', '<hyphen>', '<-ing>', '<word>']
    """
    if not any(c.isalnum() for c in word):
        return "<mark>"
    if any(c.isdigit() for c in word):
        return "<number>"
    if word[0].isupper():
        return "<name>"
    if "-" in word:
        return "<hyphen>"
    return next(
        (f"<-{ending}>" for ending in ENDINGS if word.endswith(ending) and len(word) > len(ending) + 1), "<word>"
    )


def bio_allows(before: str, tag: str) -> bool:
    """Whether a BIO tag may follow another: I-X goes on with a name of kind X, and nothing else.

    >>> bio_allows("B-HERO", "I-HERO"), bio_allows("O", "I-HERO"), bio_allows("", "I-HERO")
    (True, False, False)
    """
    place, _, kind = tag.partition("-")
    return place != "I" or before in (f"B-{kind}", f"I-{kind}")


class Tagger:
    """What all taggers share: the words of training, their tags, and how often they met. `tag_ids` is left to each."""

    def __init__(self) -> None:
        self.tags: list[str] = []
        self.words: dict[str, int] = {}
        self.counts = Counts(np.zeros(0), np.zeros(0), np.zeros(0))

    def fit(self, sentences: Sequence[tuple[Sentence, Sentence]]) -> Self:
        """Count words and tags. ValueError where there is no sentence, or one has not as many tags as words."""
        if not sentences:
            raise ValueError("no sentences to learn from: give at least one pair of words and tags")
        for i, (words, tags) in enumerate(sentences):
            if len(words) != len(tags):
                raise ValueError(
                    f"sentence {i} has {len(words)} words and {len(tags)} tags: give one tag for each word"
                )
        often = Counter(word.strip() for words, _ in sentences for word in words)
        self.tags = sorted({tag for _, tags in sentences for tag in tags})
        self.words = {word: i for i, word in enumerate((*CLASSES, *sorted(often)))}
        place = {tag: i for i, tag in enumerate(self.tags)}
        pairs = [([place[tag] for tag in tags], [self.words[w.strip()] for w in words]) for words, tags in sentences]
        self.counts = Counts(*supervised_counts(pairs, len(self.tags), len(self.words)))
        for word in (word for word, times in often.items() if times == 1):
            self.counts.emission[:, self.words[look(word)]] += self.counts.emission[:, self.words[word]]
        self.fill_classes()
        self.settle()
        return self

    def fill_classes(self) -> None:
        """A class that no word of training is in gets the tags of all the classes, or of all words if there are none either."""
        classes = self.counts.emission[:, : len(CLASSES)]
        of_all = classes.sum(1) if classes.any() else self.counts.emission.sum(1)
        empty = ~classes.any(0)
        classes[:, empty] = of_all[:, None]

    def settle(self) -> None:
        """Make of the counts what `tag_ids` needs."""

    def word_ids(self, sentence: Sentence) -> np.ndarray:
        """The ids of the words: as they stand, else in small letters, else by their look."""
        ids = []
        for word in (word.strip() for word in sentence):
            forms = (word, word.lower(), look(word))
            ids.append(next(self.words[form] for form in forms if form in self.words))
        return np.array(ids, dtype=np.int64)

    def predict(self, sentences: Sequence[Sentence]) -> list[list[str]]:
        """The tags of each sentence, one for each word. ValueError before `fit`."""
        if not self.tags:
            raise ValueError("this tagger has not learned anything: call fit(sentences) first")
        rows = self.tag_ids([self.word_ids(sentence) for sentence in sentences])
        return [[self.tags[tag] for tag in row] for row in rows]

    def tag_ids(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        """The ids of the tags, from those of the words."""
        raise NotImplementedError  # each tagger has its own


class MajorityTagger(Tagger):
    """The tag that a word has most often; for words that look like none of training's, the tag most often used."""

    def settle(self) -> None:
        often = self.counts.emission.sum(1, keepdims=True)
        of_equals_the_commoner = 1e-6 * often / often.sum()
        self.best = (self.counts.emission + of_equals_the_commoner).argmax(0)

    def tag_ids(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        return [self.best[ids] for ids in sentences]


class BigramTagger(MajorityTagger):
    """The tag most often seen on a word after the tag before, if the pair was ever seen; else the word's most frequent."""

    def fit(self, sentences: Sequence[tuple[Sentence, Sentence]]) -> Self:
        super().fit(sentences)
        place = {tag: i for i, tag in enumerate(self.tags)}
        seen: dict[tuple[int, int], Counter[int]] = {}
        for words, tags in sentences:
            row = [place[tag] for tag in tags]
            for before, word, tag in zip([-1, *row], self.word_ids(words), row, strict=False):
                seen.setdefault((before, int(word)), Counter())[tag] += 1
        self.after = {pair: min(tags, key=lambda tag: (-tags[tag], tag)) for pair, tags in seen.items()}
        return self

    def tag_ids(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        rows = []
        for ids in sentences:
            before, row = -1, []
            for word in ids.tolist():
                before = self.after.get((before, word), int(self.best[word]))
                row.append(before)
            rows.append(np.array(row, dtype=np.int64))
        return rows


class HMMTagger(Tagger):
    """Tags as hidden states, words as their tokens: the likeliest row of tags for the whole sentence.

    `pseudo_count` is the imagined count of each first tag, each move and each word of a tag. What `allowed` forbids gets
    none, and probability 0, so no row of tags breaks the rule.

    >>> sentences = [(("the", "light", "went"), ("DET", "NOUN", "VERB")), (("they", "light", "it"), ("PRON", "VERB", "PRON"))]
    >>> HMMTagger().fit(sentences).predict([("they", "light", "the", "light")])
    [['PRON', 'VERB', 'DET', 'NOUN']]
    """

    def __init__(self, pseudo_count: float = 0.01, allowed: Allowed | None = None) -> None:
        super().__init__()
        if not 0 < pseudo_count < np.inf:
            raise ValueError(f"pseudo_count is {pseudo_count}: it must be above 0, or a new pair of tags is impossible")
        self.pseudo_count, self.allowed = pseudo_count, allowed

    def settle(self) -> None:
        K, k = len(self.tags), self.pseudo_count
        first, moves = np.full(K, k), np.full((K, K), k)
        if self.allowed is not None:
            rule = self.allowed
            first *= [rule("", tag) for tag in self.tags]
            moves *= [[rule(before, tag) for tag in self.tags] for before in self.tags]
        # An all-zero row, of a tag behind which nothing may stand, stays zero.
        self.start = shares(np.where(first > 0, self.counts.start + first, 0.0), 0.0, np.zeros(K))
        self.transition = shares(np.where(moves > 0, self.counts.transition + moves, 0.0), 0.0, np.zeros((K, K)))
        self.emission = shares(self.counts.emission, k, np.zeros((K, len(self.words))))

    def tag_ids(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        rows = [np.zeros(0, dtype=np.int64)] * len(sentences)
        order = sorted((i for i, ids in enumerate(sentences) if len(ids)), key=lambda i: len(sentences[i]))
        for group in (order[i : i + 256] for i in range(0, len(order), 256)):  # sentences of like lengths, side by side
            lengths = np.array([len(sentences[i]) for i in group])
            ids = np.zeros((lengths.max(), len(group)), dtype=np.int64)
            for column, i in enumerate(group):
                ids[: lengths[column], column] = sentences[i]
            path, _ = viterbi(self.start, self.transition, self.emission.T[ids], lengths)
            for column, i in enumerate(group):
                rows[i] = path[: lengths[column], column]
        return rows


class GreedyTagger(HMMTagger):
    """The same model, but each tag is chosen before the next word is looked at: what Viterbi's second thoughts are worth."""

    def tag_ids(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        rows = []
        for ids in sentences:
            expected, row = self.start, []
            for word in ids.tolist():
                row.append(int((expected * self.emission[:, word]).argmax()))
                expected = self.transition[row[-1]]
            rows.append(np.array(row, dtype=np.int64))
        return rows
