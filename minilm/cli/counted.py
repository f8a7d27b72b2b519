"""What `minilm train` does for models that learn without gradients: the n-gram counts, the HMM counts what it expects."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minilm.classical.config import HMMConfig, HMMTraining, NgramConfig, OneDiscount
from minilm.cli.options import as_started, make_config

COUNTED: dict[str, Any] = {"ngram": NgramConfig, "hmm": HMMConfig}  # kind -> its config
Say = Callable[[str], Any]


class Learned(NamedTuple):
    """A model, what to say of it and, for --json and the checkpoint, its figures."""

    model: Any
    sentence: str
    figures: dict[str, Any]


def counted_config(kind: str, chosen: dict[str, Any]) -> Any:
    """The config of a counted model; one `discount` for an n-gram stands for those of every order and count."""
    config, discount = make_config(COUNTED[kind], chosen), make_config(OneDiscount, chosen).discount
    if kind != "ngram" or discount is None:
        return config
    return dataclasses.replace(config, discounts=((discount,) * 3,) * config.order)


def train_counted(
    settings: Any, chosen: dict[str, Any], prepared: Any, out: Path, about: dict[str, Any], say: Say, as_json: bool
) -> int:
    """Learn a model of one of the COUNTED kinds, evaluate it, save it in the folder `out` and say so."""
    from minilm.evaluation.evaluate import evaluate
    from minilm.training.checkpoint import save_checkpoint

    learn: Callable[..., Learned] = learn_states if isinstance(settings, HMMConfig) else learn_ngram
    started = time.perf_counter()
    learned = learn(settings, chosen, prepared, as_json)
    seconds = time.perf_counter() - started
    result = evaluate(learned.model, prepared.validation, prepared.tokenizer)
    state = {**about, **learned.figures, "seconds": seconds}
    save_checkpoint(out, learned.model, prepared.tokenizer, validation=result.bits_per_byte, state=state)
    if as_json:
        row = {"out": str(out), "kind": learned.model.kind, **dataclasses.asdict(result), **learned.figures}
        print(json.dumps({**row, "seconds": seconds}))
    say(f"{learned.sentence} in {seconds:.1f} s")
    what = f"{result.bits_per_byte:.3f} bits per byte on text it has not seen (8 = no idea)"
    say(f"{what}; now try: {as_started(f'minilm generate {out}')}")
    return 0


def learn_ngram(settings: NgramConfig, chosen: dict[str, Any], prepared: Any, as_json: bool) -> Learned:
    """Count n-grams; without a chosen order or discount, with the best order and discounts on text kept aside."""
    from minilm.classical.ngram import NgramLM
    from minilm.classical.tuning import tune_ngram
    from minilm.models.counted import CountedLM

    end = prepared.tokenizer.end_of_text
    if not {"order", "discount"} & set(chosen) and settings.smoothing != "maximum-likelihood":
        settings = tune_ngram(settings, prepared.train.ids, end)
    model = CountedLM(NgramLM(settings).fit(prepared.train.ids, end))
    sentence = f"counted {model.n_parameters:,} different n-grams up to order {settings.order}"
    return Learned(model, sentence, {"order": settings.order})


def learn_states(settings: HMMConfig, chosen: dict[str, Any], prepared: Any, as_json: bool) -> Learned:
    """Baum-Welch from a random guess, until it gains nothing more, or --iterations or --minutes are over."""
    import numpy as np
    from tqdm import tqdm

    from minilm.classical.hmm_train import Round, learn_hmm
    from minilm.models.hmm_lm import HmmLM

    training, minutes = make_config(HMMTraining, chosen), chosen.get("minutes")
    latest = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    ids, end = prepared.train.ids, prepared.tokenizer.end_of_text
    with tqdm(total=training.iterations, unit="round", disable=as_json, dynamic_ncols=True) as bar:

        def on_round(done: Round) -> bool:
            bar.update(min(done.number, 1))  # the first is the guess
            bar.set_postfix_str(f"{done.nats_per_token:.4f} nats a token")
            return done.number > 0 and time.monotonic() > latest  # the guess alone is no model

        rng = np.random.default_rng(chosen.get("seed", 0))
        model, rounds = learn_hmm(settings, ids, end, training, rng, on_round)
    figures = {"n_states": settings.n_states, "rounds": rounds[-1].number, "log_probs": [r.log_prob for r in rounds]}
    read = f"the first {training.most_tokens:,} of " if 0 < training.most_tokens < len(ids) else ""
    over = ", when the time was up," if time.monotonic() > latest else ""
    sentence = (
        f"{settings.n_states} hidden states from {read}{len(ids):,} tokens after {rounds[-1].number} rounds of "
        f"Baum-Welch{over}"
    )
    return Learned(HmmLM(model), sentence, figures)
