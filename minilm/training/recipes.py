"""What each kind of model looks like and is trained with unless somebody says otherwise. No torch: `--help` is quick."""

from typing import Any

# Fields of TrainConfig.
RECIPES: dict[str, dict[str, Any]] = {
    "gpt": {"learning_rate": 2e-3, "batch_size": 16},
    "llama": {"learning_rate": 2e-3, "batch_size": 16},
    "speedrun": {
        "optimizer": "muon",
        "learning_rate": 0.01,
        "matrix_learning_rate": 0.02,
        "beta1": 0.8,
        "beta2": 0.95,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmdown": 0.6,
        "batch_size": 16,
    },
    **{cell: {"learning_rate": 1e-2, "batch_size": 16, "weight_decay": 0.01} for cell in ("rnn", "gru", "lstm")},
}

# Fields of the model's config.
SHAPES: dict[str, dict[str, Any]] = {"speedrun": {"max_ngram": 6}}
