"""The peer: a GPT-2 as one writes it with torch's own layers, kernel and AdamW, and nanoGPT's laptop recipe for it."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.bench.stopwatch import threads_restored
from minilm.models.config import GPTConfig
from minilm.runtime import n_cores
from minilm.training.batches import sample_batch
from minilm.training.loop import TrainingFailed


class PlainBlock(nn.Module):
    """(B, T, D) -> (B, T, D): pre-norm, causal attention, an MLP with GELU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        D, d_ff, bias = config.d_model, config.d_ff or 4 * config.d_model, config.bias
        self.n_heads = config.n_heads
        self.attention_norm = nn.LayerNorm(D, config.norm_eps, bias=bias)
        self.mlp_norm = nn.LayerNorm(D, config.norm_eps, bias=bias)
        self.qkv, self.out = nn.Linear(D, 3 * D, bias), nn.Linear(D, D, bias)
        self.up, self.down = nn.Linear(D, d_ff, bias), nn.Linear(d_ff, D, bias)
        self.gelu = nn.GELU("tanh" if config.mlp == "gelu_tanh" else "none")

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        parts = self.qkv(self.attention_norm(x)).split(D, dim=-1)
        q, k, v = (part.view(B, T, self.n_heads, -1).transpose(1, 2) for part in parts)  # (B, H, T, K)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, D))
        return x + self.down(self.gelu(self.up(self.mlp_norm(x))))


class PlainGPT(nn.Module):
    """ids (B, T) -> logits (B, T, V): what our GPT is with a GPT-2 config, in torch's layers."""

    kind = "plain"

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        other = config.norm != "layer" or config.mlp == "swiglu" or config.rope_theta or not config.tie_embeddings
        if other or config.dropout or config.n_kv_heads not in (None, config.n_heads):
            raise ValueError(f"the plain peer is a GPT-2 (see gpt2_config) without dropout, got {config}")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps, bias=config.bias)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)

    @torch.no_grad()
    def load_ours(self, arrays: Mapping[str, Tensor]) -> None:
        """Take over the weights of our GPT, `arrays()`: q, k and v become one matrix, other names are translated."""
        ours, translated = dict(arrays), {}
        for name in list(ours):
            if name.endswith((".q.weight", ".q.bias")):
                stem, _, what = name.rpartition(".q.")
                joined = torch.cat([ours.pop(f"{stem}.{part}.{what}") for part in "qkv"])
                translated[f"{stem.removesuffix('.attention')}.qkv.{what}"] = joined
        for name, array in ours.items():
            translated[name.replace(".attention.out.", ".out.").replace(".mlp.", ".")] = array
        self.load_state_dict(translated)


def plain_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """torch's AdamW with nanoGPT's settings: only matrices and tables decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def plain_step(
    model: Any, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, half: bool = False
) -> float:
    """One update on a batch (B, T), (B, T): forward, loss, backward, clip, step; with `half` in bfloat16. Returns the loss."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()  # waits for the device: what is timed is over


def nanogpt_learning_rate(step: int, steps: int, peak: float = 1e-3, floor: float = 1e-4, warmup: int = 100) -> float:
    """Up over the warm-up, then down to a tenth along a cosine."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return floor + 0.5 * (1.0 + math.cos(math.pi * done)) * (peak - floor)


def train_like_nanogpt(
    model: PlainGPT,
    ids: np.ndarray,
    steps: int,
    seed: int,
    look_every: int,
    look: Callable[[nn.Module], float],
    batch_size: int = 12,
) -> list[tuple[float, float]]:
    """nanoGPT's loop: float32, windows drawn anywhere. Returns what `look` said, with the seconds of training until then.

    It looks every look_every steps and at the end; looking is not counted. The faster of one thread and all is used.
    TrainingFailed if the loss is no longer a number.
    """
    generator, context_length = torch.Generator().manual_seed(seed), model.config.context_length
    optimizer, seconds, looks = plain_optimizer(model, 1e-3), 0.0, []
    device = model.norm.weight.device
    model.train()
    with threads_restored():
        torch.set_num_threads(fastest_threads(model, on(device, sample_batch(ids, batch_size, context_length))))
        for step in range(steps):
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = nanogpt_learning_rate(step, steps)
            batch = on(device, sample_batch(ids, batch_size, context_length, generator))
            loss = plain_step(model, optimizer, *batch)
            seconds += time.perf_counter() - began
            if not math.isfinite(loss):
                raise TrainingFailed(f"step {step + 1}: loss {loss}")
            if (step + 1) % look_every == 0 or step + 1 == steps:
                looks.append((seconds, look(model)))
    model.eval()
    return looks


def on(device: torch.device, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The batch on that device."""
    inputs, targets = batch
    return inputs.to(device), targets.to(device)


def fastest_threads(model: nn.Module, batch: tuple[Tensor, Tensor]) -> int:
    """The number of threads with which a step is quickest, of one and all cores: each best of five, on a copy."""

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        trial = copy.deepcopy(model)
        optimizer, times = plain_optimizer(trial, 0.0), []
        for _ in range(6):
            began = time.perf_counter()
            plain_step(trial, optimizer, *batch)
            times.append(time.perf_counter() - began)
        return min(times[1:])

    return min(sorted({1, n_cores()}), key=seconds)
