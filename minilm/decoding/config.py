"""How to choose the next token, as data: a frozen dataclass from which flags and TOML keys are made. No torch."""

import math
from dataclasses import dataclass, field
from typing import Any


def option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SampleConfig:
    """Temperature, filters and penalties; `sampling` says in which order. ValueError for a value out of its range."""

    temperature: float = option(0.8, "0 = always the likeliest token, 1 = as the model says, above 1 = wilder")
    top_k: int | None = option(None, "choose among the k likeliest tokens only")
    top_p: float | None = option(None, "choose among the fewest tokens that together have probability p")
    min_p: float | None = option(None, "drop tokens with less than this part of the likeliest token's probability")
    typical_p: float | None = option(None, "choose among the tokens of nearly the expected surprise, p together")
    repetition_penalty: float = option(1.0, "above 1 = tokens of the text so far lose, whatever their number")
    presence_penalty: float = option(0.0, "taken from the score of each token that the text so far has")
    frequency_penalty: float = option(0.0, "taken from a token's score once for each time the text so far has it")

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # NaN fails every comparison
            raise ValueError(f"temperature is {self.temperature}: it must be a number from 0 (greedy) up, such as 0.8")
        if self.top_k is not None and not self.top_k >= 1:
            raise ValueError(f"top_k is {self.top_k}: it must be at least 1; leave it out to keep every token")
        for name in ("top_p", "typical_p"):
            p = getattr(self, name)
            if p is not None and not 0 < p <= 1:
                raise ValueError(f"{name} is {p}: it must be above 0 and at most 1; leave it out to keep all")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}: it must be from 0 to 1; leave it out to keep all")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}: it must be above 0; 1 changes nothing")
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a finite number; 0 changes nothing")
