"""What the doctor asks of a device, operation by operation: everything that our models, losses, optimizers and samplers use.

Each operation is asked forward, and where it has one for its gradient, with inputs that lie in memory in three ways: one
number after the other, transposed, and as every second number of a larger array. Sizes are odd and all different. The list
is in `doctor_list.py` and `doctor_bricks.py`; a test records what the models call, and fails where an operation is missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from minilm.training.doctor import BOTH, Case, Place, Results

N_SEEDS = 10_000  # more than there are operations


class Draw:
    """Inputs in float64 on the CPU, from a generator of their own."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def positive(self, *shape: int) -> Tensor:
        """From 0.5 to 2.5."""
        return 0.5 + 2.0 * torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def ids(self, bound: int, *shape: int) -> Tensor:
        """Whole numbers below the bound."""
        return torch.randint(bound, shape, generator=self.generator)

    def mask(self, *shape: int) -> Tensor:
        """True in three of five places."""
        return torch.rand(shape, generator=self.generator) < 0.6


class Operation(NamedTuple):
    """A function of tensors, and what draws its inputs. `slack`: its error may be so many times that of one rounding."""

    name: str
    function: Callable[..., Tensor]
    inputs: Callable[[Draw], Sequence[Tensor]]
    slack: float = 1.0
    gradient: bool = True
    training: bool = True
    dtypes: tuple[torch.dtype, ...] = BOTH


def as_it_is(x: Tensor) -> Tensor:
    """One number after the other."""
    return x


def transposed(x: Tensor) -> Tensor:
    """The same numbers, the last two axes stored the other way round."""
    return x.mT.contiguous().mT if x.ndim > 1 else x


def sliced(x: Tensor) -> Tensor:
    """The same numbers, every second one of a larger array, from the second on."""
    if x.ndim == 0:
        return x
    wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1] + 1)
    wide[..., 1::2] = x
    return wide[..., 1::2]


LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {"": as_it_is, ", transposed": transposed, ", sliced": sliced}


def operation_cases(operations: Sequence[Operation], seed: int = 0) -> list[Case]:
    """The cases of all operations: forward and gradient, in each layout."""
    return [case for number, each in enumerate(operations) for case in cases_of(each, seed * N_SEEDS + number)]


def cases_of(operation: Operation, seed: int) -> Iterator[Case]:
    """The cases of one operation. Forward and gradient are apart in the first layout, so that what is wrong can be named."""
    for layout, lay in LAYOUTS.items():
        ways = {"forward": forward, "gradient": gradients} if operation.gradient else {"forward": forward}
        if layout and operation.gradient:
            ways = {"both ways": both_ways}
        for what, way in ways.items():
            yield Case(
                operation.name,
                what + layout,
                partial(way, operation, lay, seed),
                slack=operation.slack,
                dtypes=tuple(dtype for dtype in operation.dtypes if layout != ", transposed" or dtype is torch.float32),
                training=operation.training,
            )


def forward(operation: Operation, lay: Callable[[Tensor], Tensor], seed: int, place: Place) -> Results:
    """What the function makes of its inputs."""
    return {"values": operation.function(*(lay(place.put(x)) for x in operation.inputs(Draw(seed))))}


def both_ways(operation: Operation, lay: Callable[[Tensor], Tensor], seed: int, place: Place) -> Results:
    """What it makes of its inputs, and their gradients, given one of its output, which lies in memory in the same way."""
    inputs = [lay(place.put(x)) for x in operation.inputs(Draw(seed))]
    asked = {f"gradient of input {i}": x.requires_grad_() for i, x in enumerate(inputs, 1) if x.is_floating_point()}
    y = operation.function(*inputs)
    upstream = lay(place.put(Draw(seed + 1).normal(*y.shape)).to(y.dtype))
    found = torch.autograd.grad(y, list(asked.values()), upstream)
    return {"values": y, **{name: dense(gradient) for name, gradient in zip(asked, found, strict=True)}}


def gradients(operation: Operation, lay: Callable[[Tensor], Tensor], seed: int, place: Place) -> Results:
    """`both_ways` without the values."""
    results = both_ways(operation, lay, seed, place)
    return {name: result for name, result in results.items() if name != "values"}


def dense(gradient: Tensor) -> Tensor:
    """A sparse gradient with its rows added up, as a whole table."""
    return gradient.coalesce().to_dense() if gradient.is_sparse else gradient
