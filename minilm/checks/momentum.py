"""The exercise of lesson 12 on momentum: an oracle in plain numbers with switches for the mistakes, and other solutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake


def number_by_number(rule: Callable[..., float], *tensors: Tensor) -> Tensor:
    """A rule for plain numbers, applied to each place of the tensors."""
    columns = zip(*(t.flatten().tolist() for t in tensors), strict=True)
    return torch.tensor([rule(*column) for column in columns], dtype=tensors[0].dtype).reshape(tensors[0].shape)


def drawn(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# momentum_step(velocity, gradient, momentum, nesterov) -> (velocity, direction)


def momentum_with(
    speed: Callable[[float, float, float], float] = lambda u, g, m: m * u + g,
    plain: Callable[[float, float, float, float], float] = lambda u, new, g, m: new,
    ahead: Callable[[float, float, float, float], float] = lambda u, new, g, m: g + m * new,
) -> Any:
    """In plain numbers: the new velocity, the direction without and with the look ahead. The rules make the mistakes."""

    def step(velocity: Tensor, gradient: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
        new = number_by_number(lambda u, g: speed(u, g, momentum), velocity, gradient)
        rule = ahead if nesterov else plain
        return new, number_by_number(lambda u, n, g: rule(u, n, g, momentum), velocity, new, gradient)

    return step


def momentum_in_tensors(velocity: Tensor, gradient: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
    new = momentum * velocity + gradient
    if nesterov:
        return new, gradient + momentum * new
    return new, new


def momentum_expanded(velocity: Tensor, gradient: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
    """The look ahead with the new velocity written out."""
    ahead = momentum**2 * velocity + (1 + momentum) * gradient
    new = velocity * momentum + gradient
    return new, ahead if nesterov else new.clone()


def momentum_in_place(velocity: Tensor, gradient: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
    new = velocity.clone().mul_(momentum).add_(gradient)
    return new, new.mul(momentum).add_(gradient) if nesterov else new


def momentum_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand; vectors and matrices, with the look ahead and without; the first step, with a velocity of 0; no momentum."""
    generator = Generator().manual_seed(seed)
    hand = torch.tensor([2.0, 0.0], dtype=torch.float64), torch.tensor([1.0, -3.0], dtype=torch.float64)
    pair = drawn(generator, 3, 5), drawn(generator, 3, 5)
    first = torch.zeros(4, dtype=torch.float64), drawn(generator, 4)
    cases: list[tuple[Any, ...]] = [(*hand, 0.5, False), (*hand, 0.5, True)]
    return [*cases, (*pair, 0.85, False), (*pair, 0.85, True), (*first, 0.9, True), (*pair, 0.0, False)]


MOMENTUM = Exercise(
    "momentum_step",
    "first the velocity: momentum times the old one, plus the gradient. Then ask whether nesterov is True",
    momentum_inputs,
    momentum_with(),
    (
        Mistake(
            "an average",
            momentum_with(lambda u, g, m: m * u + (1 - m) * g),
            "here the gradient comes in whole: the velocity is a sum, not an average",
        ),
        Mistake(
            "momentum on the gradient",
            momentum_with(lambda u, g, m: u + m * g),
            "which of the two has to fade, the past or the present?",
        ),
        Mistake(
            "nothing fades", momentum_with(lambda u, g, m: u + g), "what was long ago must count for less and less"
        ),
        Mistake(
            "minus", momentum_with(lambda u, g, m: m * u - g), "the step is taken away from the weights later: add"
        ),
        Mistake("no memory", momentum_with(lambda u, g, m: g), "the old velocity has to come in"),
        Mistake(
            "all of it averaged",
            momentum_with(lambda u, g, m: (1 - m) * u + m * g),
            "a momentum of 0.9 means that nine tenths of the old velocity stay, and that the gradient comes in whole",
        ),
        Mistake(
            "no look ahead",
            momentum_with(ahead=lambda u, new, g, m: new),
            "nesterov is another direction than the velocity (and gradient + momentum · old velocity is the velocity): use the new",
        ),
        Mistake(
            "look ahead without the factor",
            momentum_with(ahead=lambda u, new, g, m: g + new),
            "the velocity fades in the step ahead, too",
        ),
        Mistake(
            "velocity for the gradient ahead",
            momentum_with(ahead=lambda u, new, g, m: new + m * new),
            "the look ahead begins at the gradient: the velocity has it inside already, and more",
        ),
        Mistake(
            "an average ahead, too",
            momentum_with(lambda u, g, m: m * u + (1 - m) * g, ahead=lambda u, new, g, m: (1 - m) * g + m * new),
            "no 1 - momentum anywhere: the gradient comes in whole, into the velocity and into the direction",
        ),
        Mistake(
            "average ahead",
            momentum_with(ahead=lambda u, new, g, m: (1 - m) * g + m * new),
            "the velocity is right; in the look ahead the gradient counts in whole, too",
        ),
        Mistake(
            "gradient forgotten ahead",
            momentum_with(ahead=lambda u, new, g, m: m * new),
            "the step ahead has a gradient of its own: this one stands in for it",
        ),
        Mistake(
            "always ahead",
            momentum_with(plain=lambda u, new, g, m: g + m * new),
            "look ahead only where nesterov is True",
        ),
        Mistake(
            "old velocity as direction",
            momentum_with(plain=lambda u, new, g, m: u),
            "the direction is the velocity after the gradient has come in",
        ),
        Mistake(
            "bare gradient as direction",
            momentum_with(plain=lambda u, new, g, m: g),
            "without nesterov the weights move against the velocity, not against the bare gradient",
        ),
        Mistake(
            "minus in the direction",
            momentum_with(plain=lambda u, new, g, m: -new, ahead=lambda u, new, g, m: -g - m * new),
            "the direction points uphill, as the gradient does: the minus comes with the step",
        ),
        Mistake(
            "the other way round",
            lambda u, g, m, nesterov: momentum_with()(u, g, m, nesterov)[::-1],
            "first the velocity, then the direction",
        ),
    ),
    (momentum_in_tensors, momentum_expanded, momentum_in_place),
)

EXERCISES = (MOMENTUM,)
