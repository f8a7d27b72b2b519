"""Which old weights may still move, and how far: frozen parts, and learning rates that shrink towards the input.

What a language model has learnt first, letters and words, serves every task; what stands near the output is about its own
task. So the lower layers may rest (`freeze_first`) or move less (`layerwise_groups`), and little is forgotten. Learning rates by
layer: Howard and Ruder 2018, "Universal language model fine-tuning for text classification".

Depth is counted from the input: the tables are 0, block i is i + 1, and all behind the blocks is one more than the last.
A tied head is the embedding table, one tensor: it counts as a table.
"""

from collections.abc import Collection
from typing import NamedTuple

from torch import nn

from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.optim import Group, Optimizer, decay_groups

TABLES = {"embedding", "embeddings", "positions", "ngrams"}  # what GPT and SpeedrunGPT call them


class Counts(NamedTuple):
    """Numbers of a model: those that training changes, and all. What is shared counts once."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> Counts:
    """How many numbers training changes, of how many."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Counts(sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes))


def is_part(name: str, part: str) -> bool:
    """Whether the dotted name goes through `part`, by whole steps.

    >>> is_part("blocks.1.mlp.up.weight", "blocks.1"), is_part("blocks.10.mlp.up.weight", "blocks.1")
    (True, False)
    """
    return f".{part}." in f".{name}."


def freeze(model: nn.Module, keep: Collection[str] = ()) -> list[str]:
    """Let only the parts named in `keep` learn, say ("lm_head", "blocks.3"); return the names of what is frozen.

    A frozen parameter has no gradient, not even an old one, so no optimizer moves it and no weight decay shrinks it.
    """
    named = list(model.named_parameters())
    for part in keep:
        if not any(is_part(name, part) for name, _ in named):
            raise ValueError(f"no parameter belongs to {part!r}: name a part of the model, such as {named[-1][0]}")
    frozen = []
    for name, p in named:
        p.requires_grad_(any(is_part(name, part) for part in keep))
        if not p.requires_grad:
            p.grad = None
            frozen.append(name)
    return frozen


def freeze_first(model: nn.Module, n: int) -> list[str]:
    """Freeze the tables and the first n blocks and let the rest learn; return the names of what is frozen."""
    last = n_blocks(model)
    if not 0 <= n <= last:
        raise ValueError(f"cannot freeze the first {n} blocks: the model has {last}")
    return freeze(model, [name for name, _ in model.named_parameters() if depth(name, last) > n])


def unfreeze(model: nn.Module) -> None:
    """Let all parameters learn."""
    for p in model.parameters():
        p.requires_grad_(True)


def block_of(name: str) -> int | None:
    """The number of the block that the parameter belongs to; None outside the blocks."""
    steps = name.split(".")
    return int(steps[steps.index("blocks") + 1]) if "blocks" in steps else None


def n_blocks(model: nn.Module) -> int:
    """How many blocks the model has."""
    found = [block for name, _ in model.named_parameters() if (block := block_of(name)) is not None]
    if not found:
        raise ValueError(f"a {type(model).__name__} has no blocks: its layers cannot be told apart by depth")
    return max(found) + 1


def depth(name: str, n_blocks: int) -> int:
    """How far from the input a parameter stands: 0 for tables, i + 1 in block i, n_blocks + 1 behind the blocks.

    >>> [depth(name, 6) for name in ("embedding.weight", "blocks.4.mlp.up.bias", "norm.weight", "lm_head.weight")]
    [0, 5, 7, 7]
    """
    block = block_of(name)
    if block is not None:
        return block + 1
    return 0 if TABLES & set(name.split(".")) else n_blocks + 1


def by_depth(groups: list[Group], n_blocks: int, decay: float) -> list[Group]:
    """Split groups by depth, the output first; each step towards the input multiplies the learning rate by `decay`."""
    if not 0 < decay <= 1:
        raise ValueError(f"decay is {decay}: it must be above 0 and at most 1 (all layers at one rate)")
    top = n_blocks + 1
    split: list[Group] = []
    for level in range(top, -1, -1):
        for group in groups:
            pairs = zip(group["names"], group["params"], strict=True)
            chosen = [(name, p) for name, p in pairs if depth(name, n_blocks) == level]
            if chosen:
                names, params = zip(*chosen, strict=True)
                split.append({**group, "names": list(names), "params": list(params)})
                for rate in {"lr", "base_lr"} & group.keys():
                    split[-1][rate] *= decay ** (top - level)
    return split


def layerwise_groups(model: nn.Module, config: TrainConfig, decay: float = 0.9) -> list[Group]:
    """The groups of `decay_groups`, split by depth: lr = learning_rate * decay^(steps below the output).

    With 4 blocks and decay 0.9 the head learns at the whole rate, the last block at 0.9 and the tables at 0.9^5 = 0.59 of it.
    """
    return by_depth(decay_groups(model, config.learning_rate, config.weight_decay), n_blocks(model), decay)


def layerwise_optimizer(model: nn.Module, config: TrainConfig, decay: float = 0.9) -> Optimizer:
    """The optimizer that the config names, Muon too, with the rates of `layerwise_groups`."""
    optimizer = build_optimizer(model, config)
    optimizer.groups = by_depth(optimizer.groups, n_blocks(model), decay)
    return optimizer
