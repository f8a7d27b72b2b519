"""`minilm describe`: what a model costs before it is built: parameters, FLOPs a token, bytes to use and to train it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minilm.cli.describing import Counted, Described, format_starts, lines_of, to_dict
from minilm.cli.options import Parser, flag_of, seed, typed_values
from minilm.models.accounting import BYTES, account
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.initialisation import Start, initialisation
from minilm.models.part_accounts import MADE, PartAccount, part_account, plain_config
from minilm.models.recurrent_account import RecurrentAccount, account_recurrent
from minilm.models.rnn_config import RNNConfig

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
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")
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
    if options["base"] and options["config"] in PRESETS:
        raise ValueError("--base is for the folder of an adapter: leave it out")
    if options["config"] in PRESETS:
        kind, length = options["config"], None
        models: list[Any] = [preset(kind, sizes)]
    else:
        length = sizes.pop("context_length", None)
        kind, models = read_checkpoint(options["config"], sizes, options["base"])
    parts = [describe(model, kind, options["batch_size"], length, options["dtype"]) for model in models]
    others = (Counted, RecurrentAccount)
    transformers = [
        part.plain if isinstance(part, PartAccount) else part for part in parts if not isinstance(part, others)
    ]
    for name, what in (("--plot", "draws a transformer's block"), ("--init", "tells how a transformer starts")):
        if options[name.strip("-")] and not transformers:
            raise ValueError(f"{name} {what}, and a model of kind {kind} has none: leave it out")
    if plot:
        from minilm.plots.block import plot_block

        plot_block(transformers[0].bricks, plot)
    starts = [starts_of(model, kind, n_experts) if options["init"] else () for model in models]
    if options["json"]:
        print(json.dumps(to_dict(kind, parts, starts)))
        return 0
    for part, started in zip(parts, starts, strict=True):
        print("\n".join(lines_of(part)))
        if started:
            print("\n".join(format_starts(started)))
    if len(parts) > 1:
        print(f"\nTogether, as a {kind}: {sum(part.parameters for part in parts):,} parameters.")
    if plot:
        print(f"\nThe block as a picture: {plot}")
    return 0


# ---- from names to accounts


def field_names(config: type) -> list[str]:
    """The names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config)]


def chosen_sizes(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of the models' configs that were given as flags; a ValueError if one, or the batch, is beyond reason."""
    names = [*field_names(GPTConfig), *field_names(SpeedrunConfig)]
    sizes = {name: options[name] for name in names if options.get(name) is not None}
    for name, value in {**sizes, "batch_size": options["batch_size"]}.items():
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"{flag_of(name)} is too large: it must be at most {LARGEST:,}")
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
            raise ValueError(f"{flag_of(size)} is no option of {name}: leave it out, or describe another model")
    return PRESETS[name](**typed_values(config, sizes))


def read_checkpoint(folder: str, sizes: dict[str, Any], base: str | None = None) -> tuple[str, list[Any]]:
    """The kind of the model in a run's or checkpoint's folder, and its config, or a Counted; of a mixture both halves."""
    if not Path(folder).is_dir():
        raise ValueError(
            f"{folder!r} is neither gpt (that is GPT-2), llama, speedrun nor the folder of a run: an n-gram has no size "
            "until it has counted"
        )
    if sizes:
        name = flag_of(next(iter(sizes)))
        raise ValueError(f"{name} is fixed in a trained model: leave it out, or describe one of {', '.join(PRESETS)}")
    from minilm.cli.word_vectors import refuse_vectors
    from minilm.cli.writing import load_with_base

    model = load_with_base(folder, base).model
    refuse_vectors(folder, model)
    halves = [model.neural, model.counted] if hasattr(model, "counted") else [model]
    return model.kind, [counted(half) if hasattr(half, "n_parameters") else half.config for half in halves]


def counted(model: Any) -> Counted:
    """What its arrays tell of an n-gram."""
    return Counted(model.kind, model.n_parameters, sum(array.nbytes for array in model.arrays().values()))


def describe(model: Any, kind: str, batch_size: int, length: int | None, dtype: str) -> Described:
    """The account of a config, under the name of the preset if it has one; a Counted as it is."""
    if isinstance(model, Counted):
        return model
    if kind in MADE:
        return part_account(kind, model, batch_size, length, dtype)
    if isinstance(model, RNNConfig):
        return account_recurrent(model, dtype)
    found = account(model, batch_size, length, dtype)
    return dataclasses.replace(found, kind=kind) if kind in PRESETS else found


def starts_of(model: Any, kind: str, n_experts: int) -> tuple[Start, ...]:
    """How the parameters of a config start, of a Counted nothing; a ValueError if they are too many to list."""
    if isinstance(model, Counted):
        return ()
    if kind in MADE:
        model = plain_config(kind, model)
    if model.n_layers > MOST_LISTED:
        raise ValueError(f"--init lists every layer: --n-layers is {model.n_layers:,}, give at most {MOST_LISTED:,}")
    return initialisation(model, n_experts)
