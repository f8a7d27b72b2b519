"""The ways of decoding that `minilm generate` offers, one function each: (job, rows) -> answers, as they are done.

    sampled       many rows at once, from one reading of what they share
    speculative   one row after the other, a draft guesses
    beams         the likeliest texts
    scored        nothing is written: what a given text is worth

A row is a prompt with its seed. All know text; what they call knows ids.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from minilm.cli.writing import StopDecoder, document, first_stop, load_writer, signals
from minilm.decoding.automaton import Automaton
from minilm.decoding.batch import generate_batch
from minilm.decoding.beam import Hypothesis, beam_search
from minilm.decoding.config import SampleConfig
from minilm.decoding.constrained import Constraint, TokenAutomaton
from minilm.decoding.drafts import Draft, LookupDraft, ModelDraft
from minilm.decoding.processors import BadWords, LogitBias, Processor
from minilm.decoding.score import score
from minilm.decoding.speculative import Report, generate_speculative
from minilm.text.tokenizer import Tokenizer

AT_ONCE = 32  # rows of a batch: it bounds the memory of the cache
Row = tuple[str, int]  # prompt, seed


@dataclass(frozen=True)
class Answer:
    """What was written behind a prompt, and why it ended (see `decoding/batch.py`). log_probs are in nats, the model's own."""

    prompt: str
    text: str
    ids: list[int]
    reason: str
    seed: int | None = None  # None where nothing is drawn
    score: float | None = None  # of a beam search
    log_probs: list[float] = field(default_factory=list)


class Meter:
    """Seconds and tokens of the prompt and of what follows it, and the most bytes that a cache of the model had.

    Whoever gives no sign at each token, as beam search, has no speed here.
    """

    def __init__(self, model: Any, watch: bool) -> None:
        self.prefill = self.decode = 0.0
        self.n_read = self.n_new = self.n_first = self.cache_bytes = 0
        self.last, self.reading = 0.0, False
        if watch and hasattr(model, "new_cache"):
            model.new_cache = self.watched(model.new_cache)

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """A batch begins; prompts that are there several times are read once."""
        self.n_read += sum(map(len, {tuple(prompt) for prompt in prompts}))
        self.n_first += len(prompts)
        self.last, self.reading = time.perf_counter(), True

    def token(self, with_first: bool = False) -> None:
        """A token has come. The first of each row, and what comes with it (the guesses of a draft), is of reading the prompt."""
        now = time.perf_counter()
        self.n_first += with_first
        if self.reading:
            self.prefill += now - self.last
        else:
            self.decode += now - self.last
        self.last, self.reading = now, False
        self.n_new += 1

    def watched(self, new_cache: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose caches are measured when they begin and whenever their rows change."""

        def observed(*arguments: Any) -> Any:
            cache = new_cache(*arguments)
            select = cache.select

            def select_and_look(rows: torch.Tensor) -> None:
                select(rows)
                self.cache_bytes = max(self.cache_bytes, cache.n_bytes)

            cache.select = select_and_look
            self.cache_bytes = max(self.cache_bytes, cache.n_bytes)
            return cache

        return observed

    def figures(self) -> dict[str, Any]:
        """Tokens a second; None for what was not measured."""
        n_decoded = self.n_new - self.n_first
        return {
            "prompt_tokens": self.n_read,
            "prefill_tokens_per_second": self.n_read / self.prefill if self.prefill else None,
            "decode_tokens_per_second": n_decoded / self.decode if self.decode and n_decoded > 0 else None,
            "cache_bytes": self.cache_bytes,
        }


@dataclass
class Job:
    """What all ways of decoding need: the model, what the flags say, and where pieces of text go as they come."""

    model: Any
    tokenizer: Tokenizer
    options: argparse.Namespace
    config: SampleConfig
    automaton: TokenAutomaton | None
    show: Callable[[str], None]
    meter: Meter
    report: Report = field(default_factory=Report)

    def processors(self, prompt: Sequence[int]) -> list[Processor]:
        """Bias, bad words and the form of the text, for rows that begin with this prompt."""
        options, found = self.options, list[Processor]()
        if options.bias:
            found.append(LogitBias(token_biases(self.tokenizer, options.bias)))
        if options.bad_words:
            found.append(BadWords(spellings(self.tokenizer, options.bad_words)))
        if self.automaton is not None:
            found.append(Constraint(self.automaton, len(prompt), self.room(prompt)))
        return found

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens can follow the prompt: max_new_tokens, or less where the text ends with the context."""
        limit = getattr(self.model.config, "context_length", None)
        n = self.options.max_new_tokens
        return n if limit is None or self.options.overflow == "slide" else min(n, limit - len(prompt) + 1)

    def stats(self) -> dict[str, Any] | None:
        """With --stats: the figures so far."""
        if not self.options.stats:
            return None
        guesses = {"acceptance": self.report.acceptance, "tokens_per_round": self.report.tokens_per_round}
        measured = {name: None if math.isnan(value) else value for name, value in guesses.items()}
        return self.meter.figures() | (measured if self.options.draft is not None else {})

    def log_probs(self, prompt: list[int], ids: list[int]) -> list[float]:
        """What the model says of these ids behind the prompt, where that was not kept on the way."""
        return score(self.model, [*prompt, *ids])[len(prompt) - 1 :].tolist() if self.options.log_probs and ids else []


def new_job(options: argparse.Namespace, config: SampleConfig, form: Automaton | None, show: Any) -> Job:
    """Load the checkpoint, and fit the form of the text to its tokenizer."""
    model, tokenizer = load_writer(options.checkpoint, options.device, options.int8, options.fast, options.base)
    automaton = None
    if form is not None:
        specials = tokenizer.special_tokens.values()
        automaton = TokenAutomaton(form, tokenizer.token_bytes, tokenizer.end_of_text, list(specials))
    return Job(model, tokenizer, options, config, automaton, show, Meter(model, options.stats))


def token_biases(tokenizer: Tokenizer, biases: Sequence[tuple[str, float]]) -> dict[int, float]:
    """[(text, number)] -> the bias of each text's one token."""
    found: dict[int, float] = {}
    for text, value in biases:
        ids = tokenizer.encode(text)
        if len(ids) != 1:
            pieces = ", ".join(repr(tokenizer.decode([i])) for i in ids)
            raise ValueError(f"--bias {text!r} is {len(ids)} tokens ({pieces}): give a text that is one")
        found[ids[0]] = value
    return found


def spellings(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The tokens of each word, at the beginning of a text and after a space."""
    found = [tokenizer.encode(word) for word in words]
    for word in words:
        try:
            found.append(tokenizer.encode(f" {word}"))
        except ValueError:
            continue  # a tokenizer of characters without the space
    return found


def sampled(job: Job, rows: Sequence[Row]) -> Iterator[Answer]:
    """Batch after batch of rows. A form of the text depends on where the prompt ends: then a batch has one prompt."""
    groups = [list(rows)]
    if job.automaton is not None:
        groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[0])]
    for group in groups:
        for start in range(0, len(group), AT_ONCE):
            yield from sampled_at_once(job, group[start : start + AT_ONCE])


def sampled_at_once(job: Job, rows: Sequence[Row]) -> list[Answer]:
    """One batch. Pieces of text are shown as they come: several rows would mix, so `show` is for one."""
    options, tokenizer = job.options, job.tokenizer
    prompts = [document(tokenizer, prompt) for prompt, _ in rows]
    decoders = [StopDecoder(tokenizer, options.stop) for _ in rows]
    texts = [""] * len(rows)
    stops = [stop.encode() for stop in options.stop]

    def on_token(row: int, token: int) -> None:
        job.meter.token()
        add(row, decoders[row].feed(token))

    def add(row: int, piece: str) -> None:
        texts[row] += piece
        job.show(piece)

    job.meter.begin(prompts)
    completions = generate_batch(
        job.model, prompts, job.config, options.max_new_tokens,
        seeds=[seed for _, seed in rows], processors=job.processors(prompts[0]),
        stop_tokens=signals(tokenizer),
        stop=(lambda text: first_stop(text, stops) is not None) if stops else None, token_bytes=tokenizer.token_bytes,
        on_token=on_token, overflow=options.overflow, use_cache=not options.no_cache,
    )  # fmt: skip
    for row, decoder in enumerate(decoders):
        add(row, decoder.flush())
    return [
        Answer(prompt, text, found.ids, found.reason, seed, log_probs=found.log_probs)
        for (prompt, seed), text, found in zip(rows, texts, completions, strict=True)
    ]


def speculative(job: Job, rows: Sequence[Row]) -> Iterator[Answer]:
    """One row after the other: a draft guesses, the model judges."""
    draft = new_draft(job)
    for prompt, seed in rows:
        text = document(job.tokenizer, prompt)
        ids, pieces, decoder = list[int](), list[str](), StopDecoder(job.tokenizer, job.options.stop)
        job.meter.begin([text])
        stream = generate_speculative(
            job.model, draft, text, job.config, job.options.max_new_tokens,
            gamma=job.options.draft_tokens, generator=torch.Generator().manual_seed(seed),
            processors=job.processors(text), stop_tokens=signals(job.tokenizer),
            report=job.report, use_cache=not job.options.no_cache,
        )  # fmt: skip
        n_rounds = job.report.n_rounds
        for token in stream:
            job.meter.token(with_first=bool(ids) and job.report.n_rounds == n_rounds + 1)
            ids.append(token)
            pieces.append(decoder.feed(token))
            job.show(pieces[-1])
            if decoder.stopped:
                break
        pieces.append(decoder.flush())
        job.show(pieces[-1])
        reason = "stop" if decoder.stopped else why_ended(job, text, ids)
        yield Answer(prompt, "".join(pieces), ids, reason, seed, log_probs=job.log_probs(text, ids))


def new_draft(job: Job) -> Draft:
    """--draft: a look-up in the text itself, or a checkpoint with the same tokenizer."""
    if job.options.draft == "lookup":
        return LookupDraft(job.model.config.vocab_size)
    model, tokenizer = load_writer(job.options.draft, job.options.device)
    if tokenizer != job.tokenizer:
        raise ValueError(f"--draft {job.options.draft} has another tokenizer than the model: train both with the same")
    return ModelDraft(model, use_cache=not job.options.no_cache)


def why_ended(job: Job, prompt: list[int], ids: list[int]) -> str:
    """The reason, from what came out: there was room, or there was none."""
    if len(ids) == job.options.max_new_tokens:
        return "length"
    return "context" if len(ids) == job.room(prompt) else "stop token"


def beams(job: Job, rows: Sequence[Row]) -> Iterator[Answer]:
    """The n_best likeliest texts behind each prompt, best first."""
    options = job.options
    for prompt, _ in rows:
        text = document(job.tokenizer, prompt)
        job.meter.begin([text])
        [found] = beam_search(
            job.model, [text], options.beams, options.max_new_tokens,
            length_penalty=options.length_penalty, n_best=options.n_best, processors=job.processors(text),
            stop_tokens=signals(job.tokenizer), use_cache=not options.no_cache,
        )  # fmt: skip
        yield from (beam_answer(job, prompt, text, hypothesis) for hypothesis in found)


def beam_answer(job: Job, prompt: str, text: list[int], found: Hypothesis) -> Answer:
    reason = why_ended(job, text, found.ids) if found.stop is None else "stop token"
    written = job.tokenizer.decode(found.ids)
    return Answer(prompt, written, found.ids, reason, score=found.score, log_probs=job.log_probs(text, found.ids))


def scored(job: Job, prompt: str, text: str) -> Answer:
    """What each token of a text is worth to the model, behind the prompt."""
    before, ids = document(job.tokenizer, prompt), job.tokenizer.encode(text)
    if not ids:
        raise ValueError(f"--score {job.options.score} is empty: give a text of at least one character")
    log_probs = score(job.model, [*before, *ids])[len(before) - 1 :].tolist()
    return Answer(prompt, text, ids, "scored", log_probs=log_probs)
