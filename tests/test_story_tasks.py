"""The tasks of the story world: their labels against brute-force searches of the text, and expectations written by hand."""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from minilm.metrics import entities
from minilm.tasks.instructions import KINDS as INSTRUCTION_KINDS
from minilm.tasks.instructions import instructions
from minilm.tasks.labelled import Labelled
from minilm.tasks.questions import KINDS as QUESTION_KINDS
from minilm.tasks.questions import Question, questions, questions_about
from minilm.tasks.sentiment import FORMS, labelled, sentiment_world
from minilm.tasks.splits import draws, split_of
from minilm.tasks.summaries import Summary, summaries, summary_of
from minilm.tasks.tagging import TAGS, Tagged, split_words, tag, tagged
from minilm.text.bpe import BPETokenizer
from minilm.text.chat import CHAT_TOKENS, encode_chat
from minilm.text.stories import StoryWorld
from minilm.text.story_plots import PLOTS
from minilm.text.story_spans import Span, Told, story_of, tell
from minilm.text.story_words import HEROES

SHORT = ("plain", "mixed", "twins")
GOOD = """
    happy glad proud delighted joyful pleased content overjoyed
    lovely funny thrilling charming wonderful moving brilliant witty
"""
BAD = """
    sad unhappy downhearted miserable gloomy disappointed heartbroken dejected
    dull boring clumsy dreary silly tiresome weak tedious
"""
MAKERS = {
    **{form: (lambda n, seed, split, form=form: labelled(n, seed, form, split)) for form in FORMS},
    "tagging": tagged,
    "questions": questions,
    "summaries": summaries,
    "instructions": instructions,
}
WORDS = re.compile(r"[a-z]+")


def document(record) -> str:
    """The whole content of a record, whatever its kind."""
    if isinstance(record, Tagged | Labelled | Summary):
        return record.text
    return repr(record.messages) if not isinstance(record, Question) else record.context + record.question


@cache
def many_twins() -> list[Labelled]:
    return labelled(1200, 9, "twins")


def opinions(text: str) -> list[str]:
    return [word for word in WORDS.findall(text.lower()) if word in f"{GOOD} {BAD}".split()]


@pytest.mark.parametrize("name", MAKERS)
def test_document_i_depends_on_seed_and_i_alone(name):
    make = MAKERS[name]
    many = make(12, 7, "train")
    assert make(5, 7, "train") == many[:5] and len(many) == 12 and make(0, 7, "train") == []
    texts = [{document(one) for one in made} for made in (many, make(12, 8, "train"), make(12, 7, "test"))]
    assert len(set.union(*texts)) == sum(map(len, texts)) and len(texts[0]) == 12


@pytest.mark.parametrize("name", MAKERS)
def test_bad_arguments_are_errors(name):
    with pytest.raises(ValueError, match="n = -1 documents"):
        MAKERS[name](-1, 0, "train")
    with pytest.raises(ValueError, match="split 'dev' is unknown: choose one of train, test"):
        MAKERS[name](1, 0, "dev")


def test_unknown_forms_and_kinds_are_errors():
    with pytest.raises(ValueError, match=r"form 'easy' is unknown: choose one of stories, silent"):
        labelled(1, 0, "easy")
    for kinds in (("question", "poem"), ()):
        with pytest.raises(ValueError, match="are not all known: choose from question"):
            instructions(1, 0, kinds=kinds)


def test_a_fifth_of_the_stories_is_the_test_and_what_differs_in_the_end_only_stays_together():
    world = StoryWorld()
    sides = Counter(split_of(story_of(31, i)) for i in range(600))
    assert set(sides) == {"train", "test"}
    assert abs(sides["test"] - 120) < 4 * math.sqrt(600 * 0.2 * 0.8)
    assert {split_of(story) for story, _ in draws("any", 30, 0, "test")} == {"test"}
    for i in range(40):
        story = story_of(31, i)
        other = replace(story, ending=PLOTS[0].endings[0], feeling=None, wording=())
        assert split_of(other) == split_of(story)
    assert len({split_of(replace(story, hero=hero)) for hero in HEROES}) == 2  # other facts are another document
    assert split_of(world.parse(world.render(story))) == split_of(story)


# ---- sentiment


@pytest.mark.parametrize("form", FORMS)
def test_labels_alternate(form):
    assert [one.label for one in labelled(5, 0, form)] == ["positive", "negative"] * 2 + ["positive"]


def test_the_label_of_a_story_is_how_it_ends():
    """Read back by the world; the silent form lacks the sentence that names the feeling, and nothing else."""
    world = StoryWorld()
    for one in labelled(12, 1, "stories"):
        story = world.parse(one.text)
        assert story.mood == {"positive": "happy", "negative": "sad"}[one.label]
    words = "|".join(f"{GOOD} {BAD}".split())
    feelings = re.compile(
        rf"felt (so )?({words})|like a stone|hummed|somersault|too \w+ to sleep|had been a long day", re.I
    )
    for one in labelled(60, 1, "silent"):
        assert not feelings.search(one.text), one.text


@pytest.mark.parametrize("form", SHORT)
def test_short_texts_read_well(form):
    sizes = []
    for one in labelled(300, 2, form):
        assert not re.search(r"[{}|]|  | [.,;]|\.\.|_[XY]", one.text), one.text
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [bcdfgjklmnpqrstvwxyz]", one.text), one.text
        assert not re.search(r"[.!?] [a-z]", one.text) and one.text[0].isupper() and one.text[-1] in ".?!", one.text
        sentences = re.split(r"(?<=[.!?]) ", one.text)
        assert len(set(sentences)) >= len(sentences) - 1, one.text
        sizes.append(len(one.text.split()))
    assert min(sizes) > 20 and max(sizes) < 90 and 30 < sum(sizes) / 300 < 60
    world, rng = sentiment_world(form, "positive"), random.Random(2)
    assert len({world.sample(rng).plot.name for _ in range(600)}) == {"plain": 6, "mixed": 6, "twins": 24}[form]


def test_plain_texts_have_words_of_one_side_only():
    for one in labelled(200, 4, "plain"):
        other = BAD if one.label == "positive" else GOOD
        assert not {word for word in opinions(one.text) if word in other.split()}, one.text


def test_mixed_texts_are_decided_by_most_of_their_signs_and_not_by_most_of_their_words():
    """Judged with a list of negations written here: most signs give the label, and the words alone are wrong at times."""
    negation = re.compile(
        r"not \w+ at all|not look \w+|anything but \w+|not go to bed \w+|nobody could call the beginning \w+"
        r"|not told in a \w+|not call the ending \w+|by no means \w+"
    )
    by_words = 0
    for one in labelled(300, 5, "mixed"):
        text = one.text.lower()
        turned = Counter(word for phrase in negation.findall(text) for word in opinions(phrase))
        signs = Counter(word in GOOD.split() for word in opinions(text))
        told = signs[True] - signs[False] - 2 * sum(n if word in GOOD.split() else -n for word, n in turned.items())
        assert (told > 0) == (one.label == "positive") and told, one.text
        difference = signs[True] - signs[False]
        by_words += 0.5 if difference == 0 else (difference > 0) == (one.label == "positive")
    assert 0.65 < by_words / 300 < 0.9


def test_twins_have_the_same_words_and_opposite_labels():
    """Swap the two opinions of a text: the world of the other label tells that text, and it is on the same side."""
    other = {"positive": "negative", "negative": "positive"}
    for split in ("train", "test"):
        for one in labelled(60, 6, "twins", split):
            first, second = opinions(one.text)
            assert (first in GOOD.split()) != (second in GOOD.split()), one.text
            swap = {first: second, second: first}
            twin = re.sub(rf"\b({first}|{second})\b", lambda found, swap=swap: swap[found[0]], one.text)
            assert Counter(WORDS.findall(twin)) == Counter(WORDS.findall(one.text)) and twin != one.text
            assert split_of(sentiment_world("twins", other[one.label]).parse(twin)) == split
            with pytest.raises(ValueError, match="no story"):
                sentiment_world("twins", one.label).parse(twin)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("was sad in the morning, but she was glad in the evening.", "positive"),
        ("was glad when the sun went down, although she was sad when the sun came up.", "positive"),
        ("came home glad that evening, and her friend", "positive"),
        ("In the end Ada was not glad but sad.", "negative"),
        ("Nobody found Ada glad that evening. Everybody found Ada sad that evening.", "negative"),
        ("Was Ada glad in the end? No, she was sad.", "negative"),
        ("It is not dull but funny.", "positive"),
        ("Those who say that the book is funny to read are wrong.", "negative"),
        ("For me, it is the first half that counts.", ""),
    ],
)
def test_twins_by_hand(sentence, label):
    """What a reader would say: each sentence occurs, up to names and opinions, with this label and with no other."""
    sides = {"GOOD": GOOD, "BAD": BAD}
    pattern = re.escape(sentence).replace("Ada", "[A-Z][a-z]+").replace(r"she\ ", r"s?he\ ").replace("her", "(her|his)")
    for word in opinions(sentence):
        side = "GOOD" if word in GOOD.split() else "BAD"
        pattern = re.sub(rf"\b{word}\b", f"({'|'.join(sides[side].split())})", pattern)
    labels = {one.label for one in many_twins() if re.search(pattern, one.text)}
    assert labels == ({label} if label else {"positive", "negative"})


# ---- tagging


def test_tags_by_hand():
    text = 'Ada saw the silver bell in Rome. "Mine!" said the chimney sweep\'s\nhero.'
    spans = (
        Span("hero", "name", 0, 3),
        Span("treasure", "name", 12, 23),
        Span("home", "name", 24, 31),
        Span("helper", "name", text.index("the chimney"), text.index("'s")),
        Span("helper", "about", 40, 43),  # not a name
    )
    made = tag(Told(text, spans))
    assert made.text == text
    expected = "Ada saw the silver bell in Rome . ' Mine ! ' said the chimney sweep's hero .".replace(" ' ", ' " ')
    assert [word.strip() for word in made.words] == expected.split()
    tags = "B-HERO O B-THING I-THING I-THING B-PLACE I-PLACE O O O O O O B-HELPER I-HELPER I-HELPER O O"
    assert made.tags == tuple(tags.split())


def test_tags_against_a_search_for_the_names():
    """Read the story back, search its names as phrases, and compare with the entities, place by place."""
    world = StoryWorld()
    for one in tagged(25, 3):
        story = world.parse(one.text)
        found = {"HERO": [], "FRIEND": [], "HELPER": [], "PLACE": [], "TIME": []}
        ends = [len("".join(one.words[: i + 1])) for i in range(len(one.words))]
        names = {"HERO": story.hero, "FRIEND": story.friend, "HELPER": story.helper, "PLACE": story.home}
        for kind, fact in names.items():
            if fact:
                found[kind] = [at.span() for at in re.finditer(rf"\b{re.escape(fact.name)}\b", one.text, re.I)]
        told = {kind: [] for kind in found}
        for first, last, kind in entities(one.tags):
            start = ends[last - 1] - len("".join(one.words[first:last]).lstrip())
            told.setdefault(kind, []).append((start, ends[last - 1]))
        assert {kind: told[kind] for kind in names} == {kind: found[kind] for kind in names}, one.text
        assert set(one.tags) <= set(TAGS) and len(one.words) == len(one.tags)
        assert split_words(one.text) == list(one.words)
        assert all(re.fullmatch(r"\s*(\w[\w'-]*|[^\w\s])", word) for word in one.words)


def test_an_inside_tag_follows_its_beginning():
    for one in tagged(40, 4, "test"):
        for before, here in zip(("O", *one.tags), one.tags, strict=False):
            assert not here.startswith("I-") or before[2:] == here[2:]


def test_things_have_their_article():
    things = [
        "".join(one.words[a:b]).strip() for one in tagged(60, 5) for a, b, kind in entities(one.tags) if kind == "THING"
    ]
    assert len(things) > 60 and all(re.match(r"(the|an?) ", thing, re.I) for thing in things)


# ---- questions


def test_answers_stand_where_they_say():
    kinds = Counter()
    for one in questions(150, 1):
        kinds[one.kind] += 1
        assert one.question[0].isupper() and one.question.endswith("?") and "{" not in one.question
        if one.kind == "end":
            assert one.start == -1 and one.answer in ("yes", "no")
        else:
            assert one.answer and one.context[one.start : one.start + len(one.answer)] == one.answer
            assert one.start == 0 or not one.context[one.start - 1].isalnum()
    assert set(kinds) == set(QUESTION_KINDS)


def test_answers_by_patterns():
    """Who, what, where and so on, read out of the text with patterns that a person wrote down."""
    patterns = {
        "Where did (.*) live": r"(?:lived |^(?=[^.]*there lived))([A-Za-z][^.,]*?)(?: there lived|\.)",
        "When did": (
            r"(?i)(one bright morning|one windy afternoon|on the first warm day of spring|early one summer morning"
            r"|one misty morning|on a golden autumn day|on a quiet Monday|one Sunday in May|one day after the rain"
            r"|on the longest day of the year)"
        ),
        "Whom did (.*) ask": r"(?:went to|thought of|lived|went to see) (the [^.,]*?),",
        "Who helped": r"(the [a-z -]*)",
        "How did (.*) feel": r"(happy|glad|proud|delighted|joyful|pleased|content|sad|unhappy|downhearted|miserable|gloomy|sorry)",
        "What was (.*) afraid of": r"afraid of (the \w+|falling|thunder|ghosts)",
        "With whom did (.*) quarrel": r"(?:friend|called|,) ([A-Z]\w+)",
    }
    seen = Counter()
    for i in range(150):
        for one in questions_about(story_of(41, i)):
            for asked, pattern in patterns.items():
                if re.match(asked, one.question):
                    seen[asked] += 1
                    assert one.answer.lower() in [found.lower() for found in re.findall(pattern, one.context)], one
    assert set(seen) == set(patterns) and min(seen.values()) >= 8


def test_an_answer_is_where_it_is_first_told():
    """Names and homes are told more than once: the place is that of the first time, found by a search for the word."""
    seen = Counter()
    for i in range(60):
        story = story_of(45, i)
        names = {
            story.hero.name: "Who is the story about?",
            **({story.friend.name: "quarrel?"} if story.friend else {}),
        }
        for one in questions_about(story):
            if one.answer in names and one.question.endswith(names[one.answer]):
                places = [found.start() for found in re.finditer(rf"\b{one.answer}\b", one.context)]
                assert one.start == places[0], one
                seen[len(places) > 1] += 1
    assert seen[True] > 50


def test_questions_fit_their_stories():
    """ "Who helped?" is asked only where somebody did; "yes" only where the story's mood is happy."""
    for i in range(200):
        story = story_of(42, i)
        asked = {one.question.replace(story.hero.name, "H"): one for one in questions_about(story)}
        assert ("Who helped H?" in asked) == (story.ending.name in ("helped", "repaid"))
        assert ("How did H manage without help?" in asked) == (story.way is not None)
        assert ("With whom did H quarrel?" in asked) == (story.plot.name == "quarrel")
        assert asked["Did the story end well for H?"].answer == {"happy": "yes", "sad": "no"}[story.mood]
        assert len({one.kind for one in asked.values()}) >= 5


# ---- summaries and instructions


def test_summaries_are_two_sentences_of_the_storys_own_facts():
    told = set()
    for i in range(400):
        story = story_of(43, i)
        summary = summary_of(story)
        told.add((story.plot.name, story.ending.name))
        assert len(re.findall(r"[a-z]\. [A-Z]|[a-z]\.$", summary)) == 2 and not re.search(r"[{}]|  |\.\.", summary), (
            summary
        )
        assert summary.startswith(f"{story.hero.name}, {story.trait.a} {story.kind.name},")
        assert re.search(rf"\b{story.feeling.name}\.$", summary), summary
    assert told == {(plot.name, ending.name) for plot in PLOTS for ending in plot.endings}
    assert all(len(one.summary) < len(one.text) / 2 for one in summaries(20, 1))


def test_a_summary_by_hand():
    story = next(story for story in map(story_of, [44] * 300, range(300)) if story.ending.name == "no one gives in")
    assert summary_of(story) == (
        f"{story.hero.name}, {story.trait.a} {story.kind.name}, and {story.hero.his} friend {story.friend.name} both "
        f"wanted to {story.wish.name}, and they quarrelled. Neither of them said sorry, and in the end "
        f"{story.hero.name} was {story.feeling.name}."
    )


# What a reader would say of each end, in the words of the summary; H is the hero, F the friend, L the loved one, X the helper.
ENDS = {
    ("gift", "helped"): "X helped, ",
    ("gift", "alone"): "X did not help, but H found a way",
    ("gift", "failed"): "Nobody helped, there was no present",
    ("loss", "helped"): "With the help of X it was found",
    ("loss", "alone"): "X did not help, but H found it",
    ("loss", "given away"): "had it, and H made a present of it",
    ("loss", "failed"): "X did not help, it was not found",
    ("fear", "helped"): "X helped, H came to L after all",
    ("fear", "alone"): "X did not help, but H found the courage to go alone",
    ("fear", "failed"): "X did not help, H ran home again",
    ("quarrel", "hero gives in"): "H said sorry, they shared",
    ("quarrel", "friend gives in"): "F said sorry, they shared",
    ("quarrel", "no one gives in"): "Neither of them said sorry",
    ("good turn", "repaid"): "H stopped to help, was helped in turn, came in time",
    ("good turn", "too late"): "H stopped to help and came too late, but X was grateful",
    ("good turn", "passed by"): "H did not stop to help",
    ("promise", "kept"): "H kept the promise and",
    ("promise", "owned up"): "H forgot the promise, but told the truth",
    ("promise", "hidden"): "H forgot the promise, did not tell the truth",
}


def test_a_summary_tells_the_end_that_came():
    told = set()
    for i in range(400):
        story = story_of(43, i)
        told.add((story.plot.name, story.ending.name))
        end = ENDS[story.plot.name, story.ending.name]
        loved = story.loved and story.loved.name.replace("{hero.his}", story.hero.his)
        for letter, name in {"H": story.hero, "F": story.friend, "X": story.helper}.items():
            end = re.sub(rf"\b{letter}\b", name.name if name else letter, end)
        end = re.sub(r"\bL\b", str(loved), end)
        summary = summary_of(story)
        assert summary.lower().count(end.lower()) == 1, (end, summary)
        assert summary.lower().index(end.lower()) > summary.index(". "), summary  # in the second sentence
    assert told == set(ENDS)


@pytest.mark.parametrize("kind", INSTRUCTION_KINDS)
def test_conversations_alternate_and_can_be_encoded(kind):
    tokenizer = BPETokenizer([], CHAT_TOKENS)
    for one in instructions(12, 2, kinds=(kind,)):
        assert one.kind == kind and one.answer == one.messages[-1]["content"] and one.prompt == one.messages[:-1]
        assert [m["role"] for m in one.messages] == ["user", "assistant"] * (2 if kind == "talk" else 1)
        assert len(encode_chat(one.messages, tokenizer)) > 20
        assert len(one.answer.split()) < 60 and one.answer.lstrip('"')[0].isupper()
        assert not re.search(r"[{}]|  ", "".join(m["content"] for m in one.messages))
        assert kind == "title" or one.answer[-1] in '.?!"'


def test_a_talk_asks_two_different_questions_about_one_story_that_is_told_once():
    world = StoryWorld()
    for one in instructions(30, 5, kinds=("talk",)):
        first, answer, second, other = (message["content"] for message in one.messages)
        asked, text = first.split("\n\n", 1)
        story = world.parse(text)
        known = {question.question: question.answer for question in questions_about(story)}
        assert second in known and any(asked.endswith(question) and question != second for question in known)
        assert other.lower().rstrip('."').endswith(known[second].lower().rstrip(".")) and answer != ""


def test_an_answer_says_of_whom_it_speaks():
    """What somebody does has its subject before it: the helper helps, the hero finds a way."""
    seen = Counter()
    for one in instructions(250, 6, kinds=("question",)):
        asked, text = one.prompt[0]["content"].split("\n\n", 1)
        asked, story = asked.rpartition(": ")[2], StoryWorld().parse(text)
        who = [
            (r"How did .* manage without help\?", lambda story: story.hero.he),
            (r"What did .* do for the .*\?", lambda story: story.hero.he),
            (r"How did the .* help .*\?", lambda story: story.helper.he),
        ]
        for pattern, subject in who:
            if re.fullmatch(pattern, asked):
                seen[pattern] += 1
                assert one.answer.split()[0] == subject(story).capitalize(), one
        if asked.startswith("Why did"):
            assert one.answer.startswith("Because "), one
    assert len(seen) == 3


def test_the_last_line_is_a_whole_one():
    for one in instructions(30, 7, kinds=("ending",)):
        text = one.prompt[0]["content"].partition("\n\n")[2]
        assert text[-1] in '.!?"' and re.match(r'"?[A-Z]', one.answer), one.answer
        assert StoryWorld().parse(f"{text} {one.answer}")


def test_all_kinds_are_drawn():
    assert {one.kind for one in instructions(80, 3)} == set(INSTRUCTION_KINDS)


def test_answers_are_right():
    """Each answer against the story, read back from the prompt by the world."""
    world = StoryWorld()
    for kind in ("question", "mood", "cast", "title", "ending"):
        for one in instructions(6, 4, kinds=(kind,)):
            text = one.prompt[0]["content"].partition("\n\n")[2]
            if kind == "ending":
                text = text + " " + one.answer
            story = world.parse(text)
            if kind == "mood":
                assert one.answer == {"happy": "Happily.", "sad": "Sadly."}[story.mood]
            elif kind == "title":
                assert story.hero.name in one.answer
            elif kind == "cast":
                facts = [fact for fact in (story.loved, story.friend, story.helper) if fact]
                names = [story.hero.name] + [fact.name.replace("{hero.his}", story.hero.his) for fact in facts]
                assert sorted(re.split(", | and ", one.answer[:-1])) == sorted(names)
            elif kind == "question":
                asked = one.prompt[0]["content"].partition("\n\n")[0].rpartition(": ")[2]
                right = {q.question: q.answer for q in questions_about(story)}[asked]
                assert one.answer.lower().rstrip('."').endswith(right.lower().rstrip("."))
    assert tell(story).text == text
