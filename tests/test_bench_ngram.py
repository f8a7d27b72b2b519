"""The n-gram's contests compare the same work: each peer, or a stand-in made of our parts, must say what ours says."""

import importlib.util
import logging
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from minilm.bench import ngram as bench
from minilm.classical.arpa import from_word, read_arpa, write_arpa
from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM


@pytest.fixture(scope="module")
def words() -> bench.Words:
    return bench.read_words(40)


def test_words_and_ids_say_the_same(words: bench.Words) -> None:
    names, end = sorted(words.vocabulary, key=lambda word: words.vocabulary[word]), words.end_of_text
    assert end == len(names) and words.unknown == end + 1 and words.ids[0] == words.ids[-1] == end
    text = " ".join("" if token == end else names[token] for token in words.ids)
    assert [part.split() for part in text.strip().split("  ")] == words.documents
    assert bench.names(words)[end:] == [b"<|endoftext|>", b"<unk>"]


def test_nltk_scores_a_thousandth_of_our_words(words: bench.Words) -> None:
    (fit, peer_fit), (scores, peer_scores) = bench.against_nltk(words).values()
    few = peer_scores()
    np.testing.assert_allclose(scores()[2 : 2 + len(few)], few, rtol=0, atol=1e-10)
    assert len(scores()) // 1000 == len(few) >= 1
    assert peer_fit().counts.N() > 0 and fit().config.order == peer_fit().order == 3


def test_kenlm_reads_what_we_wrote(words: bench.Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stand-in reads the file with our reader; the sums over documents must match those of the stream."""

    class Model:
        def __init__(self, path: str, config: object) -> None:
            self.model = read_arpa(path)

        def score(self, sentence: str) -> float:
            return self.model.score(self.model.encode(from_word(w.encode()) for w in sentence.split())) / np.log(10)

    monkeypatch.setitem(sys.modules, "kenlm", types.SimpleNamespace(Model=Model, Config=types.SimpleNamespace))
    ((scores, peer_scores),) = bench.against_kenlm(words).values()
    assert len(peer_scores()) == 40
    assert scores()[1:].sum() == pytest.approx(np.sum(peer_scores()), abs=1e-3)
    monkeypatch.setattr(Model, "score", lambda self, sentence: -1.0)
    with pytest.raises(ValueError, match="KenLM are"):
        bench.against_kenlm(words)


def test_lmplz_counts_the_same_text(words: bench.Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stand-in reads the text, knows the words in another order, and counts with ours, at a given order."""
    order = "5"

    def run(command: list[str], **_: object) -> None:
        flags = {flag: command[command.index(flag) + 1] for flag in ("-o", "--text", "--arpa")}
        assert flags["-o"] == "5" and "--discount_fallback" in command
        documents = [line.split() for line in Path(flags["--text"]).read_text(encoding="utf-8").splitlines()]
        ids: dict[str, int] = {"": 0}  # the id that never occurs, then the words as they come
        stream = [1]
        ids["</s>"] = 1
        for document in documents:
            stream += [*(ids.setdefault(word, len(ids)) for word in document), 1]
        model = NgramLM(NgramConfig(len(ids), int(order))).fit(np.array(stream), 1)
        write_arpa(model, flags["--arpa"], [word.encode() for word in ids], unknown=0)

    monkeypatch.setattr(subprocess, "run", run)
    (fit, peer), (fit_and_write, _) = bench.against_lmplz(words).values()
    assert fit().config.order == 5 and peer() is None and fit_and_write() is None
    order = "3"
    with pytest.raises(ValueError, match="lmplz are"):
        bench.against_lmplz(words)


def test_a_missing_peer_leaves_its_rows_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert bench.contests(3) == {}
    notes = [record.getMessage() for record in caplog.records]
    assert [any(peer in note for note in notes) for peer in ("NLTK", "pip install kenlm", "lmplz")] == [True] * 3


def test_present_peers_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name == "nltk" else None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert all("NLTK" in name for name in bench.contests(3)) and len(bench.contests(3)) == 2
