"""Supervised fine-tuning: examples of questions and answers teach a model to answer, and to stop (Ouyang et al. 2022).

It is the training of before, next token for next token, with one change: only the answer is counted. The question is read, but
a model that should answer need not learn to write questions. The end of an answer belongs to the answer: it is the one target
that teaches the model to stop, and so it is counted, and padding may not hide it.

    rows = (supervised_chat(chat, tokenizer) for chat in chats)
    examples = fitted(rows, model.config.context_length, tokenizer.end_of_text)
    train(model, examples.batches(batch_size), config)                                # its usual loss, next_token_loss
    answer(model, tokenizer, [encode_chat(chat, tokenizer, reply=True)], max_new_tokens=50)

Padding is filled in by place and not by id, with targets IGNORE: an end of text that is part of an example still counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minilm.decoding.batch import Completion, generate_batch
from minilm.decoding.config import SampleConfig
from minilm.finetuning.examples import Examples
from minilm.text.chat import encode_chat
from minilm.text.tokenizer import Tokenizer
from minilm.training.loss import IGNORE

# Inputs and targets, equally long: targets[t] is what follows inputs[t], or IGNORE.
Example = tuple[list[int], list[int]]
GREEDY = SampleConfig(temperature=0)


def next_tokens(ids: Sequence[int], counted: Sequence[bool]) -> Example:
    """A text of N ids, of which some are to be learned -> inputs and targets of N - 1, moved by one place.

    >>> next_tokens([7, 8, 9], [False, False, True])
    ([7, 8], [-100, 9])
    """
    pairs = zip(ids[1:], counted[1:], strict=True)
    return list(ids[:-1]), [token if counts else IGNORE for token, counts in pairs]


def supervised(prompt_ids: Sequence[int], answer_ids: Sequence[int], end: int) -> Example:
    """A prompt and its answer -> inputs and targets; counted are the answer and the id `end` behind it.

    The prompt begins with <|endoftext|>, as every text does. ValueError if it is empty: nothing would lead to the answer.

    >>> supervised([1, 2, 3], [4, 5], end=0)
    ([1, 2, 3, 4, 5], [-100, -100, 4, 5, 0])
    """
    if not prompt_ids:
        raise ValueError("the prompt is empty: begin it with the id of <|endoftext|>")
    answer_and_end = [*answer_ids, end]
    counted = [False] * len(prompt_ids) + [True] * len(answer_and_end)
    return next_tokens([*prompt_ids, *answer_and_end], counted)


def supervised_chat(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> Example:
    """Messages as in `encode_chat` -> inputs and targets; counted is what the assistant says, each <|end|> of it included.

    Not counted are the other roles, and <|assistant|> itself: whose turn it is, the model is told. ValueError if the
    assistant says nothing at all (an empty message is something: its end).
    """
    if not any(message["role"] == "assistant" for message in messages):
        raise ValueError("no message of the assistant in this conversation: there is nothing to learn from it")
    ids, counted = encode_chat([], tokenizer), [False]
    for message in messages:
        turn = encode_chat([message], tokenizer)[1:]  # role, text, <|end|>
        ids += turn
        counted += [False] + [message["role"] == "assistant"] * (len(turn) - 1)
    return next_tokens(ids, counted)


def cut_beginning(ids: Sequence[int], n: int) -> list[int]:
    """At most n ids: the first, which says that a text begins, and of the others the last ones.

    >>> cut_beginning([0, 1, 2, 3, 4], 3)
    [0, 3, 4]
    """
    cut = max(len(ids) - n, 0)
    return [*ids[:1], *ids[1 + cut :]][:n]


def fit(example: Example, context_length: int) -> Example | None:
    """The example as the model can read it, or None if the last answer does not fit with the token before it.

    Too long a text is cut as `cut_beginning` says. An answer that is cut is not counted any more, for nothing leads to its
    rest; but answers behind it are, and none ever loses its end.

    >>> fit(([0, 1, 2, 3, 4], [-100, -100, -100, 4, 9]), context_length=3)
    ([0, 3, 4], [-100, 4, 9])
    >>> fit(([0, 1, 2, 3, 4], [-100, -100, -100, 4, 9]), context_length=2)
    """
    inputs, targets = example
    cut = len(inputs) - context_length
    if cut <= 0:
        return example
    rest = targets[1 + cut :]
    if targets[cut] != IGNORE:  # the first token that is left is part of an answer
        broken = next((place for place, target in enumerate(rest) if target == IGNORE), len(rest))
        rest = [IGNORE] * broken + rest[broken:]
    if all(target == IGNORE for target in rest):
        return None
    return cut_beginning(inputs, context_length), [IGNORE, *rest]


def fitted(examples: Iterable[Example], context_length: int, end_of_text: int) -> Examples:
    """All examples through `fit`, with the counts of those that were cut and left out. ValueError if none is left."""
    inputs, targets, shortened, dropped = [], [], 0, 0
    for example in examples:
        short = fit(example, context_length)
        if short is None:
            dropped += 1
            continue
        shortened += len(short[0]) < len(example[0])
        inputs.append(short[0])
        targets.append(short[1])
    if not inputs:
        raise ValueError(
            f"of {dropped} examples none has an answer that fits into a context of {context_length} tokens"
        )
    return Examples(inputs, targets, end_of_text, shortened, dropped)


def complete(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    config: SampleConfig = GREEDY,
    seeds: Sequence[int] | None = None,
    batch_size: int = 32,
) -> list[Completion]:
    """A completion for each prompt, in their order; it ends at any special token, or with the reason why not.

    Too long a prompt is cut as in training, so that max_new_tokens, or half of the context, are free for the answer.
    Sampling needs seeds, one for each prompt; a row does not depend on the others, whatever the batch_size.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    if seeds is not None and len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: each prompt needs its own")
    limit = getattr(model.config, "context_length", None)
    if limit is not None:
        room = limit + 1 - max(1, min(max_new_tokens, limit // 2))  # the last new token need not be read
        prompts = [cut_beginning(prompt, room) for prompt in prompts]
    signals = frozenset(tokenizer.special_tokens.values())
    done: list[Completion] = []
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        some = None if seeds is None else seeds[rows]
        done += generate_batch(model, prompts[rows], config, max_new_tokens, seeds=some, stop_tokens=signals)
    return done


def answer(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    config: SampleConfig = GREEDY,
    seeds: Sequence[int] | None = None,
    batch_size: int = 32,
) -> list[str]:
    """The texts of `complete`: what the model answers to each prompt, up to its own end.

    A prompt is ids: `encode_chat(messages, tokenizer, reply=True)`, or <|endoftext|> and an encoded text.
    """
    completions = complete(model, tokenizer, prompts, max_new_tokens, config, seeds, batch_size)
    return [tokenizer.decode(completion.ids) for completion in completions]
