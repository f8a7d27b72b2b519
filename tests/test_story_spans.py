"""Spans against phrases that are filled in by str.format, and against what stands in the text."""

import re
from dataclasses import fields

import pytest

from minilm.text.stories import Story, StoryWorld, stories
from minilm.text.story_lines import LINES
from minilm.text.story_plots import Choice, Ending, Plot
from minilm.text.story_spans import Span, Told, story_of, tell
from minilm.text.story_words import Character, Named

FACTS = {field.name for field in fields(Story)} - {"wording"}


def filled(phrase: str, story: Story) -> str:
    """A phrase filled by str.format, which knows `{hero.his}` by itself: nothing of the world's own code."""
    while "{" in phrase:
        phrase = re.sub(r"\{(\w+)\}", r"{\1.name}", phrase).replace("{Hero", "{hero").replace("{Loved", "{loved")
        phrase = phrase.format(**{name: getattr(story, name) for name in FACTS})
    return phrase


def form_of(story: Story, span: Span) -> str:
    value = getattr(story, span.name)
    for name in span.form.split("."):
        value = getattr(value, name)
    return value


def test_2000_stories_are_told_unchanged():
    for i, document in enumerate(stories(2000, seed=21)):
        assert tell(story_of(21, i)).text == document


@pytest.mark.parametrize("start", range(0, 2000, 500))
def test_a_span_is_the_expression_of_its_fact(start):
    """text[start:end] is the phrase of the fact, filled in by other means; a capital may have been put at its head."""
    for i in range(start, start + 500):
        story = story_of(22, i)
        told = tell(story)
        for span in told.spans:
            words = told.text[span.start : span.end]
            assert words == told.words(span)
            if span.name in FACTS - {"plot", "ending"}:
                expected = filled(form_of(story, span), story)
                assert words.lower() == expected.lower(), (span, words)
                assert words[1:] == expected[1:] or span.form not in ("name", "a"), (span, words)


def test_every_mention_of_a_name_has_a_span():
    """Brute force: wherever the text says the hero's name as a word, there is a span, and nowhere else."""
    for i in range(300):
        story = story_of(23, i)
        told = tell(story)
        assert story.hero
        said = [found.span() for found in re.finditer(rf"\b{story.hero.name}\b", told.text)]
        assert said == [(span.start, span.end) for span in told.find("hero")]


def test_lines_have_spans_too():
    """Line for line: the text of a line's span begins as one of its wordings does."""
    for i in range(100):
        told = tell(story_of(24, i))
        lines = [span for span in told.spans if span.name in LINES]
        assert len(lines) == len(story_of(24, i).wording)
        for span in lines:
            openings = {re.split(r"\{", wording)[0].lower() for wording in LINES[span.name]}
            assert any(told.words(span).lower().startswith(opening) for opening in openings)


SMALL = StoryWorld(
    {
        "plot": Choice(lambda: (Plot("p", "{who} {ending.text}", (), (Ending("e", "happy", 1.0, "{end}"),)),)),
        "ending": Choice(lambda plot: plot.endings, ("plot",)),
        "hero": Choice(lambda: (Character("Ada", "she"),)),
        "loved": Choice(lambda: (Named("{hero.his} aunt"),)),
    },
    {"who": ("{Loved} saw {hero}.",), "end": ("All is well.",)},
)


def test_spans_by_hand():
    """ "Her aunt saw Ada. All is well.": nested spans, a capital, and a line and an ending that begin together."""
    plot = SMALL.facts["plot"].among()[0]
    story = Story(plot, plot.endings[0], hero=Character("Ada", "she"), loved=Named("{hero.his} aunt"), wording=(0, 0))
    told = tell(story, lines=SMALL.lines)
    assert told.text == "Her aunt saw Ada. All is well." == SMALL.render(story)
    assert [(span.slot, *span[2:]) for span in told.spans] == [
        ("plot.text", 0, 30),
        ("who", 0, 17),
        ("loved", 0, 8),
        ("hero.his", 0, 3),
        ("hero", 13, 16),
        ("ending.text", 18, 30),
        ("end", 18, 30),
    ]
    assert told.find("hero", "loved") == [Span("loved", "name", 0, 8), Span("hero", "name", 13, 16)]
    assert told.without("end") == "Her aunt saw Ada."
    assert told.without("who") == "All is well."
    assert told.without("hero") == "Her aunt saw. All is well."
    assert told.without("loved", "hero.his") == "saw Ada. All is well."  # a span inside a cut one is cut once
    assert told.without() == told.text


def test_cutting_leaves_the_rest_as_it_is():
    for i in range(100):
        told = tell(story_of(25, i))
        (span,) = told.find("glad", "gloomy")
        cut = told.without("glad", "gloomy")
        assert cut == told.text[: span.start - 1] + told.text[span.end :]
        assert told.words(span) not in cut and "  " not in cut


def test_a_template_of_facts():
    story = story_of(26, 0)
    assert story.hero and story.kind
    told = tell(story, "Is {hero} a {kind}?")
    assert told == Told(
        f"Is {story.hero.name} a {story.kind.name}?",
        (
            Span("hero", "name", 3, 3 + len(story.hero.name)),
            Span("kind", "name", len(f"Is {story.hero.name} a "), len(told.text) - 1),
        ),
    )
    with pytest.raises(ValueError, match="has no friend"):
        tell(Story(hero=Character("Ada", "she")), "{hero} and {friend}")
