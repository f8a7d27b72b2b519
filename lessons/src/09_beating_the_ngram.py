# %% [markdown] id="title"
# # 09 Beating the n-gram: what do 420 steps of training buy?
#
# Since lesson 03 the n-gram has been the bar: it counts for a second and predicts astonishingly well. Now a GPT gets 420 steps of
# training on the same text. Who wins, when, and on which tokens? And must one choose at all, or can both be asked?
#
# **You will write** the mixture of two models, the fit of its weight, and the measure of a recall test.
#
# needs: 01, 02, 03, 04, 05, 06, 07. Time: 75 minutes. Run time: under two minutes of one processor core.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, DOCUMENTS, KEPT, PLACES = 420, 3000, 60, 40

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np
import torch

from minilm import BPETokenizer, CountedLM, NgramConfig, NgramLM, TrainConfig, encode_corpus, set_seed, train
from minilm.checks.exercises import check, reveal
from minilm.evaluation.evaluate import token_log_probs
from minilm.evaluation.ladder import counted_rungs, floor_rung, model_rung, uniform_rung
from minilm.evaluation.mix import mix, mix_log_linear
from minilm.metrics import text_bits_per_byte
from minilm.models.speedrun_gpt import SpeedrunConfig, SpeedrunGPT
from minilm.plots.curves import plot_curves
from minilm.plots.mixing import plot_recall, plot_two_losses
from minilm.text.padding import pad_batch
from minilm.text.recall import candidate_log_probs, recall_places
from minilm.text.stories import stories
from minilm.text.story_words import HEROES, TREASURES
from minilm.training.loss import IGNORE
from minilm.training.recipes import RECIPES

# %% [markdown] id="tiny-text"
# ## 1. Four tokens, two models
#
# Let two models predict four tokens that really came. Model A gave them the probabilities in the first row, model B those in the
# second. Each is good at three tokens and blind at one. What if we trust both alike, and average their probabilities?

# %% id="tiny"
a, b = np.array([0.5, 0.01, 0.6, 0.4]), np.array([0.4, 0.5, 0.01, 0.5])
for name, p in (("A", a), ("B", b), ("average", (a + b) / 2), ("geometric", np.sqrt(a * b))):
    print(f"{name:9}", *(f"{x:.3f}" for x in p), f"  mean cost {-np.log(p).mean():.2f} nats")
assert -np.log((a + b) / 2).mean() < 0.7 * min(-np.log(a).mean(), -np.log(b).mean())

# %% [markdown] id="mix-text"
# The average costs far less. Where one model is blind, the other still leaves the token half of what it gave: that
# costs log 2 = 0.69 nats at most, while blindness costs 4.6. This is the interpolation of lesson 03, now of whole models: the **mixture**
#
#     p = weight * p_neural + (1 - weight) * p_counted
#
# The last row averages the *logarithms* instead: the geometric mean. It lets one blind model spoil the token, and over all tokens of
# the vocabulary its numbers do not even sum to 1.
#
# Models hand out logarithms, for exp(-800) is 0 for a computer, and its logarithm would be -inf. So the sum must be
# taken in the logarithm. A factor of p becomes a summand of log p, and `np.logaddexp(x, y)` is log(exp(x) + exp(y)).
#
# **Exercise 1.** Mix two models. The weight lies between 0 and 1, both excluded, and belongs to the first one.


# %% tags=["exercise"] id="exercise-mix"
def mix_log_probs(neural, counted, weight):
    """Log-probabilities (N,), (N,) of the same tokens under two models -> (N,) under their mixture, in nats."""
    raise NotImplementedError


# %% tags=["check"] id="check-mix"
mix_log_probs = check("mix_log_probs", mix_log_probs)

# %% id="mix-see"
mix_log_probs(np.array([-800.0, -1.0]), np.array([-802.0, -900.0]), 0.5)  # the second: -1 - log 2

# %% [markdown] id="bar-text"
# ## 2. The bar
#
# There are 3,000 stories to learn from, and twice 60 that no model learns from: `held` to choose settings,
# `test` to measure. The n-gram is a 5-gram with Kneser-Ney smoothing (it trusts a context as far
# as its counts go).

# %% id="data"
STEPS, DOCUMENTS, KEPT, PLACES = (18, 200, 12, 5) if QUICK else (STEPS, DOCUMENTS, KEPT, PLACES)
texts = list(stories(DOCUMENTS + 2 * KEPT, seed=9))
tokenizer = BPETokenizer.train(texts[:DOCUMENTS], vocab_size=1024)
V, END = tokenizer.vocab_size, tokenizer.end_of_text
parts = texts[:DOCUMENTS], texts[DOCUMENTS:-KEPT], texts[-KEPT:]
learned, held, test = (encode_corpus(part, tokenizer) for part in parts)
print(len(learned.ids), "tokens to learn from,", len(held.ids), "held out,", len(test.ids), "to test on")


# %% id="measures"
def scores(model, part):  # log p of each token, in nats; <|endoftext|> is given, not predicted
    return token_log_probs(model, part.ids, END)[part.ids != END]


def bits(log_probs):  # bits per byte of the test
    return text_bits_per_byte(-log_probs.sum(), "".join(parts[2]))


# %% id="count"
ngram = CountedLM(NgramLM(NgramConfig(vocab_size=V, order=5)).fit(learned.ids, END))
counted_held, counted_test = scores(ngram, held), scores(ngram, test)
sure = np.mean(counted_test > np.log(0.9))
print(f"{bits(counted_test):.3f} bits per byte; {sure:.0%} of the new tokens had a probability above 0.9")
assert QUICK or sure > 0.5

# %% [markdown] id="bar-read"
# Why is it so strong? Its memory is exact. A phrase that came once is known, word by word, after one look. Much of any text
# is like that: the rest of a long word, of a common phrase. A network must see a thing many times.
#
# ## 3. Which weight?
#
# Which weight makes a text likeliest? Derive it. The text's log-probability is the sum of log(w p + (1 - w) q) over its tokens, with
# p of the neural model and q of the counted one. Its slope in w is the sum of (p - q) / (w p + (1 - w) q), and at the best w it is 0.
#
# Look at the neural model's **share** of each token, s = w p / (w p + (1 - w) q): lesson 03 called it credit. The difference s - w is
# w (1 - w) (p - q) / (w p + (1 - w) q): that slope's term, times a number that is the same for all tokens. So where the slope is 0, **the
# mean share is w itself**. Below the best weight the slope is positive, so the mean share is larger than w; above it, smaller.
#
# Lesson 03 repeated "the new weight is the mean share". That creeps near 0 and 1. But we know on which side of w the best one
# lies: begin with the interval from 0 to 1, look at its middle, keep the half where the best weight is. Forty halvings leave a
# millionth of a millionth. Middles never reach 0 or 1, so log w is always defined.
#
# Mind small numbers once more: p and q may both be 0 for a computer. Divide by w p, above and below: s = 1 / (1 + exp(-z)), with
# z = log p - log q + log(w / (1 - w)). That is the sigmoid of z, and 0.5 + 0.5 * tanh(z / 2) is the same without overflow.
#
# **Exercise 2.** Fit the weight, to ten digits.


# %% tags=["exercise"] id="exercise-weight"
def fit_mixture_weight(neural, counted):
    """The weight between 0 and 1 under which the tokens are likeliest; log-probabilities (N,), (N,)."""
    raise NotImplementedError


# %% tags=["check"] id="check-weight"
fit_mixture_weight = check("fit_mixture_weight", fit_mixture_weight)

# %% id="weight-see"
w = fit_mixture_weight(np.log(a), np.log(b))
assert all(((1 - v) * b + v * a).prod() < ((1 - w) * b + w * a).prod() for v in (w - 0.01, w + 0.01))
w

# %% [markdown] id="gpt-text"
# ## 4. Four hundred and twenty steps
#
# We take minilm's fastest learner, `SpeedrunGPT`: the blocks of lesson 06 with a few changes, and the
# optimizer Muon for its matrices (lesson 12). It adds to each token's vector something of the two tokens before, so one block is
# enough here. `max_ngram=1` leaves out a part of it that is an n-gram itself, `fuse` lets its parts compute
# by torch's own kernels: the same numbers, sooner. Larger steps than usual suit a short run.
#
# Lesson 07 cut windows out of the text wherever they fell. Here **each row is a whole story**: eight rows a step, short ones
# filled up at the end, where the target `IGNORE` costs nothing. Section 8 says why.
#
# Six times on the way the weight is fitted on `held`, and all are measured on `test`. Write down before you run it:
# after which step will the GPT be ahead? What will the mixture be worth when the GPT is still far behind, and when it is far ahead?


# %% id="rows"
def story_rows(size, seed):  # without end: x (B, T) and y (B, T), in each row one story
    rows, rng = np.split(learned.ids, np.flatnonzero(learned.ids == END)[1:]), np.random.default_rng(seed)
    while True:
        for chosen in rng.permutation(len(rows) // size * size).reshape(-1, size):
            ids, real = pad_batch([rows[i] for i in chosen], END)
            yield torch.from_numpy(ids[:, :-1]), torch.from_numpy(np.where(real, ids, IGNORE)[:, 1:])


# %% id="kernels"
from minilm.fast.attention import scaled_dot_product_attention
from minilm.fast.bricks import fuse


# %% id="gpt-train"
def look(step, model, record):
    if step % (STEPS // 6) == 0:
        on_held, on_test = looks[step] = scores(model, held), scores(model, test)
        weight = min(max(fit_mixture_weight(on_held, counted_held), 1e-9), 1 - 1e-9)  # log 0 is not defined
        table[step] = bits(on_test), bits(mix_log_probs(on_test, counted_test, weight)), weight
        print("step {:4}: GPT {:.3f}, mixture {:.3f} bits per byte, weight {:.3f}".format(step, *table[step]))


set_seed(9)
gpt = fuse(SpeedrunGPT(SpeedrunConfig(V, context_length=384, n_layers=1, max_ngram=1), scaled_dot_product_attention))
recipe = RECIPES["speedrun"] | {"learning_rate": 0.02, "momentum": 0.9}
looks, table, plan = {}, {}, TrainConfig(steps=STEPS, threads=1, **recipe)
_ = train(gpt, story_rows(8, seed=9), plan, on_step=look, progress=False)

# %% [markdown] id="stored-text"
# The plot shows your run beside a **stored**, long one: all the same, but `STEPS = 1900`, 269 seconds of training (one thread, two cores of an
# AMD EPYC, 1 December 2026, one run, seed 9). Steps shrink in the last 60% of a run, so its steps stay
# large for longer. Guess: who is ahead at step 420? Where does the long run end, and does the n-gram still help it?

# %% id="plot-steps"
far = [70, 140, 210, 280, 350, 420, 600, 900, 1300, 1900]  # stored, as the next two lines: bits per byte
long_gpt = [0.5155, 0.3279, 0.2633, 0.2056, 0.1806, 0.1655, 0.1402, 0.1223, 0.0937, 0.0830]
long_both = [0.2269, 0.2216, 0.2047, 0.1795, 0.1584, 0.1454, 0.1301, 0.1170, 0.0937, 0.0831]
steps, bar = sorted(table), bits(counted_test)
curves = {name: [table[s][i] for s in steps] + [np.nan] * 10 for i, name in enumerate(("GPT", "both"))}
stored = {"n-gram": [bar] * 10, "GPT, long": long_gpt, "both, long": long_both}
curves |= {name: [np.nan] * 6 + row for name, row in stored.items()}
gains = [mixed / min(alone, bar) for alone, mixed, _ in table.values()]
assert max(gains) < 1.02 and (QUICK or (min(gains) < 0.95 and table[STEPS * 2 // 3][0] < bar < table[STEPS // 3][0]))
plot_curves(steps + far, curves, "steps of training", "bits per byte of the test", log_x=True, log_y=True)

# %% [markdown] id="steps-read"
# The n-gram is beaten between step 210 and step 280. While the GPT is far behind, the fit gives it hardly any weight, and the
# mixture is all but the n-gram. Around the crossing the mixture is clearly better than both. In the end nearly all the weight is
# the GPT's. The long run is behind at step 420 and ends far lower; there the n-gram adds nothing.
#
# ## 5. Who errs where?
#
# That the mixture gains most at the crossing has a reason: two models that are equally good need not be good at the same tokens. We take
# the look at which they were closest: a point for each token of the test, its cost for the n-gram to the right, for the GPT upwards.
# In colour are the tokens of the heroes' names, at the first mention or later. Will they lie above the diagonal or below it?

# %% id="plot-apart"
middle = min(table, key=lambda step: abs(table[step][0] - bar))
ids, gpt_cost, ngram_cost = test.ids[test.ids != END], -looks[middle][1], -counted_test
text, ends = "".join(parts[2]), np.cumsum([len(tokenizer.decode([int(t)])) for t in ids])  # where each token ends
for name in sorted((hero.name for hero in HEROES), key=len, reverse=True):  # Adam before Ada
    text = text.replace(name, "#" * len(name))
in_name = np.array(list(text))[ends - 1] == "#"
plot_two_losses(ngram_cost, gpt_cost, in_name, ("n-gram", "GPT"), mark="a hero's name")

# %% [markdown] id="apart-text"
# Most tokens lie in the corner below, cheap for both. Many others lie along the axes: only one model expected them. Names lie on
# both sides of the diagonal. The next cell adds up, for each token of the vocabulary, by how much one model was ahead.

# %% id="apart-tokens"
gap = np.bincount(ids, weights=ngram_cost - gpt_cost, minlength=V)  # nats in favour of the GPT
for title, best in (("GPT ahead:", gap.argsort()[::-1][:8]), ("n-gram ahead:", gap.argsort()[:8])):
    print(title, *(f"{tokenizer.decode([int(t)])!r} {abs(gap[t]):.0f}" for t in best), sep="  ")
for name, cost in (("GPT", gpt_cost), ("n-gram", ngram_cost)):
    print(f"{name}: {cost[in_name].mean():.2f} nats a token in names, {cost[~in_name].mean():.2f} elsewhere")

# %% [markdown] id="curve-text"
# Each is ahead at tokens of its own: the mixture lives on that. Names are dear for both.
#
# ## 6. The weight, and whom it may see
#
# For the same look we try every weight: how many bits per byte does the mixture need on `held`, how many on `test`? The circles are the
# lowest points. How much would it flatter us to fit the weight on the test itself? Guess.

# %% id="plot-weight"
(on_held, on_test), weights, held_text = looks[middle], np.linspace(0.02, 0.98, 49), "".join(parts[1])
curves = {
    "test": [bits(mix_log_probs(on_test, counted_test, w)) for w in weights],
    "held": [text_bits_per_byte(-mix_log_probs(on_held, counted_held, w).sum(), held_text) for w in weights],
}
plot_curves(weights, curves, "weight of the GPT", "bits per byte", mark_best=True)

# %% id="flatter"
fitted, cheating = fit_mixture_weight(on_held, counted_held), fit_mixture_weight(on_test, counted_test)
honest, flattering = (bits(mix_log_probs(on_test, counted_test, w)) for w in (fitted, cheating))
print(f"fitted on held: weight {fitted:.3f}, test {honest:.4f}; fitted on the test: {cheating:.3f}, {flattering:.4f}")
assert flattering <= honest < flattering + (0.05 if QUICK else 0.001)

# %% [markdown] id="flatter-text"
# Fitted on the test it cannot come out worse, but it gains less than a thousandth of a bit: the curve is flat at its lowest
# point, and one number cannot learn a text by heart. With a thousand numbers instead of one the test would lie, so we keep to
# `held`. Text that a model has **learned** from would be worse still: the n-gram knows it by heart.

# %% [markdown] id="log-linear-text"
# ## 7. And instead of or
#
# The mixture is an "or": a token is likely if *one* model finds it so. The geometric mean of section 1 is an "and": likely if *both* do.
# Multiply the probabilities, each with a power of its own, and divide by Z, the sum over all tokens of the
# vocabulary, so that the row sums to 1:
#
#     p = p_neural^a * p_counted^b / Z
#
# That is the **log-linear mixture**. It costs more, for Z needs both models' whole rows. `mix_log_linear` fits a and b on held-out
# text. We put both mixtures of the final GPT beside each other: guess who wins.

# %% id="log-linear"
voting = mix_log_linear(gpt, ngram, learned.ids, held.ids, END, max_tokens=4000)
averaging = mix(gpt, ngram, learned.ids, held.ids, END)
together, weight = bits(scores(voting, test)), averaging.config.weight
theirs, yours = scores(averaging, test), mix_log_probs(looks[STEPS][1], counted_test, weight)
print(f"powers {np.round(voting.config.powers, 2)}: {together:.4f}; weight {weight:.3f}: {bits(theirs):.4f}")
assert QUICK or (together < bits(yours) and sum(voting.config.powers) > 1)
assert np.allclose(theirs, yours, atol=1e-4)  # the library's mixture and your functions agree

# %% [markdown] id="recall-text"
# Here the "and" is better, by a little. Its powers sum to more than 1: where both agree, it is surer than either, which no average can be.
#
# ## 8. What the n-gram cannot know
#
# A story says what its hero owns, and names it again when it is lost. In new
# stories, we look for places where a thing comes again and was last said **more than 20 tokens** before. Each is a question: of the 14
# things of the stories, which one comes now? We ask the same for the heroes' names, 28 girls and
# 28 boys: 40 questions of each kind.

# %% id="places"
new, questions, shares = list(stories(400, seed=90)), {}, {}
heroes = {who: [hero.name for hero in HEROES if hero.pronoun == who] for who in ("she", "he")}
kinds = {"girls": heroes["she"], "boys": heroes["he"], "things": [thing.name for thing in TREASURES]}
for kind, words in kinds.items():
    found = (list(recall_places(story, words, tokenizer)) for story in new)
    questions[kind] = [places[0] for places in found if places][:PLACES]  # one of each story
one = questions["things"][0]
print(f"{one.before}_____{one.after}\n{len(one.candidates)} candidates, right is{one.candidates[one.right]}")

# %% [markdown] id="share-text"
# A model gives each candidate a probability: that of all its tokens, together with the word or mark behind it (after "Ada" alone it
# might go on to "Adam"). `candidate_log_probs` asks for them: one row a place, one column a candidate. We divide the right
# one's probability by what all candidates have together: the **share of the right one**. Pure guessing gives 1/14 for things.
#
# The probabilities are products of many factors, so again: stay with logarithms as long as you can. If you take the largest logarithm of
# a row away from all of that row before the exp, the shares stay as they are, and the largest exp is 1.
#
# **Exercise 3.** Compute the shares. `x[np.arange(len(right)), right]` picks one number of each row.


# %% tags=["exercise"] id="exercise-recall"
def recall_shares(log_probs, right):
    """p(right candidate) / sum of p over the candidates: log-probabilities (N, K), indices (N,) -> (N,)."""
    raise NotImplementedError


# %% tags=["check"] id="check-recall"
recall_shares = check("recall_shares", recall_shares)

# %% [markdown] id="recall-predict"
# The thing or name lies beyond the four tokens that the 5-gram reads. So whatever it has counted, it answers the same for all that could
# have been said: 1/K on average, since all are equally frequent. A longer n-gram changes nothing, up to order 21. The GPT
# does read it. Does it use it? Write down its shares.

# %% id="plot-recall"
models = {"order 5": ngram, "order 12": CountedLM(NgramLM(NgramConfig(vocab_size=V, order=12)).fit(learned.ids, END))}
for name, model in {**models, "GPT": gpt}.items():
    shares[name] = []
    for places in questions.values():
        answers = candidate_log_probs(places, tokenizer, lambda ids, model=model: token_log_probs(model, ids, END))
        shares[name].append(recall_shares(answers, np.array([place.right for place in places])).mean())
chances = [1 / len(words) for words in kinds.values()]
assert QUICK or all(abs(s - c) < 0.08 for name in models for s, c in zip(shares[name], chances, strict=True))
assert QUICK or (shares["GPT"][-1] > 0.4 > 5 * chances[-1] and min(shares["GPT"][:2]) > 0.1)
plot_recall([*kinds], shares, chances)

# %% [markdown] id="recall-read"
# The n-grams differ from the dash only by the luck of few places: they *cannot* know. The GPT looks back
# for the thing and, less surely, for the name.
#
# Why one story a row? **Stored** shares of the right one, 1 December 2026, one run each: your run again, but with rows cut anywhere as
# in lesson 07 (`train` gets `Batches(learned.ids, 8, 256, seed=9)`), and the long run of section 4:
#
#     step          70   140   210   280   350   420   600   900  1300  1900
#     cut, things   12%    6%    7%    9%   11%   11%
#     long, things   8%   14%   22%   51%   89%   93%   97%  100%  100%  100%
#     long, names    4%    4%    8%   18%   56%   66%   87%   92%   93%   97%
#
# Chance is 7% for things, 4% for names. Our reading: in rows cut anywhere, the
# first mention is often missing, so looking back pays less often. And to copy, a head must find the thing and another part put
# it out; neither pays without the other, so at first nothing seems to happen. Whether cut rows get there later was not measured.
#
# ## 9. The ladder
#
# All once more on the same test, from no idea to the story world itself. The mixture's weight is nearly 1: 100%.

# %% id="ladder"
rungs = [uniform_rung(test, tokenizer)]
rungs += [rung for rung, _ in counted_rungs(learned, test, tokenizer, NgramConfig(vocab_size=V, order=5))]
trained = ((f"GPT, {STEPS} steps", gpt), ("GPT + n-gram", averaging), ("both, log-linear", voting))
rungs += [*(model_rung(name, model, test, tokenizer, 0.0) for name, model in trained), floor_rung(test, tokenizer)]
print(*(f"{rung.name:17} {rung.bits_per_byte:.3f}  {rung.sentence}" for rung in rungs), sep="\n")
assert QUICK or rungs[4].bits_per_byte < rungs[3].bits_per_byte < rungs[2].bits_per_byte

# %% [markdown] id="library-text"
# ## 10. The library's version
#
# `reveal` shows how minilm fits the weight.

# %% tags=["check"] id="reveal"
reveal("fit_mixture_weight")

# %% [markdown] id="summary"
# ## Summary
#
# * The n-gram's memory is exact: one look is enough. A GPT must be shown things many times; after 420 steps
#   it is far ahead, and it recalls a thing named long before, which no such n-gram can.
# * Averaging probabilities beats both models where they err on different tokens, most where they are about equally good.
# * A weight is fitted on text that neither model has learned from and that is not the test.
#
# **On the ladder**: the GPT after 420 steps and both mixtures.
#
# **Read next**: Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse data"; Klakow 1998, "Log-linear
# interpolation of language models". In minilm `minilm/models/mixture.py`, `minilm/models/log_linear.py` and `minilm/text/recall.py`.
