"""Generation: cached and uncached give the same ids for every prompt length, and beyond the context."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from decoding_models import small
from torch import Tensor

from minilm.cli.writing import stream_text
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.processors import BadWords
from minilm.decoding.sampling import Sampler
from minilm.text.tokenizer import CharTokenizer

V, CONTEXT = 23, 9


def build(name: str) -> Any:
    return small(name, V, CONTEXT)


def sampler(seed: int = 0, **settings: float) -> Sampler:
    return Sampler(SampleConfig(**{"temperature": 1.0, **settings}), torch.Generator().manual_seed(seed))


def prompt(length: int) -> list[int]:
    return torch.randint(0, V, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def by_definition(model: Any, text: list[int], choose: Sampler, n: int, slide: bool, limit: int | None) -> list[int]:
    """What the model sees anew for each token, with the plain call of the model. The sampler sees the whole text."""
    seen, new = text, []
    for _ in range(n):
        if limit is not None and len(seen) > limit:
            if not slide:
                break
            seen = seen[len(seen) - limit // 2 :]
        with torch.no_grad():
            new.append(int(choose(model(torch.tensor([seen]))[:, -1], [text + new])))
        seen = [*seen, new[-1]]
    return new


@pytest.mark.parametrize("name", ["gpt", "llama", "speedrun", "ngram", "mixture"])
@pytest.mark.parametrize("overflow", ["stop", "slide"])
def test_cached_equals_uncached_for_every_prompt_length(name: str, overflow: str) -> None:
    """Prompts of 1 to context tokens (with slide: beyond), and enough new tokens to slide twice."""
    model = build(name)
    limit = None if name == "ngram" else CONTEXT
    n_new = CONTEXT + 8
    for length in range(1, CONTEXT + (4 if overflow == "slide" else 1)):
        text = prompt(length)
        model_eval = getattr(model, "eval", None)
        if model_eval:
            model_eval()
        expected = by_definition(model, text, sampler(length), n_new, overflow == "slide", limit)
        for use_cache in (True, False):
            found = generate(model, text, sampler(length), n_new, use_cache=use_cache, overflow=overflow)
            assert list(found) == expected, (length, use_cache)
        complete = n_new if overflow == "slide" or limit is None else limit - length + 1
        assert len(expected) == complete


@pytest.mark.parametrize("name", ["gpt", "ngram"])
def test_penalties_count_the_whole_text_even_after_a_slide(name: str) -> None:
    """Cached and uncached, with a penalty so strong that what the model has forgotten decides."""
    model, text = build(name), prompt(CONTEXT)
    limit = None if name == "ngram" else CONTEXT
    settings = dict(repetition_penalty=1.2, presence_penalty=2.0, frequency_penalty=1.0)
    getattr(model, "eval", lambda: None)()
    expected = by_definition(model, text, sampler(1, **settings), 3 * CONTEXT, True, limit)
    assert expected != by_definition(model, text, sampler(1), 3 * CONTEXT, True, limit)
    for use_cache in (True, False):
        found = generate(model, text, sampler(1, **settings), 3 * CONTEXT, use_cache=use_cache, overflow="slide")
        assert list(found) == expected


@pytest.mark.parametrize("overflow", ["stop", "slide"])
def test_the_sampler_is_given_the_whole_text(overflow: str) -> None:
    """[text] with the prompt and all that is new, also what a slide has made the model forget."""
    given: list[list[int]] = []

    def noted(logits: Tensor, texts: list[list[int]]) -> Tensor:
        given.extend(list(text) for text in texts)
        return greedy(logits, texts)

    assert list(generate(Counter(context_length=4), [3, 4], noted, 8, overflow=overflow))[-1] >= 7
    assert given == [list(range(3, n + 5)) for n in range(8 if overflow == "slide" else 3)]


@pytest.mark.parametrize("kind", ["list", "row", "batch of one", "numpy"])
def test_prompts_of_every_form(kind: str) -> None:
    model, text = build("gpt"), [3, 1, 4]
    forms: dict[str, Any] = {
        "list": text,
        "row": torch.tensor(text),
        "batch of one": torch.tensor([text]),
        "numpy": np.array(text),
    }
    assert list(generate(model, forms[kind], sampler(1), 5)) == list(generate(model, text, sampler(1), 5))
    assert text == [3, 1, 4]  # the caller's list does not grow


class Counter:
    """Always says that the next token is one more, and remembers what it was asked to read."""

    def __init__(self, context_length: int | None = None) -> None:
        self.config = SimpleNamespace(vocab_size=V)
        if context_length:
            self.config.context_length = context_length
        self.asked: list[list[int]] = []

    def __call__(self, ids: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        self.asked.append(ids[0].tolist())
        return torch.nn.functional.one_hot((ids + 1) % V, V).double()


def greedy(logits: Tensor, texts: list[list[int]]) -> Tensor:
    return logits.argmax(-1)


@pytest.mark.parametrize("stops", [set(), {8}, {7, 9, 10}, [7]])
def test_stop_tokens_end_the_stream_and_are_not_part_of_it(stops: Any) -> None:
    """Row 56: none, one or several, as a set or a list; the first that comes ends the stream."""
    new = list(generate(Counter(), [5], greedy, 9, stop_tokens=stops))
    assert new == [token for token in range(6, 15) if not stops or token < min(stops)]


def test_stop_token_in_the_prompt_does_not_stop() -> None:
    assert list(generate(Counter(), [8, 5], greedy, 2, stop_tokens={8})) == [6, 7]


def test_without_a_context_length_nothing_is_forgotten() -> None:
    model = Counter()
    assert len(list(generate(model, [1, 2], greedy, 50))) == 50
    assert len(model.asked[-1]) == 51


def test_slide_keeps_the_last_half() -> None:
    model = Counter(context_length=6)
    assert list(generate(model, [0, 1, 2, 3, 4], greedy, 4, overflow="slide")) == [5, 6, 7, 8]
    assert model.asked == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [4, 5, 6], [4, 5, 6, 7]]


def test_a_context_of_one_token_slides() -> None:
    assert list(generate(Counter(context_length=1), [3, 4], greedy, 3, overflow="slide")) == [5, 6, 7]


def test_with_a_cache_each_token_is_read_once() -> None:
    model, widths = build("llama"), []
    hidden = model.hidden

    def noted(ids: Tensor, cache: Any = None) -> Tensor:
        widths.append(ids.shape[1])
        return hidden(ids, cache)

    model.hidden = noted
    list(generate(model, prompt(4), sampler(), 5))
    assert widths == [4, 1, 1, 1, 1]


def test_tokens_are_streamed() -> None:
    """The second token is computed only when it is asked for."""
    model = Counter()
    stream = generate(model, [1], greedy, 100)
    assert (next(stream), len(model.asked)) == (2, 1)
    assert (next(stream), len(model.asked)) == (3, 2)


def test_mode_and_gradients_are_restored_even_between_tokens() -> None:
    """Dropout is off while the model runs; the caller's mode and gradients hold while it waits, and after errors."""
    model = build("gpt")
    model.train()
    stream = generate(model, [1, 2], sampler(3), 6)
    first = next(stream)
    assert model.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    rest = list(stream)
    model.eval()
    assert [first, *rest] == list(generate(model, [1, 2], sampler(3), 6))
    assert not model.training
    model.train()
    model.head = lambda hidden: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(generate(model, [1], sampler(), 1))
    assert model.training and torch.is_grad_enabled()


def test_same_seed_same_tokens() -> None:
    model = build("gpt")
    runs = [tuple(generate(model, [1], sampler(seed), 10)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([], {}, "the prompt is empty"),
        (torch.empty(1, 0, dtype=torch.long), {}, "the prompt is empty"),
        (torch.zeros(2, 3, dtype=torch.long), {}, "one row of ids"),
        ([V], {}, f"prompt ids {V}..{V}, the model knows 0..{V - 1}"),
        ([2, -1], {}, "prompt ids -1..2"),
        (list(range(12)), {}, f"12 tokens, the model reads at most {CONTEXT}"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens is -1"),
        ([1], {"overflow": "wrap"}, "overflow is 'wrap': choose one of stop, slide"),
    ],
)
def test_bad_input_is_one_line_before_the_first_token(ids: Any, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        generate(build("gpt"), ids, sampler(), **({"max_new_tokens": 3} | settings))
    assert "\n" not in str(error.value)


def test_text_as_the_verbs_need_it() -> None:
    """`stream_text` begins with the end of a document, passes processors on, and counts penalties over the prompt."""
    tokenizer = CharTokenizer.train(["abcd"])
    model = Counter()
    model.config.vocab_size = tokenizer.vocab_size
    a, b = tokenizer.encode("ab")
    greedily = SampleConfig(temperature=0)
    banned = [BadWords([[a, b], [tokenizer.end_of_text, b]])]
    assert "".join(stream_text(model, tokenizer, "a", 2, config=greedily))[0] == "b"
    assert "".join(stream_text(model, tokenizer, "a", 2, config=greedily, processors=banned))[0] != "b"
    assert model.asked[0] == [tokenizer.end_of_text, a]
    penalised = SampleConfig(temperature=0, presence_penalty=2.0)
    assert "".join(stream_text(model, tokenizer, "ba", 1, config=penalised)) != "b"


def test_no_new_tokens() -> None:
    assert list(generate(Counter(), [1], greedy, 0)) == []
