"""The scalar autograd: values and gradients of random graphs, whose numbers are used many times, against torch and against
central differences; the diamond, the long chain, the second call."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from minilm.byhand.autograd import Value, value

Program = Callable[[Sequence[Any]], Any]


def positive(x: Any) -> Any:
    return x**2 + 1.0


# Operations on earlier results a, b and a constant c; a tanh or a denominator of at least 1 keeps deep graphs small.
STEPS: list[Callable[[Any, Any, float], Any]] = [
    lambda a, b, c: (a + b).tanh(),
    lambda a, b, c: (a - b).tanh(),
    lambda a, b, c: (a * b).tanh(),
    lambda a, b, c: (a / positive(b)).tanh(),
    lambda a, b, c: (c + a).tanh(),
    lambda a, b, c: (c - a).tanh(),
    lambda a, b, c: (c * a).tanh(),
    lambda a, b, c: c / positive(a),
    lambda a, b, c: -a,
    lambda a, b, c: (a**2).tanh(),
    lambda a, b, c: (a**3).tanh(),
    lambda a, b, c: positive(a) ** 0.5,
    lambda a, b, c: positive(a) ** -1.7,
    lambda a, b, c: a.tanh().exp(),
    lambda a, b, c: positive(a).log(),
    lambda a, b, c: a.relu(),
]


def random_program(chance: random.Random, n_inputs: int, n_steps: int) -> Program:
    """n_steps computations from n_inputs numbers and all earlier results, so that many are used more than once."""
    steps = []
    for step in range(n_steps):
        old, recent = chance.randrange(n_inputs + step), chance.randrange(max(0, n_inputs + step - 4), n_inputs + step)
        steps.append((chance.choice(STEPS), old, recent, chance.uniform(0.5, 2.0)))

    def program(inputs: Sequence[Any]) -> Any:
        known = list(inputs)
        for operation, i, j, c in steps:
            known.append(operation(known[i], known[j], c))
        return sum(x * (0.3 + k % 5) for k, x in enumerate(known))

    return program


def central_difference(program: Program, inputs: list[float], i: int, h: float = 1e-5) -> float:
    above, below = (program([Value(x + d * (j == i)) for j, x in enumerate(inputs)]).data for d in (h, -h))
    return (above - below) / (2 * h)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    chance = random.Random(seed)
    n_inputs, n_steps = chance.randrange(2, 5), chance.randrange(3, 30)
    inputs = [chance.uniform(-2, 2) for _ in range(n_inputs)]
    program = random_program(chance, n_inputs, n_steps)
    ours = [Value(x) for x in inputs]
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    out, expected = program(ours), program(theirs)
    assert out.data == pytest.approx(expected.item(), rel=1e-12)
    out.backward()
    expected.backward()
    for i, (x, reference) in enumerate(zip(ours, theirs, strict=True)):
        assert abs(reference.grad.item()) > 1e-6
        assert x.grad == pytest.approx(reference.grad.item(), rel=1e-11, abs=1e-12)
        assert x.grad == pytest.approx(central_difference(program, inputs, i), rel=1e-6, abs=1e-8)


OPERATIONS: list[tuple[str, Callable[[Any], Any]]] = [
    ("add", lambda x: x + x + 3),
    ("radd", lambda x: 3 + x),
    ("sub", lambda x: x - 0.5 * x - 2),
    ("rsub", lambda x: 5 - x),
    ("neg", lambda x: -x),
    ("mul", lambda x: x * x * 4),
    ("div", lambda x: x / (x + 7) / 3),
    ("rdiv", lambda x: 5 / x),
    ("cube", lambda x: x**3),
    ("inverse square", lambda x: x**-2),
    ("power 0", lambda x: x**0 * x),
    ("exp", lambda x: x.exp()),
    ("tanh", lambda x: x.tanh()),
    ("tanh of large", lambda x: (9 * x).tanh()),
    ("relu", lambda x: x.relu() * 2 + x),
    ("log and root", lambda x: (x * x).log() * (x * x) ** 0.25),
]


@pytest.mark.parametrize(("name", "function"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
@pytest.mark.parametrize("at", [-1.75, -0.3, 0.4, 2.5])
def test_each_operation_is_torch(name: str, function: Callable[[Any], Any], at: float) -> None:
    x, reference = Value(at), torch.tensor(at, dtype=torch.float64, requires_grad=True)
    y, expected = function(x), function(reference)
    y.backward()
    expected.backward()
    assert y.data == pytest.approx(expected.item(), rel=1e-13)
    assert x.grad == pytest.approx(reference.grad.item(), rel=1e-12, abs=1e-14)
    assert y.grad == 1


def test_a_diamond_counts_both_ways() -> None:
    """b = 2a and c = a b: c = 2 a², so dc/da = 4a. A chain that ran b before c would find 2a or 6a."""
    a = Value(3.0)
    b = 2 * a
    c = a * b + b
    c.backward()
    assert (b.grad, a.grad) == (4.0, 14.0)


def test_paths_double_in_a_ladder_of_diamonds() -> None:
    """2^200 paths, in 200 steps: each number is passed once, not once a path."""
    x = Value(1.0)
    y = x
    for _ in range(200):
        y = 0.5 * y + 0.5 * y
    y.backward()
    assert (y.data, x.grad) == (1.0, 1.0)


def test_a_computation_deeper_than_the_stack() -> None:
    x = Value(0.5)
    y = x
    for _ in range(20_000):
        y = y + x
    y.backward()
    assert x.grad == 20_001


def test_gradients_add_up_until_they_are_cleared() -> None:
    """Twice backward is twice the gradient, also behind numbers in the middle; another loss adds its own."""
    x = Value(2.0)
    middle = x * x
    y = middle * 3
    y.backward()
    y.backward()
    assert (middle.grad, x.grad) == (6.0, 24.0)
    (x * 5).backward()
    assert x.grad == 29.0
    x.grad = 0.0
    y.backward()
    assert x.grad == 12.0


def test_a_number_that_was_not_used_gets_nothing() -> None:
    x, unused = Value(2.0), Value(3.0)
    (x + 1).backward()
    assert (x.grad, unused.grad) == (1.0, 0.0)


def test_the_slope_of_relu_at_zero_is_zero() -> None:
    x = Value(0.0)
    x.relu().backward()
    assert x.grad == 0.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Value(2.0) ** Value(3.0), r"exponent must be a plain number.* write a \*\* b as"),
        (lambda: Value(-2.0) ** 0.5, r"-2\.0 \*\* 0\.5 is no real number"),
        (lambda: Value(0.0) ** 0.5, r"0 \*\* 0\.5 has no finite slope"),
        (lambda: Value(0.0).log(), r"logarithm of 0\.0 is not defined"),
        (lambda: Value(-1.0).log(), r"logarithm of -1\.0 is not defined"),
        (lambda: Value(math.nan).log(), "logarithm of nan is not defined"),
    ],
)
def test_what_has_no_value_or_no_slope_is_an_error(wrong: Callable[[], Value], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()


def test_a_neuron_learns_and() -> None:
    """Something to show for it: one neuron, the logical and, 200 steps of gradient descent."""
    weights = [Value(0.1), Value(-0.2), Value(0.0)]
    cases = [(a, b, 1.0 if a and b else -1.0) for a in (0, 1) for b in (0, 1)]
    for _ in range(200):
        loss = value(0.0)
        for a, b, target in cases:
            loss += ((weights[0] * a + weights[1] * b + weights[2]).tanh() - target) ** 2
        for w in weights:
            w.grad = 0.0
        loss.backward()
        for w in weights:
            w.data -= 0.1 * w.grad
    outputs = [(weights[0].data * a + weights[1].data * b + weights[2].data) * t for a, b, t in cases]
    assert min(outputs) > 0.5
    assert repr(weights[0]).startswith("Value(")
