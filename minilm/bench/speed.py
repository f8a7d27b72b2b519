"""Tokens a second of training: our GPT beside the same architecture in torch's own layers, same weights, same batch, in turn."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from minilm.bench.plain_gpt import PlainGPT, plain_optimizer, plain_step
from minilm.bench.stopwatch import compare, threads_restored
from minilm.bench.table import Job, Request, Row
from minilm.fast.choose import loss_part, with_kernels
from minilm.models.config import gpt2_config
from minilm.models.gpt import GPT
from minilm.runtime import n_cores, pick_device, set_seed
from minilm.training.config import TrainConfig
from minilm.training.loop import accumulate_gradients
from minilm.training.muon import build_optimizer
from minilm.training.optim import clip_grad_norm

# Shapes at which both sides train: layers, d_model, heads, context, batch, vocabulary.
SHAPES = [
    (4, 128, 4, 64, 12, 66),
    (3, 128, 4, 128, 16, 66),
    (4, 256, 4, 128, 16, 1024),
    (4, 128, 4, 512, 4, 66),
    (6, 384, 6, 256, 16, 66),  # 10 million parameters
]

# Settings that are for other rows: these have shapes and tokens of their own.
IGNORED = ("data", "split", "tune", "steps", "changes")
SHORTEST = 0.5  # seconds of a timed run of steps


def speed_jobs(request: Request, compiled: bool) -> list[Job]:
    """A job for each shape and number type."""
    jobs = []
    for shape in SHAPES:
        layers, d_model, _, context, batch, _ = shape
        for dtype in ("float32", "bfloat16"):
            name = f"{layers} layers, d {d_model}, context {context}, batch {batch}, {dtype}"
            measure = partial(speed_row, shape, dtype == "bfloat16", compiled, request)
            expected = (
                2 * (request.runs + 1) * max(0.5, layers * d_model * d_model * context * batch / 1.6e9) + 90 * compiled
            )
            jobs.append(Job(name + ", compiled" * compiled, request.seeds[0], expected, measure, IGNORED))
    return jobs


def speed_row(shape: Sequence[int], half: bool, compiled: bool, request: Request) -> Row:
    """Tokens a second of whole training steps, both sides in turn, with the same weights and the same batch."""
    layers, d_model, heads, context, batch, vocabulary = shape
    config = gpt2_config(n_layers=layers, d_model=d_model, n_heads=heads, context_length=context, vocab_size=vocabulary)
    set_seed(request.seeds[0])
    device = pick_device()
    ours = with_kernels(False, GPT(config, **request.attention(False, device, context, compiled)).to(device))
    loss = loss_part(False, compiled, ours)["loss_function"]
    peer = PlainGPT(config).to(device)
    peer.load_ours(ours.arrays())
    ids = torch.randint(vocabulary, (batch, context + 1), device=device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    optimizer, peer_optimizer = build_optimizer(ours, TrainConfig()), plain_optimizer(peer, 1e-3)
    forward: Any = torch.compile(ours) if compiled else ours
    peer_forward = torch.compile(peer) if compiled else peer

    def our_step() -> None:
        accumulate_gradients(forward, [(inputs, targets)], loss, device, half)
        clip_grad_norm(ours.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        next(ours.parameters())[0, 0].item()  # waits for the device, as the peer's loss does

    def peer_step() -> None:
        plain_step(peer_forward, peer_optimizer, inputs, targets, half)

    with threads_restored():
        torch.set_num_threads(n_cores())
        for step in (our_step, peer_step):  # the first step compiles
            step()
        n_steps = math.ceil(SHORTEST / timed(peer_step))
        measured = compare(repeat(our_step, n_steps), repeat(peer_step, n_steps), request.runs)
    tokens = n_steps * batch * context
    return {
        "speedup": 1 / measured["ratio"],
        "tokens_per_s": tokens / measured["ours_s"],
        "peer_tokens_per_s": tokens / measured["peer_s"],
    }


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def repeat(function: Callable[[], object], n: int) -> Callable[[], None]:
    """Call it n times."""

    def many() -> None:
        for _ in range(n):
            function()

    return many
