"""The exercise of lesson 27 on weighted least squares: an oracle number by number, its mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from minilm.checks.compare import Exercise, Mistake

Array = np.ndarray
Answer = tuple[Any, ...]

# slopes(w, c, b, d, log_x, f) -> (objective, dw (N, D), dc (N, D), db (N,))


def number_by_number(
    w: Array,
    c: Array,
    b: Array,
    d: Array,
    log_x: Array,
    f: Array,
    residual: Callable[..., float] = lambda score, b, d, log_x: score + b + d - log_x,
    objective: Callable[[float, float], float] = lambda f, r: f * r * r / 2,
    pull: Callable[[float, float], float] = lambda f, r: f * r,
    bias_pull: Callable[[float, float], float] | None = None,
) -> tuple[float, Array, Array, Array]:
    """In plain numbers, one pair after the other. The switches make the mistakes."""
    N, D = w.shape
    total, dw, dc, db = 0.0, np.zeros((N, D)), np.zeros((N, D)), np.zeros(N)
    for n in range(N):
        score = sum(float(w[n, k]) * float(c[n, k]) for k in range(D))
        r = residual(score, float(b[n]), float(d[n]), float(log_x[n]))
        total += objective(float(f[n]), r)
        db[n] = (bias_pull or pull)(float(f[n]), r)
        for k in range(D):
            dw[n, k] = pull(float(f[n]), r) * c[n, k]
            dc[n, k] = pull(float(f[n]), r) * w[n, k]
    return total, dw, dc, db


def with_rules(**switch: Any) -> Any:
    """The loops with switches thrown."""
    return lambda *arguments: number_by_number(*arguments, **switch)


def changed(change: Callable[..., Answer]) -> Any:
    """The right four, then something is done to them: change(objective, dw, dc, db, *arguments)."""
    return lambda *arguments: change(*number_by_number(*arguments), *arguments)


def logarithm_again(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    with np.errstate(invalid="ignore", divide="ignore"):
        return number_by_number(w, c, b, d, np.log(log_x), f)


def everyone_with_everyone(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    r = w @ c.T + b + d - log_x
    g = f * r
    return 0.5 * (g * r).sum(), g @ c, g.T @ w, g.sum(1)


def without_an_axis(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    """ValueError, but where N is D or 1."""
    r = (w * c).sum(1) + b + d - log_x
    return float(0.5 * (f * r * r).sum()), f * r * c, f * r * w, f * r


def no_pull(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    J, _, _, db = number_by_number(w, c, b, d, log_x, f)
    return J, f[:, None] * c, f[:, None] * w, db


def by_einsum(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    r = np.einsum("nd,nd->n", w, c) + b + d - log_x
    return np.einsum("n,n,n", f, r, r) / 2, np.einsum("n,n,nd->nd", f, r, c), np.einsum("n,nd->nd", f * r, w), f * r


def by_columns(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    """Vectors as columns, so that no axis has to be added."""
    r = (w * c).sum(axis=1) - (log_x - b - d)
    g = r * f
    return (np.sqrt(f) * r) @ (np.sqrt(f) * r) / 2, (g * c.T).T, (g * w.T).T, g


def by_rows(w: Array, c: Array, b: Array, d: Array, log_x: Array, f: Array) -> Answer:
    pulls, cost = [], 0.0
    for n in range(len(w)):
        r = w[n] @ c[n] + b[n] + d[n] - log_x[n]
        cost += 0.5 * f[n] * r**2
        pulls.append(f[n] * r)
    g = np.array(pulls)
    return cost, g.reshape(-1, 1) * c, g.reshape(-1, 1) * w, g


def by_autograd(*arguments: Array) -> Answer:
    w, c, b, d, log_x, f = (torch.tensor(array, requires_grad=True) for array in arguments)
    J = (f * ((w * c).sum(1) + b + d - log_x) ** 2).sum() / 2
    return J.item(), *(g.numpy() for g in torch.autograd.grad(J, (w, c, b)))


def slope_inputs(seed: int) -> list[tuple[Array, ...]]:
    """By hand: residual 4, weight 1/2. Then pairs and dimensions of different numbers, once as many; logarithms below 0."""
    rng = np.random.default_rng(seed)
    one = np.ones(1)
    cases: list[tuple[Array, ...]] = [(np.array([[2.0]]), np.array([[3.0]]), one, 0.5 * one, 3.5 * one, one / 2)]
    for N, D in ((1, 3), (2, 3), (5, 4), (3, 3)):
        w, c = rng.normal(size=(2, N, D))
        b, d, log_x = rng.normal(size=(3, N))
        cases.append((w, c, b, d, log_x, rng.uniform(0.1, 0.9, size=N)))
    return cases


SLOPES = Exercise(
    "slopes",
    "first the residual of each pair, (N,): (w * c).sum(axis=1) is the dot product of each pair, (N,). Then pull = f * residual",
    slope_inputs,
    number_by_number,
    (
        Mistake(
            "sign of the logarithm",
            with_rules(residual=lambda s, b, d, log_x: s + b + d + log_x),
            "the score is to be log x: what is too much is their difference",
        ),
        Mistake(
            "uphill",
            with_rules(residual=lambda s, b, d, log_x: log_x - s - b - d),
            "your gradients point the other way: a score that is too high has a residual above 0",
        ),
        Mistake(
            "no second bias",
            with_rules(residual=lambda s, b, d, log_x: s + b - log_x),
            "the context has a bias, too: d",
        ),
        Mistake(
            "no first bias", with_rules(residual=lambda s, b, d, log_x: s + d - log_x), "the word has a bias, too: b"
        ),
        Mistake("no biases", with_rules(residual=lambda s, b, d, log_x: s - log_x), "both biases belong to the score"),
        Mistake("logarithm again", logarithm_again, "log_x is the logarithm already"),
        Mistake(
            "gradients twice too large",
            with_rules(pull=lambda f, r: 2 * f * r),
            "the slope of r² is 2 r, and J has a 1/2 before it",
        ),
        Mistake("half the gradients", with_rules(pull=lambda f, r: f * r / 2), "the slope of 1/2 r² is r"),
        Mistake("J without its half", with_rules(objective=lambda f, r: f * r * r), "J has a 1/2 before the sum"),
        Mistake(
            "J and gradients without the half",
            with_rules(objective=lambda f, r: f * r * r, pull=lambda f, r: 2 * f * r),
            "all four are twice too large: J has a 1/2 before the sum",
        ),
        Mistake("J without f", with_rules(objective=lambda f, r: r * r / 2), "each square counts f in J"),
        Mistake("gradients without f", with_rules(pull=lambda f, r: r), "J holds f, so its gradients do"),
        Mistake(
            "no f at all",
            with_rules(objective=lambda f, r: r * r / 2, pull=lambda f, r: r),
            "f is missing: each pair counts as much as its f",
        ),
        Mistake("bias without f", with_rules(bias_pull=lambda f, r: r), "the bias of a pair is pulled by f, too"),
        Mistake(
            "f squared",
            with_rules(objective=lambda f, r: (f * r) ** 2 / 2, pull=lambda f, r: f * f * r),
            "f stands before the square, not inside it",
        ),
        Mistake(
            "f squared in J",
            with_rules(objective=lambda f, r: (f * r) ** 2 / 2),
            "in J f is inside the square: it counts once",
        ),
        Mistake(
            "no square",
            with_rules(objective=lambda f, r: f * r / 2),
            "J is made of squares: residuals above and below 0 must not cancel",
        ),
        Mistake(
            "no residual",
            no_pull,
            "how far a pair is off decides how hard it pulls: the residual is missing in dw and dc",
        ),
        Mistake(
            "its own vector",
            changed(lambda J, dw, dc, db, *rest: (J, dc, dw, db)),
            "the slope of w · c along w is c, and along c it is w",
        ),
        Mistake(
            "mean",
            changed(lambda J, dw, dc, db, *rest: (J / len(db), dw / len(db), dc / len(db), db / len(db))),
            "J is a sum over the pairs, not a mean",
        ),
        Mistake(
            "J is a mean",
            changed(lambda J, dw, dc, db, *rest: (J / len(db), dw, dc, db)),
            "the gradients are those of the sum: let J be the sum, too",
        ),
        Mistake(
            "J of each pair",
            changed(
                lambda J, dw, dc, db, w, c, b, d, log_x, f: (db * ((w * c).sum(1) + b + d - log_x) / 2, dw, dc, db)
            ),
            "J is one number: add up",
        ),
        Mistake(
            "added up",
            changed(lambda J, dw, dc, db, *rest: (J, dw.sum(0), dc.sum(0), db.sum())),
            "each pair keeps a row of its own: which rows belong to the same word is not known here",
        ),
        Mistake(
            "bias as a column",
            changed(lambda J, dw, dc, db, *rest: (J, dw, dc, db[:, None])),
            "db is (N,), a number for each pair: the pull itself, without a second axis",
        ),
        Mistake(
            "one bias for all",
            changed(lambda J, dw, dc, db, *rest: (J, dw, dc, db.sum())),
            "db is (N,), a number for each pair: do not add the pulls up",
        ),
        Mistake(
            "everyone with everyone",
            everyone_with_everyone,
            "w @ c.T pairs every word with every context: row n of w meets row n of c only",
        ),
        Mistake(
            "without an axis", without_an_axis, "the pulls are (N,), the vectors (N, D): pull[:, None] goes with them"
        ),
        Mistake(
            "d as well",
            changed(lambda J, dw, dc, db, *rest: (J, dw, dc, db, db)),
            "four are asked for: the gradient of d is that of b, and is not returned again",
        ),
        Mistake("J last", changed(lambda J, dw, dc, db, *rest: (dw, dc, db, J)), "the order is J, dw, dc, db"),
    ),
    (by_einsum, by_columns, by_rows, by_autograd),
)

EXERCISES = (SLOPES,)
