"""What a model costs that was made from another one: rounded to int8, with an adapter beside it, or with a head on it.

As in `accounting.py` from the config alone. Such a model is a plain transformer and something more (or less), so its account
is that of the transformer, and a few parts, each with its parameters, its FLOPs and its bytes.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from minilm.models.accounting import BYTES, Account, Brick, account, total
from minilm.models.config import GPTConfig, SpeedrunConfig

CONFIGS: dict[str, type] = {"gpt": GPTConfig, "speedrun": SpeedrunConfig}
HEADS = ("sequence-classifier", "token-classifier", "span-extractor")
MADE = ("quantized", "adapted", *HEADS)  # the kinds that this file knows


@dataclass(frozen=True)
class Part:
    """A part of such a model: `weights` are bytes, `here` says whether they are in its checkpoint."""

    name: str
    parameters: int
    flops: int  # forward, for one token; of what judges a whole text, for that text
    weights: int
    learns: bool
    here: bool = True


@dataclass(frozen=True)
class PartAccount:
    """The parts of a model, how it was made, and the account of the plain transformer that it was made from."""

    kind: str
    how: str
    plain: Account
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Forward, for one token."""
        return sum(part.flops for part in self.parts)

    @property
    def weights(self) -> int:
        """Bytes of its checkpoint."""
        return sum(part.weights for part in self.parts if part.here)

    @property
    def learned(self) -> int:
        """Parameters that training changes."""
        return sum(part.parameters for part in self.parts if part.learns)


def plain_config(kind: str, config: Any) -> Any:
    """The config of the plain transformer in a model of a kind in MADE; ValueError if it is none."""
    if kind == "quantized":
        inside, fields = config.model["kind"], config.model["config"]
    elif kind == "adapted":
        inside, fields = config.base_kind, config.base_config
    else:
        inside, fields = config.backbone_kind, config.backbone
    if inside not in CONFIGS:
        raise ValueError(
            f"in this {kind} model is a {inside}, which is no transformer: describe a gpt or a speedrun model"
        )
    return CONFIGS[inside](**fields)


def part_account(
    kind: str, config: Any, batch_size: int = 1, length: int | None = None, dtype: str = "float32"
) -> PartAccount:
    """The account of a model of a kind in MADE with this config; ValueError as in `account`, and for int8 in another type."""
    plain = account(plain_config(kind, config), batch_size, length, dtype)
    if kind == "quantized":
        if dtype != "float32":
            raise ValueError(f"dtype is {dtype!r}: a rounded model has its matrices in int8 and the rest in float32")
        shared = "each output" if config.group is None else f"each {config.group} inputs of an output"
        how = f"a {plain.kind} whose matrices are rounded to int8, with a scale for {shared}"
        return PartAccount(kind, how, plain, rounded(plain, config.group))
    if kind == "adapted":
        targets = config.lora["targets"]
        how = f"a {plain.kind} with an adapter of rank {config.lora['rank']} in {', '.join(targets) or 'all its maps'}"
        bricks = plain.bricks
        head: tuple[Part, ...] = ()
        if config.head is not None:
            bricks, head = without_head(plain), (score(plain, config.labels),)
            how += f", and a head for {len(config.labels)} labels"
        base = part(f"base {plain.kind}", bricks, plain, learns=False, here=False)
        return PartAccount(kind, how, plain, (base, adapter(plain, config.lora["rank"], targets), *head))
    how = f"a {plain.kind} with a head for {len(config.labels)} labels: {', '.join(config.labels[:8])}"
    backbone = part(f"{plain.kind} without its head", without_head(plain), plain)
    return PartAccount(kind, how, plain, (backbone, score(plain, config.labels)))


def part(name: str, bricks: Collection[Brick], plain: Account, learns: bool = True, here: bool = True) -> Part:
    """These bricks as one part."""
    parameters = total(bricks, "parameters")
    return Part(name, parameters, total(bricks, "flops"), parameters * BYTES[plain.dtype], learns, here)


def matrices(plain: Account) -> list[Brick]:
    """The bricks that multiply by a matrix of their own (O, I)."""
    return [brick for brick in plain.bricks if len(brick.weight) == 2 and brick.flops]


def without_head(plain: Account) -> tuple[Brick, ...]:
    """What a model with a head of its own keeps: all but the scores of the next token. A tied table stays, as the embedding."""
    return tuple(brick for brick in plain.bricks if brick.name not in ("lm_head", "loss"))


def score(plain: Account, labels: Collection[str]) -> Part:
    """A head: D numbers and a shift for each label."""
    (_, D), C = next(brick.weight for brick in plain.bricks if brick.name == "lm_head"), len(labels)
    return Part("head", C * D + C, 2 * C * D, (C * D + C) * BYTES[plain.dtype], learns=True)


def adapter(plain: Account, rank: int, targets: Collection[str]) -> Part:
    """A (R, I) and B (O, R) beside each matrix that is named, or beside all but the head, as `finetuning/lora.py` has them."""
    parameters = 0
    for brick in matrices(plain):
        name, (n_out, n_in) = brick.name.rpartition(".")[2], brick.weight
        if name in targets or (not targets and name != "lm_head"):
            parameters += brick.copies * rank * (n_out + n_in)
    return Part("adapter", parameters, 2 * parameters, parameters * BYTES[plain.dtype], learns=True)


def rounded(plain: Account, group: int | None) -> tuple[Part, Part]:
    """The matrices in int8 with their scales in float32, and all else; a matrix with two uses is stored once."""
    numbers = flops = scales = 0
    for brick in matrices(plain):
        n_out, n_in = brick.weight
        numbers += brick.copies * n_out * n_in
        scales += brick.copies * n_out * n_groups(n_in, group)
        flops += brick.copies * brick.flops
    others = plain.parameters - numbers
    int8 = Part("matrices in int8", numbers, flops, numbers + 4 * scales, learns=False)
    return int8, Part("the rest in float32", others, plain.flops_forward - flops, 4 * others, learns=False)


def n_groups(n_in: int, group: int | None) -> int:
    """How many scales an output with n_in inputs has, where at most `group` share one, in groups as even as can be.

    >>> [n_groups(100, group) for group in (64, 30, 1000, None)]
    [2, 4, 1, 1]
    """
    if group is None or group >= n_in:
        return 1
    even = math.ceil(n_in / math.ceil(n_in / group))
    return math.ceil(n_in / even)
