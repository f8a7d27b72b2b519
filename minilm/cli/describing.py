"""What `minilm describe` prints: the account of a model as a table with sentences, or as plain data."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from minilm.models.accounting import BYTES, Account, total
from minilm.models.initialisation import Start
from minilm.models.part_accounts import PartAccount
from minilm.models.recurrent_account import RecurrentAccount


@dataclasses.dataclass(frozen=True)
class Counted:
    """What there is to say of a model that was counted: how many numbers it holds, in how many bytes."""

    kind: str
    parameters: int
    weights: int


TRAINED = 3 * BYTES["float32"]  # bytes of training a number that learns: its gradient and two running means
Described = Account | PartAccount | RecurrentAccount | Counted


def to_dict(kind: str, parts: list[Described], starts: list[tuple[Start, ...]]) -> dict[str, Any]:
    """The parts as plain data: one as it is, of several (a mixture's) the sum of the parameters and each under "parts".

    How a part starts, if that was asked for, is its "initialisation", an entry a parameter.
    """
    tables = [to_table(part) for part in parts]
    for table, started in zip(tables, starts, strict=True):
        if started:
            table["initialisation"] = [dataclasses.asdict(start) for start in started]
    if len(tables) == 1:
        return tables[0]
    return {"kind": kind, "parameters": sum(table["parameters"] for table in tables), "parts": tables}


def to_table(part: Described) -> dict[str, Any]:
    """One of them; of a model in parts also the sums."""
    table = dataclasses.asdict(part)
    if isinstance(part, PartAccount):
        del table["plain"]
        sums = {"parameters": part.parameters, "learned": part.learned, "flops_forward": part.flops}
        table |= {**sums, "weights": part.weights, "kv_cache": part.plain.kv_cache}
    return table


def lines_of(part: Described) -> Iterator[str]:
    """What people read."""
    if isinstance(part, Counted):
        return format_counted(part)
    if isinstance(part, RecurrentAccount):
        return format_recurrent(part)
    return format_parts(part) if isinstance(part, PartAccount) else format_account(part)


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
    """An n-gram has no FLOPs to speak of: it looks up. A hidden Markov model has few."""
    hidden = part.kind == "hmm"
    what = "probabilities of hidden states" if hidden else "different n-grams that it has counted"
    yield f"{part.kind}: {part.parameters:,} parameters ({what}), {short(part.weights, 'B')}"
    yield (
        "A token costs K * K products for K states, and K * V to say what comes next."
        if hidden
        else "It multiplies no matrices: a token costs a few look-ups."
    )


def format_recurrent(a: RecurrentAccount) -> Iterator[str]:
    """A recurrent model has one size for any length of text."""
    yield f"{a.cell} (recurrent): {a.parameters:,} parameters, {short(a.weights, 'B')} in {a.dtype}"
    costs = f"{short(a.flops_forward)} FLOPs, and {short(a.flops_forward_backward)} in training"
    yield f"A token costs {costs}, however long the text is."
    yield f"All that it remembers of a text is a state of {short(a.state, 'B')}."


def format_parts(a: PartAccount) -> Iterator[str]:
    """The lines of a model that was made from another one, and what they mean."""
    yield f"{a.kind}: {a.how}\n"
    yield f"{'part':<24} {'parameters':>15} {'FLOPs a token':>15} {'bytes':>9}"
    for part in a.parts:
        yield f"{part.name:<24} {part.parameters:>15,} {part.flops:>15,} {short(part.weights, 'B'):>9}"
    whole = sum(part.weights for part in a.parts)
    yield f"{'sum':<24} {a.parameters:>15,} {a.flops:>15,} {short(whole, 'B'):>9}\n"
    plain, length = a.plain, a.plain.context_length
    cache = short(plain.kv_cache * length, "B")
    if a.kind == "quantized":
        bits = 8 * a.weights / a.parameters
        yield f"It takes {a.weights / plain.weights:.0%} of the bytes that it took in float32: {bits:.2f} bits a parameter."
        yield f"Its KV cache takes {cache} for one sequence of {length:,} tokens. It is for decoding: nothing trains it."
    elif a.kind == "adapted":
        kept = short(a.learned * TRAINED, "B"), short(plain.parameters * TRAINED, "B")
        yield f"In this checkpoint are {short(a.weights, 'B')}; the base lies in a folder of its own and never changes."
        yield (
            f"Of all parameters {a.learned / a.parameters:.1%} learn: their gradients and AdamW's means take {kept[0]} in "
            f"training, {kept[1]} where the whole base learns."
        )
        yield "minilm convert --merge adds the adapter to the base: a plain model that costs what the base costs."
    else:
        yield f"It takes {short(a.weights, 'B')} in {plain.dtype}. A text has its head's FLOPs once, where a token has no label."


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
