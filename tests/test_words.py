"""Words and tokens: which token speaks for a word, and what does not fit."""

import pytest

from minilm.finetuning.words import encode_words, tag_targets
from minilm.text.bpe import BPETokenizer
from minilm.text.joining import join_words
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.loss import IGNORE

TEXTS = ["Ada saw the old bridge, and Ada ran. The bridge was old.", "Bo had a bridge; Ada saw Bo."]


def test_the_text_of_the_words_is_what_a_person_would_write() -> None:
    words = ["Ada", "saw", "(", "it", ")", ",", "didn", "’t", "she", "?", "42", "…"]
    assert "".join(join_words(words)) == "Ada saw ( it), didn’t she? 42…"
    assert join_words(["Ada", " ran", "."]) == ["Ada", " ran", "."]  # pieces of a text stay as they are
    assert join_words([]) == [] and join_words(["."]) == ["."]


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPETokenizer.train(TEXTS, 300)], ids=["bytes", "bpe"])
def test_each_place_ends_its_word(tokenizer: BPETokenizer) -> None:
    """Decoded between two places stands one word, and all of them together are the text."""
    words = ["Ada", "saw", "the", "bridge", ",", "🦔", "."]
    ids, places = encode_words(words, tokenizer, 1000)
    assert ids[0] == tokenizer.end_of_text and places[-1] == len(ids) - 1
    starts = [1, *(place + 1 for place in places[:-1])]
    found = [tokenizer.decode(ids[start : place + 1]) for start, place in zip(starts, places, strict=True)]
    assert found == ["Ada", " saw", " the", " bridge", ",", " 🦔", "."]


def test_a_word_is_read_whole_or_not_at_all() -> None:
    words, tokenizer = ["ab", "cde", "f"], ByteTokenizer()
    whole, places = encode_words(words, tokenizer, 9)  # 1 + 2 + 4 + 2
    assert len(whole) == 9 and places == [2, 6, 8]
    for length in range(1, 9):
        ids, places = encode_words(words, tokenizer, length)
        assert ids == whole[: len(ids)] and len(ids) <= length
        assert len(ids) == max(n for n in (1, 3, 7, 9) if n <= length) and len(places) == (1, 3, 7, 9).index(len(ids))


def test_targets_stand_at_the_places() -> None:
    assert tag_targets(6, [2, 5], [1, 0]) == [IGNORE, IGNORE, 1, IGNORE, IGNORE, 0]
    assert tag_targets(3, [2], [4, 5, 6]) == [IGNORE, IGNORE, 4]  # tags of words that were not read are left out


def test_an_empty_word_is_refused() -> None:
    with pytest.raises(ValueError, match="word 2 of 'a  b' is empty: leave it out"):
        encode_words(["a", "", "b"], ByteTokenizer(), 10)
