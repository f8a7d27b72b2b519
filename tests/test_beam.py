"""Beam search against exhaustive search, against a literal one, and against that of transformers."""

import copy
import itertools
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from decoding_models import small
from torch import Tensor

from minilm.decoding.beam import Hypothesis, beam_search, best_reachable, expand, score
from minilm.decoding.config import SampleConfig
from minilm.decoding.constrained import Constraint, TokenAutomaton, after_prompts
from minilm.decoding.generate import generate
from minilm.decoding.processors import BadWords, LogitBias
from minilm.decoding.regular import compile_pattern
from minilm.decoding.sampling import Sampler

V, CONTEXT = 13, 14
PENALTIES = [-1.3, -0.4, 0.0, 0.6, 1.0, 2.2]
STOPS: list[set[int]] = [set(), {3}, {0, 2, 4}]  # row 56 of the pitfalls: none, one and three


def build(name: str) -> Any:
    return small(name, V, CONTEXT, seed=6)


class Tree:
    """A model of random tables: behind the one token of the prompt, every text has log-probabilities of its own.

    tables[n] (5 ** n, 5) holds those behind n tokens; the row is the text, read as a number to the base 5.
    """

    def __init__(self, seed: int, depth: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.config = SimpleNamespace(vocab_size=5)
        self.tables = []
        for n in range(depth):
            logits = rng.normal(size=(5**n, 5)) * rng.choice([0.3, 1.0, 3.0])
            logits[:, :4][rng.random((5**n, 4)) < 0.1] = -np.inf  # some tokens are impossible
            self.tables.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))

    def __call__(self, ids: Tensor) -> Tensor:
        rows, answers = np.zeros(len(ids), dtype=int), []
        for place, tokens in enumerate(ids.numpy().T):
            rows = rows * 5 + tokens if place else rows
            answers.append(self.tables[place][rows])
        return torch.from_numpy(np.stack(answers, axis=1)) + 1.5  # logits: any shift of log p

    def log_probs(self, text: list[int]) -> np.ndarray:
        row = 0
        for token in text[1:]:
            row = row * 5 + token
        return self.tables[len(text) - 1][row]


Found = tuple[tuple[int, ...], int | None, float, float]  # ids, stop, log p, score


def exhaustive(model: Tree, stops: set[int], penalty: float, n_best: int) -> list[Found]:
    """All texts of up to 5 tokens, and the best of them. `so_far` is log p of every text of n tokens without a stop."""
    so_far, every = np.zeros(1), []
    is_stop = np.isin(np.arange(5), sorted(stops))
    for n, table in enumerate(model.tables, 1):
        total = so_far[:, None] + table  # (5 ** (n - 1), 5)
        ends = np.broadcast_to(is_stop | (n == 5), total.shape) & np.isfinite(total)
        every += [(total[place] / n**penalty, total[place], n, place) for place in zip(*np.nonzero(ends), strict=True)]
        so_far = np.where(is_stop, -np.inf, total).reshape(-1)
    every.sort(key=lambda one: -one[0])
    found: list[Found] = []
    for value, log_prob, n, (row, token) in every[:n_best]:
        digits = [int(row) // 5**power % 5 for power in reversed(range(n - 1))]
        stopped = int(token) in stops
        found.append(
            (tuple(digits if stopped else [*digits, int(token)]), int(token) if stopped else None, log_prob, value)
        )
    return found


def literal(
    log_probs: Callable[[list[int]], Any],
    prompt: list[int],
    n_beams: int,
    room: int,
    stops: set[int],
    penalty: float,
    n_best: int,
    early: bool = False,
) -> list[Found]:
    """Beam search word for word, one text at a time, to the end of the room (or until n_beams have ended)."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[Found] = []
    n_ended = 0
    for length in range(1, room + 1):
        every = []
        for log_p, ids in beams:
            behind = log_probs(prompt + ids)
            every += [(log_p + float(behind[w]), ids, w) for w in range(len(behind)) if behind[w] > -math.inf]
        every.sort(key=lambda one: -one[0])
        beams = []
        for rank, (log_p, ids, token) in enumerate(every):
            if token in stops and rank < n_beams:
                done.append((tuple(ids), token, log_p, log_p / length**penalty))
                n_ended += 1
            elif token not in stops and len(beams) < n_beams:
                beams.append((log_p, [*ids, token]))
        if early and n_ended >= n_beams and length < room:
            return sorted(done, key=lambda one: -one[3])[:n_best]
    done += [(tuple(ids), None, log_p, log_p / room**penalty) for log_p, ids in beams]
    return sorted(done, key=lambda one: -one[3])[:n_best]


def check_equal(found: list[Hypothesis], expected: list[Found], where: Any) -> None:
    """The same ids and stops in the same order, log p and scores to 1e-12."""
    assert [(tuple(one.ids), one.stop) for one in found] == [(ids, stop) for ids, stop, _, _ in expected], where
    numbers = [(one.log_prob, one.score) for one in found]
    np.testing.assert_allclose(numbers, [(log_p, value) for *_, log_p, value in expected], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stops", STOPS, ids=["0 stops", "1 stop", "3 stops"])
def test_all_beams_are_exhaustive_search_row_58(stops: set[int]) -> None:
    """V = 5, L = 5, 5 ** 5 beams: the n best of all texts, for 167 models each (rows 56 and 58 of the pitfalls)."""
    for seed in range(167):
        model, penalty = Tree(seed), PENALTIES[seed % len(PENALTIES)]
        n_best = 1 + seed % 7
        [found] = beam_search(model, [[2]], 5**5, 5, length_penalty=penalty, n_best=n_best, stop_tokens=stops)
        check_equal(found, exhaustive(model, stops, penalty, n_best), seed)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("stops", STOPS, ids=["0 stops", "1 stop", "3 stops"])
def test_few_beams_equal_a_literal_search_that_never_ends_early(stops: set[int], early: bool) -> None:
    """Without early_stopping the search may end before its room does, but with the result of one that does not."""
    for seed in range(200):
        model, rng = Tree(seed), np.random.default_rng(seed)
        n_beams, room = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        n_best, penalty = int(rng.integers(1, n_beams + 1)), float(rng.choice(PENALTIES))
        expected = literal(model.log_probs, [1], n_beams, room, stops, penalty, n_best, early)
        [found] = beam_search(
            model, [[1]], n_beams, room, length_penalty=penalty, early_stopping=early, n_best=n_best, stop_tokens=stops
        )
        check_equal(found, expected, (seed, n_beams, room, n_best, penalty))


# ---- processors

PATTERN, PIECES = "(a|bc)*b|ab+c", [b"a", b"b", b"ab", b"c", b""]  # token 4 is the end
WORDS = [[3], [2, 0], [1, 1, 0]]  # [2, 0] is begun by the prompt
BIAS = {0: 1.5, 2: -0.7, 1: -math.inf}
Change = Callable[[tuple[int, ...], np.ndarray], np.ndarray]  # ids behind the prompt, their row of a table -> a row


def biased(bias: dict[int, float]) -> Change:
    added = np.array([bias.get(token, 0.0) for token in range(5)])
    return lambda ids, row: row + added


def without_words(ids: tuple[int, ...], row: np.ndarray) -> np.ndarray:
    text = (2, *ids)
    bad = {word[-1] for word in WORDS if text[len(text) - len(word) + 1 :] == tuple(word[:-1])}
    return np.where(np.isin(np.arange(5), list(bad)), -np.inf, row)


def matching(room: int) -> set[tuple[int, ...]]:
    """All ids without the end, at most `room` of them, whose text the pattern matches: by Python's re."""
    every = (ids for n in range(room + 1) for ids in itertools.product(range(4), repeat=n))
    return {ids for ids in every if re.fullmatch(PATTERN, b"".join(PIECES[token] for token in ids).decode())}


def within_pattern(room: int) -> Change:
    valid = matching(room)
    begun = {ids[:n] for ids in valid for n in range(len(ids) + 1)}

    def change(ids: tuple[int, ...], row: np.ndarray) -> np.ndarray:
        allowed = [(*ids, token) in begun for token in range(4)] + [ids in valid]
        return np.where(allowed, row, -np.inf)

    return change


def changed(model: Tree, *changes: Change) -> Tree:
    """The same model, where the tables themselves hold what processors would do to them."""
    twin = copy.copy(model)
    twin.tables = []
    for n, table in enumerate(model.tables):
        rows = table.copy()
        for row, ids in zip(rows, itertools.product(range(5), repeat=n), strict=True):
            for change in changes:
                row[:] = change(ids, row)
        totals = np.logaddexp.reduce(rows, axis=1, keepdims=True)
        twin.tables.append(rows - np.where(np.isfinite(totals), totals, 0.0))
    return twin


def constraint(room: int, start: Any) -> Constraint:
    return Constraint(TokenAutomaton(compile_pattern(PATTERN), PIECES, 4), start, budget=room)


PROCESSED: dict[str, tuple[list[Any], list[Change], set[int]]] = {
    "bias": ([LogitBias(BIAS)], [biased(BIAS)], {3}),
    "bad words": ([BadWords(WORDS)], [without_words], {0, 4}),
    "constraint": ([constraint(5, 1)], [within_pattern(5)], {4}),
    "bias and bad words": ([LogitBias(BIAS), BadWords(WORDS)], [biased(BIAS), without_words], set()),
    "bias and constraint": ([LogitBias({0: 3.0}), constraint(5, 1)], [biased({0: 3.0}), within_pattern(5)], {4}),
}


def without_zeros(seed: int) -> Tree:
    """A Tree where all is possible: so the processors alone decide what is not."""
    model = Tree(seed)
    model.tables = [np.maximum(table, -9.0) for table in model.tables]
    model.tables = [table - np.logaddexp.reduce(table, axis=1, keepdims=True) for table in model.tables]
    return model


@pytest.mark.parametrize("name", PROCESSED)
def test_processed_beams_are_exhaustive_search_under_the_constraint(name: str) -> None:
    """All beams: the n best of all texts of the processed model, renormalised at each step. Few beams: a literal search."""
    processors, changes, stops = PROCESSED[name]
    rng, n_changed = np.random.default_rng(0), 0
    for seed in range(40):
        model, penalty = without_zeros(seed), PENALTIES[seed % len(PENALTIES)]
        oracle, rules = changed(model, *changes), dict(length_penalty=penalty, stop_tokens=stops)
        [found] = beam_search(model, [[2]], 5**5, 5, n_best=5, processors=processors, **rules)
        check_equal(found, exhaustive(oracle, stops, penalty, 5), seed)
        n_beams, early = int(rng.integers(1, 6)), bool(seed % 2)
        few = dict(n_best=n_beams, early_stopping=early, processors=processors)
        [found] = beam_search(model, [[2]], n_beams, 5, **few, **rules)
        check_equal(found, literal(oracle.log_probs, [2], n_beams, 5, stops, penalty, n_beams, early), seed)
        n_changed += found != beam_search(model, [[2]], n_beams, 5, n_best=n_beams, early_stopping=early, **rules)[0]
    assert n_changed > 30


def test_constrained_beams_of_several_prompts_on_a_gpt() -> None:
    """Prompts of different lengths, with a cache: every text is valid, equal to a literal search, and one beam is greedy."""
    model, end = build("llama").eval(), V - 1
    pieces = [bytes([97 + token]) for token in range(end)] + [b""]
    automaton = TokenAutomaton(compile_pattern("(ab?|[c-f]{2})+l"), pieces, end)
    prompts = [[5], [1, 7, 2, 9, 9, 4], [11, 3]]

    def log_probs(text: list[int]) -> np.ndarray:
        with torch.no_grad():
            logits = np.asarray(model(torch.tensor([text]))[0, -1])
        prompt = next(prompt for prompt in prompts if text[: len(prompt)] == prompt)
        allowed = automaton.allowed(automaton.read(text[len(prompt) :]), 6 - (len(text) - len(prompt)))
        logits = np.where(allowed, logits, -np.inf)
        return logits - np.logaddexp.reduce(logits)

    for n_beams in (1, 2, 5):
        processors = [Constraint(automaton, after_prompts(prompts), budget=6)]
        rules: dict[str, Any] = dict(length_penalty=0.7, stop_tokens={end}, n_best=n_beams)
        together = beam_search(model, prompts, n_beams, 6, processors=processors, **rules)
        for prompt, found in zip(prompts, together, strict=True):
            check_equal(found, literal(log_probs, prompt, n_beams, 6, {end}, 0.7, n_beams), prompt)
            texts = [bytes(97 + token for token in one.ids).decode() for one in found]
            assert all(re.fullmatch("(ab?|[c-f]{2})+l", text) for text in texts)
            if n_beams == 1:
                sampler = Sampler(SampleConfig(0.0), processors=[Constraint(automaton, len(prompt), budget=6)])
                assert found[0].ids == list(generate(model, prompt, sampler, 6, stop_tokens={end}))


def test_processors_that_leave_no_token_are_named() -> None:
    with pytest.raises(ValueError, match="no token can be chosen"):
        beam_search(Tree(0), [[2]], 2, 3, processors=[LogitBias({token: -math.inf for token in range(5)})])


@pytest.mark.parametrize("name", ["gpt", "llama", "speedrun", "ngram", "mixture"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_models_of_the_house(name: str, use_cache: bool) -> None:
    """Row 57 of the pitfalls: four different prompts at once equal a literal search behind each, and each alone."""
    model = build(name)
    prompts = [[5], [1, 7, 2, 9, 9, 4], [11, 3], [8, 8, 1]]

    def log_probs(text: list[int]) -> np.ndarray:
        with torch.no_grad():
            logits = model(torch.tensor([text]))[0, -1]
        return np.asarray(logits - torch.logsumexp(logits, -1))

    for n_beams, penalty, early in [(3, 0.8, False), (4, -0.7, False), (2, 0.0, True)]:
        rules: dict[str, Any] = dict(
            length_penalty=penalty, early_stopping=early, n_best=2, stop_tokens={0, 6}, use_cache=use_cache
        )
        together = beam_search(model, prompts, n_beams, 6, **rules)
        if name in ("gpt", "mixture"):
            assert model.training  # as it was before
            model.eval()
        for prompt, found in zip(prompts, together, strict=True):
            check_equal(found, literal(log_probs, prompt, n_beams, 6, {0, 6}, penalty, 2, early), prompt)
            [alone] = beam_search(model, [prompt], n_beams, 6, **rules)
            check_equal(alone, [(tuple(one.ids), one.stop, one.log_prob, one.score) for one in found], prompt)
        if name in ("gpt", "mixture"):
            model.train()


def test_n_best_are_sorted_and_distinct() -> None:
    model = build("gpt")
    for hypotheses in beam_search(model, [[4], [2, 6]], 9, 5, n_best=9, stop_tokens={1, 5, 7}):
        scores = [one.score for one in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({(tuple(one.ids), one.stop) for one in hypotheses}) == 9
        for one in hypotheses:
            assert not {1, 5, 7} & set(one.ids)
            assert one.stop in (1, 5, 7) or (one.stop is None and len(one.ids) == 5)


def test_one_beam_is_greedy() -> None:
    for name, prompt in itertools.product(("gpt", "ngram"), ([3], [7, 1, 4])):
        model = build(name)
        greedy = list(generate(model, prompt, Sampler(SampleConfig(0.0)), 8))
        [[best]] = beam_search(model, [prompt], 1, 8, length_penalty=0.0)
        assert best.ids == greedy


def test_more_beams_find_what_greedy_misses() -> None:
    """Greedy takes 0 (0.6), behind which all five are equal; the best text begins with 1 (0.4) and then is sure."""
    model = Tree(0, depth=2)
    model.tables[0][0] = np.log([0.6, 0.4, 1e-300, 1e-300, 1e-300])
    model.tables[1][0], model.tables[1][1] = np.log(0.2), np.log([1e-300, 1e-300, 1.0, 1e-300, 1e-300])
    assert beam_search(model, [[0]], 1, 2)[0][0].ids == [0, 0]
    [[best]] = beam_search(model, [[0]], 2, 2)
    assert best.ids == [1, 2]
    assert best.log_prob == pytest.approx(math.log(0.4), abs=1e-12)


def test_a_positive_penalty_favours_long_texts_row_58() -> None:
    """The direction that a documentation stated the wrong way round: with a growing penalty no best text is shorter."""
    lengths = []
    for penalty in (-10.0, -1.0, 0.0, 1.0, 10.0):
        best = [
            beam_search(Tree(seed), [[0]], 5**5, 5, length_penalty=penalty, stop_tokens={4})[0][0] for seed in range(20)
        ]
        lengths.append([len(one.ids) + (one.stop is not None) for one in best])
    assert all(
        short <= long
        for before, after in itertools.pairwise(lengths)
        for short, long in zip(before, after, strict=True)
    )
    assert sum(lengths[0]) < sum(lengths[-1]) == 5 * 20


def test_the_length_counts_the_stop_token_and_no_prompt_row_58() -> None:
    model = build("ngram")
    for prompt in ([2], [9, 9, 9, 9, 2]):
        for one in beam_search(model, [prompt], 8, 4, length_penalty=1.0, n_best=8, stop_tokens={0, 1, 2, 3, 4})[0]:
            assert one.score == one.log_prob / (len(one.ids) + (one.stop is not None))
    assert score(-6.0, 4, 0.5) == -3.0


def test_the_bound_holds_for_every_continuation_row_58() -> None:
    """Whatever negative numbers are added, no score within the room is above the bound."""
    rng = np.random.default_rng(3)
    for _ in range(2000):
        room = int(rng.integers(2, 30))
        length, penalty, log_prob = int(rng.integers(1, room)), float(rng.normal() * 3), -float(rng.exponential(5))
        later = log_prob - np.cumsum(rng.exponential(0.2, room - length) * (rng.random(room - length) < 0.5))
        scores = later / np.arange(length + 1, room + 1) ** penalty
        assert scores.max() <= best_reachable(log_prob, length, room, penalty) + 1e-15


def test_the_search_ends_when_it_is_decided_and_no_sooner() -> None:
    """Behind a sure stop nothing is left to find; with a penalty above 0 a longer text may still win, and is awaited."""

    class Asked(Tree):
        calls = 0

        def __call__(self, ids: Tensor) -> Tensor:
            self.calls += 1
            return super().__call__(ids)

    def calls(stop_now: float, penalty: float, early: bool = False, n_beams: int = 1) -> tuple[int, Hypothesis]:
        model = Asked(0)
        for table in model.tables:
            table[:] = np.log([0.997, 0.001, 0.001, 0.001, 1e-300])
        model.tables[0][:] = np.log([1 - stop_now - 1e-9, 1e-10, 1e-10, 1e-10, stop_now])
        [[best]] = beam_search(model, [[0]], n_beams, 5, length_penalty=penalty, early_stopping=early, stop_tokens={4})
        return model.calls, best

    assert calls(0.9, 0.0)[0] == 1  # log 0.9 against at most log 0.1
    assert calls(0.9, 1.0)[0] == 1  # log 0.9 = -0.105 against at most log(0.1) / 5 = -0.46
    asked, best = calls(0.6, 3.0)
    assert asked == 5 and best.ids == [0] * 5  # -0.51 against (log 0.4 - a little) / 125
    asked, best = calls(0.6, 3.0, early=True)
    assert asked == 1 and best.stop == 4  # what early_stopping loses


@pytest.mark.parametrize("length", [1, 9, CONTEXT - 1, CONTEXT])
@pytest.mark.parametrize("use_cache", [True, False])
def test_context_limit(length: int, use_cache: bool) -> None:
    """A prompt has the room that its context leaves, whatever stands beside it; the last token is not read."""
    model = build("llama")
    prompts = [[7] * length, [3, 1]]
    [[first], [second]] = beam_search(model, prompts, 3, 100, use_cache=use_cache)
    assert len(first.ids) == CONTEXT - length + 1
    assert len(second.ids) == CONTEXT - 1
    assert beam_search(model, [[3, 1]], 3, 100)[0][0].ids == second.ids


def test_fewer_hypotheses_than_asked_for() -> None:
    model = Tree(0)
    model.tables[0][:] = [math.log(0.5)] * 2 + [-math.inf] * 3
    [found] = beam_search(model, [[0]], 4, 1, n_best=4)
    assert [one.ids for one in found] == [[0], [1]]  # a tie: the lower id first
    assert beam_search(model, [], 4, 1) == []


def test_expand_by_hand() -> None:
    """Two beams, three tokens, stop token 1: place 4 (0.32) ends, and 3, 0 and 5 are the best others, in this order."""
    log_probs = torch.tensor([0.4, 0.6]).log()
    behind = torch.tensor([[0.55, 0.4, 0.05], [0.4, 0.5, 0.1]]).log()  # totals .22 .16 .02 | .24 .30 .06
    totals, stopping, going = expand(log_probs, behind, 2, {1})
    assert totals.exp().tolist() == pytest.approx([0.22, 0.16, 0.02, 0.24, 0.3, 0.06])
    assert stopping.tolist() == [4]
    assert going.tolist() == [3, 0]
    _, stopping, going = expand(log_probs, behind, 4, {1})
    assert stopping.tolist() == [4, 1] and going.tolist() == [3, 0, 5, 2]
    assert expand(log_probs, behind, 3, set())[1].tolist() == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n_beams": 0}, "n_beams is 0"),
    ({"n_best": 3}, "n_best is 3: choose 1 to n_beams"),
    ({"n_best": 0}, "n_best is 0"),
    ({"length_penalty": math.nan}, "length_penalty is nan"),
    ({"length_penalty": 11.0}, "between -10 and 10"),
    ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ({"prompts": [[1], []]}, "the prompt is empty"),
    ({"prompts": [[1, V]]}, "the model knows 0..12"),
    ({"prompts": [[1], [2] * (CONTEXT + 1)]}, "the model reads at most 14"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[message for _, message in BAD])
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = dict(prompts=[[1]], n_beams=2, max_new_tokens=3) | change
    with pytest.raises(ValueError, match=message):
        beam_search(build("gpt"), **arguments)


def test_a_diverged_model_is_named() -> None:
    model = build("gpt")
    with torch.no_grad():
        model.embedding.weight[1] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        beam_search(model, [[1]], 2, 3)


class Peer:
    """A model of transformers behind the protocol of the house: the same network in both searches."""

    def __init__(self, network: Any, vocab_size: int) -> None:
        self.network, self.config = network, SimpleNamespace(vocab_size=vocab_size)

    def __call__(self, ids: Tensor) -> Tensor:
        return self.network(ids).logits


def test_transformers_finds_the_same() -> None:
    """200 random small GPT-2s, stop sets, penalties and numbers of beams, where the definitions agree: their "never" is our
    sound bound, their True is our early_stopping. They add up log p in float32."""
    transformers.logging.set_verbosity_error()
    for seed in range(200):
        rng, size = np.random.default_rng(seed), 11 + seed % 5
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=size, n_positions=24, n_embd=12, n_layer=1 + seed % 2, n_head=3, initializer_range=0.8
        )
        peer = transformers.GPT2LMHeadModel(config).double().eval()
        n_beams, room = int(rng.integers(2, 6)), int(rng.integers(2, 9))
        n_best, penalty, early = int(rng.integers(1, n_beams + 1)), float(rng.choice(PENALTIES)), bool(seed % 3 == 0)
        stops = sorted(rng.choice(size, [0, 1, 3][seed % 3 if seed % 4 else 1], replace=False).tolist())
        prompt = rng.integers(0, size, int(rng.integers(1, 6))).tolist()
        output = peer.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=transformers.GenerationConfig(
                num_beams=n_beams,
                num_return_sequences=n_best,
                max_new_tokens=room,
                length_penalty=penalty,
                early_stopping=early or "never",
                eos_token_id=stops or None,
                pad_token_id=0,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        [found] = beam_search(
            Peer(peer, size),
            [prompt],
            n_beams,
            room,
            length_penalty=penalty,
            early_stopping=early,
            n_best=n_best,
            stop_tokens=stops,
        )
        for one, row, value in zip(found, output.sequences.tolist(), output.sequences_scores.tolist(), strict=True):
            whole = [*one.ids, *([] if one.stop is None else [one.stop])]
            new = row[len(prompt) :]
            assert new[: len(whole)] == whole and set(new[len(whole) :]) <= {0, *stops}, (seed, found, new)
            assert one.stop is not None or len(one.ids) == room
            assert one.score == pytest.approx(value, abs=2e-5), seed
