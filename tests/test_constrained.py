"""Constrained decoding against brute force: every token of every state, every text of a finite language, every budget."""

import itertools
import json
import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.constrained import FAR, Constraint, TokenAutomaton, after_prompts
from minilm.decoding.generate import generate
from minilm.decoding.json_schema import compile_schema
from minilm.decoding.regular import compile_pattern
from minilm.decoding.sampling import Sampler, draw
from minilm.layers.basic import softmax
from minilm.text.bpe import BPETokenizer
from minilm.text.stories import stories
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

PATTERNS = [
    r"(yes|no|not now)\.?",
    r"[é€😀]+ \w*",
    r"-?\d{1,3}(\.\d+)?",
    r'("[^"\n]*"|null)',
    "(the |a )*(old )?fox(es)?",
    ".*",
]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "pattern": r"^[\w\"é😀]+$"}},
        "mood": {"enum": ["happy", "sad", "né\n", None]},
    },
    "required": ["name", "mood"],
}


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    """600 tokens, of which some are several characters of several bytes, and some only a part of one."""
    text = [
        *stories(60, seed=4),
        *["l'été dernier, né à l'œil € € 😀😁😂 ₠₡₢ ", '{"name": "né", "age": 12, "mood": null}'] * 40,
    ]
    tokenizer = BPETokenizer.train(text, 600, specials=("<|endoftext|>", "<|user|>"))
    pieces = [piece for piece in tokenizer.token_bytes if max(piece) > 127 and len(piece) > 1]
    assert any(undecodable(piece) for piece in pieces)
    assert any(not undecodable(piece) and len(piece) > 3 for piece in pieces)
    return tokenizer


def undecodable(piece: bytes) -> bool:
    return "\ufffd" in piece.decode(errors="replace")


def over(tokenizer: Tokenizer, found) -> TokenAutomaton:
    return TokenAutomaton(found, tokenizer.token_bytes, tokenizer.end_of_text, tokenizer.special_tokens.values())


def token_automaton(found, pieces: list[bytes]) -> TokenAutomaton:
    """With these tokens and, last, <|endoftext|>."""
    return TokenAutomaton(found, [*pieces, b"<|endoftext|>"], len(pieces))


# ---- which tokens are allowed


def test_allowed_tokens_are_those_that_begin_a_valid_text(bpe: BPETokenizer) -> None:
    """Finite languages, all of whose texts are listed by Python: a token is allowed if one of them goes on with it."""
    languages = {
        "(yes|no|not now)\\.?": ["yes", "no", "not now", "yes.", "no.", "not now."],
        "(été|€)?😀{1,2}": ["😀", "😀😀", "été😀", "été😀😀", "€😀", "€😀😀"],
        "l'[éœ](té|il)": ["l'été", "l'éil", "l'œté", "l'œil"],
        "the (fox|old|é)": ["the fox", "the old", "the é"],
    }
    for pattern, texts in languages.items():
        assert all(re.fullmatch(pattern, text) for text in texts)
        automaton, valid = over(bpe, compile_pattern(pattern)), [text.encode() for text in texts]
        for text in {whole[:n] for whole in valid for n in range(len(whole) + 1)}:
            allowed = automaton.allowed(automaton.automaton.next(text)).tolist()
            for token, piece in enumerate(bpe.token_bytes):
                expected = any(whole.startswith(text + piece) for whole in valid)
                if token in bpe.special_tokens.values():
                    expected = token == bpe.end_of_text and text in valid
                assert allowed[token] == expected, (pattern, text, piece)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_state_against_reading_every_token_byte_by_byte(bpe: BPETokenizer, pattern: str) -> None:
    for tokenizer in (bpe, ByteTokenizer()):
        automaton = over(tokenizer, compile_pattern(pattern))
        found, specials = automaton.automaton, set(tokenizer.special_tokens.values())
        for state in range(len(found.table)):
            after = [found.next(piece, state) for piece in tokenizer.token_bytes]
            wanted = [-1 if token in specials else target for token, target in enumerate(after)]
            assert automaton.targets(state).tolist() == wanted
            wanted_allowed = [target >= 0 for target in wanted]
            wanted_allowed[tokenizer.end_of_text] = bool(found.accepting[state])
            assert automaton.allowed(state).tolist() == wanted_allowed
            assert any(wanted_allowed)  # no state without a way on


def test_special_tokens_and_empty_ones_are_never_text() -> None:
    """The name of a special token is a text like another; its id is not. A token without bytes would go on for ever."""
    pieces = [b"<", b"<|endoftext|>", b"", b"<|user|>", b"|end", b"oftext|>", b"<|endoftext|>"]
    automaton = TokenAutomaton(compile_pattern(re.escape("<|endoftext|>") + "|<.*"), pieces, 6, specials=[3])
    assert automaton.allowed(0).tolist() == [True, True, False, False, False, False, False]
    state = automaton.read([0, 4, 5])
    assert automaton.allowed(state)[6]
    assert automaton.next(state, 6) == -2
    assert automaton.allowed(-2).tolist() == [False] * 6 + [True]
    assert automaton.next(-2, 6) == -2
    assert automaton.next(-2, 0) == automaton.next(0, 6) == automaton.next(-1, 6) == automaton.next(-1, 0) == -1
    with pytest.raises(ValueError, match=r"the special token 7 is none of 0\.\.6"):
        TokenAutomaton(compile_pattern("a"), pieces, 6, specials=[7])
    with pytest.raises(ValueError, match="the special token -1"):
        TokenAutomaton(compile_pattern("a"), pieces, -1)


def test_tokens_that_lack_a_byte_do_not_lead_into_a_trap() -> None:
    """With characters as tokens: what only a missing character could finish is never begun."""
    tokenizer = CharTokenizer("abcé")
    automaton = over(tokenizer, compile_pattern("ax|bé|c(a|z)|cb*y"))
    assert automaton.allowed(0).tolist() == [False, True, True, False, False]
    assert automaton.allowed(automaton.read([2])).tolist() == [True, False, False, False, False]
    assert automaton.distances[0] == 2
    with pytest.raises(ValueError, match="no valid text can be written with these tokens"):
        over(tokenizer, compile_pattern("abd+"))


# ---- always valid


def random_generation(
    automaton: TokenAutomaton, rows: int, budget: int, seed: int, bias: float = 0.0
) -> list[list[int]]:
    """Outputs of a random model: new logits for every row and step. Rows that have ended leave; the others change places."""
    generator, order = torch.Generator().manual_seed(seed), random.Random(seed)
    V, prompt = len(automaton.token_bytes), [automaton.end_of_text, 1]
    constraint = Constraint(automaton, start=len(prompt), budget=budget)
    texts, done = [list(prompt) for _ in range(rows)], []
    for _ in range(budget):
        if not texts:
            break
        logits = 3 * torch.randn(len(texts), V, generator=generator)
        logits[:, automaton.end_of_text] += bias
        uniforms = torch.rand(len(texts), generator=generator)
        tokens = draw(softmax(constraint(logits, texts)), uniforms).tolist()
        live = []
        for text, token in zip(texts, tokens, strict=True):
            (done if token == automaton.end_of_text else live).append(text)
            text += [token] * (token != automaton.end_of_text)
        texts = order.sample(live, k=len(live))
    return [text[len(prompt) :] for text in done + texts]


@pytest.mark.parametrize(("budget", "bias"), [(14, 0.0), (15, -50.0), (16, 3.0), (40, 0.0), (120, -50.0)])
def test_json_of_a_random_model_is_always_valid(bpe: BPETokenizer, budget: int, bias: float) -> None:
    """5 x 250 texts of a model that knows nothing, also where the length is barely enough or ending is unlikely: all parse."""
    automaton = over(bpe, compile_schema(PERSON))
    assert automaton.distances[0] <= 14
    texts = random_generation(automaton, 250, budget, seed=budget, bias=bias)
    assert len(texts) == 250
    for ids in texts:
        assert len(ids) <= budget
        value = json.loads(bpe.decode_bytes(ids).decode("utf-8"))
        assert {"name", "mood"} <= set(value) <= set(PERSON["properties"])
        assert len(value["name"]) <= 12
        assert value["mood"] in PERSON["properties"]["mood"]["enum"]
        assert type(value.get("age", 0)) is int
        assert all(re.fullmatch(r'[\w"é😀]+', tag, re.ASCII) for tag in value.get("tags", []))
    assert len({tuple(ids) for ids in texts}) > 190 or budget == 14
    if bias < 0:
        assert max(map(len, texts)) == budget


@pytest.mark.parametrize("pattern", PATTERNS[:-1])
def test_texts_of_a_random_model_match(bpe: BPETokenizer, pattern: str) -> None:
    """2 x 200 texts for each pattern, from bytes and from byte-pair tokens, by Python's `re`."""
    for tokenizer in (bpe, ByteTokenizer()):
        for ids in random_generation(over(tokenizer, compile_pattern(pattern)), 200, budget=30, seed=1):
            assert re.fullmatch(pattern, tokenizer.decode_bytes(ids).decode("utf-8"), re.ASCII)


class RandomModel:
    """ids (B, T) -> logits (B, T, V) that depend on the last two ids. It has more ids than the tokenizer (pitfall 60)."""

    def __init__(self, V: int, extra: int) -> None:
        self.config = SimpleNamespace(vocab_size=V + extra, context_length=None)
        self.table = 4 * torch.randn(97, V + extra, generator=torch.Generator().manual_seed(2))
        self.table[:, V:] += 50

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        before = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
        return self.table[(5 * ids + 3 * before) % 97]


def test_with_generate_and_generate_batch(bpe: BPETokenizer) -> None:
    """Prompts of four lengths in one batch: each row as alone, all valid within max_new_tokens, and decodable (pitfall 60)."""
    model, end, budget = RandomModel(bpe.vocab_size, 40), bpe.end_of_text, 25
    prompts = [[end], *([end + 1, *bpe.encode(text), end + 1] for text in ("Who?", "Who is it?", "Tell me who it is."))]
    automaton, config, seeds = over(bpe, compile_schema(PERSON)), SampleConfig(temperature=1.0), [3, 1, 4, 1]
    constraint = Constraint(automaton, after_prompts(prompts), budget)
    rows = generate_batch(model, prompts, config, budget, seeds=seeds, processors=[constraint], stop_tokens=[end])
    for row, prompt, seed in zip(rows, prompts, seeds, strict=True):
        alone = Constraint(automaton, len(prompt), budget)
        sampler = Sampler(config, torch.Generator().manual_seed(seed), processors=[alone])
        assert list(generate(model, prompt, sampler, budget, stop_tokens=[end])) == row.ids
        assert set(json.loads(bpe.decode_bytes(row.ids))) >= {"name", "mood"}


# ---- the distribution


def toy() -> tuple[TokenAutomaton, list[bytes], list[str]]:
    """Five tokens that overlap, and a language of seven texts."""
    pieces = [b"a", b"b", b"ab", b"ba", b"aba"]
    return (
        token_automaton(compile_pattern("a(b|ba)?|ba|(ab){2}|bab|aab"), pieces),
        pieces,
        ["a", "ab", "aba", "ba", "abab", "bab", "aab"],
    )


def toy_logits(ids: tuple[int, ...]) -> torch.Tensor:
    """Any next-token distribution: it depends on the whole text so far."""
    seed = sum(7**i * (token + 1) for i, token in enumerate(ids))
    return 2 * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_distribution_is_renormalised_at_each_step_and_not_over_whole_texts() -> None:
    """By enumeration: each cut of each valid text has the product of p / Z, these sum to 1, and differ from p(text | valid) by
    the product of Z, up to one constant."""
    automaton, pieces, language = toy()
    constraint, end = Constraint(automaton, start=1), 5
    cuts = [ids for n in range(1, 5) for ids in itertools.product(range(5), repeat=n)]
    valid = [ids for ids in cuts if b"".join(pieces[i] for i in ids).decode() in language]
    assert len(valid) == 20  # 1 + 2 + 4 + 2 + 6 + 3 + 2, by hand
    steps, wholes, normalisers = [], [], []
    for ids in valid:
        step = whole = normaliser = 1.0
        for n, token in enumerate([*ids, end]):
            p = torch.exp(toy_logits(ids[:n]) - torch.logsumexp(toy_logits(ids[:n]), 0)).tolist()
            allowed = {other[n] for other in valid if len(other) > n and other[:n] == ids[:n]} | (
                {end} if ids[:n] in valid else set()
            )
            Z = sum(p[i] for i in allowed)
            found = softmax(constraint(toy_logits(ids[:n])[None], [[0, *ids[:n]]]))[0].tolist()
            assert found == pytest.approx([p[i] / Z if i in allowed else 0 for i in range(6)], abs=1e-14)
            step, whole, normaliser = step * found[token], whole * p[token], normaliser * Z
        steps.append(step)
        wholes.append(whole)
        normalisers.append(normaliser)
    assert math.fsum(steps) == pytest.approx(1, abs=1e-12)
    given_valid = np.array(wholes) / math.fsum(wholes)
    assert np.abs(given_valid - steps).max() > 0.05
    weighted = np.array(steps) * normalisers
    assert weighted / weighted.sum() == pytest.approx(given_valid, abs=1e-12)


def test_the_example_of_the_docstring() -> None:
    automaton = token_automaton(compile_pattern("ab|ba"), [b"a", b"b"])
    constraint = Constraint(automaton, start=0)
    p = {(): [0.5, 0.5, 0.0], (0,): [0.1, 0.9, 0.0], (1,): [0.1, 0.9, 0.0]}
    first, after_a, after_b = (softmax(constraint(torch.tensor([p[ids]]).log(), [ids]))[0].tolist() for ids in p)
    assert first == pytest.approx([0.5, 0.5, 0])
    assert (after_a, after_b) == ([0, 1, 0], [1, 0, 0])


# ---- rows


def test_rows_may_be_reordered_dropped_doubled_and_taken_back() -> None:
    """60 rounds of what beams, batches and speculation do to rows: always the same as for a constraint that sees a row first."""
    automaton, _, _ = toy()
    order, kept, V = random.Random(6), Constraint(automaton, start=2), 6
    texts = [[1, 0]] * 3
    for _ in range(60):
        masked = kept(torch.zeros(len(texts), V), texts)
        for row, text in zip(masked, texts, strict=True):
            fresh = Constraint(automaton, start=2)(torch.zeros(1, V), [text])[0]
            assert torch.equal(row, fresh)
        choices = [row.isfinite().nonzero()[:, 0].tolist() for row in masked]
        longer = [[*text, order.choice(ids)] for text, ids in zip(texts, choices, strict=True)]
        texts = order.choices([*longer, *texts, [3, 3]], k=order.randint(1, 7))
        texts = [text[: order.randint(2, len(text))] if order.random() < 0.2 else text for text in texts]


def test_a_text_that_ends_like_the_last_one_is_read_from_its_beginning() -> None:
    constraint = Constraint(TokenAutomaton(compile_pattern("ab|b"), [b"a", b"b", b""], end_of_text=2), start=0)
    for text in ([1], [0, 1]):
        assert constraint(torch.zeros(1, 3), [text]).isfinite().tolist() == [[False, False, True]]


def test_rows_do_not_see_each_other_and_logits_are_left_alone() -> None:
    """Pitfalls 54 and 57: a row in a batch is the row alone."""
    automaton, _, _ = toy()
    logits = torch.arange(12.0).reshape(2, 6)
    before = logits.clone()
    both = Constraint(automaton, start=1)(logits, [[0, 0], [0, 1]])
    assert torch.equal(logits, before)
    no = -math.inf
    assert both.tolist() == [[0, 1, 2, 3, no, 5], [6, no, 8, no, no, no]]
    assert Constraint(automaton, start=1)(logits.half(), [[0, 0], [0, 1]]).dtype == torch.half


def test_only_the_end_follows_the_end() -> None:
    automaton, _, _ = toy()
    for budget in (None, 1, 4):
        found = Constraint(automaton, start=0, budget=budget)(torch.zeros(1, 6), [[0, 5, 5]])
        assert found.isfinite().tolist() == [[False] * 5 + [True]]


def test_ids_beyond_the_tokenizer_are_forbidden() -> None:
    """Pitfall 60: the model has more rows than the tokenizer has tokens."""
    automaton, _, _ = toy()
    found = Constraint(automaton, start=0)(torch.zeros(1, 9), [[0]])
    assert found.isfinite().tolist() == [[True, True, True, True, False, True, False, False, False]]


def test_what_follows_a_wrong_guess_is_left_as_it_is() -> None:
    """Speculative decoding asks for a text and for it with guesses behind it; the first wrong one has probability 0."""
    automaton, _, _ = toy()
    logits = torch.arange(24.0).reshape(4, 6)
    texts = [[9, 0], [9, 0, 1], [9, 0, 1, 1], [9, 0, 1, 1, 0]]
    found = Constraint(automaton, start=1)(logits, texts)
    assert found[1, 1] == -math.inf
    assert torch.equal(found[2:], logits[2:])
    assert torch.equal(found[:2], Constraint(automaton, start=1)(logits[:2], texts[:2]))
    assert torch.equal(Constraint(automaton, start=1)(logits.flip(0), texts[::-1]), found.flip(0))
    for wrong in ([texts[2]], texts[2:], [[9, 1], texts[2]]):
        with pytest.raises(ValueError, match=r"the tokens \[0, 1, 1\] at the end"):
            Constraint(automaton, start=1)(torch.zeros(len(wrong), 6), wrong)
    late = Constraint(automaton, start=1, budget=1)(logits[:2], texts[:2])  # "ab" is not in time
    assert torch.equal(late[0].isfinite(), torch.tensor([False] * 5 + [True]))
    assert late[1].isfinite().tolist() == [False] * 5 + [True]


# ---- the budget


def can_finish(automaton: TokenAutomaton, state: int, tokens: int) -> bool:
    """By trying everything: is there an end at most so many tokens away?"""
    if state < 0:
        return False
    found = automaton.automaton
    return bool(found.accepting[state]) or (
        tokens > 0
        and any(can_finish(automaton, found.next(piece, state), tokens - 1) for piece in automaton.token_bytes[:-1])
    )


@pytest.mark.parametrize("pattern", ["a(b|ba)?|ba|(ab){2}|bab|aab", "(aaa|b)*bb", "b{7}|a", "(ab)*aba{4}", "a{5}|b{3}"])
def test_budget_against_trying_everything(pattern: str) -> None:
    """Every state and every number of tokens left: allowed is what can be finished in time."""
    automaton = token_automaton(compile_pattern(pattern), [b"a", b"b", b"ab", b"ba", b"aba"])
    found = automaton.automaton
    for state in range(len(found.table)):
        nearest = next(n for n in range(9) if can_finish(automaton, state, n))
        assert automaton.distances[state] == nearest
        for remaining in range(7):
            wanted = [
                remaining > 0 and can_finish(automaton, found.next(piece, state), remaining - 1)
                for piece in automaton.token_bytes[:-1]
            ]
            assert automaton.allowed(state, remaining).tolist() == [*wanted, found.accepting[state]]
    assert automaton.allowed(0, 100).tolist() == automaton.allowed(0).tolist()


def test_budget_where_no_way_is_left() -> None:
    automaton = token_automaton(compile_pattern("(ab)+c"), [b"a", b"b", b"c"])
    assert automaton.distances[0] == 3
    with pytest.raises(ValueError, match="the shortest valid text has 3 tokens, behind the prompt there is room for 2"):
        Constraint(automaton, start=0, budget=2)
    exact = Constraint(automaton, start=1, budget=3)
    assert exact(torch.zeros(1, 4), [[9, 0, 1]]).isfinite().tolist() == [[False, False, True, False]]
    with pytest.raises(ValueError, match=r"the tokens \[0, 1, 0\] at the end of a text"):
        exact(torch.zeros(1, 4), [[9, 0, 1, 0]])
    assert token_automaton(compile_pattern("(ab)+c|a*d"), [b"a", b"b", b"c"]).distances.tolist().count(FAR) == 1


# ---- what does not fit


def test_errors_are_one_line() -> None:
    automaton, _, _ = toy()
    constraint = Constraint(automaton, start=2)
    with pytest.raises(ValueError, match=r"the tokens \[1, 1\] at the end of a text are not what is allowed there"):
        constraint(torch.zeros(1, 6), [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"the tokens \[1, 5\]"):  # an end where none is allowed
        constraint(torch.zeros(1, 6), [[0, 0, 1, 5]])
    with pytest.raises(ValueError, match=r"the tokens \[6\]"):  # an id that the tokenizer does not have
        constraint(torch.zeros(1, 9), [[0, 0, 6]])
    with pytest.raises(ValueError, match="starts after 2 tokens, a text has 1"):
        constraint(torch.zeros(1, 6), [[0]])
    with pytest.raises(ValueError, match=r"logits \(2, 6\) for 1 texts"):
        constraint(torch.zeros(2, 6), [[0, 0]])
    with pytest.raises(ValueError, match=r"logits \(1, 5\) for 1 texts and 6 tokens do not fit"):
        constraint(torch.zeros(1, 5), [[0, 0]])


def test_after_prompts() -> None:
    start = after_prompts([[1, 2], [1, 3, 4], [5], [1, 2]])
    assert [start(text) for text in ([1, 2], [1, 2, 3, 4], [1, 3, 4, 4], [5, 1, 2])] == [2, 2, 3, 1]
    with pytest.raises(ValueError, match=r"a text that begins with \[1, 3\] has none of the 3 prompts"):
        start([1, 3])
    with pytest.raises(ValueError, match=r"prompt \[1, 2\] is the beginning of a longer one"):
        after_prompts([[1, 2, 3], [4], [1, 2]])
