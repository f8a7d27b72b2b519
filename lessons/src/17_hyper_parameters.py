# %% [markdown] id="title"
# # 17 Hyper-parameters and scaling: which knob, how far, and was it luck?
#
# Weights are learnt. But somebody chose the learning rate, the order of the n-gram, the size of the model. Such choices are called
# **hyper-parameters**, and to try one costs a whole training. How do you spend few tries well? When is a better score more than luck? Can
# small models tell how good a large one will be?
#
# **You will write** five short functions: a number on a logarithmic scale, successive halving, two measures of chance, and a scaling law.
#
# needs: 03, 07, 09, 10, 11. Time: 100 minutes. Run time: about three minutes of one processor core.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, CONTESTS, SEEDS, REVIEWS, GROWN, WIDTHS = 135, 1000, 5, 400, 150, (16, 24, 32, 48, 64, 128)

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np
import torch

from minilm import GPT, Batches, BPETokenizer, NgramConfig, SpeedrunConfig, SpeedrunGPT, TrainConfig, gpt2_config, train
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
from minilm.text.token_file import encode_corpus
from minilm.training.loss import cross_entropy
from minilm.training.search import t_quantile

# %% [markdown] id="scale-text"
# ## 1. A scale of factors
#
# We look for a learning rate between 0.0001 and 0.1. Draw many numbers from this range, each as likely as any other. Guess how many are
# above 0.01.

# %% id="scale"
STEPS, CONTESTS, SEEDS, REVIEWS, GROWN = (9, 20, 2, 60, 9) if QUICK else (STEPS, CONTESTS, SEEDS, REVIEWS, GROWN)
low, high = 1e-4, 0.1
print(f"above 0.01: {(np.random.default_rng(0).uniform(low, high, 100_000) > 0.01).mean():.1%}")


# %% [markdown] id="share-text"
# Yet whether a rate is 0.001 or 0.002 matters about as much as whether it is 0.01 or 0.02: what counts is the *factor*. On a **logarithmic
# scale** the same step multiplies by the same number. From low to high the factor is high / low, halfway it is the root of that, and at
# any share of the way it is (high / low) ** share. So the number at a share is
#
# low * (high / low) ** share, where the plain scale has low + share * (high - low)
#
# From 1 to 9, halfway lies 3; on the plain scale 5. Draw the share evenly, and every factor of ten has the same chance.
#
# Some options are whole numbers, say 2 to 5 layers. Each of the four should get a quarter of the way. So let the range end at high + 1, at
# 6, and round the number **down** (`math.floor`): a share of 0.875 gives 2 + 0.875 * 4 = 5.5, so 5.
#
# **Exercise 1.** Write it. If both ends are whole (`isinstance(low, int)`), so is the answer, on either scale.


# %% tags=["exercise"] id="exercise-share"
def at_share(share, low, high, log=False):
    """The number at that share of a range, from 0 (low) up to 1, which is excluded; log=True: on the logarithmic scale."""
    raise NotImplementedError


# %% tags=["check"] id="check-share"
at_share = check("at_share", at_share)

# %% [markdown] id="learn-text"
# ## 2. What is searched
#
# Two options of a small GPT: the learning rate, and the weight decay, which pulls the weights a little towards 0 in each step. A
# **candidate** is a share for each of them. `learn` trains one and returns its loss on held-out text after each number of steps in `looks`.
# (The rate stays level, so the first 15 steps of a long run are the same as a run of 15.)
#
# The held-out text is the last tenth of the *training* stories. Whoever chooses by the test stories has no test left.


# %% id="learn"
torch.set_num_threads(1)  # the models are small: a second thread would only wait
documents = list(stories(400, seed=17))
tokenizer = BPETokenizer.train(documents, vocab_size=512)
V, END, ids = tokenizer.vocab_size, tokenizer.end_of_text, encode_corpus(documents, tokenizer).ids
train_ids, held_ids = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
x, y = next(Batches(held_ids, 60, 32))


def learn(candidate, looks, seed=0):
    torch.manual_seed(seed)
    rate, decay = at_share(candidate[0], low, high, log=True), at_share(candidate[1], 0.001, 1.0, log=True)
    model = GPT(gpt2_config(vocab_size=V, context_length=32, d_model=16, n_layers=1, n_heads=2))
    settings = {"learning_rate": rate, "weight_decay": decay, "warmup": 5, "warmdown": 0, "eval_every": STEPS // 9}
    batches, held_out = Batches(train_ids, 8, 32, seed=seed), lambda model: cross_entropy(model(x), y).item()
    history = train(model, batches, TrainConfig(max(looks), **settings), evaluate=held_out, progress=False)
    return [record["validation"] for record in history if record["step"] in looks]


# %% [markdown] id="table-guess"
# First a map: thirteen rates, each with the lowest and the highest decay, after 15, 45 and 135 steps. It costs more than a search
# should; it will be our referee. **Predict**: is the best rate (circled) the same after few steps and after many?

# %% id="table"
looks, shares = (STEPS // 9, STEPS // 3, STEPS), np.linspace(0, 1, 13)
table = np.array([[learn((share, decay), looks) for share in shares] for decay in (0, 1)])  # (2, 13, 3)
by_rate, by_decay = np.ptp(table[0, :, 2]), abs(table[0] - table[1])[table[0, :, 2].argmin(), 2]
print(f"the rate moves the last loss by {by_rate:.2f}, at the best rate the decay by {by_decay:.2f}")
assert QUICK or (by_rate > 5 * by_decay and np.ptp(table[0, -5:, 1]) < 0.1 < np.ptp(table[0, -5:, 2]))
rates, curves = low * (high / low) ** shares, {f"{n} steps": table[0, :, k] for k, n in enumerate(looks)}
plot_curves(rates, curves, "learning rate", "loss, nats per token", log_x=True, mark_best=True)

# %% [markdown] id="nine-text"
# The decay hardly matters here, the rate does. After 45 steps the highest five rates look alike; after 135 they do not.
#
# ## 3. Nine tries
#
# We can pay for nine full runs. Three ways to spend them:
#
# * **Grid**: three rates times three decays.
# * **Random**: nine candidates drawn at random. A grid of nine tries only *three* rates, each three times. If the decay hardly matters,
#   six of its runs are in vain. Random candidates try nine rates: this is why Bergstra and Bengio (2012) prefer to draw.
# * **Successive halving** (Jamieson and Talwalkar 2016): many candidates and short runs; throw out the worst, train longer what is left.
#
# Halving in detail: the first round gives every candidate `budget` steps and keeps the best one in `keep`, rounded up. The second gives
# each of these `keep` times as many steps, from the start again. And so on, until one is left. With keep = 3:
#
# 27 candidates · 15 steps = 405, then 9 · 45 = 405, then 3 · 135 = 405. Together 1,215 steps, as many as nine runs of 135.
#
# The bet: who is bad after 15 steps will be bad after 135. What says the map?
#
# **Exercise 2.** Write it. A round is a tuple (budget, candidates, scores, kept): scores in the order of the candidates, kept with the best
# first. Of equal scores the first wins. A score of infinity is a training that failed: it never goes on. A lone candidate gets one
# round. Each call of `score` is a training: call it once for each candidate in a round.


# %% tags=["exercise"] id="exercise-halving"
def successive_halving(candidates, score, budget, keep=3):
    """A list of rounds, each (budget, candidates, scores, kept). score(candidate, budget) -> loss; budget: of the first round."""
    raise NotImplementedError


# %% tags=["check"] id="check-halving"
successive_halving = check("successive_halving", successive_halving)

# %% [markdown] id="contest-text"
# The contest, at equal cost. Nobody knows where the valley lies, so the grid is moved by a random part of its step. Who will win?


# %% id="contest"
def contest(rng, score):
    laid = (np.arange(3)[:, None] + rng.random(2)) / 3  # (3, 2): three shares for each of the two options
    grid = [(rate, decay) for rate in laid[:, 0] for decay in laid[:, 1]]
    found = [min((score(c, STEPS), *c) for c in candidates) for candidates in (grid, rng.random((9, 2)))]
    *_, (_, _, scores, kept) = successive_halving([*map(tuple, rng.random((27, 2)))], score, STEPS // 9)
    return [*found, (min(scores), *kept[0])]


kinds, results = ("grid", "random", "halving"), contest(np.random.default_rng(1), lambda c, steps: learn(c, [steps])[0])
for kind, (loss, *winner) in zip(kinds, results, strict=True):
    print(f"{kind:8} loss {loss:.3f} at a rate of {at_share(winner[0], low, high, log=True):.4f}")


# %% [markdown] id="thousand-text"
# One contest proves little. A thousand would take hours. But we have the map, and read off straight lines between its points: a
# **recorded** score, made of real runs, and as cheap as a look into a table.
#
# The curves show the losses that were found, sorted: at 50% the middle one. **Predict** their order.


# %% id="thousand"
def recorded(candidate, steps):
    ends = [np.interp(candidate[0], shares, row[:, looks.index(steps)]) for row in table]  # of the two decays
    return np.interp(candidate[1], [0, 1], ends)


found = np.array([[loss for loss, *_ in contest(np.random.default_rng(i), recorded)] for i in range(CONTESTS)])
wins, better = np.bincount(found.argmin(1), minlength=3) / CONTESTS, (found[:, 1] < found[:, 0]).mean()
print("share of contests won:", *zip(kinds, wins.tolist(), strict=True), "random beats grid:", better)
assert QUICK or (wins[0] < wins[1] < wins[2] < 0.55 < better < 0.65 and found[:, 0].max() < found[:, 1:].max(0).min())
curves = dict(zip(kinds, np.quantile(found, np.linspace(0, 1, 21), axis=0).T, strict=True))
plot_curves(np.linspace(0, 100, 21), curves, "contests with a lower loss, %", "loss of the winner, nats per token")


# %% [markdown] id="seeds-text"
# Halving wins most often, random next, the grid least. Random beats the grid in three of five. Halving tries 27 rates, but looks
# at most of them only briefly, and sometimes throws a good one out. And look at the far right: in their *worst* contests both
# found next to nothing. That cannot happen to a grid, which is even.
#
# ## 4. Was it luck?
#
# The winners of our contest again, with new seeds, that is, other first weights and another order of the batches:

# %% id="seeds"
again = np.array([[learn(c, [STEPS], seed)[0] for seed in range(1, SEEDS + 1)] for _, *c in results])
for kind, losses in zip(kinds, again, strict=True):
    print(f"{kind:8}", losses.round(3), f"mean {losses.mean():.3f}")
print("t_quantile(0.975, f) with f = 2, 4, 8, 1000:", *(f"{t_quantile(0.975, f):.2f}" for f in (2, 4, 8, 1000)))


# %% [markdown] id="welch-text"
# Two means differ even by chance alone. How much must they differ to mean something? Take the **variance** of
# a group: the sum of the squares of what its scores differ from their mean, divided by n - 1. Divided once more by the number of scores it is
# the variance of the *mean*: va for one group, vb for the other. Their difference has the variance va + vb. Its root is one **standard
# error**.
#
# How many standard errors may chance make? 1.96 in 95 of 100 cases, if the spread were known. We guess it from a few scores, and must
# be more careful. Student's t distribution says how much: it stays below `t_quantile(p, f)` with probability p (see above). Half of the 5%
# lies on each side, so p = (1 + 0.95) / 2. And f, the **degrees of freedom**, says how well the spread is known. Welch (1947):
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
# **Predict**: which winners differ by more than chance? And had you compared one seed with one seed, how many of the 25 pairs would say the
# opposite of what the means say?

# %% id="verdict"
for i, j in ((0, 1), (0, 2), (1, 2)):
    a, b, apart = again[i], again[j], abs(again[i].mean() - again[j].mean())
    contrary = ((a[:, None] < b) != (a.mean() < b.mean())).sum()
    print(f"{kinds[i]}, {kinds[j]}: {apart:.3f} apart, limit {welch(a, b):.3f}; {contrary} pairs disagree")
assert QUICK or (again[0].mean() - again[1].mean() > welch(*again[:2]) and apart < welch(*again[1:]))


# %% [markdown] id="folds-text"
# Halving won the contest, but its new mean is above that of random: whoever takes the best of many takes the luckiest, too. Nor does that
# mean anything: about half of the pairs disagree. Only grid and random differ by more than chance.
#
# ## 5. Scores that belong together
#
# An n-gram has no seed. Its luck lies in the stories that happen to be held out; lesson 11 gave every story its turn, in folds. Here are
# orders 5 to 8 with three discounts, a score for each fold. **Predict**: what differs more, the orders or the folds?

# %% id="folds"
rows = [tokenizer.encode(document) for document in documents[: 60 if QUICK else None]]
folds, bits = k_fold(len(rows), 5), {}
for order, D in [(order, D) for order in (5, 6, 7, 8) for D in (0.5, 0.7, 0.9)]:
    config = NgramConfig(V, order, "interpolated-kneser-ney", discounts=((D,) * 3,) * order)
    bits[order, D] = [cross_validated_nats(config, rows, END, [fold]) / np.log(2) for fold in folds]
first, second, *_ = sorted(bits, key=lambda options: np.mean(bits[options]))
print("best (order, discount):", first, "then", second)
plot_curves(range(1, 6), {f"order {n}": bits[n, 0.7] for n in (5, 6, 7, 8)}, "fold", "bits per token, discount 0.7")

# %% [markdown] id="paired-text"
# The curves run side by side: fold 2 is easy for every order. Orders 7 and 8 lie much closer than the folds, but never cross! Welch cannot
# see that; to it, what the folds have in common is spread. The scores of one fold **belong together**. So subtract them first,
# fold by fold. Of the n differences only the deviation s counts (the root of their variance):
#
# limit = t_quantile((1 + level) / 2, n - 1) · s · root of (1 / n + overlap)
#
# For seeds that are shared the overlap is 0. For k folds it is 1 / (k - 1): their trainings share most of the stories, and so tell less than they seem to
# (Nadeau and Bengio 2003).
#
# **Exercise 4.** Write it. A lone pair tells no spread: `math.inf`.


# %% tags=["exercise"] id="exercise-paired"
def paired(a, b, overlap=0.0, level=0.95):
    """What the means of two lists must differ by, where a[i] and b[i] belong together."""
    raise NotImplementedError


# %% tags=["check"] id="check-paired"
paired = check("paired", paired)

# %% [markdown] id="judge-text"
# Three limits now: as two groups, paired, paired with the overlap. We ask them about the two best n-grams, and about two classifiers of
# short texts, positive or negative (lesson 10), in ten folds: logistic regression, and naive Bayes, which multiplies how often each class
# uses each word. **Predict**: which limit is the smallest?


# %% id="judge"
def accuracies(kind, reviews):
    def answer(train, texts):
        return kind(BagOfNgrams(longest=2)).fit(*zip(*train, strict=True)).predict(texts)

    return cross_validate(answer, reviews, k=10).accuracies


both = [accuracies(kind, labelled(REVIEWS, 17)) for kind in (NaiveBayes, LogisticRegression)]
for a, b in ((bits[first], bits[second]), both):
    apart, limits = abs(np.mean(a) - np.mean(b)), [welch(a, b), paired(a, b), paired(a, b, 1 / (len(a) - 1))]
    print(f"means {np.mean(a):.4f}, {np.mean(b):.4f}: {apart:.4f} apart, limits", np.round(limits, 4))
assert QUICK or paired(*both) < apart < min(welch(*both), paired(*both, 1 / 9))


# %% [markdown] id="scaling-text"
# As two groups, neither difference counts. Paired, both do. With the overlap, order 8 still beats order 7 (so try longer ones); that
# regression beats Bayes, by five texts in a hundred, is open.
#
# ## 6. A prediction
#
# How good would a larger model be? Often the loss falls along a **power law** of the size x:
#
# loss = floor + scale / x^exponent
#
# The floor is what no size gets below. Without one, log(loss) = log(scale) - exponent · log(x), a straight line if both axes are
# logarithmic. With one, log(loss - floor) is straight. By hand, with losses 7, 4 and 2.5 at sizes 1, 4 and 16, the slopes from point to
# point:

# %% id="by-hand"
sizes, losses = np.array([1.0, 4.0, 16.0]), np.array([7.0, 4.0, 2.5])
slopes = [np.diff(np.log(losses - floor)) / np.diff(np.log(sizes)) for floor in (0.0, 1.0)]
slopes, PowerLaw(floor=1.0, scale=6.0, exponent=0.5)(sizes)


# %% [markdown] id="law-text"
# With a floor of 0 the slopes differ, so it is not straight. With 1 both are -0.5, and the loss is 1 + 6 / root of x.
#
# So try many floors, and fit a line for each. One trap: near the floor the logarithm of loss - floor stretches small errors. 1% of the loss
# becomes 1% · loss / (loss - floor). So the distance of each point from the line is multiplied by its **weight** (loss - floor) / loss
# before it is squared. `np.polyfit(u, v, 1, w=weights)` does just that, and returns the slope and the height at u = 0. Then compare the
# floors: the best has the smallest sum of squares of log(loss) - log(law).
#
# **Exercise 5.** Write it. A law is `PowerLaw(floor, scale, exponent)`, a tuple with names; `law(x)` is its loss at x.


# %% tags=["exercise"] id="exercise-law"
def best_law(x, loss, floors):
    """x (N,), loss (N,), floors (F,), all below the lowest loss -> (the best PowerLaw, the place of its floor in floors)."""
    raise NotImplementedError


# %% tags=["check"] id="check-law"
best_law = check("best_law", best_law)

# %% [markdown] id="small-text"
# Five widths of the `SpeedrunGPT` of lesson 09, three seeds each, all with the same text and as many steps. x is the number of weights.


# %% id="small"
def grown(width, seed):
    torch.manual_seed(seed)
    model = SpeedrunGPT(SpeedrunConfig(V, 32, width, n_layers=1, n_heads=width // 16))
    recipe = {"optimizer": "muon", "learning_rate": 0.01, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.0}
    config = TrainConfig(GROWN, schedule="linear", warmdown=0.6, eval_every=0, **recipe)
    train(model, Batches(train_ids, 16, 32, seed=seed), config, progress=False)
    return sum(p.numel() for p in model.parameters()), cross_entropy(model(x), y).item()


runs = np.array([[grown(width, seed) for width in WIDTHS[:-1]] for seed in (1, 2, 3)])  # (3 seeds, 5 widths, 2)
weights, losses = runs[0, :, 0], runs[:, :, 1]
print(weights.astype(int), losses.round(3), sep="\n")


# %% [markdown] id="law-guess"
# The seeds differ little here. The larger model, not trained yet, will have a width of 128, two and a half times as many weights as the
# largest of these. **Write down your guess of its loss.** Then comes that of your fit: with a floor of 0, and with the best of a
# thousand floors.
#
# A prediction is worth little without an **interval**. `bootstrap_interval` draws points and seeds again and again, some twice, some not
# at all; it fits each time, and adds the chance of a single seed. Between its ends lie 95% of what comes out. Once it is printed,
# the next cell trains the larger model, with three seeds (the star is their mean).

# %% id="predict"
mean = losses.mean(0)
pure, law = (PowerLaw(*best_law(weights, mean, f)[0]) for f in (np.zeros(1), np.linspace(0, 0.999 * mean.min(), 1000)))
at = sum(p.numel() for p in SpeedrunGPT(SpeedrunConfig(V, 32, WIDTHS[-1], 1, WIDTHS[-1] // 16)).parameters())
least, middle, most = bootstrap_interval(weights, losses, at, 300, np.random.default_rng(0))
print(f"{at:,} weights: {pure(at):.3f} without a floor, {law(at):.3f} with one, 95% from {least:.3f} to {most:.3f}")
assert QUICK or np.allclose(law, fit_power_law(weights, mean), rtol=0.05)  # the library's search is finer

# %% id="larger"
measured = np.array([grown(WIDTHS[-1], seed)[1] for seed in (1, 2, 3)])
print(f"measured {measured.round(3)}, off by {measured.mean() - law(at):+.3f}, {measured.mean() - pure(at):+.3f}")
assert QUICK or least < measured.min() < measured.max() < most
plot_scaling(weights, losses, law, (at, least, middle, most), [measured.mean()], x_label="weights")

# %% tags=["check"] id="reveal"
reveal("best_law")

# %% [markdown] id="summary"
# Inside, and close to the fit with a floor. Without one the line ran on too steeply: at small sizes the bend hardly shows, far away it
# decides. And the interval knows of chance only. That the curve goes on like this, nobody has promised.
#
# ## Summary
#
# * Draw what acts by factors on a logarithmic scale. Random tries beat a grid where few options matter; halving tries more, and bets
#   that bad beginnings end badly.
# * A difference counts when it exceeds what chance makes: Welch for groups; pairs, with their overlap, for folds.
# * A straight line through small runs, once the floor is taken off, can tell of a larger one. Say the interval before you look.
#
# **On the ladder:** nothing new; these models are tiny.
#
# **Next:** the papers named above; Hoffmann et al. (2022) on scaling. In minilm: `training/search.py`, `evaluation/scaling.py`.
