"""From what was chosen on the command line to the config of a model: its kind's own options, and a shape that fits the minutes."""

import dataclasses
import functools
import math
from typing import Any

from minilm.classical.config import HMMTraining, OneDiscount
from minilm.classical.glove_config import GloveConfig
from minilm.cli.counted import COUNTED, counted_config
from minilm.cli.options import make_config, typed_values
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.rnn_config import CELLS, RNNConfig
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES, SHAPES

CONFIGS = {
    **{"speedrun": SpeedrunConfig, "gpt": GPTConfig, "llama": GPTConfig},
    **dict.fromkeys(CELLS, RNNConfig),
    **COUNTED,
    "glove": GloveConfig,
}
MOST_PARAMETERS = 10**10  # 40 GB in float32; what is beyond is a slip of the keyboard
MOST_TOKENS = 10**8  # in one batch: their logits alone would be 400 GB


def options_of(kind: str) -> set[str]:
    """The names of the options that this kind of model and its training have."""
    training = {"ngram": {"seed"}, "hmm": {"seed", "minutes"} | names_of(HMMTraining), "glove": set()}
    own = {"ngram": names_of(OneDiscount)}.get(kind, set())
    return names_of(CONFIGS[kind]) | own | training.get(kind, names_of(TrainConfig) | {"recipe"})


def names_of(config: type) -> set[str]:
    """The names of the fields of a dataclass."""
    return {field.name for field in dataclasses.fields(config)}


def defaults_of(kind: str) -> dict[str, Any]:
    """What is taken for the options of this kind that nobody chose."""
    if kind == "glove":
        return {}
    model = dataclasses.asdict(model_options(kind, {}, vocab_size=1024))
    training = RECIPES.get(kind, {}) | {"minutes": "3, without --steps", "steps": "what the minutes allow"}
    special = {
        "llama": {"d_ff": "8/3 of d_model"},
        "ngram": {"order": "the best on text kept aside"},
        "hmm": {"minutes": "as many as the rounds take"},
    }
    return {**model, **training, **special.get(kind, {})}


def refuse_foreign(kind: str, chosen: dict[str, Any]) -> None:
    """ValueError for an option of other kinds of model, which this kind would not look at."""
    options = {name: options_of(name) for name in CONFIGS}
    for option in set(chosen) - options[kind]:
        if kinds := [name for name in CONFIGS if option in options[name]]:
            raise ValueError(f"{option} is no option of model {kind} (it belongs to {', '.join(kinds)}): leave it out")


def fitting_shape(
    kind: str, chosen: dict[str, Any], config: TrainConfig, prepared: Any, build: Any, plain: bool, crew: Any
) -> tuple[Any, TrainConfig]:
    """The configs of model and training that the minutes pay for; what was chosen stays. `crew`: who will train it."""
    from minilm.fast.choose import loss_part
    from minilm.training.budget import step_seconds, trial_seconds
    from minilm.training.sizes import Candidate, choose_shape, rungs

    n_tokens = len(prepared.learned)
    candidates: list[Candidate] = []
    for rung in rungs(chosen, n_tokens):
        try:
            settings = model_options(kind, {**chosen, **rung}, vocab_size=prepared.tokenizer.vocab_size)
        except ValueError:  # with what was chosen, this rung would be too large
            if not candidates:
                raise
            break
        batch_size = rung.get("batch_size", config.batch_size)
        candidates.append(Candidate(settings, dataclasses.replace(config, batch_size=batch_size)))

    def seconds(candidate: Candidate) -> float:
        timer = functools.partial(step_seconds, crew=crew)
        return trial_seconds(build, candidate, prepared.learned, lambda model: loss_part(plain, False, model), timer)

    most_steps = config.steps if "steps" in chosen else math.inf
    best = choose_shape(candidates, config.minutes or 0.0, n_tokens, seconds, most_steps)
    return best.settings, best.config


def model_options(kind: str, chosen: dict[str, Any], vocab_size: int) -> Any:
    """The config of this kind of model from what was chosen."""
    chosen = {**chosen, "vocab_size": vocab_size}
    if kind in COUNTED:
        return counted_config(kind, chosen)
    if kind in CELLS:
        config: Any = make_config(RNNConfig, SHAPES.get(kind, {}), {**chosen, "cell": kind})
    elif kind == "speedrun":
        config = make_config(SpeedrunConfig, SHAPES[kind], chosen)
    else:
        preset = llama_config if kind == "llama" else gpt2_config
        config = preset(**typed_values(GPTConfig, chosen))
    d_ff = getattr(config, "d_ff", 4 * config.d_model)
    matrices = config.n_layers * (4 * config.d_model + 2 * d_ff) * config.d_model
    n_positions = 0 if kind in CELLS else config.context_length
    n_parameters = matrices + (config.vocab_size + n_positions) * config.d_model
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(
            f"a model with about {n_parameters:.0e} parameters is too large: "
            "make d_model, d_ff, n_layers, context_length or vocab_size smaller"
        )
    tokens = getattr(config, "window", config.context_length) * (chosen.get("batch_size") or 1)
    if tokens > MOST_TOKENS:
        raise ValueError(f"a batch of {tokens:.0e} tokens is too large: make batch_size or context_length smaller")
    return config
