"""`minilm evaluate`: how well a model predicts a text, in bits per byte; or how good it is at what it was taught."""

import dataclasses
import json

from minilm.cli.options import Parser, seed


def run(arguments: list[str]) -> int:
    """Parse the flags, score the text, print the figures with their units."""
    parser = Parser(
        "evaluate",
        "How well a trained model predicts text that it has not seen. The measure is bits per byte of the original text:\n"
        "8 means no idea at all, and models with different tokenizers can be compared. A model that was taught a skill\n"
        "by minilm finetune is held against the examples of --data, or those that were kept aside.",
        "minilm evaluate checkpoints/walk/gpt --data my-novel.txt",
    )
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.option(
        "--data", metavar="TEXT", help="a corpus or path; all of it is scored (default: the run's validation split)"
    )
    parser.option("--max-bytes", type=int, metavar="N", help="read only the first N bytes (default: all)")
    parser.option(
        "--text-column",
        metavar="NAME",
        rare=True,
        help="the column of the texts (default: as in fine-tuning, or guessed)",
    )
    parser.option(
        "--label-column",
        metavar="NAME",
        rare=True,
        help="the column of the labels (default: as in fine-tuning, or guessed)",
    )
    parser.option("--base", metavar="DIR", rare=True, help="where the base of a LoRA adapter lies now, if it has moved")
    parser.option("--device", default="cpu", rare=True, help="auto, cpu, cuda or mps (default: cpu)")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; evaluation draws nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    if options.max_bytes is not None and options.max_bytes < 1:
        raise ValueError(f"--max-bytes is {options.max_bytes}: it must be at least 1")

    import torch

    from minilm.cli.word_vectors import refuse_vectors
    from minilm.cli.writing import load_with_base
    from minilm.evaluation.evaluate import evaluate
    from minilm.runtime import pick_device
    from minilm.text.corpus import load_corpus
    from minilm.text.token_file import encode_corpus

    device = pick_device(options.device)
    checkpoint = load_with_base(options.checkpoint, options.base)
    refuse_vectors(options.checkpoint, checkpoint.model)
    columns = {name: value for name in ("text_column", "label_column") if (value := getattr(options, name)) is not None}
    taught = checkpoint.state.get("finetune", {})
    if columns and (taught.get("task") != "classify" or options.data is None):
        raise ValueError(
            "--text-column and --label-column are for the --data of a model that labels texts: leave them out"
        )
    if taught:
        from minilm.cli.skilled import judge_skill

        checkpoint.model.to(device)
        checkpoint = dataclasses.replace(checkpoint, state={**checkpoint.state, "finetune": {**taught, **columns}})
        return judge_skill(checkpoint, options.data, options.json)
    if options.data is None and not checkpoint.state.get("data"):
        raise ValueError(f"{options.checkpoint} does not say what it was trained on: name a text with --data")
    corpus = load_corpus(options.data or checkpoint.state["data"])
    documents = [*corpus.train, *corpus.validation] if options.data else corpus.validation
    model = checkpoint.model
    if isinstance(model, torch.nn.Module):
        model.to(device)
    result = evaluate(
        model, encode_corpus(documents, checkpoint.tokenizer), checkpoint.tokenizer, max_bytes=options.max_bytes
    )
    figures = {
        "bits_per_byte": result.bits_per_byte,
        "nats_per_token": result.nats_per_token,
        "perplexity": result.perplexity,
        "tokens": result.tokens,
        "bytes": result.bytes,
        "seconds": result.seconds,
    }
    if options.json:
        print(json.dumps(figures))
        return 0
    print(
        f"{result.bits_per_byte:.4f} bits per byte (8 = no idea; the text compresses to {result.bits_per_byte / 8:.1%})"
    )
    print(f"{result.nats_per_token:.4f} nats per token, perplexity {result.perplexity:.2f} per token")
    print(f"{result.tokens:,} tokens, {result.bytes:,} bytes of text, {result.seconds:.1f} s")
    return 0
