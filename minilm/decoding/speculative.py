"""Speculative decoding: a quick draft guesses some tokens, the large model judges them all in one reading.

A model reads five tokens in about the time of one, since its weights have to be fetched once. So a guess that is right
saves a whole step, and a wrong one costs little. The text is not merely similar: its distribution is exactly that of the
target alone. With p the target's distribution behind a text, q that of the draft, and the token x guessed from q:

    keep x with probability min(1, p(x) / q(x))
    otherwise drop it and what follows, and draw from max(0, p - q), made to sum to 1

Kept and redrawn, x comes out with probability min(p, q) + max(0, p - q) = p (Leviathan et al. 2023; Chen et al. 2023).
If all guesses are kept, the same reading gives one more token for free. p and q are what is drawn from, after
temperature, filters and processors; at temperature 0 both lie on one token, and nothing is left to chance.

What is promised: the distribution above, where the target says the same behind a token whether it reads it alone or among
others. In float64 that holds to 1e-12. In float32 or bfloat16 sums are added in another order, and a model that is
quantised on the fly scales its activations by what it reads together: then a near tie may fall the other way, and greedy
text differ from that of `generate`. `reading_difference` measures it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minilm.decoding.config import SampleConfig
from minilm.decoding.drafts import Draft, Probabilities
from minilm.decoding.generate import prompt_list
from minilm.decoding.processors import Processor
from minilm.decoding.reading import Reader
from minilm.decoding.sampling import distribution, draw


@dataclass
class Report:
    """How well the draft guessed; `generate_speculative` counts in it."""

    n_rounds: int = 0  # readings of the target
    n_proposed: int = 0
    n_accepted: int = 0

    @property
    def acceptance(self) -> float:
        """The part of the guesses that was kept; NaN if there was none."""
        return self.n_accepted / self.n_proposed if self.n_proposed else float("nan")

    @property
    def tokens_per_round(self) -> float:
        """New tokens for each reading of the target: 1 without a draft, at most gamma + 1."""
        return 1 + self.n_accepted / self.n_rounds if self.n_rounds else float("nan")


def generate_speculative(
    model: Any,
    draft: Draft,
    prompt_ids: Tensor | Sequence[int],
    config: SampleConfig,
    max_new_tokens: int,
    *,
    gamma: int = 4,
    generator: torch.Generator | None = None,
    processors: Sequence[Processor] = (),
    stop_tokens: Collection[int] = frozenset(),
    report: Report | None = None,
    use_cache: bool = True,
) -> Iterator[int]:
    """prompt ids (T,) or (1, T) -> at most max_new_tokens ids, as `generate` would draw them, in runs of up to gamma + 1.

    gamma is how many tokens the draft guesses at a time; with 0 the stream is token for token that of `generate` with a
    Sampler on the same generator. The stream ends before a stop token, and where the text has outgrown the context of
    the model. A new report may be passed, to be read afterwards.

    >>> report = Report()
    >>> draft = ModelDraft(small_model)
    >>> ids = list(generate_speculative(model, draft, prompt, SampleConfig(), 100, generator=generator, report=report))
    >>> print(f"{report.acceptance:.0%} accepted, {report.tokens_per_round:.1f} tokens a reading")
    """
    text = prompt_list(prompt_ids, getattr(model.config, "vocab_size", None))
    limit = getattr(model.config, "context_length", None)
    for name, value in (("max_new_tokens", max_new_tokens), ("gamma", gamma)):
        if value < 0:
            raise ValueError(f"{name} is {value}: it must be at least 0")
    if limit is not None and len(text) > limit:
        raise ValueError(f"the prompt has {len(text)} tokens, the model reads at most {limit}: shorten it")
    if draft.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the draft knows {draft.vocab_size} tokens, the model {model.config.vocab_size}: they must agree"
        )
    if generator is None and config.temperature > 0:
        raise ValueError("sampling needs a generator: pass torch.Generator().manual_seed(SEED), or temperature 0")
    end = len(text) + max_new_tokens if limit is None else min(len(text) + max_new_tokens, limit + 1)
    target = Reader(model, max(end - 1, 1), use_cache)
    report = Report() if report is None else report

    def probabilities(logits: Tensor, texts: list[list[int]]) -> Tensor:
        return distribution(logits, config, texts, processors)

    return stream(target, draft, text, end, gamma, probabilities, generator, frozenset(stop_tokens), report)


def stream(
    target: Reader,
    draft: Draft,
    text: list[int],
    end: int,
    gamma: int,
    probabilities: Probabilities,
    generator: torch.Generator | None,
    stop_tokens: frozenset[int],
    report: Report,
) -> Iterator[int]:
    """The loop of `generate_speculative`: round after round, until the text has `end` tokens."""
    while len(text) < end:
        n = min(gamma, end - len(text) - 1)  # a round gives up to n + 1 tokens
        uniforms = torch.zeros(2 * n + 1, dtype=torch.double)
        if generator is not None:
            uniforms = torch.rand(2 * n + 1, generator=generator, dtype=torch.double)
        new, n_proposed = speculate(target, draft, text, probabilities, uniforms)
        report.n_rounds += 1
        report.n_proposed += n_proposed
        report.n_accepted += len(new) - 1
        for token in new:
            if token in stop_tokens:
                return
            yield token
            text.append(token)


def speculate(
    target: Reader, draft: Draft, text: list[int], probabilities: Probabilities, uniforms: Tensor
) -> tuple[list[int], int]:
    """One round: text, uniforms (2 n + 1,) -> 1 to n + 1 new ids, and how many were proposed.

    n uniforms are for the guesses, n for the judgement on them, and one for the token of the target's own.
    """
    proposed, q = draft.propose(text, probabilities, uniforms[: len(uniforms) // 2])
    m = len(proposed)
    logits = target.last_logits(text + proposed, m + 1)
    p = probabilities(logits, [text + proposed[:place] for place in range(m + 1)])
    return accept(p, q, proposed, uniforms[len(uniforms) - m - 1 :]), m


def accept(p: Tensor, q: Tensor, proposed: list[int], uniforms: Tensor) -> list[int]:
    """p (m + 1, V), q (m, V), m proposed ids, uniforms (m + 1,) -> the ids kept, and one more of the target's own.

    Row i of p and q is the distribution behind the text and the first i proposals. The first id that is not kept ends the
    run: in its place comes a draw from what p has more than q. The draw scales that to sum 1.

    >>> p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.8, 0.2]])
    >>> accept(p, q, [0], torch.tensor([0.6, 0.3]))  # 0.6 < 0.5 / 0.8: kept, and 0.3 falls on token 0 of the last row
    [0, 0]
    >>> accept(p, q, [0], torch.tensor([0.7, 0.3]))  # not kept: max(0, p - q) = [0, 0.3]
    [1]
    """
    for place, token in enumerate(proposed):
        if uniforms[place] * q[place, token] >= p[place, token]:
            rest = (p[place] - q[place]).clamp(min=0)
            rest = rest if bool(rest.any()) else p[place]  # p and q differ by a rounding only
            return [*proposed[:place], int(draw(rest[None], uniforms[-1:]))]
    return [*proposed, int(draw(p[-1:], uniforms[-1:]))]


def reading_difference(model: Any, ids: Sequence[int]) -> float:
    """The largest difference between the logits of a text read at once and read token by token.

    Greedy speculative text can only differ from that of `generate` where the two likeliest tokens are closer than twice
    this. Of a model that was quantised, measure it before relying on equal texts.
    """
    text, one_by_one = list(ids), Reader(model)
    at_once = Reader(model).last_logits(text, len(text))
    singly = torch.cat([one_by_one.last_logits(text[: n + 1], 1) for n in range(len(text))])
    return float((at_once - singly).abs().max())
