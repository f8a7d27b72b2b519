"""Many rows at once: each is what it would be alone. Ends, reasons, seeds, log-probabilities, and what is read how often."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from decoding_models import KINDS, OTHERS, V, build, gpt, random_ids, random_prompt
from torch import Tensor

from minilm.decoding import batch
from minilm.decoding.batch import Completion, generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.processors import BadWords, LogitBias
from minilm.decoding.sampling import Sampler
from minilm.decoding.score import score
from minilm.layers.basic import log_softmax
from minilm.text.tokenizer import ByteTokenizer, StreamDecoder

GREEDY, AS_IT_IS = SampleConfig(temperature=0), SampleConfig(temperature=1.0)
PENALISED = SampleConfig(
    temperature=0.9, top_k=9, top_p=0.95, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2
)


def alone(
    model: Any, prompt: list[int], config: SampleConfig, n: int, seed: int, processors: Any = (), **how: Any
) -> list:
    sampler = Sampler(config, torch.Generator().manual_seed(seed), processors)
    return list(generate(model, prompt, sampler, n, **how))


def ids_of(completions: list[Completion]) -> list[list[int]]:
    return [completion.ids for completion in completions]


# ---- each row is the row alone


def test_pitfall_32_ragged_rows_equal_each_row_alone() -> None:
    """Fillings of 0 to 32 tokens, batches of 1 to 8 rows, greedy and sampled, learned and rotary positions."""
    known: dict[tuple, list[int]] = {}
    for kind in ("learned", "rotary"):
        model = gpt(kind, context=40)
        for padding in range(33):
            n_rows = 1 + (padding + (kind == "rotary")) % 8
            lengths = [1 + padding, *(1 + (padding * 7 * b) % (1 + padding) for b in range(n_rows - 1))]
            if n_rows > 1:
                lengths[-1] = 1
            for config in (GREEDY, AS_IT_IS):
                seeds = [7 * length + b % 2 for b, length in enumerate(lengths)]
                prompts = [random_prompt(length) for length in lengths]
                found = ids_of(generate_batch(model, prompts, config, 4, seeds=seeds))
                for b, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
                    key = (kind, tuple(prompt), config.temperature, seed)
                    if key not in known:
                        known[key] = alone(model, prompt, config, 4, seed)
                    assert found[b] == known[key], (kind, padding, b)


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
@pytest.mark.parametrize("overflow", ["stop", "slide"])
def test_every_model_with_all_settings(name: str, overflow: str) -> None:
    """Ragged prompts, two of them equal, penalties and processors that see the whole text, and rows that slide."""
    model = build(name)
    lengths = [3, 11, 1, 7, 7, *([14] if overflow == "slide" else [])]
    prompts = [random_prompt(length) for length in lengths]
    seeds, processors = [5 * b for b in range(len(prompts))], [LogitBias({3: -1.5}), BadWords([[4], [1, 2]])]
    how: dict[str, Any] = {"processors": processors, "overflow": overflow}
    expected = [alone(model, row, PENALISED, 14, seed, **how) for row, seed in zip(prompts, seeds, strict=True)]
    for chunk in (None, 2):
        found = generate_batch(model, prompts, PENALISED, 14, seeds=seeds, prefill_chunk=chunk, **how)
        assert ids_of(found) == expected
        assert [row.reason for row in found] == ["length" if len(row) == 14 else "context" for row in expected]
    assert found[3].ids != found[4].ids  # the same prompt, other seeds


def test_pitfall_65_in_float32_only_near_ties_may_differ() -> None:
    model, model32 = gpt("rotary"), gpt("rotary").float()
    prompts = [random_prompt(length, 1) for length in (2, 9, 4, 1, 6)]
    exact, found = (ids_of(generate_batch(one, prompts, GREEDY, 8)) for one in (model, model32))
    for prompt, row, row32 in zip(prompts, exact, found, strict=True):
        split = next((t for t, pair in enumerate(zip(row, row32, strict=True)) if pair[0] != pair[1]), None)
        if split is not None:
            best = model(torch.tensor([[*prompt, *row[:split]]]))[0, -1].topk(2).values
            assert best[0] - best[1] < 1e-4


# ---- n samples of one prompt


def test_pitfall_54_sample_i_of_n_is_sample_i_alone() -> None:
    model, prompt = build("rotary"), random_prompt(4)
    seeds = list(range(8))
    found = ids_of(generate_batch(model, [prompt] * 8, AS_IT_IS, 6, seeds=seeds))
    assert found == [alone(model, prompt, AS_IT_IS, 6, seed) for seed in seeds]
    assert len({row[0] for row in found}) > 2  # the first token is each row's own
    assert ids_of(generate_batch(model, [prompt] * 3, AS_IT_IS, 6, seeds=[5, 1, 5])) == [found[5], found[1], found[5]]


class Noted:
    """A model that notes the shape (B, T) of everything it reads."""

    def __init__(self, model: Any) -> None:
        self.model, self.config, self.new_cache = model, model.config, model.new_cache
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, ids: Tensor, cache: Any = None) -> Tensor:
        self.shapes.append((ids.shape[0], ids.shape[1]))
        return self.model(ids, cache=cache)


def test_what_rows_share_is_read_once() -> None:
    """One prompt for all; two different prompts, one of them twice; a common beginning; nothing in common."""
    prompt, system = random_prompt(6), random_prompt(5)
    cases = [
        ([prompt] * 4, [(1, 5), (4, 1), (4, 1), (4, 1)]),
        ([prompt], [(1, 6), (1, 1), (1, 1)]),
        ([[1, *prompt], [1, *prompt], [2, *prompt]], [(2, 6), (3, 1), (3, 1), (3, 1)]),
        ([[*system, 1], [*system, 2, 3], [*system, 4, 5, 6]], [(1, 5), (3, 3), (3, 1), (3, 1)]),
        ([[1, 2], [3, 4, 5]], [(2, 3), (2, 1), (2, 1)]),
        ([system, [*system, 2, 3]], [(1, 4), (2, 3), (2, 1), (2, 1)]),
    ]
    for prompts, expected in cases:
        model, seeds = Noted(build("rotary")), list(range(len(prompts)))
        found = ids_of(generate_batch(model, prompts, AS_IT_IS, 3, seeds=seeds))
        assert model.shapes == expected
        assert found == [alone(model.model, row, AS_IT_IS, 3, seed) for row, seed in zip(prompts, seeds, strict=True)]


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_prompts_of_very_different_lengths_are_read_without_filling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token once, the longest first; some share a beginning, some come twice, and each row is what it is alone."""
    monkeypatch.setattr(batch, "MOST_FILLED", 0)
    system = random_prompt(3)
    cases = [
        [[*system, *random_prompt(n, seed=n)] for n in (1, 5, 3, 3, 2, 5)],
        [random_prompt(n, seed=n) for n in (1, 8, 1, 5)],
    ]
    cases.append([*cases[1], cases[1][1], cases[1][0]])
    for prompts in cases:
        model, seeds = build(name), list(range(len(prompts)))
        expected = [alone(model, row, AS_IT_IS, 3, seed) for row, seed in zip(prompts, seeds, strict=True)]
        assert ids_of(generate_batch(model, prompts, AS_IT_IS, 3, seeds=seeds)) == expected


def test_each_token_of_ragged_prompts_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of each single token beside a long one: 8 + V + 1 places, where filling would read V + 1 times 9."""
    prompts = [random_prompt(9), *[[i] for i in range(V)]]
    model = Noted(build("rotary"))
    found = ids_of(generate_batch(model, prompts, GREEDY, 2))
    assert model.shapes == [(1, 8), (V + 1, 1), (V + 1, 1)]
    assert found == [alone(model.model, row, GREEDY, 2, 0) for row in prompts]
    monkeypatch.setattr(batch, "MOST_FILLED", 0)
    model, system = Noted(build("rotary")), random_prompt(3)
    generate_batch(model, [[*system, 1, 2, 3, 4, 5], [*system, 6, 7], [*system, 8]], GREEDY, 2)
    assert model.shapes == [(1, 3), (1, 3), (2, 1), (3, 1), (3, 1)]


def test_prefill_in_chunks() -> None:
    """The short row goes on while the long one is still being read; with chunks of 1 nothing is ever filled up."""
    prompts = [[1, 2], [3, 4, 5, 6, 7]]
    by_two, by_one = [(2, 2), (2, 2), (2, 1), (1, 1), (1, 1)], [(2, 1)] * 4 + [(1, 1)] * 3
    for chunk, expected in [(2, by_two), (1, by_one)]:
        model = Noted(build("rotary"))
        found = ids_of(generate_batch(model, prompts, GREEDY, 3, prefill_chunk=chunk))
        assert found == [alone(model.model, prompt, GREEDY, 3, 0) for prompt in prompts]
        assert model.shapes == expected


# ---- ends


class Counter:
    """Always says that the next token is one more, and notes how many rows it was asked to read."""

    def __init__(self, context_length: int | None = None) -> None:
        self.config = SimpleNamespace(vocab_size=V, context_length=context_length)
        self.rows: list[int] = []

    def __call__(self, ids: Tensor) -> Tensor:
        self.rows.append(len(ids))
        return torch.nn.functional.one_hot((ids + 1) % V, V).double()


def count(*starts: int, n: int = 9, context: int | None = None, **how: Any) -> tuple[list[Completion], list[int]]:
    model = Counter(context)
    found = generate_batch(model, [[start] for start in starts], GREEDY, n, **how)
    return found, model.rows


@pytest.mark.parametrize("stops", [(), (8,), (7, 9, 20), [20]])
def test_pitfall_56_none_one_or_three_stop_tokens(stops: Any) -> None:
    found, _ = count(5, 8, 10, stop_tokens=stops)
    for start, completion in zip((5, 8, 10), found, strict=True):
        expected = []
        for token in range(start + 1, start + 10):
            if token in stops:
                break
            expected.append(token)
        assert completion.ids == expected
        assert completion.reason == ("length" if len(expected) == 9 else "stop token")


def test_pitfall_55_finished_rows_are_not_computed_and_have_no_tail() -> None:
    found, rows = count(3, 7, 0, 6, stop_tokens={8})
    assert ids_of(found) == [[4, 5, 6, 7], [], [1, 2, 3, 4, 5, 6, 7], [7]]
    assert rows == [4, 3, 2, 2, 2, 1, 1, 1]  # the row that begins at 7 ends at once
    assert [len(completion.log_probs) for completion in found] == [4, 0, 7, 1]
    model = Noted(build("rotary"))
    everything = ids_of(generate_batch(model, [[1], [2], [3], [4]], AS_IT_IS, 9, seeds=[0, 1, 2, 3]))
    stop = everything[1][2]
    model.shapes.clear()
    found = generate_batch(model, [[1], [2], [3], [4]], AS_IT_IS, 9, seeds=[0, 1, 2, 3], stop_tokens=[stop])
    expected = [row[: row.index(stop)] if stop in row else row for row in everything]
    assert ids_of(found) == expected and len({len(row) for row in expected}) > 1
    read = [min(len(row) + 1, 9) for row in expected]  # a token that ends the row is not read
    assert [n for n, _ in model.shapes] == [sum(n > step for n in read) for step in range(max(read))]


def test_each_reason() -> None:
    table = [bytes([65 + token]) for token in range(V)]
    found, _ = count(0, 5, stop=lambda text: text.endswith(b"DE"), token_bytes=table)
    assert found[0].ids == [1, 2, 3, 4] and found[0].reason == "stop"
    assert found[1].reason == "length"
    found, rows = count(0, 10, on_token=lambda row, token: not (row == 1 and token == 12))
    assert (found[1].ids, found[1].reason, found[0].reason) == ([11, 12], "cancelled", "length")
    assert rows == [2, 2, 1, 1, 1, 1, 1, 1, 1]
    found, _ = count(0, n=9, context=4)
    assert (found[0].ids, found[0].reason) == ([1, 2, 3, 4], "context")
    found, _ = count(0, n=4, context=4)
    assert found[0].reason == "length"
    found, rows = count(0, 1, n=0)
    assert found == [Completion([], [], "length")] * 2 and rows == []
    assert generate_batch(Counter(), [], GREEDY, 3) == []


def test_stop_sees_the_new_bytes_only_and_after_each_token() -> None:
    seen: list[bytes] = []
    table = [b"<%d>" % token for token in range(V)]
    count(3, n=3, stop=lambda text: bool(seen.append(text)), token_bytes=table)
    assert seen == [b"<4>", b"<4><5>", b"<4><5><6>"]


def test_a_callback_that_returns_nothing_cancels_nothing() -> None:
    calls: list[tuple[int, int]] = []
    found, _ = count(3, 9, n=2, on_token=lambda row, token: calls.append((row, token)))
    assert calls == [(0, 4), (1, 10), (0, 5), (1, 11)]
    assert [completion.reason for completion in found] == ["length", "length"]


def test_pitfall_61_streamed_bytes_are_the_text() -> None:
    """A model of random bytes cuts characters everywhere: the joined pieces are the decoded whole."""
    tokenizer = ByteTokenizer()
    logits = torch.zeros(tokenizer.vocab_size)
    logits[list("aéß€漢😀".encode())] = 9.0  # mostly parts of characters, in any order
    logits[tokenizer.end_of_text] = -9.0

    def model(ids: Tensor) -> Tensor:
        return logits.expand(*ids.shape, -1)

    model.config = SimpleNamespace(vocab_size=tokenizer.vocab_size)  # type: ignore[attr-defined]
    decoders = [StreamDecoder(tokenizer) for _ in range(40)]
    texts, streamed = [""] * 40, [b""] * 40

    def feed(row: int, token: int) -> None:
        texts[row] += decoders[row].feed(token)
        streamed[row] += tokenizer.token_bytes[token]

    found = generate_batch(model, [[7]] * 40, AS_IT_IS, 30, seeds=range(40), on_token=feed)
    for row, completion in enumerate(found):
        assert texts[row] + decoders[row].flush() == tokenizer.decode(completion.ids)
        assert streamed[row] == tokenizer.decode_bytes(completion.ids)


# ---- log-probabilities


@pytest.mark.parametrize("name", ["rotary", "speedrun", "ngram", "mixture", "rolling"])
def test_log_probs_are_the_models_own_and_those_of_score(name: str) -> None:
    """Before penalties, processors, temperature and filters."""
    model, prompts = build(name), [random_prompt(length) for length in (4, 1, 6)]
    cold = SampleConfig(temperature=0.3, top_k=5, repetition_penalty=1.5)
    found = generate_batch(model, prompts, cold, 6, seeds=[1, 2, 3], processors=[LogitBias({2: 3.0})])
    for prompt, completion in zip(prompts, found, strict=True):
        text = [*prompt, *completion.ids]
        whole = log_softmax(model(torch.tensor([text[:-1]]))[0]).gather(-1, torch.tensor(text[1:])[:, None])[:, 0]
        expected = whole[len(prompt) - 1 :].tolist()
        assert completion.log_probs == pytest.approx(expected, rel=0, abs=1e-10)
        for chunk in (1, 3, 100):
            torch.testing.assert_close(score(model, text, chunk=chunk), whole.detach(), rtol=0, atol=1e-10)


def test_score_goes_on_behind_a_cache() -> None:
    for name in ("learned", "ngram", "speedrun"):
        model, text = build(name), random_prompt(11)
        whole, cache = score(model, text), model.new_cache(1, 11)
        pieces = [score(model, text[start : end + 1], cache) for start, end in [(0, 4), (4, 5), (5, 10)]]
        torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-10)
        assert cache.lengths.tolist() == [10]


def test_score_is_in_float64_and_a_text_is_the_product_of_its_tokens() -> None:
    """The probabilities of all texts that go on by one token add up to that of the text before."""
    model = gpt("rotary").float()
    before = score(model, [5, 1]).sum().exp()
    longer = sum(float(score(model, [5, 1, b]).sum().exp()) for b in range(V))
    assert longer == pytest.approx(float(before), abs=1e-6)
    assert sum(float(score(model, [5, a]).exp()) for a in range(V)) == pytest.approx(1, abs=1e-6)
    assert before.dtype == torch.float64
    assert score(model, [5]).shape == (0,)
    uniform = score(Counter(), [4, 5, 6, 6])
    assert uniform[:2].tolist() == pytest.approx([-torch.log1p((V - 1) / torch.tensor(torch.e)).item()] * 2)


@pytest.mark.parametrize(
    ("ids", "how", "message"),
    [
        ([], {}, "the prompt is empty"),
        (range(13), {}, "12 tokens are to be read, the model reads at most 11"),
        ([1, 2], {"chunk": 0}, "chunk is 0"),
        ([1, V], {}, "the model knows"),
    ],
)
def test_score_of_what_cannot_be_read(ids: Any, how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(build("learned"), list(ids), **how)
    assert len(score(build("learned"), list(range(12)))) == 11


# ---- manners


def test_mode_gradients_and_prompts_are_as_before() -> None:
    model, prompts = build("learned"), [[1, 2], [3]]
    expected = ids_of(generate_batch(model, prompts, AS_IT_IS, 4, seeds=[1, 2]))
    model.train()

    def look(row: int, token: int) -> None:
        assert model.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

    found = generate_batch(model, prompts, AS_IT_IS, 4, seeds=[1, 2], on_token=look)
    assert ids_of(found) == expected and model.training  # no dropout while it reads
    assert prompts == [[1, 2], [3]]
    with pytest.raises(ZeroDivisionError):
        generate_batch(model, prompts, GREEDY, 4, on_token=lambda row, token: 1 // 0)
    assert model.training


def test_tensors_are_prompts_too() -> None:
    model, ids = build("ngram"), random_ids(1, 5)
    assert generate_batch(model, [ids, ids[0]], GREEDY, 3) == generate_batch(model, [ids[0].tolist()] * 2, GREEDY, 3)


@pytest.mark.parametrize(
    ("prompts", "how", "message"),
    [
        ([[1], []], {}, "the prompt is empty"),
        ([[1], [V]], {}, f"prompt ids {V}..{V}"),
        ([[1], list(range(12))], {}, "prompt 1 has 12 tokens, the model reads at most 11"),
        ([[1], [2]], {"config": AS_IT_IS}, "sampling needs seeds"),
        ([[1], [2]], {"seeds": [1]}, "1 seeds for 2 prompts"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens is -1"),
        ([[1]], {"overflow": "wrap"}, "overflow is 'wrap': choose one of stop, slide"),
        ([[1]], {"prefill_chunk": 0}, "prefill_chunk is 0"),
        ([[1]], {"stop": bool}, "pass token_bytes"),
    ],
)
def test_bad_input_is_one_line(prompts: Any, how: dict, message: str) -> None:
    settings: dict[str, Any] = {"config": GREEDY, "max_new_tokens": 3} | how
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        generate_batch(build("learned"), prompts, **settings)
    assert "\n" not in str(error.value)
