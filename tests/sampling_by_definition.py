"""What samplers should do, in lists and plain loops: the independent side of their tests. And the rows they are tested on."""

import math

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig


def random_logits(rows: int, V: int, generator: torch.Generator, tied: bool = True) -> Tensor:
    """Rows of very different sharpness, every second one with many ties."""
    logits = torch.randn(rows, V, generator=generator, dtype=torch.double)
    logits *= torch.linspace(0.05, 6, rows, dtype=torch.double)[torch.randperm(rows, generator=generator), None]
    if tied:
        logits[::2] = logits[::2].round()
    return logits


def by_size(numbers: list[float]) -> list[int]:
    """Ids from the largest number to the smallest, ties by lower id."""
    return sorted(range(len(numbers)), key=lambda i: (-numbers[i], i))


def probabilities(row: list[float]) -> list[float]:
    weights = [math.exp(x - max(row)) for x in row]
    return [weight / math.fsum(weights) for weight in weights]


def until(order: list[int], chances: list[float], mass: float) -> list[int]:
    """Tries sizes upwards. The sums of fsum are exact, then rounded once."""
    sizes = range(1, len(order) + 1)
    size = next((n for n in sizes if math.fsum(chances[i] for i in order[:n]) >= mass), len(order))
    return sorted(order if mass == 1 else order[:size])


def top_k(row: list[float], k: int) -> list[int]:
    return sorted(by_size(row)[:k])


def top_p(row: list[float], p: float) -> list[int]:
    return until(by_size(row), probabilities(row), p)


def min_p(row: list[float], p: float) -> list[int]:
    bound = max(row) + math.log(p) if p > 0 else -math.inf
    return [i for i, x in enumerate(row) if x >= bound]


def typical(row: list[float], p: float) -> list[int]:
    chances = probabilities(row)
    surprise = [max(row) + math.log(1 / max(chances)) - x for x in row]
    entropy = math.fsum(chance * s for chance, s in zip(chances, surprise, strict=True))
    return until(by_size([-abs(s - entropy) for s in surprise]), chances, p)


def distribution(row: list[float], text: list[int], config: SampleConfig) -> list[float]:
    """Logits of one row -> probabilities: penalties, temperature, filters, one after the other."""
    row = list(row)
    for token in set(text):
        row[token] *= 1 / config.repetition_penalty if row[token] > 0 else config.repetition_penalty
        row[token] -= config.presence_penalty + config.frequency_penalty * text.count(token)
    scores = {i: x / config.temperature for i, x in enumerate(row)}  # of what is still there
    settings = (config.top_k, config.top_p, config.min_p, config.typical_p)
    for keep, setting in zip((top_k, top_p, min_p, typical), settings, strict=True):
        if setting is not None:
            ids = list(scores)
            scores = {ids[i]: scores[ids[i]] for i in keep(list(scores.values()), setting)}
    found = [0.0] * len(row)
    for i, chance in zip(scores, probabilities(list(scores.values())), strict=True):
        found[i] = chance
    return found
