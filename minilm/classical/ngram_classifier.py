"""A language model for each class: whose model finds the text likeliest, weighed with how common the class is?

    log p(class | text)  =  log p(class) + log p(text | class) - log p(text)        (Bayes' rule)

p(text | class) is an n-gram model's, counted on the texts of the class alone; p(class) is the share of the training texts.
Naive Bayes on words is the order 1 of it. Longer contexts see "not good" for what it is, and nothing is told twice: each
token is predicted once, given those before it, and the end of the text as well.

Peng and Schuurmans (2003), "Combining naive Bayes and n-gram language models for text classification".
"""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from minilm.classical.classifier import Classifier, one_hot
from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM


class NgramClassifier(Classifier):
    """Texts -> ids by `encode`, any callable: a tokenizer's, or one of characters. `end_of_text` is the id between texts.

    ValueError for smoothing maximum-likelihood: one unseen token would rule out every class, and leave nothing to compare.

    >>> config = NgramConfig(vocab_size=3, order=1, smoothing="add-k", k=1.0)
    >>> model = NgramClassifier(config, lambda text: ["ab".index(letter) for letter in text], end_of_text=2)
    >>> model.fit(["aa", "b"], ["many a", "one b"]).predict_proba(["b"])  # 1/6 * 2/6 against 2/5 * 2/5
    array([[0.25773196, 0.74226804]])
    """

    def __init__(self, config: NgramConfig, encode: Callable[[str], Sequence[int]], end_of_text: int) -> None:
        if config.smoothing == "maximum-likelihood":
            raise ValueError(
                "smoothing maximum-likelihood gives unseen tokens probability 0: choose kneser-ney or add-k"
            )
        self.config, self.encode, self.end_of_text = config, encode, end_of_text
        self.models: list[NgramLM] = []  # one for each label
        self.log_prior = np.zeros(0)  # (C,)

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> Self:
        names, Y = one_hot(texts, labels)
        self.models = []
        for column in Y.T:
            ids, _ = self._stream([text for text, here in zip(texts, column, strict=True) if here])
            self.models.append(NgramLM(self.config).fit(ids, self.end_of_text))
        self.labels, self.log_prior = names, np.log(Y.mean(axis=0))
        return self

    def _stream(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All texts in one row of ids (T,), <|endoftext|> before, between and behind them, and to which text each of the
        ids after the first belongs (T - 1,): a text's end is its own."""
        ids, owner = [self.end_of_text], []
        for i, text in enumerate(texts):
            document = [*self.encode(text), self.end_of_text]
            if document.index(self.end_of_text) < len(document) - 1:
                raise ValueError(
                    f"a text encodes to the end of text, {self.end_of_text}, before its end: {text[:40]!r}"
                )
            ids += document
            owner += [i] * len(document)
        return np.array(ids), np.array(owner)

    def _log_scores(self, texts: Sequence[str]) -> np.ndarray:
        ids, owner = self._stream(texts)
        scores = [np.bincount(owner, model.token_log_probs(ids)[1:], len(texts)) for model in self.models]
        return np.stack(scores, axis=1) + self.log_prior
