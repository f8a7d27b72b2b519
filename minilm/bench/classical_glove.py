"""Co-occurrence counting beside the plain loop that says what is counted. First both must say the same."""

from collections.abc import Callable

import numpy as np

from minilm.classical.bag_of_ngrams import BagOfNgrams, words
from minilm.classical.cooccurrence import cooccurrences, count_neighbours, word_ids
from minilm.text.stories import stories

Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def contests(n_stories: int = 1000, window: int = 10) -> Contests:
    """What is compared -> (ours, the plain loop). ValueError if they do not say the same."""
    texts = list(stories(n_stories, seed=0))
    index = {name: i for i, (name,) in enumerate(BagOfNgrams().vocabulary(texts))}
    documents = list(word_ids(texts, index, words))
    lists = [document.tolist() for document in documents]

    def ours() -> object:
        return cooccurrences(documents, len(index), window)

    def plain() -> object:
        return count_neighbours(lists, window)

    X, expected = cooccurrences(documents, len(index), window), count_neighbours(lists, window)
    rows, columns = zip(*expected, strict=True)
    order = np.lexsort((columns, rows))
    same_pairs = np.array_equal(np.array(rows)[order], X.rows) and np.array_equal(np.array(columns)[order], X.columns)
    if not same_pairs or np.abs(np.array(list(expected.values()))[order] - X.values).max() > 1e-9 * X.values.max():
        raise ValueError("the counts in arrays are not those of the plain loop")
    n = sum(map(len, lists))
    return {f"co-occurrences of {n:,} words, window {window} / a plain loop": (ours, plain)}
