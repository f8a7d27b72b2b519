"""How `minilm generate` shows what was written: as text, streamed if it is one text, or as JSON, one object a text."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any


class Printer:
    """Text and JSON go to standard output, --stats to standard error: so what was written can be piped on."""

    def __init__(self, options: argparse.Namespace, streamed: str | None) -> None:
        """`streamed` is the prompt of the only text, which is shown piece by piece; None if there are several."""
        self.options, self.streamed = options, None if options.json else streamed
        self.begun = False
        self.told = False

    def piece(self, text: str) -> None:
        """The next characters of the only text; the first are preceded by its prompt."""
        if self.streamed is None:
            return
        print(text if self.begun else self.streamed + text, end="", flush=True)
        self.begun = True

    def answer(self, answer: Any, tokenizer: Any, seconds: float, stats: dict[str, Any] | None) -> None:
        """A text that is done, after so many seconds of the whole."""
        log_probs = answer.log_probs if self.options.log_probs else None
        if self.options.json:
            table = {"prompt": answer.prompt, "text": answer.text, "tokens": len(answer.ids), "seconds": seconds}
            more = {"reason": answer.reason, "seed": answer.seed, "score": answer.score, "log_probs": log_probs}
            table |= {name: value for name, value in (more | {"stats": stats}).items() if value is not None}
            print(json.dumps(table, ensure_ascii=False), flush=True)
            return
        if self.streamed is None:
            print(f"--- seed {answer.seed}" if answer.score is None else f"--- score {answer.score:.3f}")
            print(answer.prompt + answer.text, flush=True)
        else:
            self.piece("")
            print()
        if log_probs is not None:
            print_costs(answer.ids, log_probs, tokenizer)
        if answer.reason == "context" and not self.told:
            self.told = True
            print("minilm: a text ended where the model's context was full, before --max-new-tokens", file=sys.stderr)

    def score(self, answer: Any, tokenizer: Any) -> None:
        """What a given text costs, in all and token by token."""
        n_bytes = len(answer.text.encode())
        bits = bits_of(sum(answer.log_probs))
        if self.options.json:
            table = {"prompt": answer.prompt, "text": answer.text, "tokens": len(answer.ids), "bytes": n_bytes}
            log_probs = [finite(log_prob) for log_prob in answer.log_probs]
            table |= {"bits_per_byte": finite(bits / n_bytes), "log_probs": log_probs}
            print(json.dumps(table, ensure_ascii=False, allow_nan=False))
            return
        print_costs(answer.ids, answer.log_probs, tokenizer)
        print(f"{bits / n_bytes:.3f} bits per byte: {bits:.1f} bits for {len(answer.ids)} tokens, {n_bytes} bytes")


def print_costs(ids: Sequence[int], log_probs: Sequence[float], tokenizer: Any) -> None:
    """A line a token: its bits, and what it stands for."""
    print("bits    token")
    for token, log_prob in zip(ids, log_probs, strict=True):
        print(f"{bits_of(log_prob):<7.3f} {tokenizer.decode([token])!r}")


def finite(number: float) -> float | None:
    """The number, or None where it is infinite, for which JSON has no word: log p of what a model holds to be impossible."""
    return number if math.isfinite(number) else None


def bits_of(log_prob: float) -> float:
    """nats of log p -> bits of surprise, which are never negative, not even as -0.0."""
    return abs(log_prob) / math.log(2)


def print_stats(stats: dict[str, Any]) -> None:
    """A line a figure; what was not measured is left out."""
    sayings = {
        "prompt_tokens": "{:,} tokens of prompt read",
        "prefill_tokens_per_second": "{:,.0f} tokens a second of reading",
        "decode_tokens_per_second": "{:,.0f} tokens a second of writing",
        "cache_bytes": "{:,} bytes of cache",
        "acceptance": "{:.0%} of the draft's tokens accepted",
        "tokens_per_round": "{:.2f} tokens a reading of the model",
    }
    for name, saying in sayings.items():
        if stats.get(name) is not None:
            print(saying.format(stats[name]), file=sys.stderr)
