"""Our n-gram beside NLTK's, KenLM's reader and KenLM's lmplz, on the same words. First both sides must say the same.

NLTK takes milliseconds for each word that it scores, so it scores 1,000 times fewer of them: a ratio of 1 means that ours
is 1,000 times as fast. A peer that is not installed leaves its rows out, with a note on stderr.
"""

import atexit
import importlib.util
import logging
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minilm.classical.arpa import read_arpa, to_word, write_arpa
from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.text.stories import stories

logger = logging.getLogger(__name__)
Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]


class Words(NamedTuple):
    """A text as words and as ids: <|endoftext|> before each document and after the last, and an id that never occurs."""

    documents: list[list[str]]
    vocabulary: dict[str, int]
    ids: np.ndarray

    @property
    def end_of_text(self) -> int:
        return len(self.vocabulary)

    @property
    def unknown(self) -> int:
        return len(self.vocabulary) + 1


def contests(n_stories: int = 2000) -> Contests:
    """What is compared -> (ours, the peer's). ValueError if a peer and ours do not say the same."""
    words = read_words(n_stories)
    found: Contests = {}
    for peer, there, add in (
        ("NLTK (pip install nltk)", importlib.util.find_spec("nltk"), against_nltk),
        ("KenLM (pip install kenlm)", importlib.util.find_spec("kenlm"), against_kenlm),
        ("KenLM's lmplz (to be built from source, and on PATH)", shutil.which("lmplz"), against_lmplz),
    ):
        if there:
            found |= add(words)
        else:
            logger.warning("no comparison with %s: it is not installed", peer)
    return found


def read_words(n_stories: int) -> Words:
    documents = [story.split() for story in stories(n_stories, seed=0)]
    vocabulary = {word: i for i, word in enumerate(sorted({word for document in documents for word in document}))}
    end = len(vocabulary)
    ids = [i for document in documents for i in (end, *(vocabulary[word] for word in document))]
    return Words(documents, vocabulary, np.array([*ids, end]))


def against_nltk(words: Words) -> Contests:
    """Interpolated Kneser-Ney of order 3 with one discount, on one stream without documents.

    NLTK weighs an n-gram that nothing precedes wrongly, so the opening comes again at the end, and it takes nothing away from
    single words, so our discount of order 1 is 0.
    """
    from nltk import lm
    from nltk.util import everygrams

    discount, n_words = 0.75, 100_000
    stream = [word for document in words.documents for word in document][:n_words]
    stream += stream[:8]
    ids = np.array([words.vocabulary[word] for word in stream])
    V = len(words.vocabulary) + 1  # NLTK's vocabulary has an unknown word
    config = NgramConfig(V, 3, "interpolated-kneser-ney", discounts=((0.0,) * 3, (discount,) * 3, (discount,) * 3))

    def fit() -> NgramLM:
        return NgramLM(config).fit(ids, end_of_text=words.end_of_text)

    def peer_fit() -> lm.KneserNeyInterpolated:
        peer = lm.KneserNeyInterpolated(3, discount=discount)
        peer.fit([everygrams(stream, max_len=3)], vocabulary_text=stream)
        return peer

    model, peer = fit(), peer_fit()
    few = range(2, 2 + max(1, len(stream) // 1000))

    def peer_scores() -> list[float]:
        return [peer.logscore(stream[t], stream[t - 2 : t]) * math.log(2) for t in few]

    same("NLTK", model.token_log_probs(ids)[few], peer_scores(), 1e-9)
    return {
        f"fit, order 3 on {len(stream):,} words / NLTK": (fit, peer_fit),
        f"score {len(stream):,} words / {len(few)} words with NLTK": (lambda: model.token_log_probs(ids), peer_scores),
    }


def against_kenlm(words: Words) -> Contests:
    """Modified Kneser-Ney of order 5, written as an ARPA file by us and read by KenLM."""
    import kenlm

    model = fit(words)
    path = folder() / "ours.arpa"
    write_arpa(model, path, names(words), words.unknown)
    config = kenlm.Config()
    config.show_progress = False
    peer = kenlm.Model(str(path), config)
    sentences = [" ".join(to_word(word.encode()) for word in document) for document in words.documents]

    def peer_scores() -> list[float]:
        return [peer.score(sentence) * math.log(10) for sentence in sentences]

    ends = np.flatnonzero(words.ids == words.end_of_text)
    ours = np.add.reduceat(model.token_log_probs(words.ids)[1:], ends[:-1])
    same("KenLM", ours, peer_scores(), 1e-5 * np.diff(ends).max())
    return {f"score {len(words.ids):,} words, order 5 / KenLM": (lambda: model.token_log_probs(words.ids), peer_scores)}


def against_lmplz(words: Words) -> Contests:
    """Modified Kneser-Ney of order 5; lmplz also reads the text and writes an ARPA file, so ours does that, too."""
    text, ours, theirs = (folder() / name for name in ("words.txt", "ours.arpa", "theirs.arpa"))
    text.write_text("\n".join(map(" ".join, words.documents)) + "\n", encoding="utf-8")
    command = ["lmplz", "-o", "5", "-S", "1G", "-T", str(text.parent), "--discount_fallback"]
    command += ["--text", str(text), "--arpa", str(theirs)]

    def peer() -> object:
        return subprocess.run(command, check=True, capture_output=True)

    peer()
    read = read_arpa(theirs)
    known = {name: i for i, name in enumerate(read.names)}
    same_ids = np.array([known[name] for name in names(words)])
    same("lmplz", fit(words).token_log_probs(words.ids), read.token_log_probs(same_ids[words.ids]), 1e-5)
    return {
        f"fit, order 5 on {len(words.ids):,} words / lmplz": (lambda: fit(words), peer),
        "fit and write an ARPA file / lmplz": (lambda: write_arpa(fit(words), ours, names(words), words.unknown), peer),
    }


def fit(words: Words) -> NgramLM:
    return NgramLM(NgramConfig(words.unknown + 1, 5)).fit(words.ids, words.end_of_text)


def names(words: Words) -> list[bytes]:
    return [*(word.encode() for word in words.vocabulary), b"<|endoftext|>", b"<unk>"]


def folder() -> Path:
    """A new folder that is gone when the program ends."""
    scratch = tempfile.TemporaryDirectory(prefix="minilm-")
    atexit.register(scratch.cleanup)
    return Path(scratch.name)


def same(peer: str, ours: np.ndarray, theirs: object, at_most: float) -> None:
    """ValueError unless the two say the same, in nats."""
    apart = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not apart <= at_most:
        raise ValueError(f"our n-gram and {peer} are {apart:.2g} nats apart, at most {at_most:.2g} is rounding")
