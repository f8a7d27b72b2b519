"""The exercise of lesson 10 on answers: what is read, and what of it is learnt. The oracle goes place by place."""

import itertools
import random
from collections.abc import Callable, Sequence

from minilm.checks.compare import Exercise, Mistake

Ids = Sequence[int]
Pair = tuple[list[int], list[int]]
IGNORED = -100

# supervised(prompt_ids, answer_ids, end) -> (inputs, targets)


def supervised_with(
    counts: Callable[[int, int], bool] = lambda place, n_prompt: place >= n_prompt,
    ahead: int = 1,
    ignored: int = IGNORED,
    read_end: bool = False,
) -> Callable[..., Pair]:
    """Place by place: input t is token t, target t is token t + `ahead` where `counts`(its place, tokens in the prompt)."""

    def supervised(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
        text = [*prompt_ids, *answer_ids, end]
        inputs, targets = [], []
        for t in range(len(text) - (not read_end)):
            place = t + ahead
            learnt = 0 <= place < len(text) and counts(place, len(prompt_ids))
            inputs.append(text[t])
            targets.append(text[place] if learnt else ignored)
        return inputs, targets

    return supervised


def by_concatenation(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    return [*prompt_ids, *answer_ids], [IGNORED] * (len(prompt_ids) - 1) + [*answer_ids, end]


def by_slices(prompt_ids: Ids, answer_ids: Ids, end: int) -> tuple[Ids, Ids]:
    """The whole text, its copy with the prompt blotted out, and the shift at the end."""
    text = list(prompt_ids) + list(answer_ids) + [end]
    labels = list(text)
    labels[: len(prompt_ids)] = [IGNORED] * len(prompt_ids)
    return text[:-1], labels[1:]


def by_pairs(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    text, inputs, targets = [*prompt_ids, *answer_ids, end], [], []
    for i, (now, following) in enumerate(itertools.pairwise(text)):
        inputs.append(now)
        targets.append(following if i >= len(prompt_ids) - 1 else IGNORED)
    return inputs, targets


def without_end(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    """Only the tokens of the answer."""
    text = [*prompt_ids, *answer_ids]
    return text[:-1], [IGNORED] * (len(prompt_ids) - 1) + [*answer_ids]


def end_never_learnt(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    """As with padding whose id is `end`: hidden by its id."""
    inputs, targets = by_concatenation(prompt_ids, answer_ids, end)
    return inputs, [IGNORED if target == end else target for target in targets]


def last_hidden(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    inputs, targets = by_concatenation(prompt_ids, answer_ids, end)
    return inputs, [*targets[:-1], IGNORED]


def hidden_by_value(prompt_ids: Ids, answer_ids: Ids, end: int) -> Pair:
    """Whatever token occurs in the prompt is not counted, wherever it stands."""
    text = [*prompt_ids, *answer_ids, end]
    return text[:-1], [IGNORED if token in prompt_ids else token for token in text[1:]]


def answering_inputs(seed: int) -> list[tuple[list[int], list[int], int]]:
    """By hand, then drawn: prompts and answers of one token and more, tokens that come in both, an answer that says nothing."""
    draw = random.Random(seed)

    def ids(n: int) -> list[int]:
        return [draw.randrange(1, 40) for _ in range(n)]

    shared = ids(3)
    return [
        ([1, 2, 3], [4, 5], 0),
        ([7], [8], 9),
        (ids(4), ids(3), 41),
        ([0, *shared], [shared[1], draw.randrange(41, 50), shared[0]], 0),
        ([0, *ids(2)], [], 0),
        ([3, *ids(1), 3], ids(5), 3),
        (ids(6), [*ids(1), 42, *ids(2)], 42),
    ]


SUPERVISED = Exercise(
    "supervised",
    "write down the whole text: prompt, answer, end. What does the model read of it, and what should it say at each place?",
    answering_inputs,
    supervised_with(),
    (
        Mistake(
            "prompt learnt too",
            supervised_with(counts=lambda place, n_prompt: True),
            "these targets teach the model to write prompts, too: what is no part of the answer is -100",
        ),
        Mistake(
            "not shifted",
            supervised_with(ahead=0),
            "target t is what the model should say after it has read input t: the token that follows",
        ),
        Mistake(
            "shifted back",
            supervised_with(ahead=-1),
            "you moved the targets the other way: target t is the token that follows input t",
        ),
        Mistake(
            "shifted twice",
            supervised_with(ahead=2),
            "one place is enough: you ask for the token after the next one",
        ),
        Mistake(
            "first token not learnt",
            supervised_with(counts=lambda place, n_prompt: place > n_prompt),
            "the first token of the answer is missing among the targets: it is said after the last token of the prompt",
        ),
        Mistake(
            "one of the prompt learnt",
            supervised_with(counts=lambda place, n_prompt: place >= n_prompt - 1),
            "the last token of the prompt is among your targets: nobody need say that one",
        ),
        Mistake(
            "without end",
            without_end,
            "nothing here teaches the model to stop: behind the answer it should say `end`",
        ),
        Mistake(
            "end not learnt",
            last_hidden,
            "`end` is part of the answer and counted: a model that has never learnt to say it goes on for ever",
        ),
        Mistake(
            "end hidden by its id",
            end_never_learnt,
            "whether a target counts depends on its place, not on its id: the end of an answer counts, whatever its id",
        ),
        Mistake(
            "hidden by value",
            hidden_by_value,
            "a token of the answer counts also if it occurs in the prompt: decide by places",
        ),
        Mistake(
            "0 for what is not counted",
            supervised_with(ignored=0),
            "0 is a token: the model would learn to say it. What is not counted has the target -100",
        ),
        Mistake(
            "-1 for what is not counted",
            supervised_with(ignored=-1),
            "the loss leaves out the target -100; -1 is padding of inputs",
        ),
        Mistake(
            "end read too",
            supervised_with(read_end=True),
            "after `end` nothing is to be said, so nobody reads it: inputs stop with the answer",
        ),
        Mistake(
            "not shifted, end read",
            supervised_with(ahead=0, read_end=True),
            "nothing is read after the answer: `end` is only a target; each target is the NEXT token "
            "(Hugging Face's labels stand like yours, for its models shift them later)",
        ),
        Mistake(
            "other lengths",
            lambda prompt, answer, end: ([*prompt, *answer], [IGNORED] * len(prompt) + [*answer, end]),
            "inputs and targets are equally long: the last token of the prompt has a target already",
        ),
        Mistake(
            "targets left out",
            lambda prompt, answer, end: ([*prompt, *answer], [*answer, end]),
            "every input has a target; those in the prompt have -100",
        ),
        Mistake(
            "answer not read",
            lambda prompt, answer, end: (list(prompt), [*answer, end]),
            "to say its second token the model must have read the first: the answer is among the inputs as well",
        ),
        Mistake(
            "inputs hidden",
            lambda prompt, answer, end: (
                [IGNORED] * len(prompt) + [*answer],
                [IGNORED] * (len(prompt) - 1) + [*answer, end],
            ),
            "the prompt is read, only not learnt: -100 stands among the targets, never among the inputs",
        ),
        Mistake(
            "targets first",
            lambda prompt, answer, end: by_concatenation(prompt, answer, end)[::-1],
            "first the inputs, then the targets",
        ),
    ),
    (by_concatenation, by_slices, by_pairs),
)

EXERCISES = (SUPERVISED,)
