"""`minilm convert`: another checkpoint of the same model, in a new folder: an adapter merged into its base, or weights in int8."""

import json
import shutil
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, as_started, fresh_directory, seed, whole_or_nothing

OF_TRAINING = ("train", "plan", "log", "files")  # of a checkpoint's state, what is only for going on with the training
ASIDE = "aside.json"  # the examples by which `minilm evaluate` judges a model with a skill


def parser_of_convert() -> Parser:
    """The flags."""
    parser = Parser(
        "convert",
        "Save a trained model in another form, in a folder of its own. --merge adds a LoRA adapter to the weights of its base,\n"
        "and the result needs no base. --int8 stores every matrix in 8 bits a number, a quarter of its bytes, for\n"
        "generate, chat, evaluate and ladder. What was there stays as it is.",
        "minilm convert checkpoints/my-adapter --merge --int8 --out checkpoints/my-small-model",
    )
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.option("--out", metavar="DIR", required=True, help="the new folder; nothing is overwritten")
    parser.option("--merge", action="store_true", help="add the adapter to the weights of its base")
    parser.option(
        "--int8", action="store_true", help="round the weights to whole numbers from -127 to 127, with scales"
    )
    parser.option("--group", type=int, metavar="N", help="weights that share a scale, with --int8 (default: 64)")
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; converting draws nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, load, convert, save, say what became of how many bytes."""
    options = parser_of_convert().read(arguments)
    if not (options.merge or options.int8):
        raise ValueError("say what to convert to: --merge for an adapter, --int8 for smaller weights, or both")
    if options.group is not None and not options.int8:
        raise ValueError("--group is for --int8: give both or neither")
    if options.group is not None and options.group < 1:
        raise ValueError(f"--group is {options.group}: at least 1 weight has a scale")
    out = fresh_directory(options.out, otherwise="")

    from minilm.cli.writing import load_with_base
    from minilm.training.checkpoint import save_checkpoint
    from minilm.training.verify import describe_files

    checkpoint = load_with_base(options.checkpoint, options.base)
    before, kind = n_bytes(checkpoint.model), checkpoint.model.kind
    model = converted(checkpoint.model, options.checkpoint, options.merge, options.int8, options.group)
    state = {name: value for name, value in checkpoint.state.items() if name not in OF_TRAINING}
    # A rounded model is another one: the score is that of the model before.
    score = None if options.int8 else checkpoint.validation
    with whole_or_nothing(out):
        out.mkdir(parents=True, exist_ok=True)
        if (checkpoint.path.parent / ASIDE).is_file():
            shutil.copy(checkpoint.path.parent / ASIDE, out)
            state["files"] = describe_files(out, [ASIDE])
        save_checkpoint(out, model, checkpoint.tokenizer, step=checkpoint.step, validation=score, state=state)
    after = n_bytes(model)
    if options.json:
        print(json.dumps({"out": str(out), "kind": model.kind, "bytes_before": before, "bytes_after": after}))
        return 0
    print(f"{options.checkpoint}: {kind}, {before:,} bytes of weights")
    print(f"{out}: {model.kind}, {after:,} bytes ({after / before:.0%}); now try: {as_started(next_step(model, out))}")
    if options.int8 and after > 0.5 * before:
        print(
            "Only matrices are rounded: tables that are looked up (embeddings, of n-grams above all) stay as they are."
        )
    return 0


def converted(model: Any, path: str, merge: bool, int8: bool, group: int | None) -> Any:
    """The model in its new form; ValueError where it has nothing to merge or is not of a kind that can be rounded."""
    from minilm.decoding.quantize import GROUP
    from minilm.models.quantized import INSIDE, Quantized

    if merge and model.kind != "adapted":
        raise ValueError(
            f"{path} holds a {model.kind} model, not an adapter: there is nothing to --merge, leave it out"
        )
    if merge:
        model = model.merged()
    if int8 and model.kind == "adapted":
        raise ValueError(f"{path} holds an adapter, which is rounded with its base or not at all: add --merge")
    if int8 and model.kind not in INSIDE:
        raise ValueError(f"{path} holds a {model.kind} model: --int8 is for models of kind {', '.join(INSIDE)}")
    return Quantized(model, group or GROUP) if int8 else model


def n_bytes(model: Any) -> int:
    """What the arrays of a checkpoint of this model take."""
    return sum(array.nbytes for array in model.arrays().values())


def next_step(model: Any, out: Path) -> str:
    """What one would do with it."""
    if getattr(model.config, "labels", ()):
        return f"minilm predict {out} 'a text of your own'"
    return f"minilm generate {out}"
