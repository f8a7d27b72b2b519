"""How to choose the next token, as data: a frozen dataclass from which flags and TOML keys are made. No torch."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SampleConfig:
    """Temperature, then top-k, then top-p. ValueError for a value out of its range."""

    temperature: float = field(
        default=0.8, metadata={"help": "0 = always the likeliest token, 1 = as the model says, above 1 = wilder"}
    )
    top_k: int | None = field(default=None, metadata={"help": "choose among the k likeliest tokens only"})
    top_p: float | None = field(
        default=None, metadata={"help": "choose among the fewest tokens that together have probability p"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # NaN fails every comparison
            raise ValueError(f"temperature is {self.temperature}: it must be a number from 0 (greedy) up, such as 0.8")
        if self.top_k is not None and not self.top_k >= 1:
            raise ValueError(f"top_k is {self.top_k}: it must be at least 1; leave it out to keep every token")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must be above 0 and at most 1; leave it out to keep all")
