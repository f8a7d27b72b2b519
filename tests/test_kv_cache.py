"""The caches: growth, forgetting, copies, bytes, and the rolling one, each against the model without a cache."""

import itertools
import random
import re
from typing import Any

import pytest
import torch
from decoding_models import GROUPS, KINDS, LAYERS, OTHERS, H, K, build, gpt, random_ids
from torch import Tensor

from minilm.layers import kv_cache
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.kv_cache import KVCache
from minilm.layers.masks import position_mask
from minilm.layers.rolling_cache import RollingCache, last_columns, with_rolling_window
from minilm.layers.sliding_window import with_window

CPU = torch.device("cpu")
B, G = 3, 2


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def empty_cache(max_length: int | None, rows: int = B) -> KVCache:
    return KVCache(2, (rows, G, max_length, 5), torch.float64, CPU)


def append_random(cache: KVCache, n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    k, v = torch.randn(2, len(cache.lengths), G, n, 5, dtype=torch.float64, generator=generator)
    answers = [cache.append(layer, k + layer, v - layer) for layer in range(2)]
    cache.advance(n)
    return answers


# ---- growth


def test_a_growing_cache_is_a_preallocated_one() -> None:
    """300 random appends, rollbacks and selections, ragged ones among them."""
    chance, growing, fixed = random.Random(1), empty_cache(None), empty_cache(2000)
    for step in range(300):
        n = chance.choice([1, 1, 2, 17])
        for one, other in zip(append_random(growing, n, step), append_random(fixed, n, step), strict=True):
            for part, other_part in zip(one, other, strict=True):
                for b, length in enumerate(growing.lengths.tolist()):
                    assert torch.equal(part[b, :, :length], other_part[b, :, :length])
        back = torch.tensor([chance.randint(0, 2) if length > 9 else 0 for length in growing.lengths.tolist()])
        rows = torch.tensor([chance.randrange(B) for _ in range(B)]) if step % 50 == 49 else torch.arange(B)
        for cache in (growing, fixed):
            cache.rollback(back)
            cache.select(rows)
    assert int(growing.lengths.max()) > 500


def test_growth_copies_each_token_once_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, with_slots = [], kv_cache.with_slots
    monkeypatch.setattr(kv_cache, "with_slots", lambda store, n: copied.append(store.shape[2]) or with_slots(store, n))
    cache = empty_cache(None)
    for step in range(1000):
        append_random(cache, 1, step)
        assert cache.keys[1].shape[2] <= max(64, 2 * (step + 1))
    assert sum(copied) / 4 <= 1000  # two layers, keys and values
    assert copied


def test_with_a_max_length_nothing_is_ever_copied() -> None:
    cache = empty_cache(40)
    places = [store.data_ptr() for store in (*cache.keys, *cache.values)]
    for step in range(40):
        append_random(cache, 1, step)
    assert places == [store.data_ptr() for store in (*cache.keys, *cache.values)]


@pytest.mark.parametrize("ragged", [False, True])
def test_pitfall_34_a_full_cache_says_so_and_stays_as_it_was(ragged: bool) -> None:
    cache = empty_cache(6)
    append_random(cache, 5, 0)
    if ragged:
        cache.rollback(torch.tensor([0, 2, 1]))
    keys = [k.clone() for k in cache.keys]
    with pytest.raises(ValueError, match=r"the cache holds 6 tokens: 5 \+ 2 do not fit"):
        append_random(cache, 2, 1)
    assert all(torch.equal(a, b) for a, b in zip(keys, cache.keys, strict=True))
    append_random(cache, 1, 1)
    assert int(cache.lengths.max()) == 6


# ---- forgetting, copies, bytes: the caches of all models


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_pitfall_63_after_random_rollbacks_the_cache_is_one_rebuilt(name: str) -> None:
    """Texts are proposed and in part refused, as in speculative decoding, each of three rows in its own pattern."""
    patterns = 340 if name == "rotary" else 40
    model, chance = build(name, context=16), random.Random(name)
    cache, texts = model.new_cache(B, 16), [list[int]() for _ in range(B)]
    for pattern in range(patterns):
        longest = max(map(len, texts))
        n = chance.randint(1, 16 - longest)
        proposed = random_ids(B, n, seed=pattern)
        model(proposed, cache=cache)
        accepted = [chance.randint(0, n) for _ in texts]
        cache.rollback(n - torch.tensor(accepted))
        texts = [[*text, *new[:k]] for text, new, k in zip(texts, proposed.tolist(), accepted, strict=True)]
        assert cache.lengths.tolist() == [len(text) for text in texts]
        if max(map(len, texts)) == 16:  # start again: all is forgotten in the longest row
            forget = [len(text) * (len(text) == 16) for text in texts]
            cache.rollback(torch.tensor(forget))
            texts = [[] if n else text for text, n in zip(texts, forget, strict=True)]
        if pattern % 4 == 0:
            probe = random_ids(B, 1, seed=-1)
            found = model(probe, cache=cache)[:, 0]
            cache.rollback(1)
            for b, text in enumerate(texts):
                assert_same(found[b], model(torch.tensor([[*text, int(probe[b])]]))[0, -1])


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_fork_and_select_make_rows_that_know_nothing_of_each_other(name: str) -> None:
    model, ids = build(name), random_ids(2, 5)
    cache = model.new_cache(2, 11)
    model(ids, cache=cache)
    twin = cache.fork()
    rows = torch.tensor([1, 0, 1, 1])
    cache.select(rows)
    ways = random_ids(4, 3, seed=1)
    first, other = model(ways[:, :1], cache=cache), model(random_ids(2, 2, seed=2), cache=twin)
    found = torch.cat([first, model(ways[:, 1:], cache=cache)], 1)
    assert_same(found, model(torch.cat([ids[rows], ways], 1))[:, 5:])
    assert_same(other, model(torch.cat([ids, random_ids(2, 2, seed=2)], 1))[:, 5:])
    twin.rollback(2)
    assert_same(model(ways[:2, :2], cache=twin), model(torch.cat([ids, ways[:2, :2]], 1))[:, 5:])
    before = twin.lengths.tolist()
    for n in (8, -1, torch.tensor([1, -1])):
        with pytest.raises(ValueError, match=r"rollback of .* tokens"):
            twin.rollback(n)
        assert twin.lengths.tolist() == before
    assert type(twin) is type(cache)


def test_a_fork_of_a_fork_keeps_what_its_class_adds() -> None:
    for name, attribute in [("speedrun", "ids"), ("rolling", "held")]:
        model = build(name)
        cache = model.new_cache(2, 11)
        model(random_ids(2, 3), cache=cache)
        fork = cache.fork().fork()
        model(random_ids(2, 1, seed=3), cache=fork)
        assert not torch.equal(getattr(fork, attribute), getattr(cache, attribute)), name


def test_bytes_are_those_of_the_arrays() -> None:
    for groups, dtype in itertools.product(GROUPS, (torch.float64, torch.float32, torch.bfloat16)):
        cache = gpt("rotary", groups).to(dtype).new_cache(B, 7)
        assert cache.bytes_per_token == 2 * LAYERS * groups * K * dtype.itemsize
        assert cache.n_bytes == B * 7 * cache.bytes_per_token
    speedrun = build("speedrun").new_cache(B, 7)
    assert speedrun.bytes_per_token == 2 * LAYERS * H * K * 8 + 8
    assert speedrun.n_bytes == B * 7 * speedrun.bytes_per_token
    speedrun.select(torch.tensor([1]))
    assert speedrun.n_bytes == 7 * speedrun.bytes_per_token
    ngram = build("ngram").new_cache(B, 7)
    assert (ngram.n_bytes, ngram.bytes_per_token) == (B * 7 * 8, 8)
    pair = build("mixture").new_cache(B, 7)
    assert pair.bytes_per_token == 2 * LAYERS * gpt("learned").config.kv_heads * K * 8 + 8
    assert pair.n_bytes == B * 7 * pair.bytes_per_token
    growing = empty_cache(None)
    append_random(growing, 65, 0)
    assert growing.n_bytes == B * growing.keys[0].shape[2] * growing.bytes_per_token >= B * 65 * growing.bytes_per_token


def test_the_cache_of_a_counted_model_grows_without_bound() -> None:
    model, ids = build("ngram"), random_ids(2, 300)
    cache, sizes = model.new_cache(2), set()
    pieces = []
    for start in range(0, 300, 7):
        pieces.append(model(ids[:, start : start + 7], cache))
        sizes.add(cache.n_bytes)
    assert_same(torch.cat(pieces, 1), model(ids))
    assert len(sizes) <= 5 and max(sizes) <= 2 * 8 * 2 * 301


def test_pitfall_33_each_token_is_read_at_its_own_position() -> None:
    """Hidden states, one token at a time: with equal tokens, only the position can tell two steps apart."""
    for kind in KINDS:
        model, ids = gpt(kind), torch.full((2, 11), 7)
        cache = model.new_cache(2)
        one_by_one = torch.cat([model.hidden(ids[:, t : t + 1], cache) for t in range(11)], 1)
        assert_same(one_by_one, model.hidden(ids))
    learned = gpt("learned").hidden(torch.full((1, 11), 7))[0]
    assert torch.cdist(learned, learned).add(torch.eye(11)).min() > 1e-3


# ---- the rolling cache


def read_in_pieces(model: Any, ids: Tensor, ends: list[int], cache: Any) -> Tensor:
    pieces = zip([0, *ends], [*ends, ids.shape[1]], strict=True)
    return torch.cat([model(ids[:, start:end], cache) for start, end in pieces if end > start], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", GROUPS)
def test_pitfall_30_rolling_is_a_window_over_everything(kind: str, groups: int) -> None:
    """Narrow and wide windows, in pieces of many sizes, against the plain cache and against none."""
    ids, chance = random_ids(B, 11, seed=groups), random.Random(groups)
    for window in {6: (1, 3), 3: (2, 5), 1: (4, 12)}[groups]:
        plain, rolling = gpt(kind, groups, window), gpt(kind, groups, window, rolling=True)
        whole = plain(ids)
        cuts = [list(range(size, 11, size)) for size in (1, 2, 3, 4, 7, 11)]
        cuts += [sorted(chance.sample(range(1, 11), chance.randint(1, 5))) for _ in range(2)]
        for ends in cuts:
            assert_same(read_in_pieces(rolling, ids, ends, rolling.new_cache(B)), whole)
        assert_same(read_in_pieces(rolling, ids, [4, 5], gpt(kind, groups, window).new_cache(B)), whole)
        assert_same(rolling(ids), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_rolling_rows_of_different_lengths(kind: str) -> None:
    """Short rows are filled up and the filling is forgotten; then all go on together, past their windows."""
    for window, lengths in itertools.product((1, 2, 3, 9), ([1, 5, 3], [4, 4, 1], [5, 0, 2])):
        model, ids, ends = gpt(kind, 3, window, rolling=True), random_ids(B, 11, seed=window), torch.tensor(lengths)
        cache, plain_cache = model.new_cache(B), KVCache(LAYERS, (B, 3, 11, K), torch.float64, CPU)
        following = torch.stack([ids[b, n : n + 6] for b, n in enumerate(lengths)])
        for one in (cache, plain_cache):
            model(ids[:, :5], one)
            one.rollback(5 - ends)
            found = read_in_pieces(model, following, [1, 3, 4], one)
            for b, n in enumerate(lengths):
                assert_same(found[b], model(ids[b : b + 1, : n + 6])[0, n:])
        rows = torch.tensor([2, 2, 0])
        cache.select(rows)
        after = torch.tensor([[3], [5], [8]])
        if max(lengths) + 7 <= 11:
            text = [[*ids[b, : lengths[b] + 6].tolist(), int(after[i])] for i, b in enumerate(rows.tolist())]
            for row, whole in zip(model(after, cache), text, strict=True):
                assert_same(row[0], model(torch.tensor([whole]))[0, -1])


def test_rolling_memory_is_the_window() -> None:
    for window, spare in itertools.product((1, 2, 5), (0, 3)):
        model = gpt("rotary", 3, window, context=60, rolling=True)
        cache = RollingCache.like(KVCache(LAYERS, (B, 3, 1, K), torch.float64, CPU), window, spare)
        assert cache.n_bytes == 0
        model(random_ids(B, 20), cache)
        assert cache.n_bytes == B * 20 * cache.bytes_per_token  # all that was read last
        for step in range(30):
            model(random_ids(B, 1, seed=step), cache)
            assert cache.n_bytes == B * (window + spare) * cache.bytes_per_token
        assert cache.lengths.tolist() == [50] * B
        assert cache.bytes_per_token == 2 * LAYERS * 3 * K * 8


def test_a_rolling_cache_forgets_what_was_read_last_and_what_is_spare() -> None:
    model = gpt("learned", 3, 4, rolling=True)
    for spare, most in [(0, 1), (2, 3)]:
        ids = random_ids(B, 10)
        cache = RollingCache.like(KVCache(LAYERS, (B, 3, 1, K), torch.float64, CPU), 4, spare)
        for t in range(9):
            model(ids[:, t : t + 1], cache)
        with pytest.raises(ValueError, match=re.escape(f"rollback of {most + 1} tokens: the rolling cache holds")):
            cache.rollback(most + 1)
        cache.rollback(most)
        other = torch.cat([ids[:, : 9 - most], random_ids(B, 1, seed=7)], 1)
        assert_same(model(other[:, -1:], cache)[:, 0], model(other)[:, -1])
        cache.rollback(cache.lengths)  # the whole text may always be forgotten
        assert_same(model(ids[:, :6], cache), model(ids[:, :6]))


def test_rows_that_are_selected_take_along_what_they_hold() -> None:
    model, ids = gpt("learned", 3, 4, rolling=True), random_ids(B, 6)
    cache = model.new_cache(B)
    model(ids[:, :5], cache)
    cache.rollback(torch.tensor([0, 3, 1]))
    cache.select(torch.tensor([2, 0]))
    cache.rollback(torch.tensor([3, 4]))  # both have one token left
    assert_same(model(ids[[2, 0], 1:6], cache), model(ids[[2, 0]])[:, 1:])


def test_an_attention_without_a_rolling_window_does_not_take_a_rolling_cache() -> None:
    """It fails at once, where silence would be wrong numbers."""
    model, rolling = gpt("learned", 3, 3), gpt("learned", 3, 3, rolling=True)
    cache = rolling.new_cache(B)
    model(random_ids(B, 4), cache)
    with pytest.raises(RuntimeError, match="must match the size"):
        model(random_ids(B, 4), cache)


def test_columns_of_the_last_tokens() -> None:
    """Rows at positions 4 and 1: of five columns the last three before each one's end."""
    mask = position_mask(torch.tensor([[3, 4], [0, 1]]), 5)
    expected = [[[1, 1, 0], [1, 1, 1]], [[0, 1, 0], [0, 1, 1]]]
    assert last_columns(mask, 3)[:, 0].int().tolist() == expected
    assert torch.equal(last_columns(mask[0, 0], 3), mask[0, 0, :, 2:])


def test_without_a_mask_a_rolling_window_is_causal() -> None:
    q, k, v = torch.randn(3, 2, H, 7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = with_rolling_window(scaled_dot_product_attention, 3)(q, k, v, None)
    assert_same(ours, with_window(scaled_dot_product_attention, 3)(q, k, v, None))


@pytest.mark.parametrize(("window", "spare"), [(0, 0), (-1, 2), (3, -1)])
def test_bad_windows(window: int, spare: int) -> None:
    with pytest.raises(ValueError, match="at least 1 and at least 0 are needed"):
        RollingCache(1, (1, 1, window, 2), torch.float64, CPU, spare)
