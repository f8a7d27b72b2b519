# %% [markdown] id="title"
# # 12 Optimizers and schedules: how far, and in which direction?
#
# A gradient says which way is downhill. It does not say how far to go, and its direction is good only for a very small step. In
# lesson 07 a black box, AdamW, decided both. Here you open it, and two others beside it.
#
# **You will write** four short functions: momentum, the direction of Adam, the orthogonal matrix of Muon, and the learning rate
# over a run. Then they train a small GPT, each with the best rate that you find for it.
#
# needs: 01, 02, 04, 05, 06, 07. Time: 90 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, SEEDS = 300, [1, 2, 3]

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import math

import torch

from minilm import GPT, Batches, BPETokenizer, encode_corpus, gpt2_config
from minilm.checks.exercises import check, reveal
from minilm.plots.curves import plot_curves
from minilm.plots.descent import plot_paths
from minilm.text.stories import stories
from minilm.training.loss import cross_entropy
from minilm.training.muon import muon_groups
from minilm.training.optim import Optimizer, clip_grad_norm

STEPS, SEEDS = (10, [1, 2]) if QUICK else (STEPS, SEEDS)
_ = torch.manual_seed(12)
torch.set_num_threads(1)  # the models are small: a second thread would only wait

# %% [markdown] id="ravine-text"
# ## 1. A ravine
#
# Two weights, x and y, and the loss (x² + 20 y²) / 2, flat along x and steep along y: a ravine, lowest at (0, 0). Its gradient
# is (x, 20 y). We begin at (10, 1), where it is (10, 20).
#
# The slope along y is the larger one, although x is farther from 0. One step of gradient descent along y is y - rate · 20 y =
# (1 - 20 rate) y: each step multiplies y by the same number. It shrinks if that number lies between -1 and 1, that is, if the
# rate is below 2 / 20 = 0.1. And x, which could take a rate of up to 2, is multiplied by 1 - rate: it creeps.
#
# **The steepest direction limits the rate; the flattest one pays for it.** Measured, with 40 steps just below the limit and
# just above (x, y at the end):


# %% id="limit"
def ravine(x, y):
    return (1 * x**2 + 20 * y**2) / 2


def descend(rate, rule, steps=40):
    places, memory = [torch.tensor([10.0, 1.0])], {}
    for _ in range(steps):
        places.append(places[-1] - rate * rule(torch.tensor([1.0, 20.0]) * places[-1], memory))
    return torch.stack(places)


def plain(gradient, memory):
    return gradient


below, above = descend(0.095, plain), descend(0.105, plain)
assert abs(below[-1, 1]) < 0.1 and abs(above[-1, 1]) > 10
below[-1], above[-1]

# %% [markdown] id="momentum-text"
# Below, y dies out; above, it grows without end; x creeps in both.
#
# ## 2. Momentum
#
# Along y the steps change their sign every time; along x they agree. So keep a **velocity**: the old one times a number below
# 1, plus the new gradient. The weights then move against the velocity. What agrees adds up, what alternates cancels. With
# momentum 0.5 and gradients of 1, 1, 1, ... the velocity is 1, then 1.5, 1.75, ... towards 2; with 1, -1, 1, ... it tends to
# 2/3 in size. In general the two limits are 1 / (1 - m) and 1 / (1 + m).
#
# Nesterov's version looks ahead: where will the velocity carry us next? Its direction is the gradient plus momentum times the *new*
# velocity. By hand, with velocity 2, gradient 3 and momentum 0.5: the new velocity is 4, Nesterov's direction 5.
#
# **Exercise 1.** Write both: the direction is Nesterov's if `nesterov` is True, else the new velocity. Return the new velocity
# and the direction, and change neither argument.


# %% tags=["exercise"] id="exercise-momentum"
def momentum_step(velocity, gradient, momentum, nesterov):
    """Two tensors of one shape -> (new velocity, direction): m · velocity + gradient, and what the weights move against."""
    raise NotImplementedError


# %% tags=["check"] id="check-momentum"
momentum_step = check("momentum_step", momentum_step)

# %% [markdown] id="paths-text"
# Now down the ravine: 40 steps, without momentum at a rate of 0.09, and with 0.8 of momentum at 0.04. Draw both ways first. Which
# one zigzags, and which one gets farther along x? (Grey lines: equal loss. Cross: the end.)


# %% id="plot-paths"
def with_momentum(gradient, memory, momentum=0.9, nesterov=True):
    old = memory.get("velocity", torch.zeros_like(gradient))
    memory["velocity"], direction = momentum_step(old, gradient, momentum, nesterov)
    return direction


nesterov = descend(0.04, lambda gradient, memory: with_momentum(gradient, memory, 0.8))
paths = {"gradient descent, rate 0.09": descend(0.09, plain), "Nesterov, rate 0.04": nesterov}
assert ravine(*nesterov[-1]) < ravine(*descend(0.09, plain)[-1]) / 10
plot_paths(ravine, paths)

# %% [markdown] id="adam-text"
# Plain descent zigzags, then creeps. Nesterov stops swinging, gathers speed, shoots past 0 and comes back, and ends closer.
#
# ## 3. Adam
#
# Momentum still takes long steps where slopes are large. **Adam** divides them by their own size. For each weight alone it
# keeps two running means: m of the gradients g, and v of their squares.
#
# m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g², direction = m / (root of v + eps)
#
# The mean of the squares, not the square of the mean: if gradients keep changing their sign, m is near 0 and v is not, and the step
# is short. The small eps is added after the root, and keeps us from dividing by 0.
#
# Both means begin at 0, so they are too small at first. By how much? If every gradient was g, then after t steps m = (1 -
# beta1)(1 + beta1 + ... + beta1^(t-1)) g = (1 - beta1^t) g. So divide m by 1 - beta1^t, and v by 1 - beta2^t, before the root.
# The first step is t = 1. By hand, with gradients of very different sizes:

# %% id="adam-hand"
g = torch.tensor([0.001, -2.0, 300.0])
m, v = 0.1 * g, 0.001 * g**2  # beta1 = 0.9, beta2 = 0.999
first = (m / (1 - 0.9)) / ((v / (1 - 0.999)).sqrt() + 1e-8)
assert torch.allclose(first, torch.tensor([1.0, -1.0, 1.0]), atol=1e-4) and (m / v.sqrt())[2] > 3
first, m / v.sqrt()

# %% [markdown] id="adam-exercise-text"
# The first step moves every weight by the rate, whatever its gradient. Without the correction (the second tensor) it would be
# three times as long here, since the two means begin with different shares of the gradient.
#
# **Exercise 2.** Write the direction, given the means after t steps.


# %% tags=["exercise"] id="exercise-adam"
def adam_direction(mean, square, t, beta1, beta2, eps):
    """Running means of g and g² after t updates, the first being t = 1 -> the direction, of the same shape."""
    raise NotImplementedError


# %% tags=["check"] id="check-adam"
adam_direction = check("adam_direction", adam_direction)

# %% tags=["check"] id="reveal"
reveal("adam_direction")

# %% [markdown] id="scale-text"
# Multiply the loss by 1000, say because you sum over tokens where you took a mean. All gradients are then 1000 times as long. What
# happens to a step of gradient descent, and what to one of Adam? (From here on beta2 is 0.99.)


# %% id="scale"
def with_adam(gradient, memory):
    t = memory["step"] = memory.get("step", 0) + 1
    memory["mean"] = 0.9 * memory.get("mean", 0) + 0.1 * gradient
    memory["square"] = 0.99 * memory.get("square", 0) + 0.01 * gradient**2
    return adam_direction(memory["mean"], memory["square"], t, 0.9, 0.99, 1e-8)


assert torch.allclose(with_adam(1000 * g, {}), with_adam(g, {}), atol=1e-4)
plain(1000 * g, {}) / plain(g, {}), with_adam(1000 * g, {}) / with_adam(g, {})

# %% [markdown] id="decay-text"
# **Weight decay** pulls each weight a little towards 0. In Adam the pull was once added to the gradient (*coupled*), and then it is
# divided by the root of v with the rest. AdamW takes it out (*decoupled*): weight - rate · decay · weight, beside Adam's step. Two
# weights of 1, one with noisy gradients of size 10, one of size 0.1, decay 0.1, rate 0.01, 400 steps. Which one
# shrinks?

# %% id="decay"
coupled, decoupled, memories = torch.ones(2), torch.ones(2), ({}, {})
for i in range(400):
    noise = torch.tensor([10.0, 0.1]) * (-1) ** i
    coupled -= 0.01 * with_adam(noise + 0.1 * coupled, memories[0])
    decoupled -= 0.01 * with_adam(noise, memories[1]) + 0.01 * 0.1 * decoupled
assert coupled[0] > 0.9 > 0.7 > decoupled.max() > 0.6 and coupled[1] < 0.1
coupled, decoupled

# %% [markdown] id="bfloat-text"
# Coupled, the weight with large gradients hardly decays, and the one with small gradients almost vanishes. Decoupled, both do
# alike, and as asked: 0.999^400 is 0.67.
#
# One more trap. bfloat16, the short float of modern chips, keeps two to three digits. What is 1 + 0.001 there?

# %% id="bfloat"
one = torch.tensor(1.0, dtype=torch.bfloat16)
assert one + 0.001 == one and one.float() + 0.001 != one.float()
one + 0.001

# %% [markdown] id="muon-text"
# It is 1: a thousand steps of 0.001 would change nothing. That is why an optimizer keeps a copy of the weights in float32, the
# **master** weights, and collects the steps there.
#
# ## 4. Muon
#
# Adam looks at every weight alone. But most weights stand in matrices. A matrix turns and stretches vectors, along some
# directions more. The factors are its **singular values**, and any matrix is U S Vᵀ: turn (Vᵀ), stretch along the axes (S),
# turn again (U).
#
# What does the gradient of a real matrix look like? Here is one of a GPT at its start. Guess: are its 32 singular values about
# equal? And which part of the sum of their squares do the eight largest hold?

# %% id="data"
documents, cut = list(stories(480, seed=12)), 400
tokenizer = BPETokenizer.train(documents[:cut], vocab_size=512)
ids = encode_corpus(documents[:cut], tokenizer).ids
train_ids, tuning_ids = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]  # rates are chosen on the second part
held_ids = encode_corpus(documents[cut:], tokenizer).ids
small = gpt2_config(vocab_size=512, context_length=32, d_model=32, n_layers=1, n_heads=2)

# %% id="spectrum"
model = GPT(small)
x, y = next(Batches(train_ids, batch_size=8, context_length=32))
cross_entropy(model(x), y).backward()
gradient = max((p.grad for p in muon_groups(model, 0.1, 0.1, 0.0)[0]["params"]), key=len)  # the one with most rows
before = torch.linalg.svdvals(gradient)
assert before[0] > 10 * before[-2] and before[-1] < 1e-5 * before[0]
before / before[0], (before[:8] ** 2).sum() / (before**2).sum()

# %% [markdown] id="orthogonal-text"
# The first is more than ten times as large as the last but one, and eight hold most of the squares: a step along the gradient
# moves mostly along a few directions. (The very last is 0: what enters this matrix comes from a LayerNorm, and such rows sum
# to 0.) Muon makes the singular values about 1: the step U Vᵀ, in which **every direction counts the same**. To compute U, S and V
# is slow. A trick: with X = U S Vᵀ the product X Xᵀ X is U S³ Vᵀ, since VᵀV and UᵀU are 1. So a X + b X Xᵀ X + c X Xᵀ X Xᵀ X
# turns each singular value s into a s + b s³ + c s⁵, without ever knowing s. With a = 3.4445, b = -4.7750, c = 2.0315 small s
# grow quickly and none leaves the neighbourhood of 1, provided that all begin at 1 or below. That is why X is first divided by
# its length, the root of the sum of all squares; no singular value is above that.
#
# **Exercise 3.** Write it for matrices: divide by the length (or by 1e-7 where it is shorter: a matrix of zeros stays zero; see
# `.clamp(min=...)`), then in each step G = X Xᵀ and X = a X + (b G + c G G) X, all of them products of matrices. `X.mT` is Xᵀ.
# A tall matrix may be turned first, since G is smaller then; turn it back at the end.


# %% tags=["exercise"] id="exercise-orthogonalize"
def orthogonalize(matrix, steps=5):
    """(R, C) -> (R, C): singular values brought to about 1 by this many steps, directions kept."""
    raise NotImplementedError


# %% tags=["check"] id="check-orthogonalize"
orthogonalize = check("orthogonalize", orthogonalize)

# %% [markdown] id="spectrum-text"
# Draw two curves first: the singular values, from the largest, before and after your steps.

# %% id="plot-spectrum"
after = torch.linalg.svdvals(orthogonalize(gradient))
spectra = {"before": before[:-1] / before[0], "after": after[:-1]}
assert after[:-1].min() > 0.6 and after.max() < 1.3
plot_curves(range(1, 32), spectra, "singular value, from the largest", "size (before: first = 1)")

# %% [markdown] id="schedule-text"
# All lie between 0.6 and 1.3 now (the last, 0, stays 0 and is left out).
#
# ## 5. The rate over a run
#
# At first the means of Adam know little, and the weights are far from anything: so the rate climbs in a **warm-up**. At the end
# the noise of the batches keeps the weights jumping around the valley. So it falls in a **warm-down**.
#
# The convention, with steps counted from 0, `warmup` a number of steps, and `warmdown` a fraction of the whole run:
#
# * step < warmup: (step + 1) / (warmup + 1), so that the first step already learns;
# * then 1, until the fall begins: at n_steps · (1 - warmdown), but not before the warm-up is over;
# * then from 1 to `final`, which step n_steps, the one after the last, would reach. With x the part of the fall that is over, what
#   is left is 1 - x ("linear") or (1 + cos(pi · x)) / 2 ("cosine"); and the factor is final + (1 - final) · left.
#
# **Exercise 4.** Write it. `math.cos` and `math.pi` are there.


# %% tags=["exercise"] id="exercise-schedule"
def learning_rate_factor(step, n_steps, warmup=0, kind="cosine", warmdown=1.0, final=0.0):
    """The fraction of the highest learning rate that this step uses."""
    raise NotImplementedError


# %% tags=["check"] id="check-schedule"
learning_rate_factor = check("learning_rate_factor", learning_rate_factor)

# %% [markdown] id="schedule-plot-text"
# Draw it before the computer does: 100 steps, 10 of warm-up; a cosine over all the rest, a line over the last 40
# steps, and no fall at all.

# %% id="plot-schedule"
kinds = {"cosine": ("cosine", 1.0), "linear, 0.4": ("linear", 0.4), "level": ("linear", 0.0)}
drawn = {name: [learning_rate_factor(i, 100, 10, *kind) for i in range(100)] for name, kind in kinds.items()}
plot_curves(range(100), drawn, "step", "fraction of the rate")

# %% [markdown] id="race-text"
# ## 6. Your optimizers train a GPT
#
# A library optimizer goes through the parameters and calls `update` for each. Ours asks one of your rules for a direction.
# Muon's rule is for the matrices of the block; the tables of tokens and places, and all vectors, get Adam at its own rate
# of 0.01. The root in `muon` lengthens the step of a tall matrix, so that each of its many outputs changes enough.


# %% id="rules"
class Own(Optimizer):
    def update(self, p, gradient, memory, group):
        p -= group["lr"] * (with_adam if self.rule is muon and not group["matrices"] else self.rule)(gradient, memory)


def muon(gradient, memory):
    return orthogonalize(with_momentum(gradient, memory)) * math.sqrt(max(1, len(gradient) / len(gradient.T)))


# %% id="learn"
def learn(rule, rate, seed=0, warmdown=0.4, judged_by=tuning_ids):
    torch.manual_seed(seed)
    model, batches = GPT(small), Batches(train_ids, 8, 32, seed=seed)
    optimizer = Own(muon_groups(model, 0.01 if rule is muon else rate, rate, 0.0))
    optimizer.rule = rule
    for step, (x, y) in zip(range(STEPS), batches, strict=False):
        for group in optimizer.groups:
            group["lr"] = group["base_lr"] * learning_rate_factor(step, STEPS, 20, "linear", warmdown)
        cross_entropy(model(x), y).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    x, y = next(Batches(judged_by, batch_size=60, context_length=32))
    with torch.no_grad():
        return cross_entropy(model(x), y).item()


# %% [markdown] id="grid-text"
# To compare optimizers at *one* rate would be unfair: each has its own. So each gets a grid of rates, the same number of them
# and of steps, judged by a piece of text that is neither trained on nor used for the last comparison. In the plot, x is the
# rate as a multiple of the lowest in its grid. Which rule depends most on its rate? Which will be lowest?

# %% id="plot-grid"
lowest = {plain: 0.1, with_momentum: 0.03, with_adam: 0.001, muon: 0.003}
multiples = [1, 3, 10, 30]
grid = {rule.__name__: [learn(rule, low * k) for k in multiples] for rule, low in lowest.items()}
assert QUICK or max(grid["muon"]) < min(min(grid[rule.__name__]) for rule in lowest if rule is not muon)
plot_curves(multiples, grid, "rate, in multiples of the lowest", "loss, nats per token", log_x=True, mark_best=True)

# %% [markdown] id="seeds-text"
# Now the best rate of each, with new seeds (other first weights, another order of the batches), on the held-out stories. The
# difference between two rules means something only if it is larger than the spread of the seeds.

# %% id="seeds"
best = {rule: low * min(zip(grid[rule.__name__], multiples, strict=True))[1] for rule, low in lowest.items()}
held = {rule: [learn(rule, best[rule], seed, judged_by=held_ids) for seed in SEEDS] for rule in lowest}
for rule in lowest:
    print(f"{rule.__name__:13} rate {best[rule]:<6g}", *(f"{loss:.3f}" for loss in held[rule]))
spans = [end(held[rule]) for rule in (muon, with_momentum, with_adam, plain) for end in (min, max)]
assert QUICK or spans == sorted(spans)

# %% [markdown] id="found-text"
# Muon comes first, then momentum, Adam, and plain descent, and the seeds differ by far less than the rules. Muon is also the least
# sensitive: its worst rate of the grid beats the best one of every other rule.
#
# That momentum beats Adam is not what one hears of large models. This model is tiny, it saw few batches, and in
# the grid Adam has the narrowest valley: a finer grid might find it a better rate. Muon had help, too: its tables were stepped by
# Adam at a rate that suits them, while the others had one rate for everything. What is measured is this contest, not the rules in
# general.
#
# Last, the warm-down. The same rule and rate, the same steps and seeds: level to the end, or falling over the last 40%. A
# falling rate covers less ground in all. Which loss will be lower, and by more than the seeds differ?

# %% id="warmdown"
level = [learn(muon, best[muon], seed, warmdown=0.0, judged_by=held_ids) for seed in SEEDS]
print("level", *(f"{loss:.3f}" for loss in level), "falling", *(f"{loss:.3f}" for loss in held[muon]))
assert QUICK or min(level) > max(held[muon])

# %% [markdown] id="summary"
# The fall wins, by more than the seeds differ. (But the rate was chosen with the fall.)
#
# ## Summary
#
# * The steepest direction limits the rate, at 2 divided by its curvature; momentum adds up what agrees and cancels what alternates.
# * Adam makes the steps of single weights alike, whatever the scale of the loss; Muon does that for the directions of a matrix.
#   Each rule has a rate of its own, and a comparison that does not look for it compares rates.
# * The rate climbs at first and falls at the end: the fall takes away the jumps that noisy batches cause.
#
# **On the ladder:** nothing new. These models are tiny, to compare rules; a real GPT's rung is in lesson 09.
#
# **Next:** Kingma and Ba (2014) on Adam; Loshchilov and Hutter (2017) on decoupled decay; Jordan et al. (2024) on Muon. In minilm:
# `training/optim.py`, `training/muon.py`, `training/schedule.py`.
