"""`minilm mix`: a trained network and an n-gram asked together, as one model that can be saved, measured and made to write."""

import json
from pathlib import Path

from minilm.cli.options import Parser, as_started, seed
from minilm.cli.run_folder import TOKENS, new_run, text_of_run

NEURAL = ("gpt", "speedrun", "rnn")


def run(arguments: list[str]) -> int:
    """Parse the flags, count, fit, save, say what was gained."""
    parser = Parser(
        "mix",
        "Join a trained model and an n-gram into one model, for generate, chat, evaluate and ladder. The n-gram is counted on\n"
        "the text of the run; how far each of the two is trusted is fitted on training text that neither has learned from.",
        "minilm mix checkpoints/my-gpt --out checkpoints/both",
    )
    parser.option("run", help="the folder of a run of minilm train")
    parser.option(
        "--how",
        default="linear",
        choices=("linear", "log-linear"),
        help="linear averages the probabilities, log-linear multiplies powers of them (default: linear)",
    )
    parser.option(
        "--order", type=int, metavar="N", help="tokens in the longest n-gram (default: the best on text kept aside)"
    )
    parser.option("--out", metavar="DIR", help="the new folder (default: that of the run, and -mixture)")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; mixing draws nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)

    from minilm.classical.config import NgramConfig
    from minilm.classical.ngram import NgramLM
    from minilm.classical.tuning import tune_ngram
    from minilm.cli.writing import load_language_model
    from minilm.evaluation.evaluate import evaluate
    from minilm.evaluation.mix import mix, mix_log_linear
    from minilm.models.counted import CountedLM
    from minilm.training.checkpoint import run_of, save_checkpoint

    checkpoint = load_language_model(options.run)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    wanted = "give the run of a network that minilm train made"
    if model.kind not in NEURAL:
        raise ValueError(f"{options.run} holds a {model.kind} model: {wanted}")
    if not all((checkpoint.path.parent / name).is_file() for name in TOKENS):
        raise ValueError(f"{options.run} keeps no text from which n-grams could be counted: {wanted}")
    text, end = text_of_run(checkpoint), tokenizer.end_of_text
    whole = run_of(options.run)
    out = Path(options.out) if options.out else whole.with_name(f"{whole.name}-mixture")
    say = (lambda message: None) if options.json else print
    with new_run(out):
        say(f"counting n-grams of {len(text.train.ids):,} tokens ...")
        if options.order is None:
            config = tune_ngram(NgramConfig(vocab_size=tokenizer.vocab_size), text.train.ids, end)
        else:
            config = NgramConfig(vocab_size=tokenizer.vocab_size, order=options.order)
        ngram = CountedLM(NgramLM(config).fit(text.train.ids, end))
        say(f"fitting on {len(text.held_out):,} tokens that neither has learned from ...")
        join = mix if options.how == "linear" else mix_log_linear
        both = join(model, ngram, text.learned, text.held_out, end)
        say("measuring the network, the n-gram and both on the text kept aside ...")
        bits = {
            name: evaluate(one, text.validation, tokenizer).bits_per_byte
            for name, one in (("network", model), ("ngram", ngram), ("both", both))
        }
        state = {"data": checkpoint.state.get("data"), "mix": {"of": str(checkpoint.path), "bits_per_byte": bits}}
        save_checkpoint(out, both, tokenizer, step=checkpoint.step, validation=bits["both"], state=state)
    if options.json:
        fitted = {"weight": both.config.weight} if options.how == "linear" else {"powers": both.config.powers}
        print(json.dumps({"out": str(out), "kind": both.kind, "order": config.order, **fitted, "bits_per_byte": bits}))
        return 0
    if options.how == "linear":
        trust = f"weight {both.config.weight:.3f} of the network"
    else:
        trust = "powers {:.2f} of the network, {:.2f} of the n-gram".format(*both.config.powers)
    print(f"{both.kind} with an n-gram of order {config.order}, {trust}")
    print(
        f"bits per byte on text not seen: network {bits['network']:.3f}, n-gram {bits['ngram']:.3f}, both {bits['both']:.3f}"
    )
    then = as_started(f"minilm generate {out} --prompt 'The'")
    print(f"the model lies in {out}; now try: {then}")
    return 0
