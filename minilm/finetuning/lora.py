"""LoRA: leave a trained matrix W as it is, and learn a change of low rank beside it (Hu et al. 2021).

    y = W x + b + alpha / rank * B A x          W (O, I), A (R, I), B (O, R)

R (I + O) numbers learn instead of I O. A starts random and B at zero: at first nothing is changed, and B has a gradient all
the same (were both zero, neither would; were both random, the model would begin with noise). W is never touched, so one
base serves many adapters, each a fraction of its size. The change can be added to W (`merge_lora`), which costs no time then,
and taken out again: the old W is kept meanwhile, because (W + BA) - BA is not W in floating point.

The model never hears of it: a `LoRALinear` stands in the place of a `Linear` and does what it did.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minilm.finetuning.freezing import freeze
from minilm.finetuning.lora_config import MAPS, LoRAConfig
from minilm.layers.basic import Dropout, Linear, linear


def lora(x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """The change of the output: x (..., I), A (R, I), B (O, R) -> scale * B A x (..., O), first through the narrow one.

    >>> lora(torch.tensor([1.0, 2.0]), A=torch.tensor([[3.0, 4.0]]), B=torch.tensor([[1.0], [0.0], [-1.0]]), scale=0.5)
    tensor([ 5.5000,  0.0000, -5.5000])
    """
    return scale * linear(linear(x, A), B)


def merged_weight(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """The one matrix that does what W (O, I) and its change do together: W + scale B A, a new tensor (O, I).

    >>> merged_weight(torch.eye(2), A=torch.tensor([[3.0, 4.0]]), B=torch.tensor([[1.0], [0.0]]), scale=0.5)
    tensor([[2.5000, 2.0000],
            [0.0000, 1.0000]])
    """
    return weight + scale * (B @ A)


class LoRALinear(nn.Module):
    """(..., I) -> (..., O): a frozen Linear and its change. `scale` is alpha / rank; dropout is of the change's input only."""

    def __init__(self, linear: Linear, A: Tensor, B: Tensor, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear, self.scale, self.dropout = linear, scale, Dropout(dropout)
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        self.kept: Tensor | None = None  # the old matrix, while another one with the change stands in its place

    @classmethod
    def from_linear(
        cls, linear: Linear, rank: int, alpha: float, generator: torch.Generator, dropout: float = 0.0
    ) -> "LoRALinear":
        """A change that is none yet: A normal with variance 1 / I, so that A x is of the size of x, and B zero."""
        check_rank(rank, linear)
        freeze(linear)
        d_out, d_in = linear.weight.shape
        A = torch.randn(rank, d_in, generator=generator) / math.sqrt(d_in)
        layer = cls(linear, A.to(linear.weight), linear.weight.new_zeros(d_out, rank), alpha / rank, dropout)
        return layer.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            return self.linear(x) + lora(self.dropout(x), self.A, self.B, self.scale)
        if self.training and torch.is_grad_enabled():
            raise ValueError("the adapter is merged and would learn nothing: unmerge_lora(model) before training")
        return self.linear(x)

    @property
    def weight(self) -> Tensor:
        """The matrix (O, I) that is meant, W + scale B A, for whoever multiplies by it himself."""
        W = self.linear.weight
        return merged_weight(W, self.A, self.B, self.scale) if self.kept is None else W

    @property
    def bias(self) -> nn.Parameter | None:
        """That of the Linear. It does not change."""
        return self.linear.bias

    @torch.no_grad()
    def merge(self) -> None:
        """Put W + scale B A, a new tensor, in the place of W. Where that is done already, do nothing."""
        if self.kept is None:
            self.check_plain()
            merged, self.kept = self.weight, self.linear.weight.detach()
            self.linear.weight = nn.Parameter(merged, requires_grad=False)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the old W back, bit for bit. Where nothing is merged, do nothing."""
        if self.kept is not None:
            self.check_plain()
            W = self.kept.to(self.linear.weight)  # the model may have moved meanwhile
            self.linear.weight, self.kept = nn.Parameter(W, requires_grad=False), None

    def check_plain(self) -> None:
        """ValueError where `quantize` has rounded the matrix: another one cannot take its place."""
        if not isinstance(self.linear, Linear):
            raise ValueError("the matrix is rounded: merge or unmerge the adapter first, quantize afterwards")


def check_rank(rank: int, linear: Linear) -> None:
    """ValueError unless the rank is one that a change of this matrix can have."""
    d_out, d_in = linear.weight.shape
    if not 1 <= rank <= min(d_out, d_in):
        raise ValueError(f"rank is {rank}: that of a {d_out} x {d_in} matrix is from 1 to {min(d_out, d_in)}")


def children(model: nn.Module, kind: type) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """(whole name, parent, name in the parent, part) for each part of this class, in the order of the model."""
    for path, parent in model.named_modules():
        for name, part in parent.named_children():
            if isinstance(part, kind):
                yield f"{path}.{name}".lstrip("."), parent, name, part


def add_lora(model: nn.Module, config: LoRAConfig, generator: torch.Generator) -> list[str]:
    """Freeze the model and put an adapter into it, in place; return the names of the maps that got one.

    ValueError, before anything is changed, if it has an adapter, if a target is the name of no Linear, if the rank is too
    large, or if the matrix of a target has a second use, as a tied head has: merging would change both.
    """
    if any(isinstance(part, LoRALinear) for part in model.modules()):
        raise ValueError("the model has an adapter already: remove_lora(model) takes it out")
    linears = list(children(model, Linear))
    there = {name for _, _, name, _ in linears}
    for target in config.targets:
        if target not in there:
            raise ValueError(f"no linear map is called {target!r}: choose among {', '.join(sorted(there)) or 'none'}")
    chosen = [place for place in linears if place[2] in (config.targets or MAPS)]
    if not chosen:
        raise ValueError(f"a {type(model).__name__} has none of the maps {', '.join(MAPS)}: name others as targets")
    uses = [id(p) for part in model.modules() for p in part.parameters(recurse=False)]
    for whole, _, _, part in chosen:
        check_rank(config.rank, part)
        if uses.count(id(part.weight)) > 1:
            raise ValueError(
                f"the matrix of {whole} has a second use (a tied head is the embedding): choose other targets"
            )
    wrapped = [
        LoRALinear.from_linear(part, config.rank, config.alpha, generator, config.dropout) for _, _, _, part in chosen
    ]
    freeze(model)
    for (_, parent, name, _), part in zip(chosen, wrapped, strict=True):
        setattr(parent, name, part)
    return [whole for whole, _, _, _ in chosen]


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The changed maps by name; ValueError if there are none."""
    found = {whole: part for whole, _, _, part in children(model, LoRALinear)}
    if not found:
        raise ValueError(f"the {type(model).__name__} has no adapter: add_lora(model, ...) puts one in")
    return found


def merge_lora(model: nn.Module) -> None:
    """Add each change to its matrix: as fast as the base, the same outputs up to rounding. Twice is as good as once."""
    for layer in lora_layers(model).values():
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Take the changes out again: the matrices of the base are back, bit for bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def lora_arrays(model: nn.Module) -> dict[str, Tensor]:
    """The adapter by name, {map}.A (R, I) and {map}.B (O, R): the tensors themselves, no copies."""
    layers = lora_layers(model)
    return {f"{whole}.{name}": getattr(layer, name).detach() for whole, layer in layers.items() for name in "AB"}


@torch.no_grad()
def load_lora(model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Put other numbers into the adapter, which must be of the same maps and rank. What was merged is unmerged first."""
    own = lora_arrays(model)
    for name in sorted(own.keys() | arrays.keys()):
        if name not in own or name not in arrays:
            raise ValueError(
                f"the arrays are of another adapter: {name} is on one side only; set_lora takes its config"
            )
        if own[name].shape != arrays[name].shape:
            shapes = f"{tuple(arrays[name].shape)}, not {tuple(own[name].shape)}"
            raise ValueError(f"the arrays are of another adapter: {name} has shape {shapes}; set_lora takes its config")
    unmerge_lora(model)
    for name, tensor in own.items():
        tensor.copy_(arrays[name])


def set_lora(model: nn.Module, config: LoRAConfig, arrays: Mapping[str, Tensor]) -> None:
    """Change to another adapter of the same base: the one that is there, if any, leaves without a trace.

    >>> shelf = {"pirate": (config_1, arrays_1), "poet": (config_2, arrays_2)}
    >>> set_lora(model, *shelf["poet"])
    """
    for _, _, _, layer in children(model, LoRALinear):
        layer.unmerge()
    remove_lora(model)
    add_lora(model, config, torch.Generator())
    load_lora(model, arrays)


def remove_lora(model: nn.Module) -> list[str]:
    """Put the plain Linears back, and return their names: the base again, or, after merge_lora, the changed model.

    All stays frozen: freezing.unfreeze lets it learn.
    """
    places = list(children(model, LoRALinear))
    for _, parent, name, layer in places:
        setattr(parent, name, layer.linear)
    return [whole for whole, _, _, _ in places]
