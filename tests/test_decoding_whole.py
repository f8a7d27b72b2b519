"""Cached, uncached, in chunks, padded, in a batch: one text, one result. All kinds of positions, heads and windows, and
every prompt length; logits to 1e-10 in float64, and the same tokens.

The model without a cache, one text at a time, is the oracle; its own numbers are compared with other people's elsewhere.
"""

import itertools
from typing import Any

import pytest
import torch
from decoding_models import GROUPS, KINDS, OTHERS, WINDOW, H, K, V, build, gpt, random_ids, random_prompt
from torch import Tensor

from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.sampling import Sampler

CONTEXT = 11
CASES = [*itertools.product(KINDS, GROUPS, (None, WINDOW))]
NAMES = [f"{kind}-{groups}-{'window' if window else 'all'}" for kind, groups, window in CASES]
CONFIG = SampleConfig(temperature=1.0)


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def sampler(seed: int) -> Sampler:
    return Sampler(CONFIG, torch.Generator().manual_seed(seed))


@torch.no_grad()
def by_definition(model: Any, text: list[int], seed: int, n: int) -> list[int]:
    """The whole text anew for each token, with the plain call of the model, up to the context."""
    choose, new = sampler(seed), list[int]()
    while len(new) < n and len(text) + len(new) <= CONTEXT:
        logits = model(torch.tensor([[*text, *new]]))[:, -1]
        new.append(int(choose(logits, [[*text, *new]])))
    return new


def test_no_two_dimensions_are_alike() -> None:
    """Pitfall 48: a broadcast along the wrong axis is silent where sizes agree."""
    model = gpt("rotary")
    config = model.config
    sizes = [config.vocab_size, config.context_length, config.d_model, config.n_layers, config.n_heads]
    sizes += [config.kv_heads, config.d_head, config.d_ff]
    assert len(set(sizes)) == len(sizes)
    assert (config.vocab_size, config.d_model) == (V, H * K)


@pytest.mark.parametrize(("kind", "groups", "window"), CASES, ids=NAMES)
@torch.no_grad()
def test_pitfall_31_every_chunking_of_a_text_gives_the_same_logits(kind: str, groups: int, window: int | None) -> None:
    """All 2^4 ways to cut five tokens, in rows of different pasts too."""
    model, ids, lengths = gpt(kind, groups, window), random_ids(3, CONTEXT, seed=groups), torch.tensor([4, 1, 3])
    whole = model(ids)
    ragged = torch.stack([whole[b, n : n + 5] for b, n in enumerate(lengths.tolist())])
    following = torch.stack([ids[b, n : n + 5] for b, n in enumerate(lengths.tolist())])
    for cuts in range(2**4):
        ends = [t for t in range(1, 5) if cuts >> (t - 1) & 1]
        even, uneven = model.new_cache(3), model.new_cache(3)
        model(ids[:, :4], uneven)
        uneven.rollback(4 - lengths)
        for text, cache, expected in ((ids[:, :5], even, whole[:, :5]), (following, uneven, ragged)):
            pieces = [model(text[:, start:end], cache) for start, end in itertools.pairwise([0, *ends, 5])]
            assert_same(torch.cat(pieces, 1), expected)


@pytest.mark.parametrize(("kind", "groups", "window"), CASES, ids=NAMES)
def test_pitfalls_30_to_32_one_text_one_result(kind: str, groups: int, window: int | None) -> None:
    """Prompts of 1 to CONTEXT tokens: with a cache, without, with a rolling one, and all together in ragged batches."""
    check_all_ways(gpt(kind, groups, window))
    if window:
        check_all_ways(gpt(kind, groups, window, rolling=True), gpt(kind, groups, window))


@pytest.mark.parametrize("name", OTHERS)
def test_one_text_one_result_for_every_model_of_the_house(name: str) -> None:
    check_all_ways(build(name))


def check_all_ways(model: Any, oracle: Any = None, n: int = CONTEXT) -> None:
    prompts = [random_prompt(length, 3) for length in range(1, CONTEXT + 1)]
    expected = [by_definition(oracle or model, text, 7 * b, n) for b, text in enumerate(prompts)]
    limited = getattr(model.config, "context_length", None) is not None
    for b, text in enumerate(prompts):
        for use_cache in (True, False) if b % 5 == 0 else (True,):
            found = list(generate(model, text, sampler(7 * b), n, use_cache=use_cache))
            assert found[: len(expected[b])] == expected[b], (b, use_cache)
            assert len(found) == (len(expected[b]) if limited else n)
    for chunk, use_cache in [(None, True), (3, True), (None, False)]:
        rows = generate_batch(
            model,
            prompts,
            CONFIG,
            n,
            seeds=[7 * b for b in range(len(prompts))],
            prefill_chunk=chunk,
            use_cache=use_cache,
        )
        for b, row in enumerate(rows):
            assert row.ids[: len(expected[b])] == expected[b], (b, chunk, use_cache)
            assert len(row.ids) == (len(expected[b]) if limited else n)


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
@torch.no_grad()
def test_pitfall_32_padding_changes_no_logits(name: str) -> None:
    """The first logits behind every prompt, right-padded by 0 to 32 tokens of any kind, in one batch with others."""
    model = build(name, context=34)
    for padding in (0, 1, 5, 16, 32):
        prompt = random_ids(1, 2, seed=padding)
        alone = model(prompt)[:, -1]
        row = torch.cat([prompt, random_ids(1, padding, seed=1)], 1)
        others, cache = random_ids(2, 2 + padding, seed=2), model.new_cache(3, 34)
        filled = model(torch.cat([others[:1], row, others[1:]]), cache=cache)
        assert_same(filled[1:2, 1], alone)
        cache.rollback(torch.tensor([0, padding, 0]))
        if padding < 32:
            step = random_ids(3, 1, seed=3)
            assert_same(model(step, cache=cache)[1], model(torch.cat([prompt, step[1:2]], 1))[0, -1:])


@pytest.mark.parametrize("name", [*KINDS, "speedrun", "mixture", "rolling"])
def test_pitfall_34_the_end_of_the_context_is_an_end_or_a_slide(name: str) -> None:
    """A full prompt gives one token, then the text ends or slides; never an IndexError, alone or beside others."""
    model = build(name)
    prompts = [random_prompt(CONTEXT), random_prompt(CONTEXT - 1), random_prompt(2)]
    for use_cache in (True, False):
        found = generate_batch(model, prompts, CONFIG, 20, seeds=[1, 2, 3], use_cache=use_cache)
        assert [(len(row.ids), row.reason) for row in found] == [(1, "context"), (2, "context"), (10, "context")]
        found = generate_batch(model, prompts, CONFIG, 20, seeds=[1, 2, 3], use_cache=use_cache, overflow="slide")
        assert [(len(row.ids), row.reason) for row in found] == [(20, "length")] * 3
        for prompt, seed, row in zip(prompts, (1, 2, 3), found, strict=True):
            assert row.ids == list(
                generate(model, prompt, sampler(seed), 20, overflow="slide", use_cache=not use_cache)
            )
