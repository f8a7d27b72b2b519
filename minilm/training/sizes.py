"""How large a model the minutes pay for, and what may be expected of it: shapes and measurements as data. No torch.

The rule: go up the ladder while a model still sees TOKENS_A_WEIGHT tokens for each weight of its blocks. The law that
Hoffmann et al. (2022, approach 3) fitted, loss = E + 406.4 / weights^0.34 + 410.7 / tokens^0.28, says that of two neighbours
on our ladder, given the same time, the larger is ahead from 1.6 to 4.7 tokens a weight on (first four rungs).
Our own check, one seed: GPT, equal time, Shakespeare: the second rung with 0.4 tokens a weight ended at 3.10 bits per byte,
the first with 2.7 at 2.864, and one below it (2 layers of 64) with 9 at 2.852: level, as the law has it.

A text read more than EPOCHS times counts no further: up to about four times, repeated text teaches nearly what new
text does (Muennighoff et al. 2023).
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from minilm.models.accounting import account
from minilm.training.config import TrainConfig

# From small to large. All heads have 32 numbers; a context and a batch grow once the model has something to do with them.
LADDER: tuple[dict[str, int], ...] = (
    {"n_layers": 2, "d_model": 96, "n_heads": 3, "context_length": 128, "batch_size": 16},
    {"n_layers": 3, "d_model": 128, "n_heads": 4, "context_length": 128, "batch_size": 16},
    {"n_layers": 4, "d_model": 192, "n_heads": 6, "context_length": 128, "batch_size": 16},
    {"n_layers": 6, "d_model": 256, "n_heads": 8, "context_length": 256, "batch_size": 16},
    {"n_layers": 6, "d_model": 384, "n_heads": 12, "context_length": 256, "batch_size": 32},
    {"n_layers": 8, "d_model": 512, "n_heads": 16, "context_length": 512, "batch_size": 32},
)
WIDTH = {"d_model", "n_heads", "n_kv_heads", "d_ff"}  # they must fit each other: who gives one decides about all
TOKENS_A_WEIGHT = 3.0
EPOCHS = 4
RESERVE = 0.03  # part of the time left unplanned, so that the clock seldom overtakes the steps
TRIAL_STEPS = 8  # what measuring one candidate takes: 1 + 3 steps, on one thread and on all cores
HOPE = 2.0  # a larger model may do so many times the work in the same time: its matrices are larger

# kind, rung, bytes of text read, bits per byte of text kept aside. Corpus shakespeare, BPE of 1,024 tokens (2.36 bytes each),
# seed 0, 2026-11-30, one thread, scored on the first 60,000 to 150,000 bytes; the last two of speedrun, runs of `--minutes` 3
# and 10 (872 and 2,080 steps), on 1 MB.
MEASURED: tuple[tuple[str, int, float, float], ...] = (
    ("gpt", 0, 0.17e6, 3.611),
    ("gpt", 0, 0.56e6, 3.131),
    ("gpt", 0, 1.40e6, 2.864),
    ("gpt", 0, 3.92e6, 2.595),
    ("speedrun", 0, 0.17e6, 2.925),
    ("speedrun", 0, 0.56e6, 2.471),
    ("speedrun", 1, 4.2e6, 2.052),
    ("speedrun", 1, 10.0e6, 2.015),
)
BAND = 0.08
BEYOND = 4  # how many times the text of the longest run a line is drawn on for


@dataclass(frozen=True)
class Candidate:
    """A model that might be trained, and how."""

    settings: Any  # GPTConfig or SpeedrunConfig
    config: TrainConfig

    @property
    def tokens(self) -> int:
        """Targets of one step."""
        return self.settings.context_length * self.config.batch_size * self.config.accumulation

    @property
    def work(self) -> int:
        """FLOPs of one step."""
        return self.tokens * account(self.settings).flops_forward_backward

    @property
    def weights(self) -> int:
        """Weights of the blocks: tables and head, which grow with the vocabulary, are left out (as Kaplan et al. 2020 do)."""
        bricks = account(self.settings).bricks
        return sum(brick.parameters * brick.copies for brick in bricks if brick.name.startswith("blocks."))


def rungs(given: Collection[str], n_tokens: int) -> list[dict[str, int]]:
    """The ladder without the fields that the user gave, and without what this comes to twice.

    A context that is longer than the text of n_tokens is left out, but for the first.

    >>> rungs({"d_model", "context_length", "batch_size"}, 10**6)
    [{'n_layers': 2}, {'n_layers': 3}, {'n_layers': 4}, {'n_layers': 6}, {'n_layers': 8}]
    """
    kept = set(given) | (WIDTH if WIDTH & set(given) else set())
    free: list[dict[str, int]] = []
    for shape in LADDER:
        rung = {name: value for name, value in shape.items() if name not in kept}
        if rung not in free and (not free or rung.get("context_length", 0) < n_tokens):
            free.append(rung)
    return free


def choose_shape(
    candidates: Sequence[Candidate],
    minutes: float,
    n_tokens: int,
    step_seconds: Callable[[Candidate], float],
    most_steps: float = math.inf,
) -> Candidate:
    """The largest candidate that pays (see above), else the first; `candidates` go from small to large.

    step_seconds measures one step (math.inf: there is no room for it). Measured is no more than needed: no candidate that
    could not pay if it did HOPE times as much work a second as the one before, and none that would take the measuring over
    10 s or 5 % of the minutes, whichever is more. n_tokens is the length of the text.
    """
    chosen, spent, rate = candidates[0], 0.0, math.inf
    if len(candidates) == 1:
        return chosen
    for candidate in candidates:
        soonest = candidate.work / (HOPE * rate)
        over = spent + TRIAL_STEPS * HOPE * soonest > max(10.0, 3.0 * minutes)
        if over or not pays(candidate, soonest, minutes, n_tokens, most_steps):
            break
        seconds = step_seconds(candidate)
        if not pays(candidate, seconds, minutes, n_tokens, most_steps):
            break
        chosen, spent, rate = candidate, spent + TRIAL_STEPS * seconds, candidate.work / seconds
    return chosen


def pays(candidate: Candidate, seconds: float, minutes: float, n_tokens: int, most_steps: float = math.inf) -> bool:
    """Whether the candidate, at `seconds` a step, sees enough text in the minutes."""
    steps = min(most_steps, fitting_steps(minutes, seconds))
    seen = min(steps * candidate.tokens, EPOCHS * n_tokens)
    return seen >= TOKENS_A_WEIGHT * candidate.weights


def fitting_steps(minutes: float, seconds: float) -> float:
    """How many steps of so many seconds fit, with the reserve: not a whole number yet.

    >>> round(fitting_steps(1, 0.1), 6)
    582.0
    """
    return math.inf if seconds == 0 else (1.0 - RESERVE) * 60.0 * minutes / seconds


# ---- what may be expected


def expected_bits(kind: str, n_bytes: float) -> tuple[float, float] | None:
    """From which to which bits per byte a model of this kind should come, after training on n_bytes of English prose.

    A straight line between the two nearest points of MEASURED where both axes are logarithms, plus and minus BAND. None
    where there is too little to go by: under half of the fewest bytes, over BEYOND times the most, and for other kinds.
    """
    points = sorted((read, bits) for what, _, read, bits in MEASURED if what == kind)
    if len(points) < 2 or not points[0][0] / 2 <= n_bytes <= BEYOND * points[-1][0]:
        return None
    place = min(max(1, sum(read < n_bytes for read, _ in points)), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1 : place + 1]
    bits = y0 * (y1 / y0) ** (math.log(n_bytes / x0) / math.log(x1 / x0))
    return bits * (1 - BAND), bits * (1 + BAND)
