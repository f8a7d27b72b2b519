"""The files of others: tiktoken's ranks, and `tokenizer.json` of Hugging Face. Byte-level BPE only; the ids stay the same.

Hugging Face's libraries read special tokens out of the text: there the text "<|endoftext|>" becomes the signal. Here it never
does. To get the same ids from them, set `tokenizer.encode_special_tokens = True` (tokenizers), or pass
`split_special_tokens=True` when the tokenizer is made (transformers).
"""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minilm.runtime import whole_file
from minilm.text.bpe import BPETokenizer
from minilm.text.bpe_merge import Pair, merge_long
from minilm.text.bpe_pieces import GPT2_PATTERN
from minilm.text.bpe_renumbered import RenumberedBPE, numbered
from minilm.text.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer

# A byte is written as the character of its number if that prints in Latin-1; the other 68 get characters from number 256 on.
PRINTS = {*range(33, 127), *range(161, 173), *range(174, 256)}
HIDDEN = [byte for byte in range(256) if byte not in PRINTS]
LETTER = {byte: chr(byte if byte in PRINTS else 256 + HIDDEN.index(byte)) for byte in range(256)}
BYTE = {letter: byte for byte, letter in LETTER.items()}


def load_any(path: str | Path) -> Tokenizer:
    """The tokenizer in this file: tiktoken's ranks (*.tiktoken), Hugging Face's tokenizer.json, or one of ours."""
    if str(path).endswith(".tiktoken"):
        return load_tiktoken(path)
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        table = None
    return load_huggingface(path) if isinstance(table, dict) and "model" in table else load_tokenizer(path)


def save_tiktoken(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write tiktoken's ranks: a line of base64 and id for each token but the special ones, which the format does not hold."""
    inner, numbers = bpe_inside(tokenizer)
    ranks = sorted((numbers[i], piece) for piece, i in inner.ranks.items())
    made = [numbers[i] for i in range(256, len(inner.ranks))]
    if made != sorted(made):
        raise ValueError("tiktoken merges in the order of the ids, and the ids of this tokenizer have another order")
    with whole_file(path) as unfinished:
        unfinished.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(piece), rank) for rank, piece in ranks))


def load_tiktoken(
    path: str | Path, specials: Sequence[str] = (END_OF_TEXT,), pattern: str = GPT2_PATTERN
) -> BPETokenizer | RenumberedBPE:
    """The tokenizer of a file of ranks. The format holds neither special tokens nor pattern: special ids follow the last rank."""
    try:
        lines = [line.split() for line in Path(path).read_bytes().splitlines() if line]
        return from_ranks(
            {base64.b64decode(piece, validate=True): int(rank) for piece, rank in lines}, specials, pattern
        )
    except ValueError as error:
        raise ValueError(f"{path} does not hold tiktoken ranks of a byte-level BPE: {error}") from None


def from_ranks(ranks: dict[bytes, int], specials: Sequence[str], pattern: str) -> BPETokenizer | RenumberedBPE:
    """The tokenizer of {token: rank}. The merges are found again: what the earlier ones leave of a token must be its two parts."""
    check_bytes(piece[0] for piece in ranks if len(piece) == 1)
    order = [bytes([byte]) for byte in range(256)]
    made: dict[Pair, int] = {}
    for piece in sorted((piece for piece in ranks if len(piece) != 1), key=ranks.__getitem__):
        parts = merge_long(piece, made)
        if len(parts) != 2:
            raise ValueError(f"token {piece!r} is not made of two earlier ones")
        made[parts[0], parts[1]] = len(order)
        order.append(piece)
    numbers = [ranks[piece] for piece in order]
    numbers += [max(numbers) + 1 + i for i in range(len(specials))]
    return numbered(BPETokenizer(list(made), specials, pattern), numbers)


def save_huggingface(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a tokenizer.json that `tokenizers` and `transformers` read, with the same ids for every text without a special name.

    ValueError if an ordinary token is spelled like a special one: their format can hold only one of the two.
    """
    inner, numbers = bpe_inside(tokenizer)
    names = [letters(piece) for piece in inner.token_bytes[: len(inner.ranks)]]
    vocabulary = {name: numbers[i] for i, name in enumerate(names)}
    for name, number in tokenizer.special_tokens.items():
        if name in vocabulary:
            raise ValueError(
                f"{name!r} is both a special and an ordinary token: tokenizer.json can hold only one of them"
            )
        vocabulary[name] = number
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = sorted((number, name) for name, number in tokenizer.special_tokens.items())
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {"type": "Split", "pattern": {"Regex": inner.pattern}, "behavior": "Isolated", "invert": False}
    own = {"type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": name, **plain} for number, name in special],
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": True} if inner.pattern == GPT2_PATTERN else own,
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {
            "type": "BPE",
            **{key: None for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")},
            **{key: False for key in ("fuse_unk", "byte_fallback", "ignore_merges")},
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": [f"{names[left]} {names[right]}" for left, right in inner.merges],
        },
    }
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(table, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_huggingface(path: str | Path) -> BPETokenizer | RenumberedBPE:
    """The tokenizer of a tokenizer.json that holds a byte-level BPE. ValueError in one line for any other kind.

    What a post-processor would put around a text is left to the caller. If the file has no <|endoftext|>, it gets the next id.
    """
    try:
        return from_table(json.loads(Path(path).read_text(encoding="utf-8")))
    except KeyError as error:
        raise ValueError(f"{path} does not hold a plain byte-level BPE: {error} is missing") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} does not hold a plain byte-level BPE: {error}") from None


def from_table(table: dict[str, Any]) -> BPETokenizer | RenumberedBPE:
    """The tokenizer that a tokenizer.json describes."""
    model = table["model"]
    foreign = unlike_ours(table, model)
    if foreign:
        raise ValueError(foreign)
    specials = {token["content"]: token["id"] for token in table.get("added_tokens") or []}
    vocabulary = {**model["vocab"], **specials}
    specials.setdefault(END_OF_TEXT, len(vocabulary))
    check_bytes(byte for letter, byte in BYTE.items() if letter in vocabulary)
    order = {LETTER[byte]: byte for byte in range(256)}
    merges: list[Pair] = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((order[left], order[right]))
        order[left + right] = len(order)
    strange = (vocabulary.keys() - order.keys() - specials.keys()) | (order.keys() & specials.keys())
    if strange:
        raise ValueError(f"{min(strange)!r} is neither a byte, nor made by one merge, nor a special token alone")
    tokenizer = BPETokenizer(merges, list(specials), pattern_of(table["pre_tokenizer"]))
    if model.get("ignore_merges") and not tokenizer.reachable:
        raise ValueError("it takes whole words without merging (ignore_merges), so that its ids would differ from ours")
    return numbered(tokenizer, [*(vocabulary[name] for name in order), *specials.values()])


def unlike_ours(table: dict[str, Any], model: dict[str, Any]) -> str:
    """What in this tokenizer.json we do not do, so that its ids would differ from ours; "" if there is nothing."""
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        return f"its model is {model.get('type')!r}"
    for key in ("normalizer", "truncation", "padding"):
        if table.get(key):
            return f"it has a {key}"
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            return f"its model has {key}"
    if pattern_of(table["pre_tokenizer"]) is None:
        return "its pre_tokenizer is neither ByteLevel nor Split and ByteLevel, without a blank put before the text"
    for token in table.get("added_tokens") or []:
        if not token["special"] or token.get("lstrip") or token.get("rstrip"):
            return f"its added token {token['content']!r} takes part in ordinary text"
    return ""


def pattern_of(cutting: dict[str, Any]) -> Any:
    """The pattern of this pre-tokenizer, None if it does anything but cut text and spell its bytes."""
    steps = cutting["pretokenizers"] if cutting["type"] == "Sequence" else [cutting]
    level = steps[-1]
    if level["type"] != "ByteLevel" or level.get("add_prefix_space", True):
        return None
    if len(steps) == 1:
        return GPT2_PATTERN if level.get("use_regex", True) else None
    split = steps[0]
    if len(steps) > 2 or level.get("use_regex", True) or split["type"] != "Split":
        return None
    return None if split["behavior"] != "Isolated" or split["invert"] else split["pattern"].get("Regex")


def bpe_inside(tokenizer: Tokenizer) -> tuple[BPETokenizer, Sequence[int]]:
    """The BPETokenizer in this tokenizer, and the ids of its tokens. ValueError for another kind."""
    if isinstance(tokenizer, RenumberedBPE):
        return tokenizer.inner, tokenizer.numbers
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer, range(tokenizer.vocab_size)
    raise ValueError(f"a {tokenizer.kind} tokenizer has no merges: only a bpe tokenizer can be written in this format")


def check_bytes(known: Iterable[int]) -> None:
    """ValueError unless every byte is a token: else there are texts that cannot be written."""
    missing = sorted(set(range(256)) - set(known))
    if missing:
        raise ValueError(f"{len(missing)} of the 256 bytes are no tokens, the first is {missing[0]}")


def letters(piece: bytes) -> str:
    """The characters that stand for these bytes in tokenizer.json.

    >>> letters(b" a\\n")
    'ĠaĊ'
    """
    return "".join(LETTER[byte] for byte in piece)
