"""The corpus: a split that leaks nothing, whatever the documents, and even samples of them."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from minilm.text import corpus as corpus_module
from minilm.text.corpus import load_corpus, sample_evenly
from minilm.text.stories import stories

LINES = "To be, or not to be: that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 40


def write_jsonl(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def some_documents(n: int, rng: random.Random, low: int = 60, high: int = 3_000) -> list[str]:
    """`n` different documents of all sizes with letters of one to four bytes."""
    return [f"{i} " + "".join(rng.choices("abc de\né中😀", k=rng.randint(low, high))) for i in range(n)]


def n_bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


def hashes(texts: Iterable[str]) -> set[str]:
    return {hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts}


# ---- the split


def test_the_split_by_document_over_many_seeds(tmp_path: Path) -> None:
    texts = some_documents(57, random.Random(4))
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    times_in_validation: Counter[str] = Counter()
    for seed in range(100):
        corpus = load_corpus(path, seed=seed)
        train, validation = list(corpus.train), list(corpus.validation)
        assert not hashes(train) & hashes(validation)
        assert sorted(train + validation) == sorted(texts)
        tenth = n_bytes(texts) / 10
        assert tenth <= n_bytes(validation) < tenth + max(map(n_bytes, ([text] for text in validation)))
        times_in_validation.update(validation)
    assert len(times_in_validation) == 57  # every document has its turn,
    assert max(times_in_validation.values()) <= 30  # and none is a favourite: 10 +- 6.7 sigma at most


def test_the_split_does_not_depend_on_names_or_order(tmp_path: Path) -> None:
    texts = some_documents(31, random.Random(5))
    splits = []
    for i in range(3):
        folder = tmp_path / str(i)
        folder.mkdir()
        for number, text in enumerate(random.Random(i).sample(texts, len(texts))):
            (folder / f"{number * 7919 % 31}.txt").write_bytes(text.encode("utf-8"))
        splits.append(sorted(load_corpus(folder, seed=3).validation))
    splits.append(sorted(load_corpus(write_jsonl(tmp_path / "b.jsonl", reversed(texts)), seed=3).validation))
    assert splits[0] and all(split == splits[0] for split in splits)


@pytest.mark.parametrize("seed", range(12))
def test_equal_documents_stay_together(seed: int, tmp_path: Path) -> None:
    texts = some_documents(40, random.Random(6)) * 2 + ["a refrain sung by everyone\n" * 9] * 30
    corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl", texts), seed=seed)
    assert not hashes(corpus.train) & hashes(corpus.validation)
    assert Counter([*corpus.train, *corpus.validation]) == Counter(texts)
    assert 0.1 <= n_bytes(corpus.validation) / n_bytes(texts) <= 0.2


def test_short_works_stay_in_training_where_works_are_long(tmp_path: Path) -> None:
    rng = random.Random(7)
    long = [f"{i} " + "word " * rng.randint(4_200, 6_000) for i in range(17)]
    short = [f"{i} " + "verse " * 900 for i in range(9)]
    for seed in range(20):
        corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl", long + short), seed=seed)
        assert set(corpus.validation) <= set(long) and n_bytes(corpus.validation) >= n_bytes(long + short) / 10
    # Where short ones are the rule, they take part.
    corpus = load_corpus(write_jsonl(tmp_path / "b.jsonl", [*long[:2], *some_documents(400, rng)]))
    assert len(list(corpus.validation)) > 10


def test_a_giant_stays_in_training(tmp_path: Path) -> None:
    rng = random.Random(8)
    small = some_documents(60, rng, 900, 1_100)
    giant = "giant " * (n_bytes(small) // 2)  # three quarters of the bytes
    for seed in range(20):
        corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl", [*small, giant]), seed=seed)
        assert giant in set(corpus.train)
        assert 0.1 <= n_bytes(corpus.validation) / n_bytes([*small, giant]) < 0.11
    # With nine tenths and more in the giant its own end is needed.
    corpus = load_corpus(write_jsonl(tmp_path / "b.jsonl", [*small, giant * 9]))
    assert 0.09 <= n_bytes(corpus.validation) / n_bytes([*small, giant * 9]) <= 0.2


def test_copies_of_one_document_are_split_inside(tmp_path: Path) -> None:
    corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl", [LINES] * 25))
    train, validation = list(corpus.train), list(corpus.validation)
    assert len(train) == len(validation) == 25 and train[0] + validation[0] == LINES


def test_twenty_documents_are_split_whole_and_nineteen_inside(tmp_path: Path) -> None:
    texts = [f"{i:02d}" + "x" * 98 for i in range(20)]
    assert [len(text) for text in load_corpus(write_jsonl(tmp_path / "a.jsonl", texts)).validation] == [100, 100]
    assert [len(text) for text in load_corpus(write_jsonl(tmp_path / "b.jsonl", texts[1:])).validation] == [10] * 19


def test_a_few_files_give_the_last_tenth_of_each(tmp_path: Path) -> None:
    rng = random.Random(9)
    texts = {f"{name}.txt": some_documents(1, rng, 500, 4_000)[0] for name in "dbac"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode("utf-8"))
    corpus = load_corpus(tmp_path)
    parts = list(zip(corpus.train, corpus.validation, strict=True))
    assert [train + validation for train, validation in parts] == [texts[name] for name in sorted(texts)]
    assert all(train and validation for train, validation in parts)


# ---- named corpora


@pytest.mark.parametrize("remembered", [44, 45])
def test_stories(remembered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "REMEMBERED_STORIES", remembered)
    assert set(load_corpus("stories:45", seed=3).train) < set(stories(45, 3))
    corpus = load_corpus("stories:45", seed=3)
    assert Counter([*corpus.train, *corpus.validation]) == Counter(stories(45, 3))
    assert list(corpus.train) == list(corpus.train)
    assert set(load_corpus("stories:45", seed=4).train) != set(corpus.train)
    assert corpus_module.stories_wanted("stories") == 20_000


def test_a_path_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stories").write_text(LINES)
    Path("shakespeare").write_text(LINES)
    for path in ("./stories", Path("shakespeare"), Path("stories")):
        assert "".join([*load_corpus(path).train, *load_corpus(path).validation]) == LINES


# ---- a part of a corpus


def test_a_sample_is_even() -> None:
    documents = [f"{i:04d} " + "中文 text\n" * (40 + i % 7) for i in range(2_000)]
    total = n_bytes(documents)
    for share in (0.9, 0.31, 0.05):
        limit = int(total * share)
        sample = list(sample_evenly(documents, limit))
        assert 0.98 * limit <= n_bytes(sample) <= limit
        assert set(sample) <= set(documents)
        places = np.array([int(document[:4]) for document in sample])
        counts, _ = np.histogram(places, bins=10, range=(0, 2_000))
        assert counts.min() >= 0.9 * counts.max()
    assert list(sample_evenly(documents, total)) == documents
    assert list(sample_evenly([], 10)) == []


def test_a_sample_of_one_long_document_comes_from_all_of_it() -> None:
    document = "".join(f"{i:06d} a line\n" for i in range(50_000))
    sample = list(sample_evenly([document], 70_001))
    assert 65_000 <= n_bytes(sample) <= 70_001
    assert all(part in document and part.endswith("\n") for part in sample)
    places = [int(part[:6]) for part in sample]
    assert places == sorted(places) and places[0] < 2_000 and places[-1] > 48_000
    assert n_bytes(sample_evenly(["x" * 1_000], 99)) <= 99


def test_a_sample_needs_a_collection() -> None:
    with pytest.raises(ValueError, match="not an iterator"):
        list(sample_evenly(iter(["a"]), 10))
