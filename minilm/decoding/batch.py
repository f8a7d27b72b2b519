"""Generation of many rows at once: each row is what it would be alone, only sooner.

All rows go through the model together, one token a step. What they do not share are their lengths, their random numbers
and their ends:

* A prompt of its own length fills its row from the left; shorter rows are filled up behind their end, where causality
  hides the filling, and the cache forgets it at once. No position moves and no number changes. Where filling would be more
  than MOST_FILLED tokens, long prompts are read first and the others join them.
* What the prompts have in common at their beginning is read once, and a prompt that stands there several times (n samples
  of one prompt) as well: then the cache row is copied.
* Each row has its own seed, from which each of its tokens takes one uniform.
* A row that has ended leaves the batch and its cache, and costs nothing from there on.

As `generate`, this knows ids and never text: a stop predicate gets bytes, through the table `token_bytes`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import OVERFLOWS, prompt_list
from minilm.decoding.processors import Processor
from minilm.decoding.reading import common_prefix, evaluating, next_logits_of_texts
from minilm.decoding.sampling import sample
from minilm.layers.basic import log_softmax

MOST_FILLED = 64  # tokens of filling, about what the further calls of the model cost that would avoid it


@dataclass(frozen=True)
class Completion:
    """What a row has got, why it ended, and how likely the model found each token, in nats.

    The log-probabilities are the model's own: before penalties, processors, temperature and filters. The reason is

        stop token   one was chosen; it is not among the ids
        stop         the predicate became true; the token that made it so is among the ids
        cancelled    on_token said so, behind the last id
        length       max_new_tokens
        context      the model cannot read on
    """

    ids: list[int]
    log_probs: list[float]
    reason: str


@dataclass
class Row:
    """A row on its way: the model sees text[start:], of which its cache holds a beginning."""

    number: int
    text: list[int]  # with the prompt
    n_prompt: int
    generator: torch.Generator | None
    start: int = 0
    log_probs: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def view(self) -> list[int]:
        return self.text[self.start :]

    @property
    def new(self) -> list[int]:
        return self.text[self.n_prompt :]


@dataclass(frozen=True)
class Rules:
    """When a row ends. ValueError for what cannot be."""

    max_new_tokens: int
    stop_tokens: Collection[int]
    stop: Callable[[bytes], bool] | None
    token_bytes: Sequence[bytes]
    on_token: Callable[[int, int], Any] | None
    last_length: int | None  # the longest view that is read

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}: it must be at least 0")
        if self.stop is not None and not self.token_bytes:
            raise ValueError("a stop predicate reads bytes: pass token_bytes, the bytes of each id")

    def reason(self, row: Row) -> str:
        """Why the row ends behind its last token, or ""."""
        cancelled = self.on_token is not None and self.on_token(row.number, row.text[-1]) is False
        if self.stop is not None and self.stop(b"".join(self.token_bytes[token] for token in row.new)):
            return "stop"
        if cancelled:
            return "cancelled"
        if len(row.new) == self.max_new_tokens:
            return "length"
        return "context" if self.last_length is not None and len(row.view) > self.last_length else ""


def generate_batch(
    model: Any,
    prompts: Sequence[Tensor | Sequence[int]],
    config: SampleConfig,
    max_new_tokens: int,
    *,
    seeds: Sequence[int] | None = None,
    processors: Sequence[Processor] = (),
    stop_tokens: Collection[int] = frozenset(),
    stop: Callable[[bytes], bool] | None = None,
    token_bytes: Sequence[bytes] = (),
    on_token: Callable[[int, int], Any] | None = None,
    overflow: str = "stop",
    prefill_chunk: int | None = None,
    use_cache: bool = True,
) -> list[Completion]:
    """B prompts of any lengths -> B completions. Row i is what `generate` gives for prompt i alone, with

        Sampler(config, torch.Generator().manual_seed(seeds[i]), processors)

    Temperature 0 needs no seeds. `stop` gets the bytes of a row's new tokens after each of them, and ends the row where it
    says True. `on_token(number of the row, id)` streams, and cancels its row by returning False. `overflow` is as in
    `generate`. With prefill_chunk at most so many tokens of a row are read in one step: less memory for long prompts, and
    rows that have been read go on while others are still being read; 1 means no filling at all, in more steps.

    >>> four = generate_batch(model, [prompt] * 4, SampleConfig(), max_new_tokens=100, seeds=[1, 2, 3, 4])
    """
    limit = getattr(model.config, "context_length", None)
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow is {overflow!r}: choose one of {', '.join(OVERFLOWS)}")
    if prefill_chunk is not None and prefill_chunk < 1:
        raise ValueError(f"prefill_chunk is {prefill_chunk}: it must be at least 1")
    end = limit if overflow == "stop" else None
    rules = Rules(max_new_tokens, frozenset(stop_tokens), stop, token_bytes, on_token, end)
    rows = new_rows(model, prompts, config, seeds, end)
    if not rows or not max_new_tokens:
        return [Completion([], [], "length") for _ in rows]
    longest = max(len(row.text) for row in rows) + max_new_tokens
    reader = BatchReader(model, longest, limit, prefill_chunk, use_cache)
    reader.begin(rows)
    live = rows
    while live:
        logits, ready = reader.read(live)
        choose([row for row, is_ready in zip(live, ready, strict=True) if is_ready], logits, config, processors, rules)
        reader.keep([place for place, row in enumerate(live) if not row.reason])
        live = [row for row in live if not row.reason]
    return [Completion(row.new, row.log_probs, row.reason) for row in rows]


def new_rows(
    model: Any,
    prompts: Sequence[Tensor | Sequence[int]],
    config: SampleConfig,
    seeds: Sequence[int] | None,
    longest: int | None,
) -> list[Row]:
    """A row for each prompt, with its generator. ValueError for a prompt that cannot be read, or without a seed."""
    texts = [prompt_list(prompt, getattr(model.config, "vocab_size", None)) for prompt in prompts]
    for number, text in enumerate(texts):
        if longest is not None and len(text) > longest:
            raise ValueError(
                f"prompt {number} has {len(text)} tokens, the model reads at most {longest}: shorten it or use slide"
            )
    if seeds is None and config.temperature > 0:
        raise ValueError("sampling needs seeds, one for each prompt, or temperature 0")
    if seeds is not None and len(seeds) != len(texts):
        raise ValueError(f"{len(seeds)} seeds for {len(texts)} prompts: each row needs its own")
    generators = [None] * len(texts) if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
    return [Row(b, text, len(text), generators[b]) for b, text in enumerate(texts)]


def choose(
    rows: list[Row], logits: Tensor, config: SampleConfig, processors: Sequence[Processor], rules: Rules
) -> None:
    """logits (B, V) -> one more token for each of the B rows, or the reason why there is none."""
    if not rows:
        return
    uniforms = None
    if config.temperature > 0:
        uniforms = torch.cat([torch.rand(1, generator=row.generator, dtype=torch.double) for row in rows])
    tokens = sample(logits, config, uniforms, [row.text for row in rows], processors)
    log_probs = log_softmax(logits).gather(-1, tokens[:, None])[:, 0]
    for row, token, log_prob in zip(rows, tokens.tolist(), log_probs.tolist(), strict=True):
        if token in rules.stop_tokens:
            row.reason = "stop token"
            continue
        row.text.append(token)
        row.log_probs.append(log_prob)
        row.reason = rules.reason(row)


class BatchReader:
    """The model with its cache, which has a row for each row of the batch, and reads what it does not hold yet."""

    def __init__(self, model: Any, longest: int, limit: int | None, chunk: int | None, use_cache: bool) -> None:
        self.model, self.limit = model, limit
        self.room = longest if limit is None else min(limit, longest)
        self.chunk = self.room if chunk is None else chunk
        self.cache = model.new_cache(1, self.room) if use_cache and hasattr(model, "new_cache") else None

    def begin(self, rows: list[Row]) -> None:
        """Read once what several rows share, and give each row its own copy. The last token of each is left to `read`."""
        for row in rows:
            self.slide(row)
        if self.cache is None or len(rows) == 1:
            return
        views = [tuple(row.view) for row in rows]
        texts = list(dict.fromkeys(views))
        shared = min(common_prefix(texts[0], text[:-1]) for text in texts)
        self.read_all([texts[0][:shared]])
        filling = sum(max(map(len, texts)) - len(text) for text in texts)
        if self.chunk < self.room or filling <= MOST_FILLED or not self.read_long_first(texts, shared):
            self.cache.select(torch.zeros(len(texts), dtype=torch.long))
        if len(texts) < len(views):
            self.read_all([text[:-1] for text in texts])
            self.cache.select(torch.tensor([texts.index(view) for view in views]))

    def read_long_first(self, texts: Sequence[Sequence[int]], shared: int) -> bool:
        """Read all but the last token of each text, whose first `shared` tokens the cache's one row holds, without filling.

        The longest are read alone until no more is left of them than of the next longest, then these join them, and so on.
        Whoever joins is a copy of a row that has been read, rolled back to what all share. False, and nothing is read, where
        the cache cannot be rolled back so far.
        """
        cache: Any = self.cache
        before, rows = cache.fork(), list[int]()
        lengths = sorted({len(text) for text in texts}, reverse=True)
        for length, following in zip(lengths, [*lengths[1:], shared + 1], strict=True):
            new = [i for i, text in enumerate(texts) if len(text) == length]
            held = int(cache.lengths[0])
            cache.select(torch.tensor([*range(len(rows)), *[0] * len(new)]))
            try:
                cache.rollback(torch.tensor([0] * len(rows) + [held - shared] * len(new)))
            except ValueError:
                self.cache = before
                return False
            rows += new
            left = following - 1 - shared
            self.read_all([texts[i][: len(texts[i]) - 1 - left] for i in rows])
        cache.select(torch.tensor([rows.index(i) for i in range(len(texts))]))
        return True

    def read_all(self, texts: Sequence[Sequence[int]]) -> None:
        """Read all of these texts, one a row."""
        while self.cache is not None and self.cache.lengths.tolist() != [len(text) for text in texts]:
            self.step(texts)

    def read(self, rows: list[Row]) -> tuple[Tensor, list[bool]]:
        """Read on in every row -> which rows are now read to their end, and the logits (N, V) of their next tokens."""
        forgotten = [self.slide(row) for row in rows]
        if any(forgotten) and self.cache is not None:
            self.cache.rollback(self.cache.lengths * torch.tensor(forgotten))
        views = [row.view for row in rows]
        logits = self.step(views)
        if self.cache is None:
            return logits, [True] * len(rows)
        ready = [n == len(view) for n, view in zip(self.cache.lengths.tolist(), views, strict=True)]
        return logits[torch.tensor(ready)], ready

    def step(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read up to `chunk` more tokens of every row -> logits (B, V) behind them.

        Shorter pieces are filled up to the longest one, so no piece is longer than the fullest row has room.
        """
        if self.cache is not None:
            held = self.cache.lengths.tolist()
            width = min(self.chunk, self.room - max(held))
            texts = [text[: n + width] for text, n in zip(texts, held, strict=True)]
        with evaluating(self.model):
            return next_logits_of_texts(self.model, [list(text) for text in texts], self.cache)

    def slide(self, row: Row) -> bool:
        """Whether the row has outgrown the context: then it forgets all but the last half of it."""
        if self.limit is None or len(row.view) <= self.limit:
            return False
        row.start = len(row.text) - max(1, self.limit // 2)
        return True

    def keep(self, places: list[int]) -> None:
        """Only these rows of the batch are left."""
        if self.cache is not None and len(places) < len(self.cache.lengths):
            self.cache.select(torch.tensor(places, dtype=torch.long))
