"""`minilm describe`: what a model costs before it is built: parameters, FLOPs a token, bytes to use and to train it."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, seed, typed_values
from minilm.models.accounting import BYTES, Account, account, total
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.initialisation import Start, initialisation

PRESETS: dict[str, Callable[..., Any]] = {"gpt": gpt2_config, "llama": llama_config, "speedrun": SpeedrunConfig}
SHOWN = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads")
LARGEST = 10**9  # of every size: what is beyond is a slip of the keyboard
MOST_LISTED = 1000  # layers whose parameters are listed one by one


def parser_of_describe() -> Parser:
    """The flags: those of the verb, and one for every size of a preset."""
    parser = Parser(
        "describe",
        "What a model costs: its parameters, the FLOPs of a token, the bytes to use it and to train it, in a table.\n"
        "CONFIG is gpt (GPT-2), llama or speedrun, with sizes as flags, or the folder of a run or a checkpoint.\n"
        "The defaults below are those of gpt; llama and speedrun have their own.",
        "minilm describe gpt --d-model 768 --n-layers 12 --n-heads 12 --vocab-size 50257 --context-length 1024",
    )
    parser.option("config", metavar="CONFIG", help="gpt, llama, speedrun, or a folder")
    parser.option("--batch-size", type=int, default=1, metavar="B", help="sequences in one forward pass (default: 1)")
    parser.option(
        "--dtype", choices=tuple(BYTES), default="float32", help="of weights and activations (default: float32)"
    )
    parser.option("--plot", metavar="FILE.png", help="draw the block with its shapes (.png, .svg or .pdf)")
    parser.option("--init", action="store_true", help="also how each parameter starts: its law, its size, and why")
    parser.option(
        "--experts", type=int, metavar="N", help="with --init: of a gpt or llama whose MLPs are mixtures of N experts"
    )
    parser.option("--json", action="store_true", help="one JSON object")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; a description draws nothing")
    for config in (GPTConfig, SpeedrunConfig):
        parser.add_config(config, SHOWN)
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, count, draw if asked to, print the table or JSON."""
    options = vars(parser_of_describe().read(arguments))
    plot = options["plot"]
    if plot and Path(plot).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot {plot}: the name of a picture ends in .png, .svg or .pdf")
    sizes, n_experts = chosen_sizes(options), chosen_experts(options)
    if options["config"] in PRESETS:
        kind, length = options["config"], None
        models: list[Any] = [preset(kind, sizes)]
    else:
        length = sizes.pop("context_length", None)
        kind, models = read_checkpoint(options["config"], sizes)
    parts = [describe(model, kind, options["batch_size"], length, options["dtype"]) for model in models]
    transformers = [part for part in parts if isinstance(part, Account)]
    for name, what in (("--plot", "draws a transformer's block"), ("--init", "tells how a transformer starts")):
        if options[name.strip("-")] and not transformers:
            raise ValueError(f"{name} {what}, and a model of kind {kind} has none: leave it out")
    if plot:
        from minilm.plots.block import plot_block

        plot_block(transformers[0].bricks, plot)
    starts = [starts_of(model, n_experts) if options["init"] else () for model in models]
    if options["json"]:
        print(json.dumps(to_dict(kind, parts, starts)))
        return 0
    for part, started in zip(parts, starts, strict=True):
        print("\n".join(format_account(part) if isinstance(part, Account) else format_counted(part)))
        if started:
            print("\n".join(format_starts(started)))
    if len(parts) > 1:
        print(f"\nTogether, as a {kind}: {sum(part.parameters for part in parts):,} parameters.")
    if plot:
        print(f"\nThe block as a picture: {plot}")
    return 0


# ---- from names to accounts


@dataclasses.dataclass(frozen=True)
class Counted:
    """What there is to say of a model that was counted: how many numbers it holds, in how many bytes."""

    kind: str
    parameters: int
    weights: int


def field_names(config: type) -> list[str]:
    """The names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config)]


def flag(name: str) -> str:
    """d_model -> --d-model."""
    return "--" + name.replace("_", "-")


def chosen_sizes(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of the models' configs that were given as flags; a ValueError if one, or the batch, is beyond reason."""
    names = [*field_names(GPTConfig), *field_names(SpeedrunConfig)]
    sizes = {name: options[name] for name in names if options[name] is not None}
    for name, value in {**sizes, "batch_size": options["batch_size"]}.items():
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"{flag(name)} is too large: it must be at most {LARGEST:,}")
    return sizes


def chosen_experts(options: dict[str, Any]) -> int:
    """The number of experts whose start is asked for, 0 if none; a ValueError where no table would show them."""
    n_experts = options["experts"]
    if n_experts is None:
        return 0
    if not options["init"]:
        raise ValueError("--experts goes with --init: the table of costs is that of a plain MLP")
    if options["config"] not in ("gpt", "llama"):
        raise ValueError(f"--experts is no option of {options['config']}: describe gpt or llama with it")
    if not 1 <= n_experts <= MOST_LISTED:
        raise ValueError(f"--experts is {n_experts}: give 1 to {MOST_LISTED:,}")
    return n_experts


def preset(name: str, sizes: dict[str, Any]) -> Any:
    """The config of a preset with these sizes; a ValueError for a size that it does not have."""
    config = SpeedrunConfig if name == "speedrun" else GPTConfig
    for size in sizes:
        if size not in field_names(config):
            raise ValueError(f"{flag(size)} is no option of {name}: leave it out, or describe another model")
    return PRESETS[name](**typed_values(config, sizes))


def read_checkpoint(folder: str, sizes: dict[str, Any]) -> tuple[str, list[Any]]:
    """The kind of the model in a run's or checkpoint's folder, and its config, or a Counted; of a mixture both halves."""
    if not Path(folder).is_dir():
        raise ValueError(
            f"{folder!r} is neither gpt (that is GPT-2), llama, speedrun nor the folder of a run: an n-gram has no size "
            "until it has counted"
        )
    if sizes:
        name = flag(next(iter(sizes)))
        raise ValueError(f"{name} is fixed in a trained model: leave it out, or describe one of {', '.join(PRESETS)}")
    from minilm.training.checkpoint import load_checkpoint

    model = load_checkpoint(folder).model
    halves = [model.neural, model.counted] if hasattr(model, "counted") else [model]
    return model.kind, [counted(half) if hasattr(half, "n_parameters") else half.config for half in halves]


def counted(model: Any) -> Counted:
    """What its arrays tell of an n-gram."""
    return Counted(model.kind, model.n_parameters, sum(array.nbytes for array in model.arrays().values()))


def describe(model: Any, kind: str, batch_size: int, length: int | None, dtype: str) -> Account | Counted:
    """The account of a config, under the name of the preset if it has one; a Counted as it is."""
    if isinstance(model, Counted):
        return model
    found = account(model, batch_size, length, dtype)
    return dataclasses.replace(found, kind=kind) if kind in PRESETS else found


def starts_of(model: Any, n_experts: int) -> tuple[Start, ...]:
    """How the parameters of a config start, of a Counted nothing; a ValueError if they are too many to list."""
    if isinstance(model, Counted):
        return ()
    if model.n_layers > MOST_LISTED:
        raise ValueError(f"--init lists every layer: --n-layers is {model.n_layers:,}, give at most {MOST_LISTED:,}")
    return initialisation(model, n_experts)


# ---- what is printed


def to_dict(kind: str, parts: list[Account | Counted], starts: list[tuple[Start, ...]]) -> dict[str, Any]:
    """The parts as plain data: one as it is, of several (a mixture's) the sum of the parameters and each under "parts".

    How a part starts, if that was asked for, is its "initialisation", an entry a parameter.
    """
    tables = [dataclasses.asdict(part) for part in parts]
    for table, started in zip(tables, starts, strict=True):
        if started:
            table["initialisation"] = [dataclasses.asdict(start) for start in started]
    if len(tables) == 1:
        return tables[0]
    return {"kind": kind, "parameters": sum(table["parameters"] for table in tables), "parts": tables}


def short(number: int, unit: str = "") -> str:
    """Three digits and a decimal prefix.

    >>> short(497_759_232, "B"), short(12, "B"), short(999_999)
    ('498 MB', '12 B', '1 M')
    """
    for factor, prefix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number} {unit}".rstrip()


def format_account(a: Account) -> Iterator[str]:
    """The lines of the table, of the bytes, and what they mean."""
    batch = f"{a.batch_size:,} x {a.context_length:,} tokens"
    yield f"{a.kind}: a batch of {batch}, in {a.dtype}\n"
    yield f"{'brick':<24} {'weight':>14} {'copies':>6} {'parameters':>15} {'FLOPs a token':>15} {'kept':>9}"
    for brick in a.bricks:
        weight = " x ".join(map(str, brick.weight)) or "-"
        parameters, flops, kept = (total([brick], what) for what in ("parameters", "flops", "activations"))
        line = f"{brick.name:<24} {weight:>14} {brick.copies:>6} {parameters:>15,} {flops:>15,}"
        yield f"{line} {short(kept, 'B'):>9}"
    yield f"{'sum':<46} {a.parameters:>15,} {a.flops_forward:>15,} {short(a.activations, 'B'):>9}\n"
    means = "two running means" if a.dtype == "float32" else "two running means and a copy of the weights"
    for name, size, words in (
        ("weights", a.weights, f"{BYTES[a.dtype]} bytes a parameter"),
        ("gradients", a.gradients, "as many as weights"),
        ("AdamW", a.optimizer, f"{means}, in float32"),
        ("activations", a.activations, "kept by the forward pass until the backward pass has read them"),
        ("training", a.training, "these four together"),
    ):
        yield f"{name:<12} {short(size, 'B'):>9}   {words}"
    whole = short(a.kv_cache * a.context_length, "B")
    yield f"{'KV cache':<12} {whole:>9}   of one sequence of {a.context_length:,} tokens: {a.kv_cache:,} B a token"
    yield (
        f"\nA {short(a.parameters)} {a.kind} needs {short(a.weights, 'B')} in {a.dtype}; "
        f"to train it on {batch} at a time takes {short(a.training, 'B')}."
    )
    yield (
        f"A token costs {short(a.flops_forward)} FLOPs, and {short(a.flops_forward_backward)} in training: "
        "the backward pass is twice the forward pass."
    )
    yield from remarks(a)


def remarks(a: Account) -> Iterator[str]:
    """Sentences on what surprises: the scores, and what a half-precision run really stores."""
    scores = next(brick for brick in a.bricks if brick.name.endswith("scores"))
    (B, H, T, _), width = scores.output, BYTES[a.dtype]
    share = 2 * B * H * T * T * width * scores.copies / a.activations
    yield (
        f"The attention scores are {share:.0%} of the activations and grow with the square of the context; "
        "a fused attention does not keep them."
    )
    if any(brick.name == "ngrams" for brick in a.bricks):
        yield (
            "Of the table of n-grams only the rows that a batch reads have gradients, and AdamW keeps two numbers a row: "
            "training needs less than its whole size."
        )
    if a.dtype == "bfloat16":
        yield "`minilm train --dtype bfloat16` only multiplies in bfloat16: its weights and AdamW are those of float32."


def format_counted(part: Counted) -> Iterator[str]:
    """An n-gram has no FLOPs to speak of: it looks up."""
    yield f"{part.kind}: {part.parameters:,} parameters (different n-grams that it has counted), {short(part.weights, 'B')}"
    yield "It multiplies no matrices: a token costs a few look-ups."


def format_starts(starts: tuple[Start, ...]) -> Iterator[str]:
    """The lines of the second table: parameters that differ only in their layer or their expert share a line."""
    kinds = Counter(
        dataclasses.replace(start, name=re.sub(r"(^blocks|\.experts)\.\d+", r"\1", start.name)) for start in starts
    )
    yield "\nHow each parameter starts: drawn from the normal distribution with mean 0, or all the same.\n"
    yield f"{'parameter':<30} {'shape':>14} {'copies':>6} {'law':>7} {'std':>8}   why"
    for start, copies in kinds.items():
        shape, std = " x ".join(map(str, start.shape)), f"{start.std:.3g}" if start.std else "-"
        yield f"{start.name:<30} {shape:>14} {copies:>6} {start.law:>7} {std:>8}   {start.why}"
