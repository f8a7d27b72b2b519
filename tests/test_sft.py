"""Supervised fine-tuning: exactly which tokens are learned, from lists written by hand, and that a model learns to stop."""

import doctest
import random
from typing import Any

import pytest
import torch
from decoding_models import gpt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.finetuning import sft
from minilm.finetuning.batches import RaggedBatches
from minilm.finetuning.sft import (
    answer,
    complete,
    cut_beginning,
    fit,
    fitted,
    supervised,
    supervised_chat,
)
from minilm.finetuning.vocabulary import grow_vocabulary, with_chat_tokens
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.bpe import BPETokenizer
from minilm.text.chat import CHAT_TOKENS, ROLES, encode_chat
from minilm.text.stories import stories
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import IGNORE, cross_entropy, next_token_loss

I = IGNORE  # noqa: E741, for the lists below
BYTES = with_chat_tokens(ByteTokenizer())  # a..z are 97..122
START, SYSTEM, USER, ASSISTANT, END = 256, 257, 258, 259, 260
TALK = [
    {"role": "system", "content": "ab"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "de"},
    {"role": "user", "content": "fgh"},
    {"role": "assistant", "content": "i"},
]


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(sft).failed == 0 and doctest.testmod(sft).attempted >= 5


# ---- which tokens count (row 80 of PITFALLS)


def test_row_80_the_ids_of_the_test_are_those_of_the_tokenizer() -> None:
    assert [BYTES.special_tokens[name] for name in CHAT_TOKENS] == [START, SYSTEM, USER, ASSISTANT, END]


def test_row_80_a_prompt_and_its_answer() -> None:
    inputs, targets = supervised([START, 97, 98, 99], [100, 101], end=START)
    assert inputs == [START, 97, 98, 99, 100, 101]
    assert targets == [I, I, I, 100, 101, START]


def test_row_80_an_empty_answer_is_only_its_end() -> None:
    assert supervised([START, 97], [], end=START) == ([START, 97], [I, START])
    inputs, targets = supervised_chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}], BYTES)
    assert inputs == [START, USER, 97, END, ASSISTANT]
    assert targets == [I, I, I, I, END]


def test_row_80_every_turn_of_the_assistant_with_its_end_and_nothing_else() -> None:
    inputs, targets = supervised_chat(TALK, BYTES)
    # fmt: off
    assert inputs == [
        START, SYSTEM, 97, 98, END, USER, 99, END, ASSISTANT, 100, 101, END, USER, 102, 103, 104, END, ASSISTANT, 105,
    ]
    assert targets == [
        I, I, I, I, I, I, I, I, 100, 101, END, I, I, I, I, I, I, 105, END,
    ]
    # fmt: on


def test_row_80_the_assistant_may_begin_and_may_be_asked_last() -> None:
    """Two answers in a row are two answers; what comes after the last one is read by nobody, but costs nothing either."""
    messages = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    inputs, targets = supervised_chat([*messages, {"role": "user", "content": "c"}], BYTES)
    assert inputs == [START, ASSISTANT, 97, END, ASSISTANT, 98, END, USER, 99]
    assert targets == [I, 97, END, I, 98, END, I, I, I]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(ROLES)), st.text("ab<|end>é", max_size=5)), min_size=1, max_size=5))
def test_a_chat_is_read_as_encode_chat_writes_it(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    if all(role != "assistant" for role, _ in turns):
        with pytest.raises(ValueError, match="no message of the assistant"):
            supervised_chat(messages, BYTES)
        return
    inputs, targets = supervised_chat(messages, BYTES)
    text = encode_chat(messages, BYTES)
    assert inputs == text[:-1] and len(targets) == len(inputs)
    assert all(target in (I, following) for target, following in zip(targets, text[1:], strict=True))
    said = [[*BYTES.encode(content), END] for role, content in turns if role == "assistant"]
    assert [target for target in targets if target != I] == [token for turn in said for token in turn]


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(ValueError, match="the prompt is empty"):
        supervised([], [5], end=0)
    with pytest.raises(ValueError, match="no message of the assistant"):
        supervised_chat([], BYTES)
    with pytest.raises(ValueError, match="role 'tool' is unknown"):
        supervised_chat([*TALK, {"role": "tool", "content": ""}], BYTES)
    with pytest.raises(ValueError, match=r"has no <\|system\|>"):
        supervised_chat(TALK, ByteTokenizer())


# ---- the loss


def batch_of(examples: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*examples, strict=True)
    return next(RaggedBatches(inputs, targets, batch_size=len(examples), pad=pad))


def test_logits_outside_the_answer_change_nothing_and_get_no_gradient() -> None:
    examples = [supervised_chat(TALK, BYTES), supervised([START, 97], [98], end=START)]
    _, targets = batch_of(examples, pad=START)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*targets.shape, BYTES.vocab_size, generator=generator, dtype=torch.double, requires_grad=True)
    loss = cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    counted = targets != I
    assert int(counted.sum()) == 5 + 2
    assert torch.equal(gradient.ne(0).any(-1), counted)  # exactly 0 elsewhere
    noise = 50 * torch.randn(logits.shape, generator=generator, dtype=torch.double)
    other = logits.detach() + noise * ~counted[..., None]
    assert torch.equal(cross_entropy(other, targets), loss.detach())
    by_hand = [
        -torch.log_softmax(logits[b, t], 0)[targets[b, t]].item() for b, t in counted.nonzero().tolist()
    ]  # torch's own, as the reference
    assert loss.item() == pytest.approx(sum(by_hand) / 7, rel=1e-12)


def test_row_59_padding_does_not_hide_the_end() -> None:
    """Padded with the very id that ends the answers: the end counts once in each row, the padding not at all."""
    examples = [supervised([START, 97, 98], [99] * n, end=START) for n in (1, 4, 0)]
    x, y = batch_of(examples, pad=START)
    rows = {tuple(row): target for row, target in zip(x.tolist(), y.tolist(), strict=True)}
    assert rows == {
        (START, 97, 98, 99, START, START, START): [I, I, 99, START, I, I, I],
        (START, 97, 98, 99, 99, 99, 99): [I, I, 99, 99, 99, 99, START],
        (START, 97, 98, START, START, START, START): [I, I, START, I, I, I, I],
    }


def test_padding_changes_no_gradient() -> None:
    """Rows of three lengths in one batch, or alone and weighted by what they count: the same gradient, to the last digits."""
    model = gpt("learned", context=11).eval()
    examples = [supervised([22, 1, 2], [3, 4, 5], end=22), supervised([22, 6], [7], end=22), supervised([22], [], 22)]

    def gradient(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        model.zero_grad()
        for x, y in batches:
            (next_token_loss(model, x, y) * int((y != I).sum()) / (4 + 2 + 1)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    alone = gradient([batch_of([example], pad=0) for example in examples])
    for pad in (0, 22):
        assert torch.allclose(gradient([batch_of(examples, pad)]), alone, rtol=0, atol=1e-12)


# ---- what is too long


def test_the_beginning_is_cut_but_not_the_first_id() -> None:
    assert [cut_beginning([9, 1, 2, 3], n) for n in range(6)] == [
        [], [9], [9, 3], [9, 2, 3], [9, 1, 2, 3], [9, 1, 2, 3],
    ]  # fmt: skip


def test_a_long_prompt_loses_its_beginning_and_the_answer_nothing() -> None:
    example = supervised([START, 1, 2, 3, 4], [5, 6], end=START)
    assert fit(example, 7) == example
    assert fit(example, 6) == ([START, 2, 3, 4, 5, 6], [I, I, I, 5, 6, START])
    assert fit(example, 5) == ([START, 3, 4, 5, 6], [I, I, 5, 6, START])
    assert fit(example, 4) == ([START, 4, 5, 6], [I, 5, 6, START])
    assert [fit(example, n) for n in (3, 2, 1)] == [None, None, None]


def test_a_long_talk_forgets_its_oldest_answers() -> None:
    """A cut answer is read and not learned; the last one is whole, or the example is left out."""
    talk = supervised_chat(TALK, BYTES)
    last = [USER, 102, 103, 104, END, ASSISTANT, 105]
    n_last, kept = len(last), [I, I, I, I, I, 105, END]
    assert fit(talk, n_last + 6) == (
        [START, END, ASSISTANT, 100, 101, END, *last], [I, I, 100, 101, END, I, *kept],
    )  # fmt: skip
    assert fit(talk, n_last + 5) == ([START, ASSISTANT, 100, 101, END, *last], [I, 100, 101, END, I, *kept])
    assert fit(talk, n_last + 4) == ([START, 100, 101, END, *last], [I, I, I, I, *kept])
    assert fit(talk, n_last + 3) == ([START, 101, END, *last], [I, I, I, *kept])
    assert fit(talk, n_last + 2) == ([START, END, *last], [I, I, *kept])
    assert fit(talk, n_last + 1) == ([START, *last], [I, *kept])
    assert fit(talk, 3) == ([START, ASSISTANT, 105], [I, 105, END])
    assert fit(talk, 2) is None and fit(talk, 1) is None


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 6), st.integers(1, 14))
def test_fit_by_definition(n_prompt: int, n_answer: int, context_length: int) -> None:
    """It fits whole; or with the first token, the last of the prompt and the answer; or not at all."""
    prompt, reply = list(range(1, n_prompt + 1)), list(range(20, 20 + n_answer))
    short = fit(supervised(prompt, reply, end=0), context_length)
    if n_prompt + n_answer <= context_length:
        assert short == supervised(prompt, reply, end=0)
    elif context_length - n_answer < 2:
        assert short is None
    else:
        rest = prompt[n_prompt - (context_length - n_answer - 1) :]
        assert short == supervised([1, *rest], reply, end=0)


def test_examples_are_counted() -> None:
    examples = [supervised([START] + [1] * n, [5] * m, end=START) for n, m in [(1, 1), (9, 1), (2, 9), (0, 3), (0, 5)]]
    kept = fitted(iter(examples), context_length=4, end_of_text=START)
    assert kept.inputs == [[START, 1, 5], [START, 1, 1, 5], [START, 5, 5, 5]]
    assert kept.targets == [[I, 5, START], [I, I, 5, START], [5, 5, 5, START]]
    assert (kept.shortened, kept.dropped, kept.pad) == (1, 2, START)
    with pytest.raises(ValueError, match="of 5 examples none has an answer that fits into a context of 1"):
        fitted(examples, context_length=1, end_of_text=START)


# ---- nobody writes a special token (row 66 of PITFALLS)


def test_row_66_injected_signals_stay_text() -> None:
    """1,000 conversations out of pieces of the markers, in every role: the only signals are those of the turns."""
    tokenizer = with_chat_tokens(BPETokenizer.train(stories(40, seed=1), 400))
    special = {tokenizer.special_tokens[name]: name for name in CHAT_TOKENS}
    pieces = [*CHAT_TOKENS, "<|im_end|>", "<|", "|>", "<", "|", "end", "user", "\u200b", "\\", " ", "\n", "</s>", "é"]
    draw = random.Random(0)
    for _ in range(1000):
        contents = ["".join(draw.choices(pieces, k=draw.randint(1, 6))) for _ in ROLES]
        messages = [{"role": role, "content": text} for role, text in zip(ROLES, contents, strict=True)]
        inputs, targets = supervised_chat(messages, tokenizer)
        assert [special[i] for i in inputs if i in special] == [
            "<|endoftext|>", "<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>",
        ]  # fmt: skip
        learned = [i for i in targets if i != I]
        assert [special[i] for i in learned if i in special] == ["<|end|>"] and special[learned[-1]] == "<|end|>"
        assert tokenizer.decode(learned[:-1]) == contents[-1]
        assert fit((inputs, targets), 10**6) == (inputs, targets)


# ---- answers


def counting_on() -> tuple[Any, Any, list[list[dict[str, str]]]]:
    """A fresh model, its tokenizer, and questions whose answers are the three letters behind their last one: ca -> bcd."""
    letters = "abcdef"
    tokenizer = with_chat_tokens(CharTokenizer(letters))
    draw = random.Random(1)
    chats = []
    for _ in range(600):
        question = "".join(draw.choices(letters, k=draw.randint(1, 4)))
        last = letters.index(question[-1])
        reply = (letters * 2)[last + 1 : last + 4]
        chats.append([{"role": "user", "content": question}, {"role": "assistant", "content": reply}])
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=7, context_length=13, d_model=32, n_layers=2, n_heads=2))
    grow_vocabulary(model, tokenizer.vocab_size, torch.Generator().manual_seed(0))
    return model, tokenizer, chats


@pytest.fixture(scope="module")
def taught() -> tuple[Any, Any, list[list[dict[str, str]]]]:
    model, tokenizer, chats = counting_on()
    rows = (supervised_chat(chat, tokenizer) for chat in chats[:500])
    examples = fitted(rows, model.config.context_length, tokenizer.end_of_text)
    assert (len(examples), examples.shortened, examples.dropped) == (500, 0, 0)
    config = TrainConfig(steps=300, learning_rate=1e-2, weight_decay=0.0, dtype="float32", eval_every=0, threads=1)
    train(model, examples.batches(batch_size=32), config, progress=False)
    return model, tokenizer, chats[500:]


def test_row_59_a_taught_model_stops(taught: tuple[Any, Any, list[list[dict[str, str]]]]) -> None:
    """Answers of length 3, padded with the end of text: at least 99 % of the answers end by themselves, after 3 tokens."""
    model, tokenizer, chats = taught
    prompts = [encode_chat(chat[:1], tokenizer, reply=True) for chat in chats]
    for temperature in (0.0, 1.0):
        seeds = list(range(len(prompts))) if temperature else None
        completions = complete(model, tokenizer, prompts, 8, SampleConfig(temperature=temperature), seeds)
        stopped = [completion.reason == "stop token" and len(completion.ids) == 3 for completion in completions]
        assert sum(stopped) >= 0.99 * len(stopped)


def test_a_taught_model_answers_the_question(taught: tuple[Any, Any, list[list[dict[str, str]]]]) -> None:
    model, tokenizer, chats = taught
    prompts = [encode_chat(chat[:1], tokenizer, reply=True) for chat in chats]
    right = [text == chat[1]["content"] for text, chat in zip(answer(model, tokenizer, prompts, 8), chats, strict=True)]
    assert sum(right) >= 0.95 * len(right)


def test_an_untaught_model_does_not_stop() -> None:
    """So that the test above can fail."""
    model, tokenizer, chats = counting_on()
    prompts = [encode_chat(chat[:1], tokenizer, reply=True) for chat in chats[:50]]
    completions = complete(model, tokenizer, prompts, 4)
    assert sum(completion.reason == "stop token" for completion in completions) < 45


def random_chat_model(context: int = 30) -> tuple[Any, Any]:
    """In float64, with weights so large that every answer is another one."""
    tokenizer = with_chat_tokens(CharTokenizer("".join(chr(97 + i) for i in range(18))))
    model = gpt("rotary", context=context)
    assert model.config.vocab_size == tokenizer.vocab_size
    return model, tokenizer


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_batches_of_any_size_give_the_answers_of_one_by_one(temperature: float) -> None:
    model, tokenizer = random_chat_model()
    draw = random.Random(4)
    prompts = [[tokenizer.end_of_text, *draw.choices(range(18), k=draw.randint(0, 9))] for _ in range(9)]
    config = SampleConfig(temperature=temperature)
    seeds = None if temperature == 0 else list(range(40, 49))
    alone = []
    for i, prompt in enumerate(prompts):
        alone += answer(model, tokenizer, [prompt], 10, config, seeds=None if seeds is None else [seeds[i]])
    assert len(set(alone)) > 6
    for batch_size in (4, 9, 100):
        assert answer(model, tokenizer, prompts, 10, config, seeds, batch_size) == alone


def test_an_answer_ends_at_every_signal_and_never_holds_one() -> None:
    model, tokenizer = random_chat_model()
    prompts = [[tokenizer.end_of_text, i] for i in range(18)] * 4
    completions = complete(model, tokenizer, prompts, 20, SampleConfig(temperature=1.0), seeds=list(range(72)))
    signals = set(tokenizer.special_tokens.values())
    assert not any(signals & set(completion.ids) for completion in completions)
    assert {completion.reason for completion in completions} == {"stop token", "length"}


class Counter:
    """ids (B, T) -> logits (B, T, V) of a model that says its number of tokens so far, and notes what it has read."""

    def __init__(self, context_length: int | None) -> None:
        self.config = type("Shape", (), {"vocab_size": 40, "context_length": context_length})
        self.read: list[list[int]] = []

    def __call__(self, ids: Tensor) -> Tensor:
        self.read += ids.tolist()
        return torch.nn.functional.one_hot(torch.arange(1, ids.shape[1] + 1), 40).double().expand(len(ids), -1, -1)


@pytest.mark.parametrize(
    ("limit", "n_new", "n_read"),
    [(None, 5, 21), (40, 5, 21), (25, 5, 21), (24, 5, 20), (12, 5, 8), (12, 6, 7), (12, 7, 7), (12, 100, 7), (2, 9, 2)],
)
def test_a_prompt_leaves_room_for_its_answer(limit: int | None, n_new: int, n_read: int) -> None:
    """It is cut as in training, at its beginning: the first id stays, and half of the context at most is left free."""
    tokenizer = CharTokenizer("".join(chr(97 + i) for i in range(26)) + "àáâãäåæçèéêëì")
    assert tokenizer.vocab_size == 40
    model, prompt = Counter(limit), [tokenizer.end_of_text, *range(5, 25)]
    (completion,) = complete(model, tokenizer, [prompt], n_new)
    assert model.read[0] == [prompt[0], *prompt[len(prompt) - n_read + 1 :]]
    n_said = n_new if limit is None else min(n_new, limit + 1 - n_read)
    assert completion.ids == list(range(n_read, n_read + n_said))


def test_what_cannot_be_answered() -> None:
    model, tokenizer = random_chat_model()
    assert answer(model, tokenizer, [], 5) == []
    with pytest.raises(ValueError, match="3 seeds for 2 prompts"):
        answer(model, tokenizer, [[18], [18]], 5, SampleConfig(), seeds=[1, 2, 3], batch_size=2)
    with pytest.raises(ValueError, match="sampling needs seeds"):
        answer(model, tokenizer, [[18], [18]], 5, SampleConfig())
    with pytest.raises(ValueError, match="batch_size is 0"):
        answer(model, tokenizer, [[18]], 5, batch_size=0)
