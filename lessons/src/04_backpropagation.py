# %% [markdown] id="title"
# # 04 Backpropagation by hand: which way is down?
#
# A neural network is a formula with thousands of numbers in it, its **weights**. How badly it does is one number, the **loss**
# L. It learns by moving each weight a little, so that the loss falls. Up or down, and how much? That takes a slope for every
# weight: how much does L grow if this one grows by a little? This lesson finds them all at once, going through the formula
# backwards.
#
# **You will write** five short functions, one for each kind of step in a small language model, and train it with them.
#
# From school you need the slopes of exp, log and 1/z, and the product rule.
#
# needs: 02. Time: 90 minutes. Run time: under a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
DOCUMENTS = 320
STEPS = 1200

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np

from minilm.byhand.agreement import central_differences
from minilm.byhand.autograd import Value, in_order
from minilm.byhand.basic import embedding, linear, silu, softmax
from minilm.byhand.loss import cross_entropy
from minilm.checks.exercises import check, reveal
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.plots.measuring import Row
from minilm.text.stories import stories

if QUICK:
    DOCUMENTS, STEPS = 60, 60

# %% [markdown] id="slope-text"
# ## 1. A slope by wiggling
#
# School says that x³ has the slope 3x², so 12 at x = 2. Suppose you forgot. Then wiggle: go a step h up, a step h down, and
# divide the difference by the way between, 2h. This is the **central difference**.


# %% id="slope"
def slope(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


slope(lambda x: x**3, 2, 0.1), slope(lambda x: x**3, 2, 0.01)

# %% [markdown] id="wiggle-predict"
# Multiply out (x + h)³ - (x - h)³, divide by 2h, and you get 3x² + h²: the error is h². If you wiggle upwards only, (f(x + h) -
# f(x)) / h, you get 3x² + 3xh + h², an error that shrinks like h. So the smaller h the better? Draw both errors in your mind,
# for h from 0.1 down to a ten-trillionth. (Both axes are logarithmic.)

# %% id="plot-wiggle"
h = np.logspace(-13, -1, 49)
central, upwards = abs(slope(lambda x: x**3, 2, h) - 12), abs(((2 + h) ** 3 - 8) / h - 12)
assert 1e-7 < h[central.argmin()] < 1e-4 and central.min() < upwards.min() / 10 and central[0] > 1e4 * central.min()
plot_curves(h, {"central": central, "upwards only": upwards}, "h", "error of the slope", log_x=True, log_y=True)

# %% [markdown] id="wiggle-why"
# From right to left: the errors fall as promised, then rise again. A computer keeps some 16 digits of a number. If h is tiny,
# f(x + h) and f(x - h) agree in nearly all of them. The subtraction leaves the last few, rounded, and dividing by h blows the
# rounding up. In between, near h = 1e-5, some ten digits are right.
#
# Nothing had to be derived. But a model of a million weights would have to run two million times for one step. So we derive,
# and keep the wiggling as the **judge**.
#
# ## 2. The chain rule
#
# Let u = a · b and L = u². If a grows by a little, u grows b times as much. If u does, L grows 2u times as much. Like gear
# wheels: the slopes are multiplied. That is the **chain rule**. We write `du` for the slope of L in u. Work out `da` and `db`
# for a = 2 and b = 3 before you run the cell.

# %% id="chain"
a, b = 2.0, 3.0
u = a * b  # forward: from what goes in to L
du = 2 * u  # backward: from L to what went in
da, db = du * b, du * a
assert abs(da - slope(lambda a: (a * b) ** 2, 2.0, 1e-5)) < 1e-6
du, da, db

# %% [markdown] id="twice-text"
# Backwards is the clever direction: `du` was computed once, and served both a and b.
#
# Now a number that is used **twice**: u = 2x, v = x², L = u · v. If x is wiggled, u and v both move, and L feels both. Each way
# has its product of slopes, and what arrives on the two ways is **added**.
#
# A step only has to know its own slopes. The rest is bookkeeping, which a `Value` does: a number that remembers which numbers
# it was made of, and its slope in each. Its `backward` comes to a number after all users of it: x may hand on its slope only
# when u *and* v have brought theirs. What will `x.grad` be for x = 3? And if we go back twice?

# %% id="twice"
x = Value(3.0)
u, v = 2 * x, x * x
L = u * v
for _ in range(2):
    L.backward()
    print("x.grad", x.grad)
print("by u", v.data * 2, " by v", u.data * 2 * 3, " in the order", [number.data for number in in_order(L)])
assert x.grad == 2 * 54 and in_order(L)[-1] is x

# %% [markdown] id="linear-intro"
# The second pass added to what stood there. Within a pass that is right, for ways add up; between two the book must be cleared.
# (In torch by `zero_grad`; forgetting it is a classic.)
#
# ## 3. A linear layer: shapes decide
#
# One object for each number is slow, so real models work with whole arrays. The slopes of L in all numbers of an array make an
# array too, its **gradient**.
#
# A **linear layer** makes O numbers out of I: each output is a weighted sum of the inputs, plus a **bias** of its own.
#
# > out_o = Σ_i weight_oi · x_i + bias_o
#
# It does so for all N tokens of a **batch**, with the same weights. A forward function of minilm returns its result and a
# **cache**, a tuple of what the backward function will need; here `(x, weight, whether there is a bias)`.
#
# A layer need only be told `dout`: how L moves with each number of `out`. We draw it at random; then L moves like Σ dout · out,
# which we can wiggle (`central_differences` does so for each number of an array).

# %% id="loops"
rng = np.random.default_rng(4)
x, weight, bias = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), rng.normal(size=4)  # N = 3, I = 2, O = 4
dout, dx = rng.normal(size=(3, 4)), np.zeros((3, 2))
for n, i, o in np.ndindex(3, 2, 4):  # x_ni reaches L on O ways, through each of the outputs
    dx[n, i] += dout[n, o] * weight[o, i]
assert np.allclose(dx, central_differences(lambda: (dout * linear(x, weight, bias)[0]).sum(), x))

# %% [markdown] id="linear-text"
# A sum over o of products: that is a matrix product. Is it `dout @ weight` or `dout @ weight.T`? **A gradient has the shape of
# what it belongs to**, here (3, 2), and only one of them gives that.
#
# Now ask the same of weight_oi: what is its slope in out_o, and through which outputs does it reach L? It is used for *every*
# token. And the bias?
#
# **Exercise 1.** The backward pass of the linear layer. There may be several axes of tokens, (B, T, I) say: `reshape(-1, I)`
# makes one long list of them.


# %% tags=["exercise"] id="exercise-linear"
def linear_backward(dout, cache):
    """dout (..., O), cache (x, weight, has_bias) -> dx (..., I), dweight (O, I), dbias (O,), or None if has_bias is False."""
    raise NotImplementedError


# %% tags=["check"] id="check-linear"
linear_backward = check("linear_backward", linear_backward)

# %% [markdown] id="silu-text"
# ## 4. A bend
#
# Two linear layers behind one another can do no more than one: a weighted sum of weighted sums is a weighted sum. Between them
# there has to be something that is not straight. We take the **SiLU**, x · s, where s = 1 / (1 + exp(-x)) is the **sigmoid**:
# near 0 for very negative x, near 1 for large x.
#
# So the SiLU is nearly 0 on the left, and nearly x on the right. What does its slope look like? Is it ever below 0, ever above
# 1?

# %% id="plot-silu"
xs = np.linspace(-8, 8, 161)
bends = slope(lambda x: silu(x)[0], xs, 1e-5)
assert bends.min() < 0 and bends.max() > 1
plot_curves(xs, {"SiLU": silu(xs)[0], "its slope": bends}, "x", "")

# %% [markdown] id="silu-derive"
# Both! That was wiggled; now derive it. The slope of 1/z is -1/z². Here z = 1 + exp(-x), whose slope is -exp(-x). So the chain
# rule gives
#
# > s' = exp(-x) / (1 + exp(-x))² = s · (1 - s)
#
# For 1 - s = exp(-x) / (1 + exp(-x)). The formula speaks of s, not of x. And in x · s both factors depend on x: two ways.
#
# **Exercise 2.** Each number goes its own way here, so there is no sum over others: dx = dout · slope.


# %% tags=["exercise"] id="exercise-silu"
def silu_backward(dout, cache):
    """dout (...), cache (x, s) with s = sigmoid(x), both (...) -> dx (...), for out = x · s."""
    raise NotImplementedError


# %% tags=["check"] id="check-silu"
silu_backward = check("silu_backward", silu_backward)

# %% [markdown] id="softmax-text"
# ## 5. Softmax: everyone depends on everyone
#
# The last layer gives a score for each token that might come next: any numbers. The **softmax** makes probabilities of them:
#
# > p_i = exp(x_i) / Σ_k exp(x_k)
#
# exp makes them positive, the division makes them sum to 1. We take three scores and wiggle each: row i, column j is the slope
# of p_i in score j. What must each column sum to?

# %% id="softmax-slopes"
scores = np.log([1.0, 3.0, 4.0])
p, cache = softmax(scores)
slopes = np.stack([(softmax(scores + h)[0] - softmax(scores - h)[0]) / 2e-5 for h in 1e-5 * np.eye(3)], axis=1)
assert np.allclose(slopes.sum(axis=0), 0) and np.allclose(slopes, np.diag(p) - np.outer(p, p))
p, slopes.round(4)

# %% [markdown] id="softmax-derive"
# To 0: what one probability wins, the others lose. There is no 0 in the table: a score moves *all* probabilities. By the
# quotient rule, the slope of p_i in its own score is p_i (1 - p_i), and in another one, j, it is -p_i p_j.
#
# All ways from score j to L add up: dx_j = Σ_i dout_i · (slope of p_i in x_j). One term is special, i = j. Take it apart, see
# what all j have in common, and no loop is left.
#
# **Exercise 3.** The softmax may run along any axis of p: `dim` says which one.


# %% tags=["exercise"] id="exercise-softmax"
def softmax_backward(dout, cache):
    """dout (...), cache (p, dim): the probabilities (...) and the axis along which they sum to 1 -> dx (...)."""
    raise NotImplementedError


# %% tags=["check"] id="check-softmax"
softmax_backward = check("softmax_backward", softmax_backward)

# %% [markdown] id="ones-text"
# How would you test such a function? Many take L = p_1 + p_2 + p_3, so that dout is all ones. Here is a wrong formula beside
# yours. Will ones find it out, or random numbers?

# %% id="ones"
for dout in (np.ones(3), rng.normal(size=3)):
    right, wrong = softmax_backward(dout, cache), p * (dout - dout.mean())
    print("right", right.round(3) + 0.0, " wrong", wrong.round(3) + 0.0)
assert np.allclose(right, dout @ slopes) and not np.allclose(wrong, right)

# %% [markdown] id="ones-why"
# The sum of all probabilities is always 1. Nothing moves it, its slopes are 0, and a function that always says 0 would pass!
# All ones prove nothing. **Judge with a random dout.**
#
# ## 6. Cross-entropy: what was said less what was true
#
# The loss of a language model is the surprise of lesson 02: -log p of the token that came, the **target**, as a mean over all
# targets. It is called **cross-entropy**. The slope of -log p is -1/p; the other probabilities do not occur in it. Let the
# second of our three tokens be the target, and send that through your softmax:

# %% id="entropy"
dp = np.array([0.0, -1 / p[1], 0.0])
assert np.allclose(softmax_backward(dp, cache), p - [0, 1, 0])
p, softmax_backward(dp, cache)

# %% [markdown] id="entropy-derive"
# The fractions are gone: dx = p - y, where y is 1 at the target and 0 elsewhere. To see why, write -log p_target = -x_target +
# log Σ_k exp(x_k). The slope of that logarithm in x_j is exp(x_j) / Σ_k exp(x_k), which is p_j; the first part takes 1 away at
# the target.
#
# It is safer, too: where p is too small for a computer, -1/p breaks. So `cross_entropy` goes from the scores, called
# **logits**, to the mean loss in one step. Targets with the label -100, which fill up short rows, do not count. Its cache holds
# `log_probs` (..., V), the `labels` (..., 1), which are 0 where the target does not count, `counted` (...) with True and False,
# and their number `n_counted`, by which the sum was divided.
#
# **Exercise 4.** The backward pass of all that. `dout` is one number: how what comes behind moves with the loss.


# %% tags=["exercise"] id="exercise-cross-entropy"
def cross_entropy_backward(dout, cache):
    """dout a number, cache (log_probs, labels, counted, n_counted) -> dlogits (..., V)."""
    raise NotImplementedError


# %% tags=["check"] id="check-cross-entropy"
cross_entropy_backward = check("cross_entropy_backward", cross_entropy_backward)

# %% [markdown] id="embedding-text"
# ## 7. Embedding: a row for each token
#
# How does a token get in, which is but a number like 17? It takes row 17 of a table (V, D): D weights that stand for it. This
# is an **embedding**. A row is taken as it is, so its slope is 1. But a batch in which 17 occurs twenty times has used that row
# twenty times; you know what follows.
#
# **Exercise 5.** The gradient of the table. `ids` may have several axes; a row may be taken once, often or not at all.


# %% tags=["exercise"] id="exercise-embedding"
def embedding_backward(dout, cache):
    """dout (..., D), cache (ids, weight): ids (...) of rows of the table weight (V, D) -> dweight (V, D)."""
    raise NotImplementedError


# %% tags=["check"] id="check-embedding"
embedding_backward = check("embedding_backward", embedding_backward)

# %% tags=["check"] id="reveal"
reveal("embedding_backward")  # the library's version; the other four can be revealed in the same way

# %% [markdown] id="model-text"
# ## 8. A language model, all by hand
#
# The parts make a model that looks at the last n characters: embedding, linear, SiLU, linear, cross-entropy. (Linear layers
# with bends between are called an **MLP**.) The rows of the n characters are laid side by side, to one long row; on the way
# back it is cut apart again.
#
# Then comes the judge, on a tiny model and ten characters: the largest error of each gradient, as a part of its largest number.
# (`windows` turns a text into contexts and targets: ASCII numbers, below 128.)


# %% id="forward"
def forward(m, contexts, targets):  # m: the weights by name; contexts (N, n), targets (N,)
    rows, cache_rows = embedding(contexts, m["table"])  # (N, n, D)
    hidden, cache_1 = linear(rows.reshape(len(rows), -1), m["weight_1"], m["bias_1"])
    bent, cache_bent = silu(hidden)
    logits, cache_2 = linear(bent, m["weight_2"], m["bias_2"])
    loss, cache_loss = cross_entropy(logits, targets)
    return loss, (cache_rows, cache_1, cache_bent, cache_2, cache_loss)


def backward(m, caches):
    cache_rows, cache_1, cache_bent, cache_2, cache_loss = caches
    dbent, dweight_2, dbias_2 = linear_backward(cross_entropy_backward(1.0, cache_loss), cache_2)
    drows, dweight_1, dbias_1 = linear_backward(silu_backward(dbent, cache_bent), cache_1)
    dtable = embedding_backward(drows.reshape(*cache_rows[0].shape, -1), cache_rows)
    return dict(zip(m, (dtable, dweight_1, dbias_1, dweight_2, dbias_2), strict=True))


# %% id="judge"
def windows(text, n):  # the n characters before each one (N, n), line ends before the first; and itself (N,)
    ids = np.array(list(("\n" * n + text).encode()))
    return np.stack([ids[i : i + len(text)] for i in range(n)], axis=1), ids[n:]


def new_model(n, D, H):
    shapes = {"table": (V, D), "weight_1": (H, n * D), "bias_1": (H,), "weight_2": (V, H), "bias_2": (V,)}
    return {name: rng.normal(size=shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}


train_text, held_out, V = "".join(stories(DOCUMENTS, seed=4)), "".join(stories(DOCUMENTS // 4, seed=5)), 128
tiny, few = new_model(2, D=3, H=5), windows(held_out[:10], 2)
for name, gradient in backward(tiny, forward(tiny, *few)[1]).items():
    judged = central_differences(lambda: forward(tiny, *few)[0], tiny[name])
    error = abs(gradient - judged).max() / abs(judged).max()
    print(f"{name:9} {gradient.size:4} weights, error {error:.0e}")
    assert error < 1e-6

# %% [markdown] id="train-text"
# One pass backwards gave all. A slope says which way is up, so each weight goes the other way: weight - rate · gradient, here
# with rate 1. This is **gradient descent**; each step looks at 256 places drawn at random.
#
# Two models: one sees the last character, the other the last four. Beside them a table that counts which character came after
# which. Where will the loss of untrained models begin? Which of the two will come below the table, and why can the other not?


# %% id="plot-loss"
def train(n):
    m, losses, (contexts, targets) = new_model(n, D=16, H=64), [], windows(train_text, n)
    for _ in range(STEPS):
        drawn = rng.integers(0, len(targets), 256)
        loss, caches = forward(m, contexts[drawn], targets[drawn])
        losses.append(loss)
        m = {name: m[name] - 1.0 * gradient for name, gradient in backward(m, caches).items()}
    return m, losses


counts, (before, after) = np.full((V, V), 0.01), windows(train_text, 1)
np.add.at(counts, (before[:, 0], after), 1)
table = -np.log(counts / counts.sum(axis=1, keepdims=True))  # (V, V): the surprise at each character after each
(m1, losses1), (m4, losses4) = train(1), train(4)
one, four = ([losses[0], *np.reshape(losses, (30, -1)).mean(axis=1)] for losses in (losses1, losses4))
curves = {"last 1": one, "last 4": four, "table": np.full(31, table[before[:, 0], after].mean())}
assert abs(four[0] - np.log(V)) < 0.6 and (QUICK or four[-1] < curves["table"][0] < np.mean(one[-5:]))
plot_curves(np.linspace(0, STEPS, 31), curves, "step", "loss, nats per character")

# %% [markdown] id="loss-why"
# It begins near log V, the surprise at a die with V faces. A first loss far from it is an alarm bell.
#
# Who sees one character has but one row of probabilities for each. The counts *are* the best such rows for this text, so the
# first model can only come near the table. For four characters a table would need V⁴ rows; the MLP shares what it learns, and
# goes below.
#
# ## 9. The ladder
#
# Stories that were not trained on; each character is one byte. Guess: how many bits for each of the five?

# %% id="ladder"
before, after = windows(held_out, 1)
rungs = [
    Row("uniform", 8.0, "no idea: all bytes are equally likely"),
    Row("unigram", -np.log2(counts.sum(axis=0) / counts.sum())[after].mean(), "how often each character occurs"),
    Row("MLP, last 1", forward(m1, before, after)[0] / np.log(2), "your gradients, one character to look at"),
    Row("table", table[before[:, 0], after].mean() / np.log(2), "which character came after the last one, counted"),
    Row("MLP, last 4", forward(m4, *windows(held_out, 4))[0] / np.log(2), "your gradients, four characters to look at"),
]
assert held_out.isascii() and (QUICK or all(np.diff([rung.bits_per_byte for rung in rungs]) < 0))
plot_ladder(rungs)

# %% [markdown] id="summary"
# ## Summary
#
# * Along a way slopes are multiplied; the ways on which a number reaches the loss are added: tokens that share a weight, places
#   that share a row, probabilities that share a score.
# * One pass backwards gives the gradient of every weight, in its shape; scores get what was said less what was true.
# * Central differences judge all of it, with a random dout. All ones prove nothing.
#
# **On the ladder**: an MLP with one character, and with four. Lesson 05 looks back further, and chooses at what.
#
# **Read next**: Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors"; Bengio and others
# 2003, "A neural probabilistic language model". In minilm `minilm/byhand/autograd.py` and `minilm/byhand/basic.py`; lesson 14
# goes on with the gradients of attention.
