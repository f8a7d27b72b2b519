"""The exercise of lesson 08 on the loop that talks: a model that notices how it is read, the mistakes, other right loops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

# ---- continue_text(model, prompt, choose, max_new_tokens) -> list of ids


class CacheFull(ValueError):
    """As the library's cache says it. Each kind of complaint has a class: so mistakes that raise can be told apart."""


class NoCache(CacheFull):
    """The model was called without its cache."""


class SecondCache(CacheFull):
    """A text was begun anew."""


class WrongShape(CacheFull):
    """Of ids."""


class WrongLogits(WrongShape):
    """Of logits."""


@dataclass
class Memory:
    """What the model below has read."""

    max_length: int | None
    read: list[int] = field(default_factory=list)

    @property
    def lengths(self) -> Tensor:
        return torch.tensor([len(self.read)])


@dataclass(frozen=True)
class Reciter:
    """A model whose next scores hang on every id that its cache has read, and on their order."""

    V: int
    used: list[Memory] = field(default_factory=list, compare=False)

    def __repr__(self) -> str:
        return f"<model of {self.V} tokens>"

    def new_cache(self, batch: int, max_length: int | None = None) -> Memory:
        return Memory(max_length)

    def __call__(self, ids: Tensor, cache: Memory | None = None) -> Tensor:
        if cache is None:
            raise NoCache("the model was called without the cache: it would read the whole text again for each token")
        if ids.dim() != 2 or len(ids) != 1 or ids.numel() == 0:
            raise WrongShape(f"ids have shape {tuple(ids.shape)}: the model reads (1, T), one row of one id or more")
        if cache.max_length is not None and len(cache.read) + ids.numel() > cache.max_length:
            held, new = len(cache.read), ids.numel()
            raise CacheFull(f"the cache holds {cache.max_length} tokens: {held} + {new} do not fit")
        if self.used and self.used[0] is not cache:
            raise SecondCache("this is another cache than before: the first one remembers what has been read")
        self.used[:] = [cache]
        rows = []
        for token in ids[0].tolist():
            cache.read.append(token)
            rows.append(scores_after(cache.read, self.V))
        return torch.stack(rows)[None]


def scores_after(read: Sequence[int], V: int) -> Tensor:
    """The scores (V,) behind a text, like dice that are thrown for this text alone."""
    seed = 7
    for token in read:
        seed = (31 * seed + token + 1) % (2**31 - 1)
    return torch.rand(V, generator=Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Choose:
    """logits (1, V) -> ids (1,): the id at this place, counted from the likeliest."""

    place: int
    says: str

    def __call__(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or len(logits) != 1:
            raise WrongLogits(f"logits have shape {tuple(logits.shape)}: choose wants (1, V), those of the next token")
        return logits.argsort(dim=-1, descending=True)[:, self.place]

    def __repr__(self) -> str:
        return f"<choose: {self.says}>"


def recited(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
    """By definition: for each new token, the scores behind the whole text so far."""
    text = list(prompt)
    for _ in range(max_new_tokens):
        text.append(int(choose(scores_after(text, model.V)[None])))
    return text[len(prompt) :]


def read_and_chosen(
    model: Any,
    prompt: list[int],
    choose: Any,
    n: int,
    first: Callable[[list[int]], list[int]] = lambda prompt: prompt,
    then: Callable[[list[int], int], list[int]] = lambda text, T: text[-1:],
    place: int = -1,
    room: Callable[[int, int], int | None] = lambda T, n: T + n,
    taken: Callable[[Any, Tensor], Any] = lambda choose, logits: int(choose(logits)),
) -> list[Any]:
    """The loop with switches: what is read first, what then, at which place one looks, what is taken."""
    cache, text, new = model.new_cache(1, room(len(prompt), n)), list(prompt), []
    unread = first(list(prompt))
    for _ in range(n):
        token = taken(choose, model(torch.tensor([unread]), cache)[:, place])
        new.append(token)
        text.append(int(token))
        unread = then(text, len(prompt))
    return new


def talking(**switches: Any) -> Any:
    return lambda model, prompt, choose, max_new_tokens: read_and_chosen(
        model, prompt, choose, max_new_tokens, **switches
    )


def asked_for(change: Callable[[int], int], first: int = 0) -> Any:
    return lambda model, prompt, choose, max_new_tokens: recited(model, prompt, choose, change(max_new_tokens))[first:]


def read_twice(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
    cache, new = model.new_cache(1, None), []
    model(torch.tensor([prompt]), cache)
    token = prompt[-1]
    for _ in range(max_new_tokens):
        token = int(choose(model(torch.tensor([[token]]), cache)[:, -1]))
        new.append(token)
    return new


def read_anew(cached: bool) -> Any:
    """Right ids, but the whole text is read for each of them."""

    def talk(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
        text = list(prompt)
        for _ in range(max_new_tokens):
            cache = model.new_cache(1) if cached else None
            text.append(int(choose(model(torch.tensor([text]), cache)[:, -1])))
        return text[len(prompt) :]

    return talk


def prompt_in_pieces(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
    """One call for each token, those of the prompt as well."""
    cache, text = model.new_cache(1), list(prompt)
    for place in range(len(prompt) + max_new_tokens - 1):
        logits = model(torch.tensor([text[place : place + 1]]), cache)
        if place + 1 >= len(prompt):
            text += choose(logits[:, 0]).tolist()
    return text[len(prompt) :]


def by_lengths(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
    """The cache says how much of the text it holds."""
    cache, text = model.new_cache(1, len(prompt) + max_new_tokens), torch.tensor([prompt])
    while text.shape[1] < len(prompt) + max_new_tokens:
        logits = model(text[:, int(cache.lengths) :], cache)
        text = torch.cat([text, choose(logits[:, -1])[:, None]], dim=1)
    return text[0, len(prompt) :].tolist()


def prefill_first(model: Any, prompt: list[int], choose: Any, max_new_tokens: int) -> list[int]:
    if max_new_tokens == 0:
        return []
    cache = model.new_cache(1, len(prompt) + max_new_tokens)
    new = [choose(model(torch.tensor(prompt)[None], cache)[:, -1]).item()]
    while len(new) != max_new_tokens:
        new += [choose(model(torch.tensor([new[-1:]]), cache)[:, -1]).item()]
    return new


def talk_inputs(seed: int) -> list[tuple[Any, ...]]:
    """One id and one token first; then longer ones, the likeliest token and others, and no token at all."""
    generator = Generator().manual_seed(seed)
    likeliest, second = Choose(0, "the likeliest"), Choose(1, "the second likeliest")
    cases: list[tuple[Any, ...]] = [
        (Reciter(5), [3], likeliest, 1),
        (Reciter(5), [3], likeliest, 2),
        (Reciter(5), [3, 1], second, 2),
    ]
    for T, n, V, choose in ((1, 4, 7, second), (6, 5, 11, Choose(2, "the third likeliest")), (4, 6, 23, likeliest)):
        cases.append((Reciter(V), torch.randint(V, (T,), generator=generator).tolist(), choose, n))
    return [*cases, (Reciter(7), [2, 2], second, 0)]


TALK = Exercise(
    "continue_text",
    "make the cache; `unread` is the prompt. In each step the model reads `unread`, you choose, and `unread` is that token",
    talk_inputs,
    recited,
    (
        Mistake(
            "the whole text again",
            talking(then=lambda text, T: text),
            "the cache holds what was read: from the second step on, the model reads the new token alone",
        ),
        Mistake(
            "the whole text again, with room",
            talking(then=lambda text, T: text, room=lambda T, n: None),
            "you give the model the text again, behind what it has read: only the last token is new",
        ),
        Mistake(
            "without the cache",
            read_anew(cached=False),
            "the ids would be right, but each step reads the whole text: pass the cache, and only what is new",
        ),
        Mistake(
            "a cache for each step",
            read_anew(cached=True),
            "one cache for the whole text: make it once, before the loop",
        ),
        Mistake(
            "the end of the prompt twice",
            read_twice,
            "the last token of the prompt is read twice: the scores of the first new token come from reading the prompt",
        ),
        Mistake(
            "only the end of the prompt",
            talking(first=lambda prompt: prompt[-1:]),
            "the model has to read the whole prompt, once, before it goes on",
        ),
        Mistake(
            "one behind",
            talking(then=lambda text, T: [text[-2]]),
            "the token that you have just chosen is what the model reads next, not the one before it",
        ),
        Mistake(
            "the prompt for ever",
            talking(then=lambda text, T: text[:T]),
            "after the prompt the model reads the token that you have chosen, not the prompt again",
        ),
        Mistake(
            "the prompt for ever, with room",
            talking(then=lambda text, T: text[:T], room=lambda T, n: None),
            "in each step you read the prompt once more: read what you have just chosen",
        ),
        Mistake(
            "the first place",
            talking(place=0),
            "what follows the whole text is said behind its last token: look at place -1 of the logits",
        ),
        Mistake("all places", talking(taken=lambda choose, x: choose(x[None])), "it wants (1, V): a row's last place"),
        Mistake(
            "no rows",
            lambda model, prompt, choose, n: [model(torch.tensor(prompt), model.new_cache(1)) for _ in range(n)],
            "the model reads rows: torch.tensor([ids]) has the shape (1, T), torch.tensor(ids) has not",
        ),
        Mistake(
            "the likeliest",
            talking(taken=lambda choose, logits: int(logits.argmax(-1))),
            "`choose` decides, and it need not take the likeliest: call it with the logits",
        ),
        Mistake(
            "with the prompt",
            lambda model, prompt, choose, max_new_tokens: [*prompt, *recited(model, prompt, choose, max_new_tokens)],
            "return the new ids only, without the prompt",
        ),
        Mistake("one too many", asked_for(lambda n: n + 1), "one token too many: that after the prompt counts as well"),
        Mistake("first lost", asked_for(lambda n: n + 1, 1), "what is chosen after the prompt is your first token"),
        Mistake("one too few", asked_for(lambda n: max(0, n - 1)), "one too few: the last is chosen, but never read"),
        Mistake("one at least", asked_for(lambda n: max(1, n)), "if no token is wanted, there is none"),
        Mistake(
            "tensors",
            talking(taken=lambda choose, logits: choose(logits)),
            "the answer is a list of numbers: int() makes a number of a tensor that holds one",
        ),
        Mistake(
            "a cache too small",
            talking(room=lambda T, n: n),
            "the cache needs room for the prompt as well as for the new tokens",
        ),
        Mistake("room for the prompt", talking(room=lambda T, n: T), "the cache needs room for the new tokens, too"),
    ),
    (prompt_in_pieces, by_lengths, prefill_first),
)

EXERCISES = (TALK,)
