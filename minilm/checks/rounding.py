"""The exercise of lesson 16 on rounding weights: an oracle number by number, the tensor way with switches, other solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Parts = tuple[Tensor, Tensor]

# to_int8(weight, group) -> numbers (O, I) int8, scales (O, number of groups)


def number_by_number(weight: Tensor, group: int | None = 64) -> Parts:
    """One group after the other, in plain Python."""
    numbers, scales = [], []
    for row in weight.tolist():
        size = group or len(row)
        whole, steps = [], []
        for start in range(0, len(row), size):
            some = row[start : start + size]
            steps.append(max(max(some), -min(some)) / 127)
            whole += [round(value / steps[-1]) if steps[-1] else 0 for value in some]
        numbers.append(whole)
        scales.append(steps)
    return torch.tensor(numbers, dtype=torch.int8), torch.tensor(scales, dtype=weight.dtype)


def cut(weight: Tensor, group: int | None) -> Tensor:
    return weight.reshape(len(weight), -1, group or weight.shape[1])


def largest(groups: Tensor) -> Tensor:
    return groups.abs().amax(-1, keepdim=True)


def no_zero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale)


def rounding(
    scale: Callable[[Tensor], Tensor] = lambda groups: largest(groups) / 127,
    divisor: Callable[[Tensor], Tensor] = no_zero,
    whole: Callable[[Tensor, Tensor], Tensor] = lambda groups, divisor: (groups / divisor).round(),
    last: Callable[[Tensor], Tensor] = lambda numbers: numbers.to(torch.int8),
    groups_of: Callable[[Tensor, int | None], Tensor] = cut,
    stored: Callable[[Tensor], Tensor] = lambda scale: scale,
) -> Any:
    """With tensors; the arguments make the mistakes. A scale keeps its last axis until the end: (O, G, 1)."""

    def to_int8(weight: Tensor, group: int | None = 64) -> Parts:
        groups = groups_of(weight, group)
        steps = scale(groups)
        numbers = last(whole(groups, divisor(steps)))
        return numbers.reshape(weight.shape), stored(steps).squeeze(-1)

    return to_int8


def clamped(numbers: Tensor) -> Tensor:
    return numbers.clamp(-127, 127).to(torch.int8)


def of_matrix(weight: Tensor, group: int | None = 64) -> Parts:
    scale = weight.abs().max() / 127
    return (weight / no_zero(scale)).round().to(torch.int8), scale


def every_nth(weight: Tensor, group: int | None = 64) -> Parts:
    """Group g holds the inputs g, g + G, g + 2 G ..."""
    n_groups = weight.shape[1] // (group or weight.shape[1])
    groups = weight.reshape(len(weight), -1, n_groups).mT
    numbers, scales = rounding()(groups.flatten(0, 1), None)
    return numbers.reshape(groups.shape).mT.reshape(weight.shape), scales.reshape(len(weight), -1)


def of_columns(weight: Tensor, group: int | None = 64) -> Parts:
    """A scale for each input (or group of outputs' rows), not for each output."""
    numbers, scales = rounding()(weight.mT, None)
    return numbers.mT, scales.mT


def across_rows(weight: Tensor, group: int | None = 64) -> Parts:
    """The largest along the groups instead of inside them."""
    groups = cut(weight, group)
    scales = groups.abs().amax(1) / 127
    return (groups / no_zero(scales)[:, None]).round().to(torch.int8).reshape(weight.shape), scales


def over_outputs(weight: Tensor, group: int | None = 64) -> Parts:
    groups = cut(weight, group)
    scales = groups.abs().amax(0) / 127
    return (groups / no_zero(scales)).round().to(torch.int8).reshape(weight.shape), scales


def restored(weight: Tensor, group: int | None = 64) -> Parts:
    numbers, scales = rounding()(weight, group)
    return (cut(numbers, group) * scales[..., None]).reshape(weight.shape), scales


def still_in_groups(weight: Tensor, group: int | None = 64) -> Parts:
    numbers, scales = rounding()(weight, group)
    return cut(numbers, group), scales


def axis_kept(weight: Tensor, group: int | None = 64) -> Parts:
    numbers, scales = rounding()(weight, group)
    return numbers, scales[..., None]


def piece_by_piece(weight: Tensor, group: int | None = 64) -> Parts:
    """The columns in pieces, each with a column of scales."""
    numbers, scales = [], []
    for piece in weight.split(group or weight.shape[1], dim=1):
        scale = torch.maximum(piece.amax(1), -piece.amin(1)) / 127
        scales.append(scale)
        numbers.append(torch.round(piece / scale.where(scale > 0, 1)[:, None]).to(torch.int8))
    return torch.cat(numbers, dim=1), torch.stack(scales, dim=1)


def spread_out(weight: Tensor, group: int | None = 64) -> Parts:
    """The scales as wide as the matrix, and whole numbers through 127 w / largest."""
    size = weight.shape[1] if group is None else group
    tops = weight.abs().unfold(1, size, size).max(dim=-1).values
    wide = tops.repeat_interleave(size, dim=1)
    numbers = torch.zeros_like(weight)
    numbers[wide > 0] = 127 * weight[wide > 0] / wide[wide > 0]
    return numbers.round().clamp(-127, 127).to(torch.int8), tops / 127


def rounding_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; one scale a row; groups; rows and groups of zeros; only negative weights; tiny ones; one that is far out."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    zeros, negative, far = drawn(3, 8), -drawn(4, 6).abs() - 0.1, drawn(5, 12)
    zeros[0], zeros[2, 4:] = 0.0, 0.0
    far[1, 3] = -90.0
    return [
        (torch.tensor([[-1.27, 0.643, 0.006]], dtype=torch.float64), None),
        (drawn(3, 5), None),
        (zeros, 4),
        (negative, 3),
        (far, 4),
        (far, None),
        (1e-7 * drawn(2, 6), 2),
        (drawn(4, 15), 3),
    ]


ROUNDING = Exercise(
    "to_int8",
    "cut each row into groups with reshape(O, -1, group), take the largest size of each, and divide by 127: the scales",
    rounding_inputs,
    number_by_number,
    (
        Mistake(
            "largest without its size",
            rounding(lambda groups: groups.amax(-1, keepdim=True) / 127),
            "a weight far below 0 is large, too: take abs() first",
        ),
        Mistake(
            "largest without its size, clamped",
            rounding(lambda groups: groups.amax(-1, keepdim=True) / 127, last=clamped),
            "clamp hides that some numbers do not fit: the largest *size* becomes 127, so abs() comes first",
        ),
        Mistake(
            "divided by 128",
            rounding(lambda groups: largest(groups) / 128),
            "then the largest weight becomes 128, which int8 does not have: it comes out as -128",
        ),
        Mistake(
            "divided by 128, clamped",
            rounding(lambda groups: largest(groups) / 128, last=clamped),
            "the levels go from -127 to 127: which number must the largest weight become?",
        ),
        Mistake(
            "divided by 255",
            rounding(lambda groups: largest(groups) / 255),
            "255 steps lie between -127 and 128; from 0 to the largest there are 127, and more does not fit into int8",
        ),
        Mistake(
            "range over 255",
            rounding(lambda groups: (groups.amax(-1, keepdim=True) - groups.amin(-1, keepdim=True)) / 255),
            "from the lowest to the highest is another method, which also stores where 0 lies: here 0 stays 0",
        ),
        Mistake(
            "not divided by 127",
            rounding(largest),
            "divided by the largest, all lie between -1 and 1: which number should the largest become?",
        ),
        Mistake(
            "cut off",
            rounding(whole=lambda groups, divisor: groups / divisor),
            ".to(torch.int8) cuts off what is behind the point: round first",
        ),
        Mistake(
            "down",
            rounding(whole=lambda groups, divisor: (groups / divisor).floor()),
            "floor always goes down: go to the nearest",
        ),
        Mistake(
            "one over the scale",
            rounding(stored=lambda scale: 1 / scale),
            "the scale that is kept is one step: whole number *times* scale is the weight",
        ),
        Mistake(
            "the largest kept",
            rounding(stored=lambda scale: scale * 127),
            "what is kept is one step, the largest divided by 127",
        ),
        Mistake(
            "scale 1 for zeros",
            rounding(stored=no_zero),
            "only the number that you divide by must not be 0: the scale of a group of zeros is 0",
        ),
        Mistake(
            "a little added",
            rounding(lambda groups: largest(groups) / 127 + 1e-8),
            "a small number added to every scale hurts small weights: treat the group of zeros by itself",
        ),
        Mistake(
            "at least 1e-8",
            rounding(lambda groups: (largest(groups) / 127).clamp(min=1e-8)),
            "a lowest scale of 1e-8 is too high for small weights: ask whether the scale is 0, torch.where(scale == 0, ...)",
        ),
        Mistake(
            "one scale",
            of_matrix,
            "one number for the whole matrix: each group of each output has a scale of its own",
        ),
        Mistake(
            "one scale, copied",
            rounding(lambda groups: (groups.abs().max() / 127).expand(*groups.shape[:2], 1)),
            "all your scales are equal, the largest of the whole matrix: which axis must amax look along?",
        ),
        Mistake(
            "a scale a row",
            rounding(lambda groups: (groups.abs().amax((1, 2), keepdim=True) / 127).expand(*groups.shape[:2], 1)),
            "the largest of the row serves all its groups here: look for the largest of each group",
        ),
        Mistake(
            "groups not used",
            lambda weight, group=64: rounding()(weight, None),
            "one scale for each output, whatever `group` says: cut the rows first",
        ),
        Mistake(
            "a scale for each input",
            of_columns,
            "weight has the shape (outputs, inputs), and a group lies in a row: the largest along the last axis",
        ),
        Mistake(
            "along the groups",
            across_rows,
            "after reshape(O, -1, group) the axes are output, group, member: the largest of the members, so of the last axis",
        ),
        Mistake(
            "over the outputs",
            over_outputs,
            "you take the largest over all outputs: each output has scales of its own",
        ),
        Mistake(
            "every n-th",
            every_nth,
            "a group is a run of neighbours, not every n-th input: which axis of reshape is the group's size?",
        ),
        Mistake(
            "size for number",
            rounding(groups_of=lambda weight, group: weight.reshape(len(weight), group or 1, -1)),
            "`group` is how many weights share a scale, not how many groups there are",
        ),
        Mistake(
            "restored already", restored, "return the whole numbers themselves: the scales come in when they are used"
        ),
        Mistake(
            "floats",
            rounding(last=lambda numbers: numbers),
            "the numbers are whole, but not stored as such: .to(torch.int8)",
        ),
        Mistake("still in groups", still_in_groups, "the numbers have the shape of the weight: reshape them back"),
        Mistake(
            "axis kept", axis_kept, "the scales are (outputs, groups): an axis of length 1 is left over, from keepdim"
        ),
        Mistake(
            "the other way round",
            lambda weight, group=64: rounding()(weight, group)[::-1],
            "first the whole numbers, then the scales",
        ),
    ),
    (rounding(), piece_by_piece, spread_out),
)

EXERCISES = (ROUNDING,)
