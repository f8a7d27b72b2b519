"""Which characters of a story express which fact: the answers to all questions about a text, known without reading it.

The world tells a story by filling slots. Telling it once more and noting where each slot begins and ends gives a text
together with its annotation, exact and free: labels for tagging, answers for questions, places to cut.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from minilm.text.stories import Story, StoryWorld
from minilm.text.story_lines import LINES
from minilm.text.story_templates import Piece, pieces

Lines = Mapping[str, Sequence[str]]


class Span(NamedTuple):
    """The characters text[start:end], which fill the slot `{name.form}`; of a line, such as `{ask}`, the form is "name"."""

    name: str  # a fact ("hero", "helper") or a line ("ask")
    form: str  # of the fact: "name", "he", "about" ...
    start: int
    end: int

    @property
    def slot(self) -> str:
        """As a template writes it: "hero", "hero.his", "helper.about"."""
        return self.name if self.form == "name" else f"{self.name}.{self.form}"


class Told(NamedTuple):
    """A text and its spans, in the order in which they begin; of two that begin together, the longer one comes first."""

    text: str
    spans: tuple[Span, ...]

    def words(self, span: Span) -> str:
        """The characters of a span."""
        return self.text[span.start : span.end]

    def find(self, *slots: str) -> list[Span]:
        """The spans of some slots, from left to right: find("hero", "friend")."""
        return [span for span in self.spans if span.slot in slots]

    def without(self, *slots: str) -> str:
        """The text, with the spans of these slots cut out, and a blank before each if there is one.

        >>> Told("Ada came. She sang. All slept.", (Span("joy", "name", 10, 19),)).without("joy")
        'Ada came. All slept.'
        """
        text, end = "", 0
        for span in self.find(*slots):
            if span.start >= end:  # else it lies inside the last one
                text, end = text + self.text[end : span.start].removesuffix(" "), span.end
        return (text + self.text[end:]).strip()


def tell(story: Story, template: str = "{plot.text}", lines: Lines = LINES) -> Told:
    """A template filled with the facts of a story, and its spans: by default the story itself, as the world renders it.

    Lines take the story's wordings one after the other, so a template of your own has facts only. ValueError if the story
    has no such fact.

    >>> story = StoryWorld().sample(random.Random(3))
    >>> told = tell(story)
    >>> told.text == StoryWorld().render(story)
    True
    >>> {told.words(span) for span in told.find("hero")} == {story.hero.name}
    True
    """
    telling = _Telling(story, lines)
    telling.tell(pieces(template))
    return Told(telling.text, tuple(sorted(reversed(telling.spans), key=lambda span: (span.start, -span.end))))


class _Telling:
    def __init__(self, story: Story, lines: Lines) -> None:
        self.story, self.lines = story, lines
        self.wording = iter(story.wording)
        self.text = ""
        self.spans: list[Span] = []

    def tell(self, stack: Iterable[Piece]) -> None:
        """Add pieces, the last one first, to the text."""
        for piece in reversed(tuple(stack)):
            if isinstance(piece, str):
                self.text += piece
                continue
            start = len(self.text)
            self.tell(pieces(self._filling(piece.name, piece.form), piece.capital))
            self.spans.append(Span(piece.name, piece.form, start, len(self.text)))

    def _filling(self, name: str, form: str) -> str:
        if name in self.lines:
            return self.lines[name][next(self.wording)]
        fact = getattr(self.story, name)
        if fact is None:
            raise ValueError(f"this story has no {name}: ask for a fact that its plot {self.story.plot} uses")
        return attrgetter(form)(fact)


def story_of(seed: int, i: int) -> Story:
    """The facts of document i of `stories(n, seed)`.

    >>> from minilm.text.stories import stories
    >>> tell(story_of(5, 2)).text == list(stories(3, seed=5))[2]
    True
    """
    return StoryWorld().sample(random.Random(f"{seed} {i}"))
