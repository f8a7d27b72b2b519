"""The story world: small English stories from a seed, whose probabilities are known exactly.

A story is told by expanding a template from left to right. Two kinds of slots stand in templates:

* a **fact**, such as `{hero}` or `{helper.about}`: chosen where it is first needed, remembered in the `Story`, and from
  then on the same. Facts may depend on facts (the obstacle depends on the wish), so together they form a Bayesian network.
* a **line**, such as `{opening}`: one of several ways to say the same thing. Which one was taken stands in `wording`.

A large first letter, as in `{Helper.he}`, makes the text begin with one. By the chain rule the log-probability of a story
is the sum over its choices, log p(story) = sum_i log p(choice_i | choices before it). Different choices give different
texts, so this is also the log-probability of the document: no model of these documents can have a smaller expected loss
than the entropy of the choices, and `entropy` says how large that floor is.

The words and the plots, which make nine tenths of the world, are in `story_words.py` and `story_plots.py`, and how the
entropy is summed in `story_entropy.py`.
"""

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from minilm.text.story_entropy import Entropy, exact_entropy
from minilm.text.story_lines import LINES
from minilm.text.story_plots import FACTS, Choice, Ending, Plot
from minilm.text.story_templates import Piece, Slot, pieces, probabilities
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


class Draft(NamedTuple):
    """A story told half-way: the facts and wordings so far, the text so far, what is still to be told, ln p so far."""

    facts: dict[str, Any]
    wording: tuple[int, ...]
    text: str
    todo: tuple[Piece, ...]  # a stack, its top last
    nats: float

    @property
    def story(self) -> Story:
        return Story(**self.facts, wording=self.wording)


START = Draft({}, (), "", pieces("{plot.text}"), 0.0)


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
        return self._read(document)[0].story

    def log_prob(self, document: str, cut: bool = False) -> float:
        """ln p(document), in nats, exactly. ValueError if this world does not tell it.

        Twelve heroes and three ways to name them, all equally likely, would give -ln 36 = -3.58 nats. With `cut`, the
        document may end anywhere, and ln p is that of all stories that begin so.
        """
        return math.log(math.fsum(math.exp(draft.nats) for draft in self._read(document, cut)))

    def entropy(self) -> Entropy:
        """How many nats and bytes a document has on average, both exact: the floor under the loss of every model."""
        return exact_entropy(self.facts, self.lines, START.todo)

    # How it works: `_advance` tells on to the next choice, `_decide` makes it. Drawing, rendering and reading differ
    # only in who decides.

    def _tell(self, decide: Callable[[str, Sequence[Any]], int]) -> Draft:
        """Tell one story to its end; `decide(name, options)` gives the index of the option to take."""
        draft, name = self._advance(START)
        while name:
            options = self._options(name, draft)
            index = decide(name, options)
            if not 0 <= index < len(options):
                raise ValueError(
                    f"the story has no {name} that this world could tell; its {len(options)} options are others"
                )
            draft, name = self._advance(self._decide(draft, name, options[index], index, probabilities(options)[index]))
        return draft

    def _read(self, document: str, cut: bool = False) -> list[Draft]:
        """Find the choices that tell `document`: depth first, leaving a path as soon as its text is another one.

        With `cut`, a path is followed until its text reaches the end of the document, and there may be several.
        """
        found, agreed = [], 0
        drafts = [START]
        while drafts:
            draft, name = self._advance(drafts.pop())
            reached = len(draft.text) >= len(document) and draft.text.startswith(document)
            if cut and reached:
                found.append(draft)
            elif not document.startswith(draft.text):
                continue
            elif name:
                drafts.extend(self._branches(draft, name, document))
            elif reached:
                found.append(draft)
            agreed = max(agreed, min(len(draft.text), len(document)))
        if not found:
            raise ValueError(
                f"no story of this world: nothing goes on like it after character {agreed} of {len(document)}"
            )
        assert cut or len(found) == 1, f"two stories have one text: {document!r}"
        return found

    def _branches(self, draft: Draft, name: str, document: str) -> Iterator[Draft]:
        """All ways to choose `name`, but for those that would put other words next than the document has."""
        slot, options = draft.todo[-1], self._options(name, draft)
        assert isinstance(slot, Slot)
        next_is_told = slot.name == name  # else `name` is a parent of what is told next
        for index, (option, p) in enumerate(zip(options, probabilities(options), strict=True)):
            if next_is_told and (told := self._expand(slot, option)):
                first, rest = told[-1], len(document) - len(draft.text)
                if isinstance(first, str) and not document.startswith(first[:rest], len(draft.text)):
                    continue
            yield self._decide(draft, name, option, index, p)

    def _advance(self, draft: Draft) -> tuple[Draft, str]:
        """Tell on until something must be chosen: the draft, and the name of that choice ("" at the end)."""
        facts, wording, text, stack, nats = draft
        todo = list(stack)
        while todo:
            piece = todo.pop()
            if isinstance(piece, str):
                text += piece
            elif piece.name in facts:
                todo.extend(self._expand(piece, facts[piece.name]))
            else:
                return Draft(facts, wording, text, (*todo, piece), nats), self._undecided(piece.name, facts)
        return Draft(facts, wording, text, (), nats), ""

    def _expand(self, slot: Slot, option: Any) -> tuple[Piece, ...]:
        """What stands in a slot: a wording itself, or the form of a fact that the slot asks for."""
        return pieces(option if slot.name in self.lines else attrgetter(slot.form)(option), slot.capital)

    def _undecided(self, name: str, facts: Mapping[str, Any]) -> str:
        """What must be chosen first for `name` to be chosen: itself, if all that it depends on is known."""
        if name not in self.lines:
            for parent in self.facts[name].given:
                if parent not in facts:
                    return self._undecided(parent, facts)
        return name

    def _options(self, name: str, draft: Draft) -> Sequence[Any]:
        return self.lines[name] if name in self.lines else self.facts[name].options(draft.facts)

    def _decide(self, draft: Draft, name: str, option: Any, index: int, p: float) -> Draft:
        """Take an option, of probability p: a fact is remembered, a line is put where its slot stood."""
        facts, wording, text, todo, nats = draft
        nats += math.log(p)
        if name not in self.lines:
            return Draft({**facts, name: option}, wording, text, todo, nats)
        slot = todo[-1]
        assert isinstance(slot, Slot)
        return Draft(facts, (*wording, index), text, (*todo[:-1], *self._expand(slot, option)), nats)


def _by_chance(rng: Random) -> Callable[[str, Sequence[Any]], int]:
    """Decide by inverse transform: the first option at which the summed probabilities pass a uniform number."""

    def decide(name: str, options: Sequence[Any]) -> int:
        sums = list(itertools.accumulate(probabilities(options)))
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


@cache
def story_floor() -> Entropy:
    """The entropy of the whole world, summed once, in seconds."""
    return StoryWorld().entropy()
