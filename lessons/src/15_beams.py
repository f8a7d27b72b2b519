# %% [markdown] id="title"
# # 15 Beams, speculation and constraints: other ways to a text
#
# Lesson 08 made texts token by token. Three questions were left. Is there a *likelier* text, and is it a better one? Can the same text
# be had faster? And can a model be made to write only what a program can read?
#
# **You will write** a step of beam search, the bound that says when a search may end, the judge of speculative decoding, and the walk
# that says which tokens a rule allows.
#
# needs: 01, 02, 03, 06, 07, 08. Time: 90 minutes. Run time: two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, DRAFT_STEPS, PROMPTS, TOKENS = 200, 100, 12, 25

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import json
import time

import numpy as np
import torch

from minilm import Batches, BPETokenizer, CountedLM, NgramConfig, NgramLM, TrainConfig, encode_corpus, generate, train
from minilm.checks.exercises import check, reveal
from minilm.decoding.beam import beam_search
from minilm.decoding.sampling import SampleConfig, Sampler, draw
from minilm.decoding.score import score
from minilm.plots.curves import plot_curves
from minilm.plots.search import plot_shares, plot_token_costs
from minilm.text.stories import stories

STEPS, DRAFT_STEPS, PROMPTS, TOKENS = (6, 4, 3, 8) if QUICK else (STEPS, DRAFT_STEPS, PROMPTS, TOKENS)

# %% [markdown] id="tiny-text"
# ## 1. The best first step
#
# Three tokens, a, b and the full stop, and texts of two tokens. The model is a table: what comes first, and what follows an a or a b.
# Greedy decoding takes the likeliest token, twice. Is that the likeliest text?

# %% id="tiny"
first = {"a": 0.5, "b": 0.4, ".": 0.1}
after = {"a": {"a": 0.4, "b": 0.3, ".": 0.3}, "b": {"a": 0.05, "b": 0.05, ".": 0.9}, ".": {".": 1.0}}
texts = {x + y: round(first[x] * after[x][y], 3) for x in first for y in after[x]}
assert max(texts, key=texts.get) == "b." and texts["b."] > texts["aa"]
texts

# %% [markdown] id="expand-text"
# Greedy decoding writes "aa", at 0.2. But "b." has 0.36: a first step that looks worse leads to a sure second one. But with 512 tokens
# there are 512^25 texts of 25 tokens: nobody can try them all.
#
# **Beam search** keeps the n best beginnings, the *beams*. Each step looks at every token behind every beam and keeps the n best of
# these n times V continuations *together*: a beam may have several children among them, or none. With n = 1 it is greedy decoding.
#
# log p of a text is a sum over its tokens. Lay all continuations in one row: token w behind beam k has **place** k · V + w, so
# `place // V` is the beam and `place % V` the token.
#
# Some tokens end a text. Of the n best places of all, those with such a token are *stopping*. They take no seat: the n best places of
# other tokens are *going* on.
#
# By hand, with n = 2 and the full stop as the end, the beams are first a (0.5) and b (0.4). Behind them, "b." (0.36) stops, and "aa"
# (0.2) and "ab" (0.15) go on.
#
# **Exercise 1.** Write one step. Places are tensors of `torch.long`, from the best to the worst, without those whose log p is -inf.
# `x.argsort(descending=True)` sorts places by their numbers; `torch.isin(x, y)` says which of x are in a tensor y.


# %% tags=["exercise"] id="exercise-expand"
def expand(log_probs, next_log_probs, n_beams, stop_tokens):
    """log p of beams (K,), of tokens behind them (K, V), a set of ids -> totals (K * V,), places stopping, places going."""
    raise NotImplementedError


# %% tags=["check"] id="check-expand"
expand = check("expand", expand)

# %% [markdown] id="bound-text"
# ## 2. When to stop searching
#
# Texts that have ended differ in length, and log p falls with every token, so the search likes short texts. A common remedy:
#
# score = log p / length^penalty
#
# With penalty 0 the score is log p, with 1 its mean per token. The name misleads: log p is negative, so a larger penalty makes long
# texts *better*.
#
# When may we stop? A beam has log p = -6 after 2 tokens and room for 4; with penalty 1 its score is -3. Another text has ended with
# -2. Give the beam up? No: each token that follows may have a probability of almost 1. Then log p stays at -6, and after 4 tokens the
# score is -1.5. A widely used library once compared with the -3.
#
# **Exercise 2.** Write the highest score that any text may have that begins with this beam. It will be at least one token longer than
# the beam, and have at most `room` tokens in all. What if the penalty is negative?


# %% tags=["exercise"] id="exercise-bound"
def best_reachable(log_prob, length, room, length_penalty):
    """log p of a beam of `length` tokens, in a text of at most `room` -> a bound on the scores of all that begin with it."""
    raise NotImplementedError


# %% tags=["check"] id="check-bound"
best_reachable = check("best_reachable", best_reachable)

# %% [markdown] id="search-text"
# The whole search, with your two functions; `ended` holds pairs of a score and a text.


# %% id="search"
@torch.inference_mode()
def search(model, prompt, n_beams, room, penalty):
    beams, log_probs, ended = [[]], torch.zeros(1, dtype=torch.double), [(-torch.inf, [])]
    for length in range(1, room + 1):
        logits = model(torch.tensor([prompt + beam for beam in beams]))[:, -1].double()
        totals, stopping, going = expand(log_probs, logits.log_softmax(-1), n_beams, {END})
        finished = torch.cat([stopping, going]) if length == room else stopping
        ended += [(totals[i].item() / length**penalty, [*beams[i // V], i % V]) for i in finished.tolist()]
        beams, log_probs = [[*beams[i // V], i % V] for i in going.tolist()], totals[going]
        if length < room and max(ended)[0] >= best_reachable(log_probs[0].item(), length, room, penalty):
            break
    return *max(ended), length


# %% [markdown] id="train-text"
# Now a model: `SpeedrunGPT`, a black box, learns from the built-in stories. A much smaller one and an n-gram of order 5 will be needed
# later. `END` ends a story and stands before each.

# %% id="train"
from minilm.decoding.drafts import LookupDraft, ModelDraft
from minilm.decoding.json_schema import compile_schema
from minilm.decoding.reading import Reader
from minilm.decoding.regular import compile_pattern
from minilm.models.speedrun_gpt import SpeedrunConfig, SpeedrunGPT
from minilm.training.recipes import RECIPES

documents = list(stories(100 if QUICK else 1500, seed=1))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=512)
ids, V, END = encode_corpus(documents, tokenizer).ids, 512, tokenizer.end_of_text
ngram = CountedLM(NgramLM(NgramConfig(vocab_size=V, order=5)).fit(ids, END))


# %% id="grow"
def grow(seed, steps, **shape):
    torch.manual_seed(seed)
    model, plan = SpeedrunGPT(SpeedrunConfig(vocab_size=V, context_length=256, **shape)), RECIPES["speedrun"]
    train(model, Batches(ids, 6, 128, seed=seed), TrainConfig(steps=steps, threads=1, **plan), progress=False)
    return model


# %% id="train-large"
small = grow(16, DRAFT_STEPS, n_layers=1, d_model=48)
gpt = grow(15, STEPS, n_layers=2, d_model=128)

# %% [markdown] id="early-text"
# A test: your search against the library's. The model reads a story up to "time enough to build a r" (then came "aft.") and may write
# 20 tokens. For which penalty will the search end soonest?

# %% id="early"
last_words = tokenizer.encode(documents[0])[-60:-4]
for penalty in (-1.0, 0.0, 1.0):
    found, text, n_steps = search(gpt, last_words, 4, 20, penalty)
    [[best]] = beam_search(gpt, [last_words], 4, 20, length_penalty=penalty, stop_tokens={END})
    assert abs(found / best.score - 1) < 1e-4
    print(f"penalty {penalty:4}: score {found:8.4f} after {n_steps} steps, {tokenizer.decode(text)!r}")

# %% [markdown] id="beam-text"
# With penalty 1 a long text wins; the others end the story at once, and know early that they may.
#
# ## 3. Likelier, and better?
#
# Twelve new stories, of which the model reads 12 tokens and writes the next 25: greedily (n = 1), with more beams, and by drawing from
# its probabilities, as in lesson 08. We measure what they cost the model, in nats a token, and their *variety*: of all runs of three
# tokens, the part that is different.
#
# **Predict**: who costs least, and who has more variety than the stories?

# %% id="beam"
new = [[END, *tokenizer.encode(story)] for story in stories(PROMPTS, seed=2)]
prompts, written = [text[:12] for text in new], {"story": [text[12 : 12 + TOKENS] for text in new]}
dice = Sampler(SampleConfig(), torch.Generator().manual_seed(3))
written["drawn"] = [list(generate(gpt, prompt, dice, TOKENS)) for prompt in prompts]
for n_beams in (1, 2, 4, 8):
    written[f"n = {n_beams}"] = [best.ids for [best] in beam_search(gpt, prompts, n_beams, TOKENS)]

# %% id="beam-table"
seen = {}
for name, some in written.items():
    nats = -np.mean([score(gpt, prompt + text)[-TOKENS:] for prompt, text in zip(prompts, some, strict=True)])
    seen[name] = nats, len({tuple(t[i : i + 3]) for t in some for i in range(TOKENS - 2)}) / len(some) / (TOKENS - 2)
    print(f"{name:5} {nats:.2f} nats a token, variety {seen[name][1]:.2f}: {tokenizer.decode(some[0])!r}")
assert QUICK or (seen["n = 8"] < seen["n = 1"] < seen["story"] < seen["drawn"] and seen["n = 8"][1] < seen["story"][1])

# %% [markdown] id="costs-text"
# The first of the twelve, token by token: where do you expect high bars in the story, where in the text of the beams?

# %% id="costs"
shown = {name: written[name][0] for name in ("story", "drawn", "n = 1", "n = 8")}
costs = {name: -score(gpt, prompts[0] + text)[-TOKENS:].numpy() for name, text in shown.items()}
plot_token_costs({name: [tokenizer.decode([i]) for i in text] for name, text in shown.items()}, costs)

# %% [markdown] id="costs-read"
# More beams find likelier texts, but likelier is not better. The true stories cost more than the beams, since they say something: a
# name, a place, each paid for with a high bar. The beams go around such places and take smooth phrases that the model knows by heart,
# the same ones in other stories: their variety is below that of the true ones. Only drawn texts have more; they cost most, and
# sometimes lose the thread. (Here a draw beats even greedy: section 1 again.) Beams are for one right answer, as in translation;
# stories are drawn.
#
# ## 4. Let someone else guess
#
# The GPT needs one reading for each token. But in a large model reading five takes hardly longer than reading one: the weights are
# fetched once. So let a quick **draft** guess a few tokens, and let the model read them at once. It says, for each place, what *it*
# would have said. Good guesses are kept, and their steps are saved.
#
# With p the model's probabilities at a place, and q those from which the draft drew its guess x:
#
# * keep x with probability min(1, p(x) / q(x));
# * otherwise drop it and all guesses behind it, and draw from what p has more than q: max(0, p - q), scaled to sum 1.
#
# By hand: p = (0.5, 0.5), q = (0.8, 0.2). The draft says a in 80 % of all cases, and it is kept with 0.5 / 0.8: 50 % in all. It says b
# in 20 %, always kept. In the 30 % left we draw from (0, 0.3): b. That is p. In general x comes out with probability min(p, q) +
# max(0, p - q) = p: **whatever the draft, the text is distributed as if the model wrote alone.**
#
# If all guesses are kept, the same reading gives one more token, from the last row of p.
#
# **Exercise 3.** Write the judge. Row i of p and q is for guess i, which is kept if uniforms[i] < p / q.
# `draw(weights[None], uniforms[-1:])` lays weights side by side, as in lesson 03, whatever their sum, and gives a tensor with one id:
# the one draw uses the last uniform.


# %% tags=["exercise"] id="exercise-accept"
def accept(p, q, proposed, uniforms):
    """p (m + 1, V), q (m, V), a list of m ids, uniforms (m + 1,) -> a list: the ids kept, and one more."""
    raise NotImplementedError


# %% tags=["check"] id="check-accept"
accept = check("accept", accept)

# %% [markdown] id="counting-text"
# Is it true? Six tokens, a quite wrong draft, 20,000 rounds of your judge; and a frequent mistake: after a refusal, draw from p
# itself. **Predict** which tokens come too often then.

# %% id="counting"
p, q = torch.tensor([[0.4, 0.25, 0.15, 0.1, 0.1, 0.0], [0.1, 0.5, 0.15, 0.05, 0.1, 0.1]], dtype=torch.double)
u = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(4), dtype=torch.double)
guesses, twice = draw(q.expand(20_000, -1), u[:, 0]).tolist(), p.expand(2, -1)
came = [accept(twice, q[None], [guess], row)[0] for guess, row in zip(guesses, u[:, 1:], strict=True)]
shares, mistake = torch.tensor(came).bincount(minlength=6) / 20_000, torch.minimum(p, q) + torch.relu(q - p).sum() * p
off = [float(20_000 * ((row - p)[:5] ** 2 / p[:5]).sum()) for row in (shares, mistake)]
assert shares[5] == 0 and off[0] < 20 < off[1]  # chi-square: chance alone goes above 20 once in 2,000 times
plot_shares("abcdef", {"draft": q, "target": p, "your judge": shares, "drawn from p": mistake}, "What comes out")

# %% [markdown] id="tell-text"
# The mistake keeps some of the draft's taste: b comes too often, a too seldom. No text would show it.
#
# ## 5. How many tokens does a reading give?
#
# The `Reader` keeps a cache of what the model has read. Refused tokens must be **rolled back** out of it, which it does where the next
# text differs.


# %% id="tell"
def tell(draft, gamma, n_tokens):
    generator, reader, text, rounds = torch.Generator().manual_seed(5), Reader(gpt), [END], []
    while len(text) <= n_tokens:
        u = torch.rand(2 * gamma + 1, generator=generator, dtype=torch.double)
        guesses, q = draft.propose(text, lambda logits, texts: logits.softmax(-1), u[:gamma])
        p = reader.last_logits(text + guesses, len(guesses) + 1).softmax(-1)
        text += accept(p, q, guesses, u[2 * gamma - len(guesses) :])
        rounds.append(len(guesses))
    return len(text) - 1, len(rounds), sum(rounds)


# %% [markdown] id="gamma-text"
# Three drafts: the n-gram, the small GPT, and a **look-up**, no model at all: it finds where the last tokens stood before in this very
# text, and proposes what followed. *gamma* is the number of guesses a round; with 0 the GPT writes alone.
#
# **Predict**: who guesses best? With more guesses a round, does a larger part of them survive? And who is fastest? The last column is
# tokens in a second of the processor, on the machine that built this notebook, and wavers.

# %% id="gamma"
DRAFTS = {"n-gram": ModelDraft(ngram), "small GPT": ModelDraft(small), "look-up": LookupDraft(V)}
GAMMAS, per_reading = (0, 1, 2, 4, 8), {name: [] for name in DRAFTS}
for name, gamma in [(name, gamma) for name in DRAFTS for gamma in GAMMAS]:
    begun = time.process_time()
    n_tokens, n_rounds, n_guesses = tell(DRAFTS[name], gamma, 20 if QUICK else 150)
    speed, kept = n_tokens / (time.process_time() - begun), (n_tokens - n_rounds) / max(n_guesses, 1)
    per_reading[name].append(n_tokens / n_rounds)
    print(f"{name:9} gamma {gamma}: {kept:4.0%} kept, {n_tokens / n_rounds:.2f} a reading, {speed:4.0f} a second")
assert QUICK or max(per_reading["n-gram"]) > max(per_reading["small GPT"]) > max(per_reading["look-up"])
plot_curves(GAMMAS, per_reading, "gamma: guesses a round", "tokens for each reading of the GPT")

# %% [markdown] id="gamma-read"
# The more guesses, the smaller the part that survives: a refusal takes all behind it along. If each were kept with probability k, a
# round would give 1 + k + ... + k^gamma tokens, never more than 1 / (1 - k).
#
# The n-gram is the best draft, and even so gains little or nothing on the clock. The small GPT is a **negative result**: more than one
# token a reading, and still no faster than the GPT alone. (Its curve bends down by chance: 150 tokens are few.) In models this small,
# little of the time is spent on weights: a small one takes nearly as long as a large one, and reading five tokens takes longer than
# reading one. Look-up finds hardly anything: stories, unlike code, do not repeat themselves.
#
# At temperature 0 both p and q lie on one token, and the greedy text comes out, whatever was guessed. (Except at near ties: read
# together, sums are rounded differently.)
#
# ## 6. Only what is valid
#
# A program that reads a model's answer wants JSON, or a date. Asking kindly works mostly; **constrained decoding** works always: at
# each step, tokens that cannot lead to a valid text get the score -inf.
#
# Which ones? A regular expression can be turned into an **automaton**: a table with a row for each *state* and a column for each of
# the 256 bytes, which says to what state a byte leads, or -1 where no valid text goes on like this. State 0 is the start, and some
# states accept: there the text may end. (ab)* has two states: 0, which accepts and which an a leaves for 1; and 1, which a b leaves
# for 0.
#
# But the model writes tokens of several bytes. "ab" leads from 0 to 0, "aba" from 0 to 1, "ba" from 0 nowhere. So walk the bytes of
# every token through the table.
#
# **Exercise 4.** Write that walk. All bytes of all tokens lie behind one another in `data`; token i has lengths[i] of them. A token
# without bytes would be written for ever: it is not valid. The answer has the dtype of the table.


# %% tags=["exercise"] id="exercise-targets"
def token_targets(table, state, data, lengths):
    """table (S, 256), a state, bytes (N,) of all tokens, lengths (V,), in numpy -> the state after each token (V,), or -1."""
    raise NotImplementedError


# %% tags=["check"] id="check-targets"
token_targets = check("token_targets", token_targets)


# %% id="only"
def only(rule):  # a processor: it changes the logits before a token is drawn
    spelled = [b"" if token == END else tokenizer.token_bytes[token] for token in range(V)]
    data, lengths = np.frombuffer(b"".join(spelled), dtype=np.uint8), np.array([*map(len, spelled)])
    walks = np.stack([token_targets(rule.table, state, data, lengths) for state in range(len(rule.table))])
    walks[:, END] = np.where(rule.accepting, 0, -1)

    def processor(logits, texts):
        state = 0
        for token in texts[0][1:]:  # behind END
            state = walks[state, token]
        return logits.masked_fill(torch.from_numpy(walks[state] == -1), -torch.inf)

    return processor


# %% [markdown] id="valid-text"
# A regular expression and a JSON schema, ten texts each: by a GPT that was never trained, and by ours. What will they have in common?

# %% id="valid"
SENTENCE = compile_pattern(r"(Once|Long ago), [A-Z][a-z]{2,7} (lost|found|made) (a|the) [a-z]{3,8}\.")
KEYS = {"name": {"type": "string", "pattern": "^[A-Z][a-z]{1,8}$"}, "age": {"type": "integer"}}
KEYS["friends"] = {"type": "array", "items": {"enum": ["fox", "owl", "hedgehog"]}, "maxItems": 3}
OBJECT = compile_schema({"type": "object", "properties": KEYS, "required": [*KEYS]})
for rule, model in [(rule, model) for rule in (SENTENCE, OBJECT) for model in (SpeedrunGPT(gpt.config), gpt)]:
    sampler = Sampler(SampleConfig(), torch.Generator().manual_seed(6), [only(rule)])
    ten = [tokenizer.decode([*generate(model, [END], sampler, 90, stop_tokens={END})]) for _ in range(10)]
    assert all(rule.matches(text.encode()) for text in ten)
    assert rule is SENTENCE or all([*json.loads(text)] == [*KEYS] for text in ten)
    print("trained:  " if model is gpt else "untrained:", *ten[:3], sep="\n   ")

# %% [markdown] id="valid-read"
# Every text is valid: the rule has the grammar, the model only the choice. **Valid is not true**, or even a word. (A field without
# limit might never end: the library's `Constraint` has a budget of tokens, and begins nothing that it cannot finish.)

# %% [markdown] id="step-text"
# ## 7. What a constraint does to the probabilities
#
# At each step the probabilities of the allowed tokens are divided by their sum Z. Is the text then drawn as the model would, *given
# that the whole text is valid*? Say valid are "ab" and "ba". The model begins with a or b, 0.5 each; after a it says b with 0.9, after
# b it says a with 0.1. Compute both before you run the cell.

# %% id="step"
p_ab, p_ba = 0.5 * 0.9, 0.5 * 0.1  # step by step the second factor is 0.9 / 0.9 and 0.1 / 0.1: both texts have 0.5
round(p_ab / (p_ab + p_ba), 3), round(p_ba / (p_ab + p_ba), 3)

# %% [markdown] id="step-read"
# Step by step both have 0.5; given that they are valid, 0.9 and 0.1. A step does not look ahead: after b, the model would say
# something else nine times of ten, and must say a. The difference is the product of all Z along the text.
#
# ## 8. The library's version
#
# After a pass:

# %% tags=["check"] id="reveal"
reveal("accept")

# %% [markdown] id="summary"
# ## Summary
#
# * Beam search finds likelier texts, and may only stop when no beam can still win. The likeliest text is not the best.
# * Speculative decoding gives exactly the target's distribution. A good draft saves readings; to save time it must also be quick.
# * A constraint makes every text valid, not true, and its distribution is not the model's over valid texts.
#
# No row on the ladder: the ladder measures probabilities, and these are ways to choose a text from them.
#
# **Read next**: Holtzman et al. 2020, "The curious case of neural text degeneration"; Leviathan et al. 2023, "Fast inference from
# transformers via speculative decoding"; Willard and Louf 2023, "Efficient guided generation for large language models". In minilm
# `minilm/decoding/beam.py`, `minilm/decoding/speculative.py` and `minilm/decoding/constrained.py`.
