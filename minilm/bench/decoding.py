"""Tokens a second of decoding: our loops beside `generate` of transformers, with the same weights, in turn, and beside the memory.

At batch 1 each new token reads all weights once, so the memory allows at most (bandwidth / bytes of the weights) steps a
second; the last column says how much of that is reached. The bandwidth is measured beside each row, as the speed at which
all cores add up an array of 256 MB. Weights that fit into the processor's cache can exceed it.
All sides decode greedily, a prompt of 32 random tokens and 128 new ones; the weights are random, which costs the same.
A Llama at batch 1 is also decoded by llama.cpp, where its Python package is installed.
"""

import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minilm.bench.llama_cpp import LlamaCpp, write_gguf
from minilm.bench.stopwatch import compare, threads_restored
from minilm.bench.table import Job, Request, Row
from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import Rounded, quantize, stored_bytes, to_bfloat16, to_int8
from minilm.decoding.sampling import Sampler
from minilm.fast.decode import use_kernels
from minilm.fast.matvec import fastest, product
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.pretrained.huggingface import config_to_huggingface, is_llama, to_huggingface
from minilm.runtime import n_cores, set_seed

SHAPES = {
    "124M": gpt2_config(vocab_size=50257, context_length=1024, d_model=768, n_layers=12, n_heads=12),
    "10M": gpt2_config(vocab_size=65, context_length=1024, d_model=384, n_layers=6, n_heads=6),
    "135M Llama": llama_config(vocab_size=49152, context_length=2048, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3,
                               d_ff=1536, tie_embeddings=True),  # the shape of SmolLM2-135M
}  # fmt: skip
BATCHES = (1, 8, 32)
PROMPT, NEW, PREFILL = 32, 128, 512  # tokens
SUMMED = 2**26  # numbers of float32 that are added up to measure the memory
IGNORED = ("data", "split", "tune", "steps", "changes")  # settings that are for other topics
GREEDY = SampleConfig(temperature=0)
logger = logging.getLogger(__name__)


class Side(NamedTuple):
    """One of our ways to decode: how the model is prepared, the number type of the peer beside it, whether there is a cache."""

    prepare: Callable[[GPT], nn.Module]
    peer: torch.dtype = torch.float32
    use_cache: bool = True


def quantized(rounding: Callable[[Tensor], Rounded], model: GPT) -> nn.Module:
    """The model with rounded weights and all fast parts."""
    return use_kernels(quantize(model, rounding, product))


SIDES = {
    "plain": Side(lambda model: model),
    "fast": Side(use_kernels),
    "bfloat16": Side(partial(quantized, to_bfloat16), torch.bfloat16),
    "int8": Side(partial(quantized, to_int8)),
}
LLAMA_CPP = {"fast": "F32", "bfloat16": "F16", "int8": "Q8_0"}  # our side -> the peer's matrices of the same size
WITHOUT_CACHE = Side(lambda model: model, use_cache=False)  # at batch 1 only: it is many times slower


def table(request: Request) -> list[Job]:
    """A job for each shape, batch and side, and for the reading of a long prompt. ValueError for what only trainings heed."""
    if request.data or request.seconds or request.steps or request.tune or request.changes:
        raise ValueError("decoding trains nothing: leave out --data, --seconds, --steps, --tune and --set")
    if not (has_llama_cpp := all(map(importlib.util.find_spec, ("llama_cpp", "gguf")))):
        logger.warning("no comparison with llama.cpp (pip install llama-cpp-python gguf): it is not installed")
    return [job for shape, config in SHAPES.items() for job in jobs_of(shape, config, request, has_llama_cpp)]


def jobs_of(shape: str, config: GPTConfig, request: Request, has_llama_cpp: bool) -> Iterator[Job]:
    """The jobs of one shape."""
    a_step = 0.008 + config.n_layers * config.d_model**2 * 1e-8  # seconds, a guess

    def job(name: str, steps: float, row: Callable[..., Row], *settings: object) -> Job:
        cost = 15 + (request.runs + 1) * steps * a_step
        return Job(f"{shape}, {name}", request.seeds[0], cost, partial(row, config, *settings, request), IGNORED)

    yield job(f"batch 1, no cache / {peer_of(WITHOUT_CACHE)}", 2.5 * NEW, decoding_row, WITHOUT_CACHE, 1, NEW)
    for batch in BATCHES:
        for name, side in SIDES.items():
            steps = batch**0.6 * NEW
            yield job(f"batch {batch}, {name} / {peer_of(side)}", steps, decoding_row, side, batch, NEW)
    for name, side in SIDES.items():
        yield job(f"prompt of {PREFILL}, {name} / {peer_of(side)}", PREFILL / 30, prefill_row, side, PREFILL)
    if has_llama_cpp and is_llama(config):
        for name, kind in LLAMA_CPP.items():
            yield job(f"batch 1, {name} / llama.cpp {kind}", NEW, llama_cpp_row, SIDES[name], kind, NEW)


def peer_of(side: Side) -> str:
    """As it is called in a row's name."""
    return f"transformers {side.peer}".replace("torch.", "")


def decoding_row(config: GPTConfig, side: Side, batch: int, n_new: int, request: Request) -> Row:
    """Tokens a second of all rows together, prompts included, of us and of transformers in turn."""
    with threads_restored(), torch.inference_mode():
        torch.set_num_threads(n_cores())
        model, peer = both(config, side, request.seeds[0])
        prompts = random_ids(config, batch, PROMPT, request.seeds[0])
        theirs = partial(peer_decode, peer, prompts, n_new)
        return in_turn(partial(decode, model, prompts, n_new, side.use_cache), theirs, model, batch, n_new, request)


def llama_cpp_row(config: GPTConfig, side: Side, kind: str, n_new: int, request: Request) -> Row:
    """The same of one row, and of llama.cpp with the same weights, its matrices stored as `kind`."""
    with threads_restored(), torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(n_cores())
        set_seed(request.seeds[0])
        plain, path = GPT(config).eval(), Path(folder) / f"{kind}.gguf"
        write_gguf(plain, path, kind)
        peer, model = LlamaCpp(path, PROMPT + n_new, n_cores()), side.prepare(plain)
        prompt = random_ids(config, 1, PROMPT, request.seeds[0])
        theirs = partial(peer.decode, prompt[0].tolist(), n_new)
        row = in_turn(partial(decode, model, prompt, n_new, side.use_cache), theirs, model, 1, n_new, request)
        peer.close()
        return row


def in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], model: Any, batch: int, n_new: int, request: Request
) -> Row:
    """The row of two ways to decode n_new tokens of each of `batch` texts, and how near our model's is to the memory's limit."""
    speed = bandwidth()
    found = compare(ours, theirs, request.runs)
    steps = n_new / found["ours_s"]
    limit = speed / bytes_read(model)
    return {
        "tokens_s": batch * steps,
        "peer_tokens_s": batch * n_new / found["peer_s"],
        "times the peer": 1 / found["ratio"],
        "memory_GB_s": speed / 1e9,
        "% of its limit": 100 * steps / limit,
    }


def prefill_row(config: GPTConfig, side: Side, length: int, request: Request) -> Row:
    """Tokens a second of reading one prompt into an empty cache, up to the logits of its last token."""
    with threads_restored(), torch.inference_mode():
        torch.set_num_threads(n_cores())
        model, peer = both(config, side, request.seeds[0])
        prompt = random_ids(config, 1, length, request.seeds[0])
        found = compare(
            lambda: model.head(model.hidden(prompt, model.new_cache(1, length))[:, -1]),
            lambda: peer(prompt, use_cache=True, logits_to_keep=1),
            request.runs,
        )
    speeds = {"tokens_s": length / found["ours_s"], "peer_tokens_s": length / found["peer_s"]}
    return {**speeds, "times the peer": 1 / found["ratio"]}


def both(config: GPTConfig, side: Side, seed: int) -> tuple[Any, Any]:
    """Our model, prepared, and the peer's with the same weights before any rounding of ours."""
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils.logging import set_verbosity_error
    except ImportError as error:
        raise ValueError(f"{error}: install the extra with pip install 'minilm[bench]'") from None
    set_verbosity_error()
    set_seed(seed)
    model = GPT(config).eval()
    peer: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_to_huggingface(config)))
    peer.load_state_dict(to_huggingface(model), strict=False)
    return side.prepare(model), peer.to(side.peer).eval()


def decode(model: Any, prompts: Tensor, n_new: int, use_cache: bool) -> list[list[int]]:
    """prompts (B, T) -> the n_new likeliest ids of each row, by `generate`, or by `generate_batch` if there are several."""
    if len(prompts) == 1:
        return [list(generate(model, prompts[0], Sampler(GREEDY), n_new, use_cache=use_cache))]
    return [row.ids for row in generate_batch(model, list(prompts), GREEDY, n_new, use_cache=use_cache)]


def peer_decode(peer: Any, prompts: Tensor, n_new: int) -> list[list[int]]:
    """The same by transformers."""
    settings = {"do_sample": False, "max_new_tokens": n_new, "min_new_tokens": n_new, "pad_token_id": 0}
    ids = peer.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
    return ids[:, prompts.shape[1] :].tolist()


def random_ids(config: GPTConfig, batch: int, length: int, seed: int) -> Tensor:
    """(B, T) ids, the same for the same seed."""
    return torch.randint(config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def bytes_read(model: GPT) -> int:
    """What a step must read of the weights: all but the table of positions, of which it needs a row. The head is tied."""
    return stored_bytes(model) - (0 if model.positions is None else model.positions.weight.nbytes)


def bandwidth(numbers: int | None = None, runs: int = 5) -> float:
    """Bytes a second that all threads together read from memory, in the fastest of some sums of a large array."""
    array = torch.ones(numbers or SUMMED)
    return array.nbytes / fastest(array.sum, runs)
