"""What a counted model looks like, as data: frozen dataclasses from which checkpoints, TOML files and flags come."""

from dataclasses import dataclass

from minilm.runtime import check_options, option

SMOOTHINGS = ("maximum-likelihood", "add-k", "interpolated-kneser-ney", "kneser-ney")


@dataclass(frozen=True)
class NgramConfig:
    """The shape of an n-gram model. ValueError for a value out of its range.

    `discounts` is empty (then they are estimated from the counts) or holds one row (D1, D2, D3+) for each order from 1
    up, in counts, with 0 <= Dj <= j. Only the two Kneser-Ney smoothings have discounts.
    """

    vocab_size: int = option(1024, "number of different tokens V")
    order: int = option(5, "longest n-gram, in tokens: order - 1 tokens of context predict the next one")
    smoothing: str = option("kneser-ney", "maximum-likelihood, add-k, interpolated-kneser-ney or (modified) kneser-ney")
    k: float = option(0.1, "imagined count of every token, for smoothing add-k")
    discounts: tuple[tuple[float, float, float], ...] = option((), "D1 D2 D3+ of each order (default: estimated)")

    def __post_init__(self) -> None:
        object.__setattr__(self, "discounts", tuple(tuple(float(d) for d in row) for row in self.discounts))
        for name in ("vocab_size", "order"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.smoothing not in SMOOTHINGS:
            raise ValueError(f"smoothing is {self.smoothing!r}: choose one of {', '.join(SMOOTHINGS)}")
        if not 0 < self.k < float("inf"):
            raise ValueError(f"k is {self.k}: it must be a number above 0 (without smoothing: maximum-likelihood)")
        if self.discounts and not self.is_kneser_ney:
            raise ValueError(f"smoothing {self.smoothing} has no discounts: leave them out or choose kneser-ney")
        if self.discounts and len(self.discounts) != self.order:
            raise ValueError(f"{len(self.discounts)} rows of discounts for order {self.order}: give one row an order")
        for row in self.discounts:
            if len(row) != 3 or not all(0 <= d <= j for j, d in enumerate(row, start=1)):
                raise ValueError(f"discounts {row}: a row is three numbers (D1, D2, D3+) with 0 <= Dj <= j")

    @property
    def is_kneser_ney(self) -> bool:
        return self.smoothing.endswith("kneser-ney")


@dataclass(frozen=True)
class OneDiscount:
    """One number in place of all the discounts of a Kneser-Ney n-gram, as Kneser and Ney had it. ValueError if out of its range."""

    discount: float | None = option(None, "taken from every count of every order (default: estimated)", low=0, high=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class HMMConfig:
    """The shape of a hidden Markov model. ValueError for a value out of its range."""

    vocab_size: int = option(1024, "number of different tokens V", 1)
    n_states: int = option(32, "number of hidden states K: all that the model knows of the past is one of them", 1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class HMMTraining:
    """How a hidden Markov model learns by Baum-Welch. ValueError for a value out of its range."""

    iterations: int = option(50, "rounds of Baum-Welch at most", 0)
    tolerance: float = option(1e-4, "the rounds end when one gains less than so many nats a token", 0)
    pseudo_count: float = option(
        0.01, "imagined count of every first state, move and token: none is impossible", 0, 1e9
    )
    most_tokens: int = option(200_000, "tokens of the text, its first ones, that each round reads; 0 = all", 0)

    def __post_init__(self) -> None:
        check_options(self)
