"""Instructions about stories with their answers, as conversations: what a model is tuned on to become an assistant.

A conversation is a row of messages {"role": ..., "content": ...}, as text/chat.py encodes them. Answers are short and follow
from the story, so that they can be judged right or wrong; only "ending" and "beginning" have several right answers.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from minilm.tasks.questions import questions_about
from minilm.tasks.splits import draws
from minilm.tasks.summaries import summary_of
from minilm.text.stories import Story
from minilm.text.story_spans import tell

Message = Mapping[str, str]


class Instruction(NamedTuple):
    """A conversation whose last message is the answer."""

    kind: str
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1]["content"]


_REQUESTS = {
    "question": ("{0}", "Read the story and answer: {0}", "I have a question about a story: {0}"),
    "summary": ("Sum up this story in two sentences.", "What happens in this story?", "Tell me this story in short."),
    "mood": ("Does this story end happily or sadly?", "How does this story end, happily or sadly? Answer in one word."),
    "cast": ("Who appears in this story?", "List the characters of this story.", "Name everyone in the story."),
    "title": ("Give this story a title.", "Find a title for the story.", "What could this story be called?"),
    "ending": ("Write a last line for this story.", "The last line is missing. What is it?", "End this story."),
    "beginning": ("Write the first sentence of a story about {0}.", "Begin a story about {0}.", "Tell me of {0}."),
    "talk": ("{0}", "Let us talk about a story. {0}", "Here is a story. {0}"),
}
KINDS = tuple(_REQUESTS)
# Some facts say what somebody does, and an answer says who: "She set up the ladder."
_SUBJECTS = {
    "reason": "because {loved.he} ",
    "way": "{hero.he} ",
    "helper.remedy": "{helper.he} ",
    "helper.aid": "{hero.he} ",
}


def instructions(n: int, seed: int, split: str = "train", kinds: Sequence[str] = KINDS) -> list[Instruction]:
    """`n` conversations, each about a story of its own, of kinds drawn at random. ValueError for an unknown kind.

    >>> [message["role"] for message in instructions(1, seed=0, kinds=("mood",))[0].messages]
    ['user', 'assistant']
    """
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds {tuple(kinds)} are not all known: choose from {', '.join(KINDS)}")
    return [_instruction(_pick(kinds, rng), story, rng) for story, rng in draws("instructions", n, seed, split)]


def _instruction(kind: str, story: Story, rng: random.Random) -> Instruction:
    request = _pick(_REQUESTS[kind], rng)
    if kind == "beginning":
        first = tell(story).text.partition(". ")[0] + "."
        return Instruction(kind, _messages(request.format(tell(story, "{trait.a} {kind} called {hero}").text), first))
    if kind in ("question", "talk"):
        return Instruction(kind, _asked(story, request, 2 if kind == "talk" else 1, rng))
    text, answer = _ANSWERS[kind](story)
    return Instruction(kind, _messages(f"{request}\n\n{text}", answer))


def _asked(story: Story, request: str, n: int, rng: random.Random) -> tuple[Message, ...]:
    """`n` different questions about one story, each with its answer; the story is told with the first."""
    turns: list[str] = []
    for question in rng.sample(list(questions_about(story)), n):
        asked = question.question if turns else f"{request.format(question.question)}\n\n{question.context}"
        turns += [asked, _sentence(f"{tell(story, _SUBJECTS.get(question.slot, '')).text}{question.answer}")]
    return _messages(*turns)


def _summary(story: Story) -> tuple[str, str]:
    return tell(story).text, summary_of(story)


def _mood(story: Story) -> tuple[str, str]:
    return tell(story).text, {"happy": "Happily.", "sad": "Sadly."}[story.mood]


def _cast(story: Story) -> tuple[str, str]:
    """Everyone with a name or a role, in the order in which they come: "Ada, her aunt and the owl."."""
    told = tell(story)
    names = list(dict.fromkeys(span.name for span in told.find("hero", "loved", "friend", "helper")))
    said = [tell(story, f"{{{name}}}").text for name in names]
    return told.text, _sentence(" and ".join([", ".join(said[:-1]), said[-1]] if said[1:] else said))


_TITLES = {
    "gift": "{Hero} and {wish.thing}",
    "loss": "{Hero} and the lost {treasure}",
    "fear": "{Hero}, who was afraid of {obstacle.what}",
    "quarrel": "The quarrel of {hero} and {friend}",
    "good turn": "{Hero} and {helper}",
    "promise": "The promise of {hero}",
}


def _title(story: Story) -> tuple[str, str]:
    assert story.plot
    return tell(story).text, tell(story, _TITLES[story.plot.name]).text


def _ending(story: Story) -> tuple[str, str]:
    """The story without its last line, and that line."""
    told = tell(story)
    last = [span for span in told.spans if span.end == len(told.text) and span.name not in ("plot", "ending")]
    line = last[0]  # the longest of them
    return told.text[: line.start].rstrip(), told.words(line)


_ANSWERS: dict[str, Callable[[Story], tuple[str, str]]] = {
    "summary": _summary,
    "mood": _mood,
    "cast": _cast,
    "title": _title,
    "ending": _ending,
}


def _messages(*turns: str) -> tuple[Message, ...]:
    """Turns of user and assistant, one after the other."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns))


def _sentence(words: str) -> str:
    """ "in an oak wood" -> "In an oak wood."."""
    return words[0].upper() + words[1:] + ("" if words[-1] in '.!?"' else ".")


def _pick(options: Sequence[Any], rng: random.Random) -> Any:
    return options[int(rng.random() * len(options))]
