"""What a training run can be told, as data: a frozen dataclass from which flags, TOML keys and checkpoints are made.

No torch, so that `--help` is quick.
"""

from dataclasses import dataclass

from minilm.runtime import check_options, option


@dataclass(frozen=True)
class TrainConfig:
    """How to train. ValueError for a value out of its range.

    >>> TrainConfig(warmdown=1.5)
    Traceback (most recent call last):
    ValueError: warmdown is 1.5: it must be from 0 to 1
    """

    steps: int = option(1000, "updates of the weights", low=1)
    minutes: float | None = option(None, "minutes of optimisation after which training ends", low=0.001, high=1e6)
    batch_size: int = option(32, "windows of text in one forward pass", low=1)
    accumulation: int = option(1, "forward passes whose gradients are added up for one update", low=1)
    optimizer: str = option(
        "adamw",
        "adamw, muon (which steps the matrices its own way), adam or sgd",
        choices=("adamw", "muon", "adam", "sgd"),
    )
    learning_rate: float = option(1e-3, "highest learning rate; of muon, for all but the matrices", low=0, high=10)
    matrix_learning_rate: float = option(0.02, "highest learning rate of Muon, for matrices", low=0, high=10)
    momentum: float = option(0.95, "memory of muon's and sgd's direction (0.95: about 20 steps)", low=0, high=0.9999)
    weight_decay: float = option(0.1, "pull of the matrices towards zero, times the learning rate", low=0, high=10)
    beta1: float = option(0.9, "memory of the gradients' mean (0.9: about 10 steps)", low=0, high=0.9999)
    beta2: float = option(0.99, "memory of the gradients' squares (0.99: about 100 steps)", low=0, high=0.99999)
    clip: float = option(1.0, "length to which a longer gradient is shortened; 0 = never", low=0, high=1e9)
    warmup: int = option(20, "steps during which the learning rate rises", low=0)
    schedule: str = option("cosine", "the learning rate falls along a cosine or linear", choices=("cosine", "linear"))
    warmdown: float = option(1.0, "last fraction of the run during which the learning rate falls", low=0, high=1)
    final: float = option(0.0, "fraction of the highest learning rate that is left at the end", low=0, high=1)
    eval_every: int = option(200, "steps between two looks at the validation text; 0 = only at the end", low=0)
    save_every: int = option(200, "steps between two checkpoints; 0 = only at the end", low=0)
    seed: int = option(0, "seed of the weights, the dropout and the order of the batches", low=0, high=2**32 - 1)
    dtype: str = option(
        "auto",
        "float32, bfloat16, or auto (bfloat16 where the hardware multiplies it)",
        choices=("auto", "float32", "bfloat16"),
    )
    threads: int = option(
        0, "processor threads; 0 = measured where minutes are given, else what torch takes", low=0, high=4096
    )
    compile: bool = option(False, "make the model faster by torch.compile; the first step takes a minute longer")

    def __post_init__(self) -> None:
        check_options(self)
