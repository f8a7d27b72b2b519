"""Parts of speech of the story world: every sentence that it can tell is tagged, and hand-tagged ones come out so."""

import re

import pytest

from minilm.tasks.parts_of_speech import BESIDE, LEXICON, parts_of, parts_of_speech, sentences
from minilm.tasks.story_lexicon import PARTS, SEVERAL, WORDS
from minilm.tasks.tagging import split_words
from minilm.text.stories import stories
from minilm.text.story_lines import LINES

BY_HAND = [
    ("Ada saw her mother.", "NAME VERB DET NOUN MARK"),
    ("Not far away lived the miller, who had a strong donkey.",
     "ADV ADV ADV VERB DET NOUN MARK PRON VERB DET ADJ NOUN MARK"),
    ('"Please, will you help me?" she asked.', "MARK ADV MARK VERB PRON VERB PRON MARK MARK PRON VERB MARK"),
    ("The saw had come off its handle.", "DET NOUN VERB VERB PREP DET NOUN MARK"),
    ("Runa saw that the bridge was gone.", "NAME VERB CONJ DET NOUN VERB VERB MARK"),
    ("So he went to the carter and asked for help.", "ADV PRON VERB PREP DET NOUN CONJ VERB PREP NOUN MARK"),
    ("Before the sun went down, the cake was finished.", "CONJ DET NOUN VERB ADV MARK DET NOUN VERB VERB MARK"),
    ("He looked twice before every step.", "PRON VERB ADV PREP DET NOUN MARK"),
    ("On a golden autumn day, Theo decided to dance at the harvest feast.",
     "PREP DET ADJ NOUN NOUN MARK NAME VERB PART VERB PREP DET NOUN NOUN MARK"),
    ("One Sunday in May the owl carried her own light.", "NUM NAME PREP NAME DET NOUN VERB DET ADJ NOUN MARK"),
    ("After that, not a word was spoken.", "PREP PRON MARK ADV DET NOUN VERB VERB MARK"),
    ("The fox lay on her back and took her along.", "DET NOUN VERB PREP DET NOUN CONJ VERB PRON ADV MARK"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), BY_HAND, ids=[text[:20] for text, _ in BY_HAND])
def test_tagged_by_hand(text: str, parts: str) -> None:
    assert parts_of(split_words(text)) == parts.split()


def test_every_word_of_the_world_has_a_part() -> None:
    """All wordings of all lines, and 1,500 stories, which between them have nearly every phrase."""
    for wordings in LINES.values():
        for word in split_words(" ".join(re.sub(r"\{.*?\}", " ", wording) for wording in wordings)):
            assert word.strip().lower() in {*LEXICON, *SEVERAL, *BESIDE} or not word.strip()[0].isalpha(), word
    for document in stories(1500, seed=7):
        for sentence in sentences(split_words(document)):
            assert set(parts_of(sentence)) <= set(PARTS)


def test_no_word_stands_twice() -> None:
    listed = [word for words in WORDS.values() for word in words.split()]
    assert len(listed) == len(set(listed)) == len(LEXICON)
    assert not set(listed) & set(SEVERAL)
    assert set(WORDS) | {"MARK", "PART"} == set(PARTS)


def test_a_word_of_another_world_is_an_error() -> None:
    with pytest.raises(ValueError, match="'spaceship' is no word of the story world"):
        parts_of(["A", " spaceship", "."])


def test_sentences_are_the_text() -> None:
    """Nothing is lost between them, each ends with its mark, and quotes stay with what they close."""
    for document in stories(100, seed=3):
        found = list(sentences(split_words(document)))
        assert "".join(word for sentence in found for word in sentence) == document
        for sentence in found:
            assert sentence[-1].strip() in ".!?" or sentence[-2].strip() in (".", "!", "?"), sentence
            assert not (len(sentence) == 1 and sentence[0] == '"')


def test_stories_depend_on_their_number_alone() -> None:
    few, more = parts_of_speech(3, seed=1), parts_of_speech(5, seed=1)
    assert more[: len(few)] == few and parts_of_speech(3, seed=2) != few
    assert {type(tag) for sentence in few for tag in sentence.tags} == {str}
    for one in few:
        assert list(one.tags) == parts_of(list(one.words))
    train, test = (
        {one.text for one in parts_of_speech(30, seed=0, split=split) if len(one.words) > 25}
        for split in ("train", "test")
    )
    assert train and test and not train & test
