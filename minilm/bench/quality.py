"""Train a recipe for a fixed time or number of steps, then score it on the whole validation side, alone and with an n-gram.

Texts are read as characters. "Alone" has two numbers: in separate windows of the context, as nanoGPT scores, where the first
tokens of a window have little to go by; and by the rule of this house, in windows that overlap by half
(`evaluation/evaluate.py`), which is also how mixtures are scored. What mixtures weigh is fitted on the last 2 % of the
training side, from which no gradient is taken.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import nn

from minilm.bench.stopwatch import threads_restored
from minilm.bench.table import Request, Row
from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import evaluate, evaluating
from minilm.evaluation.mix import mix, mix_log_linear
from minilm.models.counted import CountedLM
from minilm.runtime import keep_freed_memory, set_seed
from minilm.text.corpus import Documents, find_sources, load_corpus
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer
from minilm.training.batches import Batches
from minilm.training.budget import plan, with_headroom
from minilm.training.config import TrainConfig
from minilm.training.loop import Batch, TrainingFailed, train
from minilm.training.prepare import Prepared

How = ParamSpec("How")
STAND_IN = 1_115_394  # characters: as many as tiny Shakespeare has
SHORTEST_SIDE = 1000  # characters of a side: on fewer no score means anything
ORDER = 7  # of the n-gram: the best one for characters of a text of this size


# ---- the text


def read_text(request: Request, default: str = "shakespeare") -> Prepared:
    """Both sides of the text that is asked for, as characters; with `tune` the validation side is not touched.

    `stories:N` has the split of its corpus. `shakespeare` means the stand-in: its first 1,115,394 characters, in the order of
    the files' names with an empty line between them. It and any file are cut once, at `split`.
    """
    return prepare_text(request.data or default, request.split, request.tune)


@functools.lru_cache(maxsize=2)
def prepare_text(data: str, split: float, tune: bool, whole: bool = False) -> Prepared:
    """Both sides, as `read_text` says; with `whole` all of the corpus, with its own split."""
    if not 0 < split < 1:
        raise ValueError(f"split is {split}: it must lie between 0 and 1, both excluded")
    if whole or data.split(":")[0] == "stories":
        corpus = load_corpus(data)
        sides = list(corpus.train), list(corpus.validation)
    else:
        text = "\n".join(Documents(find_sources(data)))
        sides = cut([text[:STAND_IN] if data == "shakespeare" else text], split)
    if tune:
        sides = cut(sides[0], 2 / 3)
    sizes = [sum(map(len, side)) for side in sides]
    if min(sizes) < SHORTEST_SIDE:
        raise ValueError(
            f"{data} is too short: training and validation side have {sizes[0]:,} and {sizes[1]:,} characters; "
            f"give a text with at least {SHORTEST_SIDE:,} on each"
        )
    tokenizer = CharTokenizer.train(document for side in sides for document in side)
    return Prepared(tokenizer, *(encode_corpus(side, tokenizer) for side in sides))


def cut(documents: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Documents before and after that fraction of all characters; the one it falls into is on both sides, a part on each.

    >>> cut(["abcd", "efgh"], 0.75)
    (['abcd', 'ef'], ['gh'])
    """
    left = int(fraction * sum(map(len, documents)))
    before: list[str] = []
    after: list[str] = []
    for document in documents:
        part = document[: max(0, left)]
        left -= len(document)
        before += [part] if part else []
        after += [document[len(part) :]] if len(part) < len(document) else []
    return before, after


# ---- training


def random_order(ids: np.ndarray, config: TrainConfig, context_length: int) -> Iterable[Batch]:
    """Windows side by side in a random order: the house's way."""
    return Batches(ids, config.batch_size, context_length, config.seed)


@dataclass(frozen=True)
class Recipe:
    """Something to train: how a fresh model for V tokens is built, how it is trained, and in which order it sees the text."""

    build: Callable[[int], Any]
    train: TrainConfig
    order: Callable[[np.ndarray, TrainConfig, int], Iterable[Batch]] = random_order


@dataclass(frozen=True)
class Trained:
    """A model, what its training took, and what `look` said on the way, with the seconds of training until then."""

    model: Any
    seconds: float
    steps: int
    looks: list[tuple[float, float]]


def train_recipe(
    recipe: Recipe,
    text: Prepared,
    seed: int,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    look: Callable[[nn.Module], float] | None = None,
    n_looks: int = 20,
) -> Trained:
    """Train a fresh model for so many seconds of optimisation or so many steps. Looks are spread evenly and cost no time.

    KeyboardInterrupt if a signal ended it; TrainingFailed as `train` raises it.
    """
    if (seconds is None) == (steps is None):
        raise ValueError(f"give either seconds or steps, got {seconds} and {steps}")
    keep_freed_memory()
    set_seed(seed)
    model = recipe.build(text.tokenizer.vocab_size)
    context_length, config = model.config.context_length, dataclasses.replace(recipe.train, seed=seed)
    with threads_restored():
        trial = Batches(text.learned, config.batch_size, context_length, seed)
        config = plan(model, trial, config, (seconds or 1.0) / 60.0)
        config = dataclasses.replace(config, eval_every=max(1, (steps or config.steps) // n_looks))
        config = dataclasses.replace(config, steps=steps, minutes=None) if steps else with_headroom(config)
        batches = recipe.order(text.learned, config, context_length)
        history = train(model, batches, config, evaluate=look, progress=False)
    if not history or "interrupted" in history[-1]:
        raise KeyboardInterrupt
    last = history[-1]
    looks = [(record["seconds"], record["validation"]) for record in history if "validation" in record]
    return Trained(model, last["seconds"], last["step"], looks)


# ---- scores


def failure_as_row(row_of: Callable[How, Row]) -> Callable[How, Row]:
    """The same function, for which a training that fails is a row that says so instead of a score."""

    @functools.wraps(row_of)
    def row_or_failure(*args: How.args, **kwargs: How.kwargs) -> Row:
        try:
            return row_of(*args, **kwargs)
        except TrainingFailed as failure:
            return {"nats": None, "failed": str(failure).split(":")[0]}

    return row_or_failure


def count_ngram(text: Prepared) -> CountedLM:
    """Modified Kneser-Ney over all of the training side."""
    config = NgramConfig(text.tokenizer.vocab_size, ORDER)
    return CountedLM(NgramLM(config).fit(text.train.ids, text.tokenizer.end_of_text))


def ngram_row(text: Prepared) -> Row:
    """The n-gram's own row, with full history, as it is scored everywhere."""
    return counted_row(text)[1]


def counted_row(text: Prepared) -> tuple[CountedLM, Row]:
    """The n-gram, and its row."""
    started = time.perf_counter()
    model = count_ngram(text)
    seconds = time.perf_counter() - started
    score = evaluate(model, text.validation, text.tokenizer)
    return model, {"nats": score.nats_per_token, "bits_per_byte": score.bits_per_byte, "seconds": seconds}


def alone_row(model: Any, text: Prepared) -> Row:
    """Nats per character in separate windows and in overlapping ones, and bits per byte of the latter."""
    score = evaluate(model, text.validation, text.tokenizer)
    return {
        "nats": score.nats_per_token,
        "nats_separate_windows": separate_nats(model, text),
        "bits_per_byte": score.bits_per_byte,
    }


def mixed_row(model: Any, text: Prepared, ngram: CountedLM) -> Row:
    """Nats per character with the n-gram's help, linear and log-linear, and what they weigh."""
    parts = (ngram, text.learned, text.held_out, text.tokenizer.end_of_text)
    linear, product = mix(model, *parts), mix_log_linear(model, *parts)
    scores = [evaluate(pair, text.validation, text.tokenizer) for pair in (linear, product)]
    return {
        "nats_mixed": scores[0].nats_per_token,
        "bits_per_byte_mixed": scores[0].bits_per_byte,
        "weight": linear.config.weight,
        "nats_log_linear": scores[1].nats_per_token,
        "bits_per_byte_log_linear": scores[1].bits_per_byte,
    }


@failure_as_row
def recipe_row(recipe: Recipe, text: Prepared, seed: int, ngram: CountedLM | None = None, **how: Any) -> Row:
    """Train and score: the row of one recipe."""
    trained = train_recipe(recipe, text, seed, **how)
    row = {**alone_row(trained.model, text), "steps": trained.steps, "seconds": trained.seconds}
    return row if ngram is None else {**row, **mixed_row(trained.model, text, ngram)}


def separate_nats(model: Any, text: Prepared, batch_tokens: int = 16_384) -> float:
    """Nats per character of the validation side in windows side by side, each as long as the context and without a past.

    All but the first token of the stream are predicted; <|endoftext|> is not counted.
    """
    ids, T = text.validation.ids.astype(np.int64), model.config.context_length
    n_windows = -(-(len(ids) - 1) // T)
    padded = np.full(n_windows * T + 1, text.tokenizer.end_of_text)
    padded[: len(ids)] = ids
    inputs, targets = (torch.from_numpy(part.reshape(n_windows, T)) for part in (padded[:-1], padded[1:]))
    nats, rows = 0.0, max(1, batch_tokens // T)
    with evaluating(model) as device:
        for begin in range(0, n_windows, rows):
            wanted = targets[begin : begin + rows].to(device)
            logits = model(inputs[begin : begin + rows].to(device))  # (B, T, V)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            cost = logits.logsumexp(-1) - logits.gather(-1, wanted[..., None])[..., 0]
            nats += float(cost[wanted != text.tokenizer.end_of_text].double().sum())
    return nats / int((targets != text.tokenizer.end_of_text).sum())


def seconds_to(target: float, looks: Iterable[tuple[float, float]]) -> float | None:
    """Seconds of training at the first look at which the model was that good; None if it never was."""
    return next((seconds for seconds, nats in looks if nats <= target), None)
