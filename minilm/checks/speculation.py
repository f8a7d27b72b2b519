"""The exercise of lesson 15 that judges guesses: an oracle in loops, its mistakes, and other right solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from minilm.checks.compare import Exercise, Mistake

Row = list[float]

# accept(p, q, proposed, uniforms) -> ids


def walk(weights: Row, u: float) -> int:
    """The inverse transform of weights that need not sum to 1."""
    left = u * sum(weights)
    for token, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return token
    return max(token for token, weight in enumerate(weights) if weight > 0)


def searched(weights: Row, u: float, scaled: bool = True) -> int:
    """The same as the library's `draw` does it, whatever the weights are."""
    ends = torch.tensor(weights, dtype=torch.double).cumsum(0)
    return int(torch.searchsorted(ends, u * (float(ends[-1]) if scaled else 1.0), right=True))


def excess(p: Row, q: Row, token: int) -> Row:
    return [max(0.0, a - b) for a, b in zip(p, q, strict=True)]


def judged(
    p: Tensor,
    q: Tensor,
    proposed: list[int],
    uniforms: Tensor,
    keeps: Callable[[float, Row, Row, int], bool] = lambda u, p, q, token: u < p[token] / q[token],
    rest: Callable[[Row, Row, int], Row] = excess,
    rest_row: Callable[[int, int], int] = lambda place, m: place,
    last_row: int = -1,
    draws: Callable[[Row, float], int] = walk,
    chance: Callable[[int, int], int] = lambda place, m: m,
    refused: str = "replaced",
    bonus: bool = True,
) -> list[int]:
    """Guess after guess. The switches make the mistakes."""
    rows, guesses, u, m, kept = p.tolist(), q.tolist(), uniforms.tolist(), len(proposed), list[int]()
    for place, token in enumerate(proposed):
        if keeps(u[place], rows[place], guesses[place], token):
            kept.append(token)
            continue
        if refused == "ends":
            return kept
        before = {"kept too": [*kept, token], "all dropped": []}.get(refused, kept)
        new = draws(rest(rows[rest_row(place, m)], guesses[place], token), u[chance(place, m)])
        if refused != "goes on":
            return [*before, new]
        kept.append(new)
    return [*kept, draws(rows[last_row], u[m])] if bonus else kept


def mistaken(**switch: Any) -> Callable[..., list[int]]:
    """The loop with switches thrown."""
    return lambda *arguments: judged(*arguments, **switch)


def without_guess(p: Row, q: Row, token: int) -> Row:
    return [0.0 if w == token else a for w, a in enumerate(p)]


def all_at_once(p: Tensor, q: Tensor, proposed: list[int], uniforms: Tensor) -> list[int]:
    m, ids = len(proposed), torch.tensor(proposed, dtype=torch.long)
    ratio = p[torch.arange(m), ids] / q[torch.arange(m), ids]
    n = int((uniforms[:m] < ratio).long().cumprod(0).sum())
    weights = p[n] if n == m else (p[n] - q[n]).clamp(min=0)
    ends = weights.cumsum(0) / weights.sum()
    return [*proposed[:n], min(int((ends <= uniforms[m]).sum()), int(weights.nonzero().max()))]


def with_a_row_of_zeros(p: Tensor, q: Tensor, proposed: list[int], uniforms: Tensor) -> list[int]:
    """The bonus as a last guess that nobody made: q = 0 there, and max(0, p - 0) = p."""
    q = torch.cat([q, torch.zeros_like(p[:1])])
    n = 0
    while n < len(proposed) and q[n, proposed[n]] * uniforms[n] < p[n, proposed[n]]:
        n += 1
    weights = torch.maximum(p[n], q[n]) - q[n]
    weights = weights / weights.sum()
    return [*proposed[:n], int(torch.searchsorted(weights.cumsum(0), uniforms[-1:], right=True))]


def in_numpy(p: Tensor, q: Tensor, proposed: list[int], uniforms: Tensor) -> list[int]:
    P, Q, u, out = p.numpy(), q.numpy(), uniforms.numpy(), list[int]()
    for token, a, b, chance in zip(proposed, P, Q, u, strict=False):
        if chance >= min(1.0, a[token] / b[token]):
            more = a - np.minimum(a, b)
            return [*out, int(np.searchsorted(np.cumsum(more), u[-1] * np.cumsum(more)[-1], side="right"))]
        out.append(token)
    return [*out, next(int(w) for w in range(P.shape[1]) if P[-1, : w + 1].sum() > u[-1])]


def some_guesses(seed: int) -> list[tuple[Tensor, Tensor, list[int], Tensor]]:
    """By hand, kept and refused; no guess at all; an impossible guess with a uniform of 0; then random ones."""
    generator = Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.double)

    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.double)
    q = torch.tensor([[0.8, 0.2]], dtype=torch.double)
    cases = [(p, q, [0], torch.tensor(u, dtype=torch.double)) for u in ([0.6, 0.3], [0.7, 0.3], [0.1, 0.95])]
    cases.append((p[:1], q[:0], [], torch.tensor([0.75], dtype=torch.double)))
    never = torch.tensor([[0.0, 0.3, 0.7], [0.2, 0.5, 0.3]], dtype=torch.double)
    sure = torch.tensor([[0.6, 0.4, 0.0]], dtype=torch.double)
    cases.append((never, sure, [0], torch.tensor([0.0, 0.4], dtype=torch.double)))
    for m, V in [(1, 5), (3, 7), (2, 4), (5, 6), (4, 9)] * 5:
        p, q = ((2 * torch.randn(n, V, generator=generator, dtype=torch.double)).softmax(-1) for n in (m + 1, m))
        q = 0.5 * q + 0.5 * p[:m]
        proposed = torch.multinomial(q, 1, generator=generator)[:, 0].tolist()
        cases.append((p, q, proposed, random(m + 1)))
    return cases


ACCEPT = Exercise(
    "accept",
    "go through the guesses with `enumerate(proposed)`; is uniforms[place] < p[place, token] / q[place, token]?",
    some_guesses,
    judged,
    (
        Mistake(
            "everything kept",
            mistaken(keeps=lambda *_: True),
            "nothing is ever refused: then the draft writes the text",
        ),
        Mistake(
            "p alone",
            mistaken(keeps=lambda u, p, q, token: u < p[token]),
            "the draft has proposed the token with probability q already: what is left to ask is p / q, not p",
        ),
        Mistake(
            "upside down",
            mistaken(keeps=lambda u, p, q, token: u * p[token] < q[token]),
            "a token that the draft likes too much (q > p) must be kept less often: p / q, not q / p",
        ),
        Mistake(
            "refused with p / q",
            mistaken(keeps=lambda u, p, q, token: u >= p[token] / q[token]),
            "p / q is the probability to *keep* the guess; you refuse with it",
        ),
        Mistake(
            "at most",
            mistaken(keeps=lambda u, p, q, token: u * q[token] <= p[token]),
            "a uniform may be exactly 0, and p too: an impossible token would be kept. < or <=?",
        ),
        Mistake(
            "the likeliest only",
            mistaken(keeps=lambda u, p, q, token: p[token] == max(p)),
            "a guess need not be the target's first choice: that is greedy, and the text would be too",
        ),
        Mistake(
            "no chance",
            mistaken(keeps=lambda u, p, q, token: p[token] >= q[token]),
            "where q > p the guess is not lost: it is kept with probability p / q, and the uniform decides",
        ),
        Mistake(
            "from the target",
            mistaken(rest=lambda p, q, token: p),
            "what is drawn instead must come from max(0, p - q): from p alone, tokens the draft likes come too often",
        ),
        Mistake(
            "from the target without the guess",
            mistaken(rest=without_guess),
            "taking the refused token away is not enough: every token has lost to q, so draw from max(0, p - q)",
        ),
        Mistake(
            "from the draft", mistaken(rest=lambda p, q, token: q), "the draft may guess, but not decide: max(0, p - q)"
        ),
        Mistake(
            "not cut at 0",
            mistaken(rest=lambda p, q, token: [a - b for a, b in zip(p, q, strict=True)], draws=searched),
            "p - q has negative numbers, which no probability may be: .clamp(min=0)",
        ),
        Mistake(
            "absolute difference",
            mistaken(rest=lambda p, q, token: [abs(a - b) for a, b in zip(p, q, strict=True)]),
            "where q > p, the token has had its share already: 0, not q - p",
        ),
        Mistake(
            "q - p",
            mistaken(rest=lambda p, q, token: excess(q, p, token)),
            "what is missing so far is where p is larger than q, not the other way round",
        ),
        Mistake(
            "not scaled",
            mistaken(draws=lambda weights, u: searched(weights, u, scaled=False)),
            "max(0, p - q) sums to less than 1: divide by its sum (`draw` does so for you)",
        ),
        Mistake(
            "the last row",
            mistaken(rest_row=lambda place, m: m),
            "the refused guess stands at `place`: its p is p[place], not the last row",
        ),
        Mistake(
            "one row too late",
            mistaken(rest_row=lambda place, m: place + 1),
            "row `place` of p is what may stand at that place: row place + 1 is for what follows",
        ),
        Mistake(
            "goes on",
            mistaken(refused="goes on"),
            "the later guesses were made behind the refused token: they are worthless now, so return",
        ),
        Mistake(
            "refused but kept",
            mistaken(refused="kept too"),
            "the new token comes *instead of* the refused one: proposed[:place] ends before it",
        ),
        Mistake(
            "nothing instead",
            mistaken(refused="ends"),
            "each round must give a token: after a refusal draw one from max(0, p - q)",
        ),
        Mistake(
            "all dropped",
            mistaken(refused="all dropped"),
            "the guesses before the refused one were kept: return them too",
        ),
        Mistake(
            "the same uniform twice",
            mistaken(chance=lambda place, m: place),
            "the uniform of a refusal is not free any more (it is large): for the draw take the last one",
        ),
        Mistake(
            "the next uniform",
            mistaken(chance=lambda place, m: place + 1),
            "the draw has the last uniform, whichever guess is refused",
        ),
        Mistake(
            "a tensor in the list",
            lambda *arguments: [*judged(*arguments)[:-1], torch.tensor(judged(*arguments)[-1:])],
            "`draw` gives a tensor with one id: the list wants the id itself, int(draw(...))",
        ),
        Mistake(
            "no bonus",
            mistaken(bonus=False),
            "if all guesses are kept, the last row of p gives one more token for free",
        ),
        Mistake(
            "the bonus from the first row",
            mistaken(last_row=0),
            "the token behind all guesses is drawn from the last row of p",
        ),
    ),
    (all_at_once, with_a_row_of_zeros, in_numpy),
)

EXERCISES = (ACCEPT,)
