"""What word vectors look like and how they are trained, as data. Standard library only, so that `--help` is quick."""

from dataclasses import dataclass

from minilm.runtime import check_options, option


@dataclass(frozen=True)
class GloveConfig:
    """The settings of GloVe; the defaults are those of the paper, but for batches and fewer epochs.

    ValueError for a value out of its range.

    >>> GloveConfig(x_max=0)
    Traceback (most recent call last):
    ValueError: x_max is 0: it must be at least 0.001
    """

    vocab_size: int = option(20_000, "most words V: the most frequent ones", low=1)
    dimensions: int = option(50, "numbers in a word's vector D", low=1)
    window: int = option(10, "how many words to the left and right a word sees", low=1, high=1000)
    min_count: int = option(5, "a rarer word has no vector", low=1)
    x_max: float = option(100.0, "pairs that occur as often have full weight", low=0.001)
    alpha: float = option(0.75, "a pair that occurs less counts (count / x_max)^alpha", low=0, high=10)
    epochs: int = option(15, "how often all pairs are gone through", low=1)
    learning_rate: float = option(0.05, "size of AdaGrad's first step", low=0, high=10)
    batch_size: int = option(1024, "pairs whose gradients are added up for one step", low=1)

    def __post_init__(self) -> None:
        check_options(self)
