"""Constraints and speculation together: what the automaton allows, with the chances that it leaves, and nothing else.

On real small models, by enumeration: every text that a draft could guess, and for each the chances of all that `accept`
could do with it, as `test_speculative.py` measures them.
"""

import itertools
import math
import re
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from decoding_models import small
from test_speculative import measure
from torch import Tensor

import minilm.decoding.speculative as speculative
from minilm.decoding.config import SampleConfig
from minilm.decoding.constrained import Constraint, TokenAutomaton
from minilm.decoding.drafts import LookupDraft, ModelDraft
from minilm.decoding.generate import generate
from minilm.decoding.reading import Reader
from minilm.decoding.regular import compile_pattern
from minilm.decoding.sampling import Sampler, distribution
from minilm.decoding.speculative import Report, accept, generate_speculative

PIECES, END = [b"a", b"b", b"ab", b""], 3
CONFIG = SampleConfig(0.8)
Ids = tuple[int, ...]


def valid_outputs(pattern: str, room: int) -> set[Ids]:
    """All ids without the end, at most `room` of them, whose text the pattern matches: by Python's re."""
    every = (ids for n in range(room + 1) for ids in itertools.product(range(END), repeat=n))
    return {ids for ids in every if re.fullmatch(pattern, b"".join(PIECES[token] for token in ids).decode())}


class Law:
    """What should be drawn from: the model's own probabilities of what can still become valid, made to sum to 1."""

    def __init__(self, model: Any, prompt: list[int], pattern: str, room: int) -> None:
        self.model, self.prompt, self.room = model, prompt, room
        self.valid = valid_outputs(pattern, room)
        self.begun = {ids[:n] for ids in self.valid for n in range(len(ids) + 1)}

    def __call__(self, ids: Ids) -> np.ndarray:
        if ids[-1:] == (END,):
            return np.eye(4)[END]
        with torch.no_grad():
            logits = self.model(torch.tensor([[*self.prompt, *ids]]))[0, -1].numpy() / CONFIG.temperature
        allowed = [(*ids, token) in self.begun for token in range(END)] + [ids in self.valid]
        weights = np.exp(logits - logits.max()) * allowed
        return weights / weights.sum()

    def texts(self, ids: Ids = (), chance: float = 1.0) -> dict[Ids, float]:
        """The chance of each whole text, which ends with END or has all the room."""
        if len(ids) == self.room or ids[-1:] == (END,):
            return {ids: chance}
        found: dict[Ids, float] = {}
        for token, p in enumerate(self(ids)):
            found |= self.texts((*ids, token), chance * p) if p > 0 else {}
        return found


def rounds(
    law: Law, draft_law: Law | None, draft: Any, gamma: int, constraint: Constraint, monkeypatch: pytest.MonkeyPatch
) -> dict[Ids, float]:
    """The chance of each whole text when round follows round, over all guesses of the draft and all that follows them."""
    seen: list[Any] = []

    def watch(p: Tensor, q: Tensor, proposed: list[int], uniforms: Tensor) -> list[int]:
        seen.append((p.numpy(), q.numpy(), proposed))
        return accept(p, q, proposed, uniforms)

    def probabilities(logits: Tensor, texts: list[list[int]]) -> Tensor:
        return distribution(logits, CONFIG, texts, [constraint])

    monkeypatch.setattr(speculative, "accept", watch)
    reader, ended = Reader(law.model), defaultdict[Ids, float](float)
    going: dict[Ids, float] = {(): 1.0}
    while going:
        ids, chance = going.popitem()
        n = min(gamma, law.room - len(ids) - 1)
        for share, uniforms in guesses(draft_law, ids, n):
            text = [*law.prompt, *ids]
            speculative.speculate(
                reader, draft, text, probabilities, torch.tensor([*uniforms, *[0.5] * (n + 1)]).double()
            )
            p, q, proposed = seen.pop()
            for kept, last in measure(p, q, proposed):
                for token in np.flatnonzero(last > 0).tolist():
                    new = (*ids, *kept, token)
                    whole = new[: new.index(END) + 1] if END in new else new
                    table = ended if whole[-1] == END or len(whole) == law.room else going
                    table[whole] = table.get(whole, 0.0) + chance * share * float(last[token])
    return ended


def guesses(law: Law | None, ids: Ids, n: int) -> list[tuple[float, list[float]]]:
    """(chance, uniforms that make a draft guess so) for every run of n guesses behind ids; one for who draws nothing."""
    if law is None:
        return [(1.0, [0.5] * n)]
    found = [(1.0, [], ids)]
    for _ in range(n):
        found = [
            (chance * p, [*uniforms, float(q[:token].sum() + p / 2)], (*so_far, token))
            for chance, uniforms, so_far in found
            for q in [law(so_far)]
            for token, p in enumerate(q)
            if p > 0
        ]
    return [(chance, uniforms) for chance, uniforms, _ in found]


@pytest.mark.parametrize("pattern", ["(a|ba)*b", "b?(ab){1,2}"])
@pytest.mark.parametrize("guesser", ["gpt", "ngram", "look-up"])
@pytest.mark.parametrize("gamma", [1, 2, 3])
def test_the_distribution_is_that_of_the_constrained_target(
    gamma: int, guesser: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every valid text of up to 4 tokens has exactly the chance that constrained sampling gives it, and no other has any."""
    room, prompt = 4, [1, 0, 1, 2]
    target = small("llama", 4, 16, seed=1, heads=(2, 6)).eval()
    law = Law(target, prompt, pattern, room)
    draft: Any = LookupDraft(4, longest=2)
    draft_law = None
    if guesser != "look-up":
        model = small(guesser, 4, 16, seed=9, n_layers=1, heads=(2, 6))
        model = model.eval() if guesser == "gpt" else model
        draft, draft_law = ModelDraft(model), Law(model, prompt, pattern, room)
    automaton = TokenAutomaton(compile_pattern(pattern), PIECES, END)
    found = rounds(law, draft_law, draft, gamma, Constraint(automaton, len(prompt), room), monkeypatch)
    expected = law.texts()
    assert math.isclose(sum(expected.values()), 1.0) and len(expected) > 3
    assert found.keys() == expected.keys()
    for ids, chance in expected.items():
        assert abs(found[ids] - chance) <= 1e-12, ids


V = 13
LETTERS = [bytes([97 + token]) for token in range(V - 1)] + [b""]
PATTERNS = ["(ab?|[c-f]{2})+l", "[a-l]{7}", "(abc|abd|k)*", "a+|b+"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_is_greedy_constrained_decoding(pattern: str, use_cache: bool) -> None:
    """Token for token, for models of the house as target and every kind of draft; and drawn texts are valid."""
    automaton, report = TokenAutomaton(compile_pattern(pattern), LETTERS, V - 1), Report()
    rng = np.random.default_rng(0)
    for name in ("gpt", "llama", "speedrun"):
        target = small(name, V, 24, heads=(2, 6), n_layers=1)
        near = small(name, V, 24, heads=(2, 6), n_layers=1)
        with torch.no_grad():
            near.lm_head.weight.add_(torch.randn(V, 12, generator=torch.Generator().manual_seed(0)) * 0.1)
        for draft in (ModelDraft(near, use_cache), ModelDraft(small("ngram", V, 24), use_cache), LookupDraft(V)):
            for gamma in (1, 3, 4):
                prompt = rng.integers(0, V, int(rng.integers(1, 8))).tolist()

                def constraint(prompt: list[int] = prompt) -> list[Constraint]:
                    return [Constraint(automaton, len(prompt), budget=9)]

                rules: dict[str, Any] = dict(stop_tokens={V - 1}, use_cache=use_cache)
                sampler = Sampler(SampleConfig(0.0), processors=constraint())
                expected = list(generate(target, prompt, sampler, 9, **rules))
                rules |= dict(gamma=gamma, processors=constraint(), report=report)
                found = generate_speculative(target, draft, prompt, SampleConfig(0.0), 9, **rules)
                assert list(found) == expected
                generator = torch.Generator().manual_seed(gamma)
                rules |= dict(processors=constraint(), generator=generator)
                drawn = generate_speculative(target, draft, prompt, SampleConfig(1.5), 9, **rules)
                assert re.fullmatch(pattern, bytes(97 + token for token in drawn).decode())
    assert 0 < report.n_accepted < report.n_proposed
