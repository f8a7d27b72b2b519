"""A scaling law put to the test: small models are trained, the loss of a larger one is predicted from them, then it is trained.

Each model reads TOKENS_A_WEIGHT characters for each weight of its blocks, once, so that text and model grow together (as
Hoffmann et al. 2022 advise); with --steps all get the same number of updates. The prediction is a row of its own. It is
printed, and written to the file of --out, before the larger training begins, and a second run of the command keeps it.
"""

import functools
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from minilm.bench.quality import Recipe, failure_as_row, prepare_text, train_recipe
from minilm.bench.table import Job, Request, Row
from minilm.evaluation.evaluate import evaluate
from minilm.evaluation.scaling import PowerLaw, bootstrap_interval, fit_power_law
from minilm.fast.choose import with_kernels
from minilm.models.config import GPTConfig, gpt2_config
from minilm.models.gpt import GPT
from minilm.runtime import pick_device
from minilm.training.config import TrainConfig
from minilm.training.loop import TrainingFailed
from minilm.training.prepare import Prepared
from minilm.training.recipes import RECIPES

WIDTHS = (24, 32, 40, 48, 56)  # of the small models; at 16, after 120 steps, seeds are 10 % apart
LARGER = 96  # three times the weights of the largest small one, and three times its text: nine times the work
LAYERS, CONTEXT, HEAD = 2, 64, 16  # a head has at least 16 numbers
TOKENS_A_WEIGHT = 20
SEEDS = 3  # where less than two were asked for: a fit needs to know what chance does
RATE = 0.018  # learning rate, chosen on the tune split with widths 16, 32, 48 and 64
BATCH = 16
SCORED_BYTES = 200_000  # of the validation side
DRAWS = 2000


def table(request: Request) -> list[Job]:
    """The small models with all seeds, the prediction, and the larger model with the first seed."""
    if request.seconds:
        raise ValueError("--seconds: the size of a model decides how long it is trained; leave it out, or give --steps")
    text = functools.cache(lambda: prepare_text(request.data or "shakespeare", request.split, request.tune, True))
    seeds = request.seeds if len(request.seeds) > 1 else tuple(request.seeds[0] + i for i in range(SEEDS))
    rows = [(width, seed) for width in WIDTHS for seed in seeds] + [(LARGER, seeds[0])]
    jobs = []
    for width, seed in rows:
        seconds = 2 + 5e-4 * width * steps_of(request, width)
        jobs.append(
            Job(name_of(width), seed, seconds, partial(size_row, request, text, width, seed), ("runs", "split"))
        )
    n_small = len(rows) - 1
    name = f"prediction from {n_small} runs: {name_of(LARGER)}"
    prediction = Job(name, seeds[0], 3, partial(prediction_row, n_small), ("runs", "split"), True)
    return [*jobs[:-1], prediction, jobs[-1]]


def name_of(width: int) -> str:
    return f"{weights_of(width):,} weights"


def weights_of(width: int) -> int:
    """Weights of the blocks' matrices; tables and head are left out (as Kaplan et al. 2020 do)."""
    return 12 * LAYERS * width**2


def steps_of(request: Request, width: int) -> int:
    """Updates of a model of this width."""
    return request.steps or max(1, round(TOKENS_A_WEIGHT * weights_of(width) / (BATCH * CONTEXT)))


def train_config(request: Request, width: int) -> TrainConfig:
    """As `minilm train --model gpt`, but for the learning rate, which so small models want higher, and for one thread."""
    steps = steps_of(request, width)
    own = {"learning_rate": RATE, "batch_size": BATCH, "warmup": max(1, steps // 10), "threads": 1}
    return TrainConfig(**{**RECIPES["gpt"], **own, **request.changes})


@failure_as_row
def size_row(request: Request, text: Any, width: int, seed: int) -> Row:
    """Train a model of this width and score it."""
    prepared: Prepared = text()
    recipe = Recipe(partial(build, request, width), train_config(request, width))
    done = train_recipe(recipe, prepared, seed, steps=steps_of(request, width))
    score = evaluate(done.model, prepared.validation, prepared.tokenizer, max_bytes=SCORED_BYTES)
    return {
        "nats": score.nats_per_token,
        "bits_per_byte": score.bits_per_byte,
        "weights": weights_of(width),
        "steps": done.steps,
        "seconds": done.seconds,
    }


def build(request: Request, width: int, vocab_size: int) -> GPT:
    """A fresh model."""
    n_heads = max(n for n in range(1, 1 + width // HEAD) if width % n == 0)
    config: GPTConfig = gpt2_config(
        vocab_size=vocab_size, context_length=CONTEXT, d_model=width, n_layers=LAYERS, n_heads=n_heads
    )
    device = pick_device()
    model = GPT(config, **request.attention(False, device, CONTEXT)).to(device)
    return with_kernels(False, model)


# ---- the law


@failure_as_row
def prediction_row(n_small: int, rows: Sequence[Row]) -> Row:
    """What the small runs say of the larger one: the law, and in which interval 95 of 100 such runs should end."""
    if failed := [row["row"] for row in rows if row.get("nats") is None]:
        raise TrainingFailed(f"{failed[0]} failed, so that nothing is predicted: try a smaller learning_rate")
    if len(rows) < n_small:
        raise ValueError(
            "the prediction needs all small runs: leave out --only, or name the --out file that holds them"
        )
    weights, losses = by_size(rows)
    law = fit_power_law(weights, np.exp(np.log(losses).mean(0)))
    at = weights_of(LARGER)
    low, median, high = bootstrap_interval(weights, losses, at, DRAWS, np.random.default_rng(0))
    row = {"nats": float(law(at)), "low": low, "median": median, "high": high, "weights": at, **law._asdict()}
    tqdm.write(sentence(row), file=sys.stderr)
    return row


def by_size(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of small runs as weights (N,) and losses (seeds, N)."""
    weights = sorted({row["weights"] for row in rows})
    losses = [[row["nats"] for row in rows if row["weights"] == size] for size in weights]
    return np.array(weights, dtype=np.float64), np.array(losses).T


def sentence(row: Row) -> str:
    """The prediction in words."""
    law = PowerLaw(row["floor"], row["scale"], row["exponent"])
    formula = f"nats = {law.floor:.3f} + {law.scale:.3g} / weights^{law.exponent:.3f}"
    return (
        f"{formula}; predicted for {row['weights']:,} weights: {row['nats']:.3f} nats, 95 % interval {row['low']:.3f} to "
        f"{row['high']:.3f}"
    )


def conclusions(rows: Sequence[Row]) -> list[str]:
    """The prediction, and whether the larger run kept to it."""
    predictions = [row for row in rows if row["row"].startswith("prediction") and row.get("nats") is not None]
    if not predictions:
        return []
    said = predictions[0]
    lines = [sentence(said)]
    for row in rows:
        if row["row"] == name_of(LARGER) and row.get("nats") is not None:
            place = "inside" if said["low"] <= row["nats"] <= said["high"] else "outside"
            off = row["nats"] - said["nats"]
            lines.append(f"measured: {row['nats']:.3f} nats ({off:+.3f}), {place} the interval")
    return lines
