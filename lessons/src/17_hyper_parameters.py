# %% [markdown] id="title"
# # 17 Hyper-parameters and scaling: which knob, how far, and was it luck?
#
# Weights are learnt. But somebody chose the learning rate, the order of the n-gram, the size of the model. Such choices are called
# **hyper-parameters**, and each try of one costs a whole training. How do you spend few tries well? When is a better score more than
# luck? And can small models tell how good a large one will be, before it is paid for?
#
# **You will write** five short functions: a number on a logarithmic scale, successive halving, two measures of chance, and the fit of a
# scaling law.
#
# needs: 03, 07, 09, 10, 11. Time: 100 minutes. Run time: about three minutes of one processor core.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, CONTESTS, SEEDS, REVIEWS, WIDTHS, LARGER = 135, 1000, 5, 400, (16, 24, 32, 48, 64), 128

# %% id="setup"
import importlib.util
import random
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np
import torch

from minilm import GPT, Batches, BPETokenizer, NgramConfig, SpeedrunConfig, SpeedrunGPT, TrainConfig
from minilm import cross_entropy, encode_corpus, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.classical.bag_of_ngrams import BagOfNgrams
from minilm.classical.logistic_regression import LogisticRegression
from minilm.classical.naive_bayes import NaiveBayes
from minilm.classical.tuning import cross_validated_nats, k_fold
from minilm.evaluation.scaling import PowerLaw, bootstrap_interval, fit_power_law
from minilm.plots.curves import plot_curves
from minilm.plots.scaling import plot_scaling
from minilm.tasks.cross_validation import cross_validate
from minilm.tasks.sentiment import labelled
from minilm.text.stories import stories
from minilm.training.recipes import RECIPES
from minilm.training.search import Range, draw, grid, t_quantile

if QUICK:
    STEPS, CONTESTS, SEEDS, REVIEWS, WIDTHS, LARGER = 9, 20, 2, 60, (16, 32, 48), 64

# %% [markdown] id="scale-text"
# ## 1. A scale of factors
#
# We look for a learning rate between 0.0001 and 0.1. Say you draw a hundred thousand numbers from this range, each as likely as any other.
# How many of them are above 0.01?

# %% id="scale"
low, high = 1e-4, 0.1
drawn = np.random.default_rng(0).uniform(low, high, 100_000)
assert 0.89 < (drawn > 0.01).mean() < 0.91 and (drawn < 0.001).mean() < 0.01
print(f"above 0.01: {(drawn > 0.01).mean():.1%}, below 0.001: {(drawn < 0.001).mean():.1%}")

# %% [markdown] id="share-text"
# Nine of ten, and hardly one of a hundred is below 0.001. But whether a rate is 0.001 or 0.002 matters about as much as whether it is 0.01 or
# 0.02. What counts is the *factor*. On a **logarithmic scale** the same step multiplies by the same number. From low to high the factor is high /
# low; halfway it is the root of that, and at any share of the way (high / low) ** share. So the number at a share is
#
# low * (high / low) ** share, where the plain scale has low + share * (high - low)
#
# With low 1 and high 9, halfway lies 3; on the plain scale 5. Draw the share evenly from 0 up to 1, and every factor of ten has
# the same chance.
#
# Some options are whole numbers, as a number of layers from 2 to 5. Each of the four should get a quarter of the way. So let the range end
# at high + 1, at 6, and round the number **down** (`math.floor`). A share of 0.875 gives 2 + 0.875 * 4 = 5.5, so 5.
#
# **Exercise 1.** Write it. `isinstance(low, int)` asks whether a number is of the whole kind; only if both ends are, the answer is. `log`
# says which scale, for whole numbers, too.


# %% tags=["exercise"] id="exercise-share"
def at_share(share, low, high, log=False):
    """The number at that share of a range, from 0 (low) up to 1, which is excluded; `log` gives every factor the same width."""
    raise NotImplementedError


# %% tags=["check"] id="check-share"
at_share = check("at_share", at_share)

# %% [markdown] id="learn-text"
# ## 2. What is searched
#
# Two options of a small GPT: the learning rate, and the weight decay, which pulls the weights a little towards 0 in each step (0.001
# to 1). A **candidate** names a value of each. `learn` trains one and returns its loss on held-out text after each number of steps in
# `looks`. The rate stays level to the end, so the first 15 steps of a long run are the same as a run of 15.
#
# The held-out text is the last tenth of the *training* stories. Whoever chooses by the test stories has no test left.

# %% id="data"
documents = list(stories(400, seed=17))
tokenizer = BPETokenizer.train(documents, vocab_size=512)
V, END, ids = tokenizer.vocab_size, tokenizer.end_of_text, encode_corpus(documents, tokenizer).ids
train_ids, held_ids = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
x, y = next(Batches(held_ids, 60, 32))


# %% id="learn"
def learn(candidate, looks, seed=0):
    torch.manual_seed(seed)
    model, losses = GPT(gpt2_config(vocab_size=V, context_length=32, d_model=16, n_layers=1, n_heads=2)), []

    def look(step, model, record):
        if step in looks:
            with torch.no_grad():
                losses.append(cross_entropy(model(x), y).item())

    config = TrainConfig(steps=max(looks), warmup=5, warmdown=0, eval_every=0, threads=1, **candidate)
    train(model, Batches(train_ids, 8, 32, seed=seed), config, progress=False, on_step=look)
    return losses


# %% [markdown] id="table-guess"
# First a map: thirteen rates, each with the lowest and the highest decay, after 15, 45 and 135 steps. It costs more than a search
# should; we need it as a referee. **Predict**: is the best rate (circled) the same after few steps and after many? And what moves the loss
# more, the rate or the decay?

# %% id="table"
looks, decays, rates = (STEPS // 9, STEPS // 3, STEPS), (0.001, 1.0), np.geomspace(low, high, 13)
table = np.array([[learn({"learning_rate": r, "weight_decay": d}, looks) for r in rates] for d in decays])  # (2, 13, 3)
by_rate, by_decay = np.ptp(table[0, :, 2]), abs(table[0] - table[1])[table[0, :, 2].argmin(), 2]
counts = np.bincount(train_ids, minlength=V) + 1
unigram = -np.log(counts / counts.sum())[y.numpy()].mean()
print(
    f"the rate moves the last loss by {by_rate:.2f}, the decay by {by_decay:.2f}; counting tokens gives {unigram:.2f}"
)
assert QUICK or (by_rate > 5 * by_decay and abs(table[0, -3:, 1] - unigram).max() < 0.15)
curves = {f"{n} steps": table[0, :, k] for k, n in enumerate(looks)}
plot_curves(rates, curves, "learning rate", "loss, nats per token", log_x=True, mark_best=True)

# %% [markdown] id="nine-text"
# The decay hardly matters here, the rate does. (Of course nobody knows such things before.) And few steps see another picture than many: after
# 45 steps all rates above 0.005 look alike. They have learnt how frequent each token is, and nothing else: their loss is that of
# counting single tokens. Only later do the rates part.
#
# ## 3. Nine tries
#
# We can pay for nine full runs. Three ways to spend them:
#
# * **Grid**: three rates times three decays, all combinations. We put them in the middle of each third.
# * **Random**: nine candidates drawn at random. A grid of nine tries only *three* rates, and each three times. If the decay hardly matters, six of its
#   runs are spent in vain. Nine random candidates try nine rates. This is why Bergstra and Bengio (2012) prefer to draw.
# * **Successive halving**: begin with many candidates and short runs, throw out the worst, and train those that are left longer.

# %% id="candidates"
space, rng = (
    {"learning_rate": Range(low, high, log=True), "weight_decay": Range(0.001, 1.0, log=True)},
    random.Random(17),
)
thirds = {name: [at_share((i + 0.5) / 3, r.low, r.high, r.log) for i in range(3)] for name, r in space.items()}
tries = {"grid": grid(thirds), "random": [draw(space, rng) for _ in range(9)]}
for name, some in tries.items():
    print(name, "rates", *(f"{rate:.2g}" for rate in sorted({c["learning_rate"] for c in some})))

# %% [markdown] id="halving-text"
# Halving in detail (its name is from the case that keeps a half). The first round gives every candidate `budget` steps and keeps the best one in
# `keep`, rounded up. The second gives each of these `keep` times as many steps, from the start again. And so on, until one is left. With
# keep = 3:
#
# 27 candidates · 15 steps = 405, then 9 · 45 = 405, then 3 · 135 = 405. Together 1,215 = nine full runs of 135.
#
# The bet: who is bad after 15 steps will be bad after 135. Look at your map: is that so?
#
# **Exercise 2.** Write it. A round is a tuple (budget, candidates, scores, kept): scores in the order of the candidates, kept with the best
# first. Of equal scores the first wins. A score of infinity is a training that failed: it never goes on. One candidate alone gets one
# round. And each call of `score` is a training, so call it once for each candidate in a round.


# %% tags=["exercise"] id="exercise-halving"
def successive_halving(candidates, score, budget, keep=3):
    """A list of rounds, each (budget, candidates, scores, kept). score(candidate, budget) -> loss; budget: of the first round."""
    raise NotImplementedError


# %% tags=["check"] id="check-halving"
successive_halving = check("successive_halving", successive_halving)

# %% [markdown] id="contest-text"
# Now the real thing, at equal cost: 1,215 steps each. Who will win?

# %% id="contest"
winners = {}
for name, some in tries.items():
    winners[name] = min(((*learn(c, [STEPS]), c) for c in some), key=lambda tried: tried[0])
rounds = successive_halving([draw(space, rng) for _ in range(27)], lambda c, n: learn(c, [n])[0], STEPS // 9)
winners["halving"] = min(rounds[-1][2]), rounds[-1][3][0]
assert sum(budget * len(some) for budget, some, *_ in rounds) == 9 * STEPS
assert QUICK or winners["random"][0] < winners["halving"][0] < winners["grid"][0]
for name, (loss, candidate) in winners.items():
    print(f"{name:8} loss {loss:.3f} with", *(f"{option} {value:.2g}" for option, value in candidate.items()))

# %% [markdown] id="thousand-text"
# One contest proves little: another draw, or a grid that lies a little differently, and another may win. A thousand contests would take
# hours. But we have the map. Between its points we read off straight lines: a **recorded** score, made of real runs and as cheap as a look into a
# table. Each grid is moved by a random part of a third, for whoever chooses a grid does not know where the valley is.
#
# The curves show the losses that were found, sorted: at 50% the middle one. **Predict** their order, and by how much they differ.


# %% id="recorded"
def recorded(c, steps):  # c: the shares (rate, decay), each from 0 to 1
    ends = [np.interp(c[0], np.linspace(0, 1, 13), row[:, looks.index(steps)]) for row in table]
    return np.interp(c[1], [0, 1], ends)


def contest(rng):
    moved = rng.random(2)
    laid = [((i + moved[0]) / 3, (j + moved[1]) / 3) for i in range(3) for j in range(3)]
    found = [min(recorded(c, STEPS) for c in some) for some in (laid, rng.random((9, 2)))]
    return *found, successive_halving([*rng.random((27, 2))], recorded, looks[0])[-1][2]


# %% id="thousand"
rng = np.random.default_rng(17)
found = np.array([[*some, min(last)] for *some, last in (contest(rng) for _ in range(CONTESTS))])  # (contests, 3)
wins = dict(zip(("grid", "random", "halving"), np.bincount(found.argmin(1), minlength=3) / CONTESTS, strict=True))
print(
    "wins:",
    *(f"{name} {share:.0%}" for name, share in wins.items()),
    f"| random beats grid {(found[:, 1] < found[:, 0]).mean():.0%}",
)
assert QUICK or wins["grid"] < wins["random"] < wins["halving"]
curves = dict(zip(wins, np.quantile(found, np.linspace(0, 1, 21), axis=0).T, strict=True))
plot_curves(np.linspace(0, 100, 21), curves, "contests with a lower loss, %", "loss of the winner, nats per token")

# %% [markdown] id="seeds-text"
# Halving wins most often, though not half of the contests; then comes random; the grid wins one in five. In most contests the nine rates of
# random come closer to the valley than the three of the grid. Halving has 27 rates, and pays for them by looking at most of them only briefly:
# sometimes it throws a good one out, as the map after 45 steps let us fear. And look at the far right. In their *worst* contests
# both found next to nothing, which cannot happen to a grid: it is even.
#
# In our single contest random came first. So one contest would have told us something else.
#
# ## 4. Was it luck?
#
# Our winners were found with one seed. Now five new seeds each, that is, other first weights and another order of the batches:

# %% id="seeds"
again = {name: [learn(c, [STEPS], seed)[0] for seed in range(1, SEEDS + 1)] for name, (_, c) in winners.items()}
for name, losses in again.items():
    print(f"{name:8}", *(f"{loss:.3f}" for loss in losses), f"mean {np.mean(losses):.3f}")

# %% [markdown] id="welch-text"
# Even where nothing but chance is at work, two means of five differ. How much must they differ to mean something? Call the
# variance of the scores of a group (the mean square of what they differ from their mean; n - 1 instead of n, since the mean came from
# the same n numbers) divided by their number va for the one group and vb for the other: the variance of each *mean*. The
# variance of the difference of two means is the sum, va + vb. Its root is one **standard error**.
#
# How many standard errors may chance make? If the spread were known, 1.96 in 95 of 100 cases. We know it from a few scores only, and must be
# more careful. Student's t distribution says how much: `t_quantile(p, f)` is what it stays below with the probability p. Half of the
# 5% lies on each side, so p = (1 + 0.95) / 2 = 0.975. And f, the **degrees of freedom**, says how well the spread is known. Welch (1947):
#
# f = (va + vb)² / (va² / (na - 1) + vb² / (nb - 1)), limit = t_quantile((1 + level) / 2, f) · root of (va + vb)
#
# **Exercise 3.** Write the limit. If a group has one score only, its spread is unknown: return `math.inf`. If nothing spreads (va + vb
# = 0), return 0. `statistics.variance` divides by n - 1.


# %% tags=["exercise"] id="exercise-welch"
def welch(a, b, level=0.95):
    """What the means of two lists of scores must differ by, to be more than chance."""
    raise NotImplementedError


# %% tags=["check"] id="check-welch"
welch = check("welch", welch)

# %% [markdown] id="verdict-text"
# **Predict**: which two of the three winners differ by more than chance? And had you compared one seed with one seed, how many of
# the 25 pairs would say the opposite of what the means say?

# %% id="verdict"
verdicts = []
for one, other in (("grid", "random"), ("grid", "halving"), ("random", "halving")):
    a, b = np.array(again[one]), np.array(again[other])
    difference, limit, contrary = (
        abs(a.mean() - b.mean()),
        welch(a, b),
        ((a[:, None] < b) != (a.mean() < b.mean())).sum(),
    )
    verdicts.append(bool(difference > limit))
    print(f"{one}, {other}: differ by {difference:.3f}, must exceed {limit:.3f}; {contrary} pairs say the opposite")
assert QUICK or verdicts == [False, True, False]

# %% [markdown] id="folds-text"
# Only one of three differences is more than chance: the grid's winner is worse than that of halving. Random looked best in the contest; with new
# seeds its mean is above that of halving, and of 25 pairs about half say so and half the opposite. What one seed tells about the two
# is a coin's toss. (That random's winner looked better than it is should not surprise. Whoever takes the best of nine takes the luckiest,
# too. So judge a winner with new seeds.)
#
# ## 5. Scores that belong together
#
# An n-gram has no seed. Its luck lies in the stories that happen to be held out. Lesson 11 gave every story its turn, in folds. Here are orders 5 to 8 with
# three discounts, a score for each fold. **Predict**: what is larger, the difference between orders, or between folds?

# %% id="folds"
rows = [tokenizer.encode(document) for document in documents[: 60 if QUICK else None]]
folds, bits = k_fold(len(rows), 5), {}
for order in (5, 6, 7, 8):
    for D in (0.5, 0.7, 0.9):
        config = NgramConfig(V, order, "interpolated-kneser-ney", discounts=((D,) * 3,) * order)
        bits[order, D] = [cross_validated_nats(config, rows, END, [fold]) / np.log(2) for fold in folds]
first, second, *_ = sorted(bits, key=lambda options: np.mean(bits[options]))
print("best (order, discount):", first, "then", second)
plot_curves(range(1, 6), {f"order {n}": bits[n, 0.7] for n in (5, 6, 7, 8)}, "fold", "bits per token, discount 0.7")

# %% [markdown] id="paired-text"
# The curves run side by side: fold 2 is easy for every order, folds 1 and 3 are hard. Orders 7 and 8 are hardly apart, much less than the folds.
# Welch cannot see that they never cross: to it, what the folds have in common is spread. But the scores of one fold **belong together**. So subtract them first,
# fold by fold. What is left are n differences, and only *their* deviation s (the root of their variance) counts:
#
# limit = t_quantile((1 + level) / 2, n - 1) · s · root of (1 / n + overlap)
#
# For seeds the overlap is 0. For k folds it is 1 / (k - 1): any two trainings share most of their stories, so they are no independent
# tries, and tell less than they seem to (Nadeau and Bengio 2003).
#
# **Exercise 4.** Write it. A lone pair tells no spread: `math.inf`.


# %% tags=["exercise"] id="exercise-paired"
def paired(a, b, overlap=0.0, level=0.95):
    """What the means of two lists must differ by, where a[i] and b[i] belong together."""
    raise NotImplementedError


# %% tags=["check"] id="check-paired"
paired = check("paired", paired)

# %% [markdown] id="judge-text"
# Three judges now: as two groups, paired, and paired with the overlap. They judge the two best n-grams, and then classifiers of
# short texts, positive or negative (lesson 10), in ten folds: naive Bayes, which multiplies how often each class uses each word, and logistic
# regression, both with single words or with pairs of neighbours, too. **Predict** which of the three limits is the largest, and which the smallest.


# %% id="judge"
def judge(name, a, b):
    limits = welch(a, b), paired(a, b), paired(a, b, 1 / (len(a) - 1))
    difference = np.mean(b) - np.mean(a)
    told = (f"{limit:.4f} {'yes' if abs(difference) > limit else 'no '}" for limit in limits)
    print(f"{name:20} {difference:+.4f}  ", *told)
    return [bool(abs(difference) > limit) for limit in limits]


def accuracies(kind, longest):
    def answer(train, texts):
        return kind(BagOfNgrams(longest)).fit([t for t, _ in train], [label for _, label in train]).predict(texts)

    return cross_validate(answer, labelled(REVIEWS, 17), k=10).accuracies


# %% id="judged"
bayes, logistic = (accuracies(kind, 2) for kind in (NaiveBayes, LogisticRegression))
single = accuracies(LogisticRegression, 1)
print(
    f"accuracy: Bayes {np.mean(bayes):.3f}, regression {np.mean(logistic):.3f}, with single words {np.mean(single):.3f}\n"
)
print("what differs         by        two groups  paired      with overlap")
said = [judge(f"{first} or {second}"[:20], bits[first], bits[second])]
said += [judge("Bayes, regression", bayes, logistic), judge("words, pairs too", single, logistic)]
assert QUICK or said == [[False, True, True], [False, True, False], [False, True, True]]

# %% [markdown] id="scaling-text"
# To the first judge nothing is certain. The second, who pairs, finds all three differences. The third, who knows that the trainings
# overlap, lets two of them stand: the longer order, and the pairs of neighbours. Whether logistic regression beats Bayes stays open, though it looks
# like five points in a hundred. More reviews would tell. (The longest order on our list won: try longer ones.)
#
# ## 6. A prediction
#
# Last question: how good would a larger model be? For language models the loss often falls along a **power law** of their size x:
#
# loss = floor + scale / x^exponent
#
# The floor is what no size can reach. Without a floor, log(loss) = log(scale) - exponent · log(x): a straight line, if both axes are
# logarithmic. With a floor, log(loss - floor) is straight. By hand, with losses 7, 4 and 2.5 at sizes 1, 4 and 16:

# %% id="by-hand"
sizes, losses = np.array([1.0, 4.0, 16.0]), np.array([7.0, 4.0, 2.5])
for floor in (0.0, 1.0):
    print(floor, np.diff(np.log(losses - floor)) / np.diff(np.log(sizes)))  # the slopes from point to point

# %% [markdown] id="law-text"
# Two slopes that differ: not straight. With a floor of 1 both are -0.5, so loss = 1 + 6 / root of x.
#
# To find the floor, try many. For each one fit the line. One trap: near the floor, the logarithm of loss - floor stretches small
# errors of the loss. An error of 1% of the loss becomes one of 1% · loss / (loss - floor). So each point gets the weight (loss - floor) / loss
# by which its distance from the line is multiplied before it is squared. `np.polyfit(u, v, 1, w=weights)` does just that, and returns the
# slope and the height at u = 0. Then compare the floors: the best has the smallest sum of squares of log(loss) - log(law).
#
# **Exercise 5.** Write it: the best law and the place of its floor in `floors`. A law is `PowerLaw(floor, scale, exponent)`, a tuple with
# names; `law(x)` is its loss at x.


# %% tags=["exercise"] id="exercise-law"
def best_law(x, loss, floors):
    """Arrays x (N,), loss (N,), floors (F,), all floors below the lowest loss -> (PowerLaw, place of its floor)."""
    raise NotImplementedError


# %% tags=["check"] id="check-law"
best_law = check("best_law", best_law)

# %% [markdown] id="small-text"
# Five widths of the `SpeedrunGPT` of lesson 09, three seeds each, the same text and number of steps for all. x is the number of all weights.


# %% id="small"
def grown(width, seed, steps=150 if not QUICK else 9):
    torch.manual_seed(seed)
    heads = width // 16
    model = SpeedrunGPT(SpeedrunConfig(vocab_size=V, context_length=32, d_model=width, n_layers=1, n_heads=heads))
    config = TrainConfig(steps=steps, eval_every=0, threads=1, **RECIPES["speedrun"])
    train(model, Batches(train_ids, 16, 32, seed=seed), config, progress=False)
    with torch.no_grad():
        return sum(p.numel() for p in model.parameters()), cross_entropy(model(x), y).item()


# %% id="small-runs"
runs = np.array([[grown(width, seed) for width in WIDTHS] for seed in (1, 2, 3)])  # (3 seeds, 5 widths, 2)
weights, losses = runs[0, :, 0], runs[:, :, 1]
print(weights.astype(int), losses.round(3), sep="\n")

# %% [markdown] id="law-guess"
# The seeds differ little here. Now your fit, once with a floor of 0 only, once with a thousand floors. The larger model will have a width of
# 128, and two and a half times as many weights as the largest of these. It has not been trained yet. **Write down your own guess of its loss.**
#
# A prediction is worth little without an **interval**. `bootstrap_interval` draws points and seeds again and again, some twice, some not at all; it
# fits each time, and adds the chance of a single seed. Between its ends lie 95% of what comes out.

# %% id="predict"
mean = losses.mean(0)
pure, _ = best_law(weights, mean, np.zeros(1))
law, _ = best_law(weights, mean, np.linspace(0, 0.999 * mean.min(), 1000))
at = sum(p.numel() for p in SpeedrunGPT(SpeedrunConfig(V, 32, LARGER, n_layers=1, n_heads=LARGER // 16)).parameters())
low, middle, high = bootstrap_interval(weights, losses, at, 300, np.random.default_rng(0))
print(f"{at:,} weights: {pure(at):.3f} without a floor, {law(at):.3f} with one, 95% from {low:.3f} to {high:.3f}")
assert QUICK or np.allclose(law, fit_power_law(weights, mean), rtol=0.05)

# %% [markdown] id="larger-text"
# It is written down. Now the larger model is trained, with three seeds.

# %% id="larger"
measured = [grown(LARGER, seed)[1] for seed in (1, 2, 3)]
off, off_pure = np.mean(measured) - law(at), np.mean(measured) - pure(at)
assert QUICK or (low < min(measured) and max(measured) < high and abs(off) < off_pure / 2)
print("measured", *(f"{loss:.3f}" for loss in measured), f"off by {off:+.3f}, without a floor by {off_pure:+.3f}")
plot_scaling(weights, losses, law, (at, low, middle, high), [np.mean(measured)], x_label="weights")

# %% tags=["check"] id="reveal"
reveal("best_law")

# %% [markdown] id="summary"
# Inside, and close to the middle. Without a floor the line ran on too steeply: at small sizes the bend hardly shows, and far away it decides. The
# interval knows of chance only. That the curve goes on like this, nobody has promised: this law holds for 150 steps of this text. With more
# steps, or other data, it is another one.
#
# ## Summary
#
# * Draw options that act by factors on a logarithmic scale. Random tries beat a grid where few options matter; halving looks at more of them, and
#   bets that bad beginnings end badly.
# * A difference counts when it exceeds what chance makes: Welch for groups of seeds; pairs, with their overlap, for folds. One seed each is a coin's
#   toss where runs spread.
# * A straight line through small runs, once the floor is taken off, can tell of a larger one. Say the interval before you look.
#
# **On the ladder:** nothing new. These models are tiny, to be many.
#
# **Next:** Bergstra and Bengio (2012) on random search; Jamieson and Talwalkar (2016) on halving; Nadeau and Bengio (2003) on folds; Hoffmann et al.
# (2022) on scaling. In minilm: `training/search.py`, `evaluation/scaling.py`, and `minilm search --help`.
