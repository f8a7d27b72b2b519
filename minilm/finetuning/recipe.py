"""How a model is taught a skill, as data: from this the flags of `minilm finetune` are made. No torch: `--help` is quick."""

import dataclasses
from dataclasses import InitVar, dataclass
from typing import Any

from minilm.runtime import check_options, option
from minilm.training.config import TrainConfig

TASKS = ("classify", "tag", "generate")
# Fields of TrainConfig where nobody says otherwise: gentle steps, so that what was learnt before is not washed away.
RECIPE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 16,
    "weight_decay": 0.01,
    "schedule": "linear",
    "warmdown": 0.9,
}
# The same for an adapter: its few weights start at zero and have a longer way to go.
LORA: dict[str, Any] = {"epochs": 6.0, "learning_rate": 5e-3}
WARMUP = 0.1  # part of the steps during which the learning rate rises
FROM_EPOCHS = {  # what the number of examples decides where nobody says otherwise, as the help has it
    "steps": "what the epochs come to",
    "warmup": f"{WARMUP:.0%} of the steps",
    "eval_every": "once an epoch",
    "save_every": "once an epoch",
}


@dataclass(frozen=True)
class FinetuneConfig:
    """What is taught, and how. ValueError for a value out of its range."""

    task: str = option(
        "classify", "classify: a label for a text; tag: one for each word; generate: answers", choices=TASKS
    )
    epochs: float = option(3.0, "how often each example is seen", low=0.001, high=1e6)
    kept_aside: float = option(0.1, "part of the examples that is not learnt from, to judge by", low=0.001, high=0.9)
    pooling: str = option(
        "mean",
        "what of a text a classifier judges: the mean of its tokens; its last one, which knows most of how a text ends (better "
        "in the stories that lesson 10 classifies); or its first",
        choices=("last", "mean", "first"),
    )
    smoothing: float = option(0.0, "part of the probability that every label gets (label smoothing)", low=0, high=0.99)
    balance: bool = option(False, "rare labels count for more, all labels alike in sum")
    freeze: int = option(
        0,
        "blocks, from the input on, that stay as they are, with the embeddings; answers are then taught in the tokens that the "
        "model has, as with --lora; 0 = nothing",
        low=0,
    )
    layer_decay: float = option(1.0, "learning rate of each block / that of the block above it", low=0.001, high=1)
    # A checkpoint keeps both beside the fields, for whoever reads such a table again.
    text_column: InitVar[str | None] = None
    label_column: InitVar[str | None] = None

    def __post_init__(self, text_column: str | None, label_column: str | None) -> None:
        check_options(self)


def schedule(train_config: TrainConfig, config: FinetuneConfig, examples: Any, chosen: dict[str, Any]) -> TrainConfig:
    """Steps, warm-up and looks from the number of examples, where nobody said otherwise: a look and a checkpoint an epoch."""
    an_epoch = examples.batches(train_config.batch_size).n_batches
    steps = max(1, round(config.epochs * an_epoch / train_config.accumulation))
    a_look = max(1, an_epoch // train_config.accumulation)
    found = {"steps": steps, "warmup": round(WARMUP * steps), "eval_every": a_look, "save_every": a_look}
    return dataclasses.replace(train_config, **{name: value for name, value in found.items() if name not in chosen})
