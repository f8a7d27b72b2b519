"""Text from a model, as the verbs need it: the prompt becomes ids, the ids that come out become text."""

import codecs
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from minilm.cli.word_vectors import refuse_vectors
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.processors import Processor
from minilm.decoding.quantize import QuantizedLinear, product, quantize, to_int8
from minilm.decoding.sampling import Sampler
from minilm.fast.decode import use_kernels
from minilm.fast.matvec import product as fast_product
from minilm.fast.matvec import use_matvec, why_not
from minilm.runtime import pick_device
from minilm.text.tokenizer import StreamDecoder, Tokenizer
from minilm.training.checkpoint import Checkpoint, load_checkpoint


def load_writer(
    path: str, device: str = "cpu", int8: bool = False, fast: bool = False, base: str | None = None
) -> tuple[Any, Tokenizer]:
    """The model and the tokenizer of a checkpoint, ready to write on this device."""
    place = pick_device(device)
    checkpoint = load_language_model(path, base)
    model: Any = checkpoint.model
    if (int8 or fast) and model.kind == "adapted":
        model = model.merged()
    check_vocabulary(model, checkpoint.tokenizer)
    rounded = model.kind == "quantized"
    if int8 and rounded:
        raise ValueError(f"{path} is rounded already: leave out --int8")
    if isinstance(model, torch.nn.Module):
        model.to(place)
    elif int8 or fast:
        raise ValueError(f"{path} is counted ({model.kind}): --int8 and --fast are for the matrices of a network")
    if fast and place.type != "cpu":
        raise ValueError(f"--fast is for the CPU: leave it out on {place}")
    if fast and (reason := why_not()):
        print(f"minilm: --fast does without its compiled kernel: {reason}", file=sys.stderr)
    if int8:
        quantize(model, to_int8, fast_product if fast else product)
    if fast:
        network = model.model if rounded else model
        for part in network.modules():
            if isinstance(part, QuantizedLinear):
                part.product = fast_product
        (use_kernels if network.kind == "gpt" else use_matvec)(network)
    return model, checkpoint.tokenizer


def load_with_base(path: str | Path, base: str | None, **how: Any) -> Checkpoint:
    """A checkpoint, loaded as `how` says; that of an adapter with the folder where its base lies now, if --base says it."""
    if base is None:
        return load_checkpoint(path, **how)
    try:
        return load_checkpoint(path, base=base, **how)
    except TypeError:  # no other kind has such a part
        raise ValueError(f"{path} is no adapter, which would need a base: leave out --base") from None


def load_language_model(path: str, base: str | None = None) -> Checkpoint:
    """The checkpoint of a model that predicts tokens; ValueError for one with a head, which gives labels."""
    checkpoint = load_with_base(path, base)
    refuse_vectors(path, checkpoint.model)
    kind = getattr(getattr(checkpoint.model, "model", None), "kind", checkpoint.model.kind)
    if getattr(checkpoint.model.config, "labels", ()):
        raise ValueError(f"{path} holds a {kind}, which gives labels and writes nothing: use minilm predict {path}")
    return checkpoint


def check_vocabulary(model: Any, tokenizer: Tokenizer) -> None:
    """ValueError where the ids of the model are not those of the tokenizer."""
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}: "
            "they do not belong together, use another checkpoint"
        )


def stream_text(
    model: Any,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    config: SampleConfig | None = None,
    seed: int = 0,
    processors: Sequence[Processor] = (),
    **how: Any,
) -> Iterator[str]:
    """What the model adds to the prompt, in pieces, as it comes. It ends with the document, if the model ends it.

    `how` goes to `generate`: use_cache, overflow (here "slide" unless said otherwise).
    """
    check_vocabulary(model, tokenizer)
    sampler = Sampler(config or SampleConfig(), torch.Generator().manual_seed(seed), processors)
    how = {"overflow": "slide", "stop_tokens": signals(tokenizer)} | how
    decoder = StreamDecoder(tokenizer)
    for token in generate(model, document(tokenizer, prompt), sampler, max_new_tokens, **how):
        yield decoder.feed(token)
    yield decoder.flush()


def signals(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids before which a text ends: special tokens say something to a program, and are not read by people."""
    return frozenset(tokenizer.special_tokens.values())


def document(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of the beginning of a document: each begins at <|endoftext|>."""
    return [tokenizer.end_of_text, *tokenizer.encode(text)]


class StopDecoder:
    """A StreamDecoder that ends before a stop text. What may be the beginning of one waits until that is decided.

    The stop text that is whole first counts, wherever the tokens have their borders: the text is cut before it.

    >>> decoder = StopDecoder(ByteTokenizer(), ["!?"])
    >>> [decoder.feed(i) for i in b"a!b!?"], decoder.stopped
    (['a', '', '!b', '', ''], True)
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, [stop.encode() for stop in stops]
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.waiting = b""
        self.stopped = False

    def feed(self, token: int) -> str:
        """The characters that are whole and certain now; nothing after a stop text."""
        if self.stopped:
            return ""
        text = self.waiting + self.tokenizer.decode_bytes([token])
        cut = first_stop(text, self.stops)
        self.stopped = cut is not None
        end = len(text) - unfinished_stop(text, self.stops) if cut is None else cut
        self.waiting = b"" if self.stopped else text[end:]
        return self.decoder.decode(text[:end])

    def flush(self) -> str:
        """What is left at the end: the waiting characters, and U+FFFD for a part of one."""
        return self.decoder.decode(self.waiting, final=True)


def first_stop(text: bytes, stops: Sequence[bytes]) -> int | None:
    """Where the stop text begins that ends first; None if there is none.

    >>> first_stop(b"abcd", [b"bcd", b"c"])
    2
    """
    found = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def unfinished_stop(text: bytes, stops: Sequence[bytes]) -> int:
    """How many bytes at the end of the text may belong to a stop text that is not whole yet.

    >>> unfinished_stop(b"no\\n\\n", [b"\\n\\nUser"])
    2
    """
    return max((n for stop in stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)
