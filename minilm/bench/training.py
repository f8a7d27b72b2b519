"""How fast training is, and how good what comes out of it: our recipe beside nanoGPT's and beside the n-gram, on one text.

The target is what nanoGPT's laptop recipe comes to: the n-gram's nats plus 0.36, in separate windows of the context. Seconds
are seconds of training; looking at the validation side on the way is not counted.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from functools import partial

from minilm.bench.plain_gpt import PlainGPT, train_like_nanogpt
from minilm.bench.quality import (
    Recipe,
    alone_row,
    count_ngram,
    ngram_row,
    read_text,
    recipe_row,
    seconds_to,
    separate_nats,
    train_recipe,
)
from minilm.bench.recipes import speedrun_recipe
from minilm.bench.speed import speed_jobs
from minilm.bench.table import Job, Request, Row, medians
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.runtime import set_seed

BEHIND = 0.36  # nats by which nanoGPT's laptop recipe stays behind the n-gram
NANOGPT = GPTConfig(context_length=64, d_model=128, n_layers=4, n_heads=4, mlp="gelu", bias=False)
NANOGPT_STEPS = (2000, 2500)  # its own schedule, and one long enough to reach the target
QUICK = {"n_layers": 1, "context_length": 64, "batch_size": 24, "warmup": 5}
QUICK_STEPS = 185
SECONDS = (60.0, 120.0, 300.0)
N_LOOKS = 20


class Ground:
    """The text on which all compete, and what the n-gram makes of it, counted when first asked for."""

    def __init__(self, request: Request) -> None:
        self.text = read_text(request)

    @functools.cached_property
    def ngram(self) -> CountedLM:
        return count_ngram(self.text)

    @functools.cached_property
    def target(self) -> float:
        """Nats per character that nanoGPT's laptop recipe comes to."""
        return float(ngram_row(self.text)["nats"]) + BEHIND


def table(request: Request) -> list[Job]:
    """The n-gram, nanoGPT, our recipes, and the tokens a second of both on the same architecture."""
    ground = Ground(request)
    jobs = [Job("n-gram of order 7", request.seeds[0], 2, partial(ngram_row, ground.text))]
    for steps in [request.steps] if request.steps else NANOGPT_STEPS:
        name = f"nanoGPT, {steps:,} steps"
        jobs += [Job(name, seed, 0.08 * steps, partial(nanogpt_row, ground, steps, seed)) for seed in request.seeds]
    quick, n = speedrun_recipe(request, QUICK), request.steps or QUICK_STEPS
    name = f"quick recipe, {n:,} steps"
    jobs += [Job(name, seed, 0.08 * n, partial(quick_row, ground, quick, n, seed)) for seed in request.seeds]
    ours = speedrun_recipe(request)
    for seconds in request.seconds or SECONDS:
        name = f"our recipe, {seconds:g} s"
        jobs += [Job(name, seed, seconds + 20, partial(our_row, ground, ours, seconds, seed)) for seed in request.seeds]
    return jobs + speed_jobs(request, compiled=False)


def large_table(request: Request) -> list[Job]:
    """The tokens a second of both on the same architecture, compiled."""
    return speed_jobs(request, compiled=True)


# ---- how good


def nanogpt_row(ground: Ground, steps: int, seed: int) -> Row:
    """The peer, trained its own way on all of the training side."""
    text = ground.text
    set_seed(seed)
    model = PlainGPT(dataclasses.replace(NANOGPT, vocab_size=text.tokenizer.vocab_size))
    looks = train_like_nanogpt(
        model, text.train.ids, steps, seed, max(1, steps // N_LOOKS), lambda model: separate_nats(model, text)
    )
    row = {**alone_row(model, text), "steps": steps, "seconds": looks[-1][0]}
    return {**row, "seconds_to_target": seconds_to(ground.target, looks)}


def quick_row(ground: Ground, recipe: Recipe, steps: int, seed: int) -> Row:
    """Our recipe in small, over a number of steps that was fixed before: when does it reach the target?"""
    text = ground.text
    done = train_recipe(recipe, text, seed, steps=steps, look=lambda model: separate_nats(model, text), n_looks=N_LOOKS)
    row = {**alone_row(done.model, text), "steps": done.steps, "seconds": done.seconds}
    return {**row, "seconds_to_target": seconds_to(ground.target, done.looks)}


def our_row(ground: Ground, recipe: Recipe, seconds: float, seed: int) -> Row:
    """Our recipe for so many seconds, alone and with the n-gram."""
    return recipe_row(recipe, ground.text, seed, ground.ngram, seconds=seconds)


# ---- what it comes to


def conclusions(rows: Sequence[Row]) -> list[str]:
    """Sentences below the table: how much sooner the target is reached, and how far each recipe is from the n-gram."""
    counted = [row["nats"] for row in rows if row["row"].startswith("n-gram")]
    if not counted:
        return []
    bar = counted[0]
    lines = [f"target: {bar + BEHIND:.4f} nats in separate windows, {BEHIND} above the n-gram"]
    reached = {name: median_to_target(rows, name) for name in ("nanoGPT, 2,500", "quick recipe")}
    for name, (seconds, share) in reached.items():
        if share:
            lines.append(f"{name}: reached by {share}, median {seconds:.1f} s")
    nanogpt, quick = (seconds for seconds, _ in reached.values())
    if math.isfinite(nanogpt) and math.isfinite(quick):
        lines.append(f"ratio: {nanogpt / quick:.1f}")
    for row in medians(row for row in rows if row["row"].startswith("our recipe") and row["nats"] is not None):
        gaps = [row[name] - bar for name in ("nats_separate_windows", "nats", "nats_mixed", "nats_log_linear")]
        kinds = ("separate windows", "overlapping", "mixed", "log-linear")
        parts = (f"{kind} {gap:+.4f}" for kind, gap in zip(kinds, gaps, strict=True))
        lines.append(f"{row['row']}, against the n-gram: {', '.join(parts)}")
    return lines


def median_to_target(rows: Iterable[Row], name: str) -> tuple[float, str]:
    """Median seconds to the target over the seeds (infinite for one that never got there), and how many did."""
    seconds = [row["seconds_to_target"] for row in rows if row["row"].startswith(name)]
    if not seconds:
        return math.inf, ""
    finite = [math.inf if value is None else value for value in seconds]
    return statistics.median(finite), f"{sum(map(math.isfinite, finite))} of {len(finite)}"
