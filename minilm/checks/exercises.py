"""Where checks and library meet: the exercises by name, each with the library's function as its solution."""

import difflib
import importlib
import inspect
import random
from collections.abc import Callable
from typing import Any

from minilm.checks.card import show
from minilm.checks.compare import Exercise, judge
from minilm.checks.results import read_results, record
from minilm.checks.verdict import Verdict

CONCEPTS = (  # the files of minilm.checks that hold exercises, in the order of the lessons
    "tokens",
    "merges",
    "encoding",
    "padding",
    "surprise",
    "measuring",
    "ngrams",
    "smoothing",
    "distributions",
    "drawing",
    "backpropagation",
    "activation_gradient",
    "softmax_gradient",
    "loss_gradients",
    "embedding_gradient",
    "heads",
    "attention",
    "norms",
    "gating",
    "blocks",
    "training_loss",
    "training_step",
    "top_k",
    "top_p",
    "remembering",
    "talking",
    "mixing",
    "mixture_weight",
    "recall",
    "pooling",
    "label_loss",
    "scoring",
    "answering",
    "discounting",
    "continuation",
    "kneser_ney",
    "folds",
    "choosing",
    "momentum",
    "descent",
    "orthogonal",
    "schedules",
    "positions",
    "rotation",
    "distances",
    "stretching",
    "norm_gradients",
    "attention_gradients",
    "beams",
    "bounds",
    "speculation",
    "token_walk",
    "rounding",
    "rounded_products",
    "limits",
    "distilling",
    "ranges",
    "halving",
    "chance",
    "pairs",
    "power_laws",
    "nearest",
    "adapting",
    "adapter_gradients",
    "merging",
    "beliefs",
    "best_path",
    "hindsight",
    "tag_counts",
    "recurrence",
    "cell_memory",
    "back_through_gates",
    "looking_back",
    "neighbours",
    "word_slopes",
    "adaptive_rates",
    "analogies",
)
MODULES = [importlib.import_module(f"minilm.checks.{concept}") for concept in CONCEPTS]
EXERCISES: dict[str, Exercise] = {exercise.name: exercise for module in MODULES for exercise in module.EXERCISES}
SOLUTIONS = {
    "count_pairs": "minilm.text.bpe_train",
    "merge_pair": "minilm.text.bpe_train",
    "learn_merges": "minilm.text.bpe_train",
    "encode_piece": "minilm.text.bpe",
    "pad_batch": "minilm.text.padding",
    "negative_log_likelihood": "minilm.metrics",
    "perplexity": "minilm.metrics",
    "text_bits_per_byte": "minilm.metrics",
    "count_ngrams": "minilm.classical.counting",
    "add_k": "minilm.classical.counting",
    "interpolate": "minilm.classical.counting",
    "draw": "minilm.classical.counting",
    "linear_backward": "minilm.byhand.basic",
    "silu_backward": "minilm.byhand.basic",
    "softmax_backward": "minilm.byhand.basic",
    "cross_entropy_backward": "minilm.byhand.loss",
    "embedding_backward": "minilm.byhand.basic",
    "absolute_discount": "minilm.classical.discounting",
    "continuation_counts": "minilm.classical.discounting",
    "kneser_ney": "minilm.classical.discounting",
    "k_fold": "minilm.classical.tuning",
    "grid_search": "minilm.classical.tuning",
    "causal_mask": "minilm.layers.masks",
    "scaled_dot_product_attention": "minilm.layers.attention",
    "split_heads": "minilm.layers.attention",
    "layer_norm": "minilm.layers.basic",
    "swiglu": "minilm.layers.blocks",
    "pre_norm": "minilm.layers.blocks",
    "cross_entropy": "minilm.training.loss",
    "clip_factor": "minilm.training.optim",
    "token_shares": "minilm.training.loop",
    "keep_top_k": "minilm.decoding.filters",
    "keep_top_p": "minilm.decoding.filters",
    "attend_to_cache": "minilm.layers.cached_attention",
    "continue_text": "minilm.decoding.continuing",
    "mix_log_probs": "minilm.models.mixture",
    "fit_mixture_weight": "minilm.models.mixture",
    "recall_shares": "minilm.text.recall",
    "pool": "minilm.finetuning.heads",
    "smoothed_cross_entropy": "minilm.finetuning.losses",
    "macro_f1": "minilm.metrics",
    "supervised": "minilm.finetuning.sft",
    "momentum_step": "minilm.training.sgd",
    "adam_direction": "minilm.training.optim",
    "orthogonalize": "minilm.training.newton_schulz",
    "learning_rate_factor": "minilm.training.schedule",
    "sinusoidal_positions": "minilm.layers.positions",
    "rotary_angles": "minilm.layers.positions",
    "rotate_half_split": "minilm.layers.positions",
    "alibi": "minilm.layers.alibi",
    "interpolated_angles": "minilm.layers.positions",
    "layer_norm_backward": "minilm.byhand.basic",
    "rms_norm_backward": "minilm.byhand.basic",
    "share_heads_backward": "minilm.byhand.attention",
    "scaled_dot_product_attention_backward": "minilm.byhand.attention",
    "expand": "minilm.decoding.beam",
    "best_reachable": "minilm.decoding.beam",
    "accept": "minilm.decoding.speculative",
    "token_targets": "minilm.decoding.constrained",
    "to_int8": "minilm.decoding.quantize",
    "product": "minilm.decoding.quantize",
    "step_seconds": "minilm.models.roofline",
    "distillation_loss": "minilm.training.distill",
    "at_share": "minilm.training.search",
    "successive_halving": "minilm.training.search",
    "welch": "minilm.training.search",
    "paired": "minilm.training.search",
    "best_law": "minilm.evaluation.scaling",
    "closest_of_rank": "minilm.finetuning.low_rank",
    "lora": "minilm.finetuning.lora",
    "lora_backward": "minilm.byhand.lora",
    "merged_weight": "minilm.finetuning.lora",
    "forward_beliefs": "minilm.classical.hmm_chain",
    "viterbi": "minilm.classical.hmm_chain",
    "smooth": "minilm.classical.hmm_chain",
    "supervised_counts": "minilm.classical.hmm_train",
    "rnn_cell": "minilm.layers.recurrent",
    "lstm_cell": "minilm.layers.recurrent",
    "lstm_step_backward": "minilm.byhand.recurrent",
    "additive_attention": "minilm.layers.additive_attention",
    "count_neighbours": "minilm.classical.cooccurrence",
    "slopes": "minilm.classical.glove",
    "adagrad": "minilm.classical.glove",
    "analogy_scores": "minilm.classical.vectors",
}


def find(name: str) -> Exercise:
    """The exercise of this name; ValueError if there is none."""
    if name not in EXERCISES:
        near = difflib.get_close_matches(name, EXERCISES, n=1)
        remedy = f"did you mean {near[0]}?" if near else "`check --list` names them"
        raise ValueError(f"there is no exercise {name!r}: {remedy}")
    return EXERCISES[name]


def solution(name: str) -> Callable[..., Any]:
    """The library's function, which is the solution."""
    return getattr(importlib.import_module(SOLUTIONS[find(name).name]), name)


def examine(name: str, function: Callable[..., Any]) -> Verdict:
    """Judge a student's function: on the inputs of two seeds and of one that nobody knows before, apart from the library."""
    return judge(find(name), function, solution(name), seeds=(11, 23, random.SystemRandom().randrange(2**31)))


def check(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Judge the student's function, say how it went, and return it if it passed, else the library's.

    So the rest of a notebook runs either way, and the student is told whose code it runs. In a script, wrong code raises
    CheckFailed.
    """
    verdict = examine(name, function)
    record(name, verdict)
    show(name, verdict)
    return function if verdict.passed else solution(name)


def reveal(name: str, give_up: bool = False) -> None:
    """Print the library's source, once the exercise has been passed (or with give_up=True)."""
    if give_up or read_results().get(find(name).name, {}).get("passed"):
        print(inspect.getsource(solution(name)))
    else:
        print(f"{name}: solve it first, or say reveal({name!r}, give_up=True)")


def report() -> list[dict[str, Any]]:
    """For each exercise: how many mistakes are rejected and rightly named, how many right solutions are accepted."""
    rows = []
    for name, exercise in EXERCISES.items():
        verdicts = [(mistake, judge(exercise, mistake.function)) for mistake in exercise.mistakes]
        rows.append(
            {
                "exercise": name,
                "mistakes": len(verdicts),
                "rejected": sum(not verdict.passed for _, verdict in verdicts),
                "rightly_named": sum(verdict.mistake == mistake.name for mistake, verdict in verdicts),
                "alternatives": len(exercise.alternatives),
                "accepted": sum(judge(exercise, function).passed for function in exercise.alternatives),
            }
        )
    return rows
