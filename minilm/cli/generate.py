"""`minilm generate`: a trained model goes on from a prompt, streamed as it writes."""

import json
import time

from minilm.cli.options import Parser, make_config, seed
from minilm.decoding.config import SampleConfig


def run(arguments: list[str]) -> int:
    """Parse the flags, load the model, print what it writes."""
    parser = Parser(
        "generate",
        "Let a trained model go on from a prompt.",
        "minilm generate checkpoints/walk/gpt --prompt 'ROMEO.' --max-new-tokens 200 --temperature 0.8 --seed 1",
    )
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.option("--prompt", default="", metavar="TEXT", help="what the text begins with (default: nothing)")
    parser.option(
        "--max-new-tokens", type=int, default=200, metavar="N", help="length of the continuation (default: 200)"
    )
    parser.option("--seed", type=seed, default=0, metavar="S", help="same seed, same text (default: 0)")
    parser.add_config(SampleConfig, shown=("temperature", "top_k", "top_p"))
    parser.option("--overflow", choices=("stop", "slide"), default="slide", rare=True, help="when the context is full")
    parser.option(
        "--no-cache", action="store_true", rare=True, help="recompute everything for each token (same text, slower)"
    )
    parser.option("--device", default="cpu", rare=True, help="auto, cpu, cuda or mps (default: cpu)")
    parser.option("--json", action="store_true", help="one JSON object instead of text")
    options = parser.read(arguments)
    config = make_config(SampleConfig, vars(options))
    if options.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens is {options.max_new_tokens}: it must be at least 1")
    if options.prompt.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace") != options.prompt:
        raise ValueError("--prompt is not valid UTF-8")

    import torch

    from minilm.cli.writing import stream_text
    from minilm.runtime import pick_device
    from minilm.training.checkpoint import load_checkpoint

    device = pick_device(options.device)
    checkpoint = load_checkpoint(options.checkpoint)
    if isinstance(checkpoint.model, torch.nn.Module):
        checkpoint.model.to(device)
    pieces: list[str] = []
    started = time.perf_counter()
    stream = stream_text(
        checkpoint.model, checkpoint.tokenizer, options.prompt, options.max_new_tokens,
        config=config, seed=options.seed, use_cache=not options.no_cache, overflow=options.overflow,
    )  # fmt: skip
    for piece in stream:
        if not pieces and not options.json:
            print(options.prompt, end="")
        pieces.append(piece)
        if not options.json:
            print(piece, end="", flush=True)
    seconds = time.perf_counter() - started
    if options.json:
        figures = {"prompt": options.prompt, "text": "".join(pieces), "tokens": len(pieces) - 1, "seconds": seconds}
        print(json.dumps(figures, ensure_ascii=False))
    else:
        print()
    return 0
