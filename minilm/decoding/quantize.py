"""Weights in fewer bits, for decoding: each new token reads every weight once, so half the bytes are nearly twice the speed.

Only the matrices are stored rounded; what is computed, is computed in float32. int8 keeps for each output, and each group of
neighbouring inputs, one scale: the largest weight of the group becomes 127 (symmetric, round to nearest; Dettmers et al. 2022
have one scale a row). Then no weight moves by more than half a step, scale / 2. Smaller groups have smaller steps; each costs
4 bytes, so int8 in groups of 64 takes 8.5 bits a weight. bfloat16 keeps 8 significant bits: an error of at most 1 part in 256.

    model = quantize(model, to_int8)      # changed in place; copy.deepcopy it first to keep both
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minilm.layers.basic import Embedding, Linear, linear

LEVELS = 127  # int8 without -128, so that the levels are symmetric
GROUP = 64


class Rounded(NamedTuple):
    """A matrix (O, I): `numbers` int8 with scales (O, number of groups), or bfloat16 without. A group is
    ceil(I / number of groups) neighbouring inputs; the last may have fewer."""

    numbers: Tensor
    scales: Tensor | None = None


# (x (..., I), numbers (O, I), scales, bias (O,)) -> (..., O): the readable product below, or a fast one.
Product = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


def to_int8(weight: Tensor, group: int | None = GROUP) -> Rounded:
    """weight (O, I) -> int8, and a scale for each group of at most `group` inputs of an output; None: one for each output.

    >>> to_int8(torch.tensor([[-1.27, 0.64, 0.006]]))
    Rounded(numbers=tensor([[-127,   64,    1]], dtype=torch.int8), scales=tensor([[0.0100]]))
    """
    n_out, n_in = weight.shape
    group = n_in if group is None else min(group, n_in)
    if group < 1:
        raise ValueError(f"a group of {group} inputs: it must have at least 1; None = all inputs of an output")
    if not bool(weight.isfinite().all()):
        raise ValueError("a weight is not finite: its training has diverged, take an earlier checkpoint")
    n_groups = -(-n_in // group)
    group = -(-n_in // n_groups)  # as even as can be: the number of groups alone then tells their size
    n_groups = -(-n_in // group)
    padded = weight.detach().new_zeros(n_out, n_groups * group)
    padded[:, :n_in] = weight.detach()
    grouped = padded.reshape(n_out, n_groups, group)
    scales = grouped.abs().amax(-1) / LEVELS
    steps = torch.where(scales > 0, scales, 1.0)  # a group of zeros
    numbers = (grouped / steps[:, :, None]).round().clamp(-LEVELS, LEVELS)
    return Rounded(numbers.reshape(n_out, -1)[:, :n_in].to(torch.int8).contiguous(), scales)


def to_bfloat16(weight: Tensor) -> Rounded:
    """weight (O, I) -> the nearest bfloat16: half the memory of float32, and no scales, since it has an exponent."""
    return Rounded(weight.detach().to(torch.bfloat16))


def restore(numbers: Tensor, scales: Tensor | None = None) -> Tensor:
    """The matrix (O, I) that the numbers stand for, in the type of the scales or, without them, in float32."""
    if scales is None:
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))
    n_in = numbers.shape[1]
    group = -(-n_in // scales.shape[1])
    return numbers * scales.repeat_interleave(group, dim=1)[:, :n_in]


def product(x: Tensor, numbers: Tensor, scales: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """x (..., I) times the restored matrix (O, I) transposed, plus bias: (..., O)."""
    return linear(x, restore(numbers, scales).to(x.dtype), bias)


class QuantizedLinear(nn.Module):
    """`Linear` with a rounded matrix. `product` is a part: `minilm.fast.matvec.product` never restores the matrix."""

    numbers: Tensor
    scales: Tensor | None

    def __init__(self, matrix: Rounded, bias: nn.Parameter | None = None, product: Product = product) -> None:
        super().__init__()
        self.register_buffer("numbers", matrix.numbers)
        self.register_buffer("scales", matrix.scales)
        self.bias, self.product = bias, product

    @property
    def weight(self) -> Tensor:
        """The matrix (O, I) that is meant, restored at each call."""
        return restore(self.numbers, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.numbers, self.scales, self.bias)


class QuantizedEmbedding(nn.Module):
    """`Embedding` with a rounded table: only the rows that are looked up are restored."""

    numbers: Tensor
    scales: Tensor | None

    def __init__(self, table: Rounded) -> None:
        super().__init__()
        self.register_buffer("numbers", table.numbers)
        self.register_buffer("scales", table.scales)

    @property
    def weight(self) -> Tensor:
        """The table (V, D) that is meant, restored at each call. A model asks it for the type of its cache."""
        return restore(self.numbers, self.scales)

    def forward(self, ids: Tensor) -> Tensor:
        scales = None if self.scales is None else self.scales[ids.flatten()]
        return restore(self.numbers[ids.flatten()], scales).reshape(*ids.shape, self.numbers.shape[1])


def quantize(
    model: nn.Module, rounding: Callable[[Tensor], Rounded] = to_int8, product: Product = product
) -> nn.Module:
    """Round every Linear of the model in place, and every Embedding whose table is also the head; return the model.

    A matrix with two uses is stored once. Other embeddings stay as they are: of them a token reads one row. The rounded
    model is for decoding: its matrices are buffers, which nothing trains.
    """
    rounded: dict[int, Rounded] = {}  # of each matrix, by the identity of the parameter
    slots = [(parent, name, part) for parent in model.modules() for name, part in parent.named_children()]
    for parent, name, part in slots:
        if isinstance(part, Linear):
            if id(part.weight) not in rounded:
                rounded[id(part.weight)] = rounding(part.weight)
            setattr(parent, name, QuantizedLinear(rounded[id(part.weight)], part.bias, product))
    for parent, name, part in slots:
        if isinstance(part, Embedding) and id(part.weight) in rounded:
            setattr(parent, name, QuantizedEmbedding(rounded[id(part.weight)]))
    if not rounded:
        raise ValueError("the model has no Linear layer: there is nothing to quantize")
    return model


def arrays(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a quantized model by name, as a checkpoint would hold them: what has two uses, under its first name.

    Back into a model: `quantize(GPT(config)).load_state_dict(arrays, strict=False)`.
    """
    found: dict[int, str] = {}
    state = model.state_dict()
    for name, tensor in state.items():
        found.setdefault(tensor.data_ptr(), name)
    return {name: state[name] for name in found.values()}


def stored_bytes(model: nn.Module) -> int:
    """The memory of all parameters and buffers in bytes; what is shared counts once."""
    return sum(tensor.nbytes for tensor in arrays(model).values())
