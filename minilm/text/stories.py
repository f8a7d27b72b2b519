"""The story world: small English stories from a seed, whose probabilities are known exactly.

A story is told by expanding a template from left to right. Two kinds of slots stand in templates:

* a **fact**, such as `{hero}` or `{helper.about}`: chosen where it is first needed, remembered in the `Story`, and from
  then on the same. Facts may depend on facts (the obstacle depends on the wish), so together they form a Bayesian network.
* a **line**, such as `{opening}`: one of several ways to say the same thing. Which one was taken stands in `wording`.

A large first letter, as in `{Helper.he}`, makes the text begin with one. By the chain rule the log-probability of a story
is the sum over its choices, log p(story) = sum_i log p(choice_i | choices before it). Different choices give different
texts, so this is also the log-probability of the document: no model of these documents can have a smaller expected loss
than the entropy of the choices, and `entropy_per_byte` says how large that floor is.

The words and the plots, which make nine tenths of the world, are in `story_words.py` and `story_plots.py`.
"""

import bisect
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from minilm.text.story_lines import LINES
from minilm.text.story_plots import FACTS, Choice, Ending, Plot
from minilm.text.story_words import Character, Folk, Helper, Named, Obstacle, Reason, Trait, Wish


class Random(Protocol):
    """What the world asks of a generator: `random.Random` and `numpy.random.Generator` both have it."""

    def random(self) -> float: ...  # uniform in [0, 1)


@dataclass(frozen=True)
class Story:
    """The facts of one story: who wants what, what stands in the way, who helps, how it ends, how that feels.

    A fact that does not occur in the plot is None. Equal stories have equal texts, and the other way round.
    Some fields hold phrases with slots of their own (`loved.name` may be "{hero.his} aunt"): `StoryWorld.render` fills them.
    """

    plot: Plot | None = None
    ending: Ending | None = None  # its `mood` is "happy" or "sad"
    folk: Folk | None = None  # people or animals
    hero: Character | None = None
    kind: Named | None = None  # what the hero is: a girl, a hedgehog
    trait: Trait | None = None
    home: Named | None = None
    time: Named | None = None
    wish: Wish | None = None
    loved: Character | None = None  # the one for whom the hero does it, or from whom a gift came
    reason: Reason | None = None  # why
    friend: Character | None = None
    treasure: Named | None = None
    occasion: Named | None = None  # when the treasure was given
    obstacle: Obstacle | None = None
    attempt: Named | None = None  # what the hero tries, says or thinks first
    helper: Helper | None = None
    way: Named | None = None  # how the hero manages without help
    feeling: Named | None = None
    wording: tuple[int, ...] = ()

    @property
    def mood(self) -> str:
        """ "happy" or "sad": how the story ends."""
        return self.ending.mood if self.ending else ""


class Entropy(NamedTuple):
    """The floor under the loss of every model, with its standard error, in nats per byte of UTF-8."""

    nats_per_byte: float
    standard_error: float

    @property
    def bits_per_byte(self) -> float:
        return self.nats_per_byte / math.log(2)


class Slot(NamedTuple):
    name: str
    form: str
    capital: bool


Piece = str | Slot


class Draft(NamedTuple):
    """A story told half-way: the facts so far, the text so far, what is still to be told, ln of the probability."""

    story: Story
    text: str
    todo: tuple[Piece, ...]  # a stack, its top last
    nats: float


@cache
def _pieces(template: str, capital: bool = False) -> tuple[Piece, ...]:
    """Cut a template into text and slots, last piece first: "So {hero.he} ran." -> (" ran.", Slot(hero, he), "So ")."""
    pieces: list[Piece] = []
    for i, part in enumerate(re.split(r"\{(.*?)\}", template)):
        if i % 2 == 1:
            name, _, form = part.partition(".")
            pieces.append(Slot(name.lower(), form or "name", name[0].isupper()))
        elif part:
            pieces.append(part)
    if capital:
        first = pieces[0]
        pieces[0] = first[0].upper() + first[1:] if isinstance(first, str) else first._replace(capital=True)
    return tuple(reversed(pieces))


class StoryWorld:
    """A distribution over short stories that can be drawn from, read back and computed with.

    `facts` and `lines` are the material, by default the whole of it; a smaller one makes a smaller world. The story is
    the expansion of "{plot.text}". For the log-probability of a document to say nothing about where it ends, which
    evaluation does not count, no document may be the beginning of another: the last lines see to that.

        >>> world = StoryWorld()
        >>> story = world.sample(random.Random(3))
        >>> document = world.render(story)
        >>> world.parse(document) == story
        True
    """

    def __init__(self, facts: Mapping[str, Choice] = FACTS, lines: Mapping[str, Sequence[str]] = LINES) -> None:
        unknown = set(facts) - {field.name for field in fields(Story)}
        if unknown:
            raise ValueError(f"facts {sorted(unknown)} are no fields of Story; rename them or add the fields")
        self.facts = facts
        self.lines = lines

    def sample(self, rng: Random) -> Story:
        """Draw a story. One uniform number is used for each choice."""
        return self._tell(_by_chance(rng)).story

    def render(self, story: Story) -> str:
        """The text of a story: the same story, the same text."""
        wording = iter(story.wording)

        def follow(name: str, options: Sequence[Any]) -> int:
            return next(wording, -1) if name in self.lines else _index(options, getattr(story, name))

        draft = self._tell(follow)
        if draft.story != story:
            raise ValueError("the story has facts or wordings that its plot does not use; leave those fields empty")
        return draft.text

    def parse(self, document: str) -> Story:
        """The story that a document tells. ValueError if this world does not tell it."""
        return self._read(document).story

    def log_prob(self, document: str) -> float:
        """ln p(document), in nats, exactly. ValueError if this world does not tell it.

        Twelve heroes and three ways to name them, all equally likely, would give -ln 36 = -3.58 nats.
        """
        return self._read(document).nats

    def entropy_per_byte(self, n: int = 2000, seed: int = 0) -> Entropy:
        """E[nats] / E[bytes] of a document, estimated from `n` drawn ones (Monte Carlo).

        The log-probabilities are exact, only the two averages are estimates. The standard error of their ratio r is that
        of the mean of (nats - r bytes) / E[bytes] (delta method); it falls as 1 / sqrt(n).
        """
        if n < 2:
            raise ValueError(f"n = {n} stories give no standard error; use 2 or more")
        drafts = [self._tell(_by_chance(random.Random(f"{seed} {i}"))) for i in range(n)]
        nats = [-draft.nats for draft in drafts]
        sizes = [len(draft.text.encode()) for draft in drafts]
        ratio = sum(nats) / sum(sizes)
        variance = sum((x - ratio * size) ** 2 for x, size in zip(nats, sizes, strict=True)) / (n - 1)
        return Entropy(ratio, math.sqrt(variance / n) / (sum(sizes) / n))

    # How it works: `_advance` tells on to the next choice, `_decide` makes it. Drawing, rendering and reading differ
    # only in who decides.

    def _tell(self, decide: Callable[[str, Sequence[Any]], int]) -> Draft:
        """Tell one story to its end; `decide(name, options)` gives the index of the option to take."""
        draft, name = self._advance(Draft(Story(), "", _pieces("{plot.text}"), 0.0))
        while name:
            options = self._options(name, draft.story)
            draft, name = self._advance(self._decide(draft, name, options, decide(name, options)))
        return draft

    def _read(self, document: str) -> Draft:
        """Find the choices that tell `document`: depth first, leaving a path as soon as its text is another one."""
        found, agreed = [], 0
        drafts = [Draft(Story(), "", _pieces("{plot.text}"), 0.0)]
        while drafts:
            draft, name = self._advance(drafts.pop())
            if not document.startswith(draft.text):
                continue
            agreed = max(agreed, len(draft.text))
            if name:
                options = self._options(name, draft.story)
                drafts.extend(self._decide(draft, name, options, i) for i in range(len(options)))
            elif draft.text == document:
                found.append(draft)
        if not found:
            raise ValueError(
                f"no story of this world: nothing goes on like it after character {agreed} of {len(document)}"
            )
        assert len(found) == 1, f"two stories have one text: {document!r}"
        return found[0]

    def _advance(self, draft: Draft) -> tuple[Draft, str]:
        """Tell on until something must be chosen: the draft, and the name of that choice ("" at the end)."""
        story, text, stack, nats = draft
        todo = list(stack)
        while todo:
            piece = todo.pop()
            if isinstance(piece, str):
                text += piece
                continue
            value = None if piece.name in self.lines else getattr(story, piece.name)
            if value is None:
                return Draft(story, text, (*todo, piece), nats), self._undecided(piece.name, story)
            todo.extend(_pieces(attrgetter(piece.form)(value), piece.capital))
        return Draft(story, text, (), nats), ""

    def _undecided(self, name: str, story: Story) -> str:
        """What must be chosen first for `name` to be chosen: itself, if all that it depends on is known."""
        if name not in self.lines:
            for parent in self.facts[name].given:
                if getattr(story, parent) is None:
                    return self._undecided(parent, story)
        return name

    def _options(self, name: str, story: Story) -> Sequence[Any]:
        return self.lines[name] if name in self.lines else self.facts[name].options(story)

    def _decide(self, draft: Draft, name: str, options: Sequence[Any], index: int) -> Draft:
        """Take option `index`: a fact is written into the story, a line is put where its slot stood."""
        if not 0 <= index < len(options):
            raise ValueError(
                f"the story has no {name} that this world could tell; its {len(options)} options are others"
            )
        story, text, todo, nats = draft
        nats += math.log(_weights(options)[index])
        if name not in self.lines:
            return Draft(replace(story, **{name: options[index]}), text, todo, nats)
        story = replace(story, wording=(*story.wording, index))
        slot = todo[-1]
        assert isinstance(slot, Slot)
        return Draft(story, text, (*todo[:-1], *_pieces(options[index], slot.capital)), nats)


def _weights(options: Sequence[Any]) -> list[float]:
    """The probabilities of options, which are as likely as their weights say; without a weight, alike."""
    weights = [getattr(option, "weight", 1.0) for option in options]
    total = sum(weights)
    return [weight / total for weight in weights]


def _by_chance(rng: Random) -> Callable[[str, Sequence[Any]], int]:
    """Decide by inverse transform: the first option at which the summed probabilities pass a uniform number."""

    def decide(name: str, options: Sequence[Any]) -> int:
        sums = list(itertools.accumulate(_weights(options)))
        return bisect.bisect_right(sums, rng.random(), hi=len(options) - 1)

    return decide


def _index(options: Sequence[Any], option: Any) -> int:
    """The place of `option` among `options`, or -1."""
    return options.index(option) if option in options else -1


def stories(n: int, seed: int) -> Iterator[str]:
    """`n` documents, always the same for a seed: document i depends on `seed` and i alone, not on `n`.

    >>> list(stories(2, seed=0)) == list(stories(5, seed=0))[:2]
    True
    """
    if n < 0:
        raise ValueError(f"n = {n} stories cannot be told; use 0 or more")
    world = StoryWorld()
    for i in range(n):
        yield world._tell(_by_chance(random.Random(f"{seed} {i}"))).text
