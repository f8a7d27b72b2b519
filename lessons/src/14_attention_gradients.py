# %% [markdown] id="title"
# # 14 Gradients of attention and LayerNorm: the way back through a block
#
# In lesson 04 you sent gradients back through a linear layer, a softmax and a loss. Two parts of a transformer are missing, in which
# everything hangs on everything: LayerNorm, where each number is measured against all others, and attention, where each token
# meets all tokens. In the end you train a block without any help from torch.
#
# **You will write** four backward passes: of LayerNorm, of RMSNorm, of shared key heads, and of attention.
#
# needs: 04, 05. Time: 75 minutes. Run time: under a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS = 300

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np

from minilm.byhand.agreement import central_differences
from minilm.byhand.attention import scaled_dot_product_attention
from minilm.byhand.basic import embedding_backward, layer_norm, linear_backward, rms_norm, softmax, softmax_backward
from minilm.byhand.loss import cross_entropy, cross_entropy_backward
from minilm.checks.exercises import check, reveal
from minilm.plots.attention import plot_attention
from minilm.plots.curves import plot_curves

if QUICK:
    STEPS = 100
rng = np.random.default_rng(14)

# %% [markdown] id="recall"
# ## 1. What we have
#
# A forward function returns its result and a *cache*, what the way back will need: `out, cache = f(x)`. The backward function gets
# `dout`, how fast the loss L grows with each number of `out`, and the cache; it returns the same for what went in.
#
# To test one, take a random `dout` and let L be sum(dout * out): its gradient by `out` is `dout`. Central differences measure how L
# moves with each number of x. The softmax of lesson 04:


# %% id="recall-softmax"
def worst(by_hand, loss, x, h=1e-5):
    """The largest error, relative to the largest gradient."""
    return np.abs(by_hand - central_differences(loss, x, h)).max() / np.abs(by_hand).max()


x, dout = rng.standard_normal((2, 3, 5))
worst(softmax_backward(dout, softmax(x)[1]), lambda: (dout * softmax(x)[0]).sum(), x)

# %% [markdown] id="norm-text"
# ## 2. LayerNorm on four numbers
#
# LayerNorm tames the vector of a token before a layer reads it: take its mean m away, then divide by the spread, the root of the mean
# square of what is left. A small eps under the root keeps us from dividing by 0. With r for one over the spread, the result is
#
# n_i = (x_i - m) r, with v = mean of (x_i - m)², and r = 1 / sqrt(v + eps)
#
# Then a layer may stretch and shift: out_i = n_i w_i + b_i, with a learned weight and bias. The numbers 0, 0, 4, 4 have mean 2
# and spread 2. Now the first one grows by 0.1. Guess: how many of the four results move?

# %% id="norm-move"
before = layer_norm(np.array([0.0, 0, 4, 4]), np.ones(4), eps=0)[0]
after = layer_norm(np.array([0.1, 0, 4, 4]), np.ones(4), eps=0)[0]
assert (after != before).all()
print(before, "moves by", (after - before).round(4))

# %% [markdown] id="three-ways"
# All of them. x_j reaches the results in three ways. We collect the slope dn_i/dx_j, for D numbers:
#
# * **Itself**: r where i = j, else 0.
# * **Through the mean**: m holds a D-th part of x_j, so every n_i falls with slope r / D.
# * **Through the spread**: v grows with slope 2 (x_j - m) / D. (That v also holds m changes nothing: differences from a mean sum to 0.)
#   The slope of 1 / sqrt(v + eps) in v is -1/2 r³. Together, r has slope -r³ (x_j - m) / D = -r² n_j / D, and n_i is (x_i - m) times r.
#
# The sum is r ([i = j] - 1 / D - n_i n_j / D), where [i = j] is 1 if i = j, else 0. The chain rule adds over all i:
# dx_j = sum_i dn_i dn_i/dx_j, with dn for dL/dn, as always.


# %% id="norm-loop"
def through_norm_in_loops(dn, n, r):
    D, dx = len(n), np.zeros(len(n))
    for i in range(D):
        for j in range(D):
            dx[j] += dn[i] * r * ((i == j) - 1 / D - n[i] * n[j] / D)
    return dx


through_norm_in_loops(np.array([1.0, 0, 0, 0]), before, r=1 / 2)

# %% [markdown] id="norm-read"
# With `dn` = (1, 0, 0, 0), L is n_1 alone. If x_1 grows, n_1 grows; if x_2 does, n_1 falls just as fast. And x_3? It pulls the mean up,
# which lowers n_1, and widens the spread, which brings n_1 = -1 nearer to 0: here the two cancel.
#
# Now without loops. r stands before everything. The first term gives dn_j; the second the *mean* of dn; in the third n_j comes out of
# the sum, and what stays is the mean of dn_i n_i. And from out_i = n_i w_i + b_i we have dn_i = dout_i w_i, dw_i = dout_i n_i and
# db_i = dout_i; all tokens use the same weight and bias, so theirs are summed over all tokens.
#
# **Exercise 1.** Write it, for tokens in any number of axes. The cache holds n (..., D), r (..., 1), the weight, and whether there was a bias.


# %% tags=["exercise"] id="exercise-layer-norm"
def layer_norm_backward(dout, cache):
    """dout (..., D), cache (n, r, weight, has_bias) -> dx (..., D), dweight (D,), and dbias (D,) or None."""
    raise NotImplementedError


# %% tags=["check"] id="check-layer-norm"
layer_norm_backward = check("layer_norm_backward", layer_norm_backward)

# %% [markdown] id="ones-text"
# ## 3. A test that proves nothing
#
# Why a random `dout`? For a softmax, ones proved nothing. And for a norm? Here is a wrong gradient, which forgets the way through the
# spread. Which of the two tests will find it?

# %% id="ones"
x, w = rng.standard_normal((3, 5)) + 2, np.ones(5)
n, r, *_ = layer_norm(x, w, eps=0)[1]
for dn in (np.ones((3, 5)), rng.standard_normal((3, 5))):
    true = central_differences(lambda dn=dn: (dn * layer_norm(x, w, eps=0)[0]).sum(), x)
    wrong = (dn - dn.mean(-1, keepdims=True)) * r
    print(f"true gradient: up to {np.abs(true).max():.0e}; the wrong one is off by {np.abs(wrong - true).max():.0e}")
dx = layer_norm_backward(dn, (n, r, w, False))[0]
assert np.abs(wrong - true).max() > 0.1 and np.allclose([dx.sum(-1), (dx * n).sum(-1)], 0)

# %% [markdown] id="rms-text"
# Only the random one. The n of a token always sum to 0, so with ones the true gradient is 0, and so is the wrong one. More generally: if
# all numbers of a token grow by the same amount, or all differences from the mean are stretched, the result stays. So dx has no part
# along (1, 1, ..., 1), and, but for eps, none along n. The two means take them away.
#
# ## 4. The simpler cousin
#
# RMSNorm takes no mean away: n_i = x_i r, where r = 1 / sqrt(mean of x² + eps), "one over the root of the mean square". One way is
# gone. Which of the three terms goes with it?
#
# **Exercise 2.** Write it. There is no bias, and even the weight may be missing: then it is None, and so is its gradient.


# %% tags=["exercise"] id="exercise-rms-norm"
def rms_norm_backward(dout, cache):
    """dout (..., D), cache (n (..., D), r (..., 1), weight (D,) or None) -> dx (..., D), and dweight (D,) or None."""
    raise NotImplementedError


# %% tags=["check"] id="check-rms-norm"
rms_norm_backward = check("rms_norm_backward", rms_norm_backward)

# %% [markdown] id="four-steps"
# ## 5. Attention: four steps there, four steps back
#
# For each head, T queries of K numbers meet S keys. With c = 1 / sqrt(K), and kᵀ for k turned (rows become columns):
#
# |forward|shape|backward|
# |---|---|---|
# |a = q kᵀ|(T, S)|dq = da k, and dk = daᵀ q|
# |s = a c|(T, S)|da = ds c|
# |p = softmax of each row of s|(T, S)|ds = p (dp - sum of p dp along the row)|
# |out = p v|(T, K')|dp = dout vᵀ, and dv = pᵀ dout|
#
# Read the left side downwards and the right side upwards. The first and last row are one rule: a product C = A B has
# dA = dC Bᵀ and dB = Aᵀ dC, as in the linear layer of lesson 04. A value that was read with weight p gets
# its reader's gradient with the same weight.
#
# One query 0 meets the keys 1 and 3; the values are 0 and 8. Both weights are 1/2, so out = 4. How should q move to make it larger?

# %% id="tiny"
q, k, v = np.array([[0.0]]), np.array([[1.0], [3.0]]), np.array([[0.0], [8.0]])
ds = softmax_backward(np.ones((1, 1)) @ v.T, softmax(q @ k.T)[1])  # K = 1: the scale is 1
print("ds", ds, "dq", ds @ k)
assert np.isclose((ds @ k).item(), central_differences(lambda: (softmax(q @ k.T)[0] @ v).sum(), q).item())

# %% [markdown] id="mask-text"
# Up, for the key 3 brings the larger value. `ds` compares each value with the 4 that the query gets already: 8 is more, 0 is less.
#
# And a hidden key? Its score was -inf, so its p is exactly 0, and p is a factor of ds. Nothing flows to it, and the way back needs no
# mask of its own. With -20 in place of -inf something does:

# %% id="mask"
hidden, low = (softmax_backward(np.array([0.0, 8, 1e6]), softmax(np.array([1.0, 3, s]))[1])[2] for s in (-np.inf, -20))
assert hidden == 0
hidden, low

# %% [markdown] id="share-text"
# ## 6. Heads that share
#
# Keys and values of past tokens fill the memory of a model that writes. So in many models several query heads share one head of keys
# and values. With H = 6 and G = 2, query heads 0, 1, 2 use key head 0, and 3, 4, 5 use key head 1: the forward pass repeats the key
# heads, from (B, G, S, K) to (B, H, S, K).
#
# On the way back, each of the H copies has a gradient. You know the rule: a number that was used three times moved the loss in three ways.
#
# **Exercise 3.** Bring the gradients of H copies back to G heads.


# %% tags=["exercise"] id="exercise-share"
def share_heads_backward(dout, n_kv_heads):
    """(B, H, S, K) -> (B, G, S, K), G = n_kv_heads: what each key head gets from the H / G neighbours that it served."""
    raise NotImplementedError


# %% tags=["check"] id="check-share"
share_heads_backward = check("share_heads_backward", share_heads_backward)

# %% [markdown] id="attention-text"
# ## 7. The whole of it
#
# Matrix products work on the last two axes, for all B texts and H heads; `a.swapaxes(-1, -2)` turns a
# matrix. The cache of the forward pass is
#
# `q, k, v, G, scale, visible, p, softmax_cache`
#
# where k and v are repeated already, (B, H, S, ...), scale is c, and `softmax_cache` is what `softmax_backward` wants. One corner is left: a
# query that may see nothing gave zeros, whatever q and k were. `visible` is False for it (with a last axis of length 1) and its row of
# `p` is 0, but the softmax does not know that. Let nothing flow into its scores.
#
# **Exercise 4.** Write the backward pass of attention, with `softmax_backward` and your `share_heads_backward`.


# %% tags=["exercise"] id="exercise-attention"
def scaled_dot_product_attention_backward(dout, cache):
    """dout (B, H, T, K'), cache as above -> dq (B, H, T, K), dk (B, G, S, K), dv (B, G, S, K')."""
    raise NotImplementedError


# %% tags=["check"] id="check-attention"
scaled_dot_product_attention_backward = check(
    "scaled_dot_product_attention_backward", scaled_dot_product_attention_backward
)

# %% tags=["check"] id="reveal"
reveal("scaled_dot_product_attention_backward")

# %% [markdown] id="table-text"
# ## 8. Is all of it right?
#
# Your functions against central differences, with a mask and shared heads. How many digits will agree?


# %% id="table"
def loss():
    return (dout * scaled_dot_product_attention(q, k, v, mask)[0]).sum()


q, k, v = (rng.standard_normal(shape) for shape in ((2, 4, 5, 6), (2, 2, 7, 6), (2, 2, 7, 3)))
mask, dout = np.tri(5, 7, 2, dtype=bool), rng.standard_normal((2, 4, 5, 3))
by_hand = scaled_dot_product_attention_backward(dout, scaled_dot_product_attention(q, k, v, mask)[1])
errors = {f"d{name}": worst(dx, loss, y) for name, dx, y in zip("qkv", by_hand, (q, k, v), strict=True)}
x, dn, w = rng.standard_normal((4, 6)), rng.standard_normal((4, 6)), np.arange(1.0, 7)
for f, back in ((layer_norm, layer_norm_backward), (rms_norm, rms_norm_backward)):
    errors[f.__name__] = worst(back(dn, f(x, w)[1])[0], lambda f=f: (dn * f(x, w)[0]).sum(), x)
print({name: f"{error:.0e}" for name, error in errors.items()})
assert max(errors.values()) < 1e-8

# %% [markdown] id="v-text"
# About ten digits; the rest is the fault of the measurement. It is wrong by about h², as the function is not straight, and by the rounding
# of L over h, as in lesson 04. Now in two precisions: float64 rounds at 1e-16, float32 at 6e-8. Will the best h of float32 be
# smaller or larger?

# %% id="plot-v"
h, curves = 10.0 ** np.arange(-10, 1), {}
for precision in ("float64", "float32"):
    q, k, v, dout = (y.astype(precision) for y in (q, k, v, dout))
    curves[precision] = [worst(by_hand[0], loss, q, step) for step in h]
assert np.argmin(curves["float64"]) < np.argmin(curves["float32"]) and min(curves["float32"]) > 1e-6
plot_curves(h, curves, "h", "error of the measured dq", log_x=True, log_y=True, mark_best=True)

# %% [markdown] id="scale-text"
# Larger: where rounding is coarser, the step must be longer. Gradients
# are tested in float64: the best of float32 would hide a small mistake.
#
# ## 9. What the scale does to gradients
#
# Lesson 05 divided the scores by the root of K, and said that else almost no gradient flows. Is it true? 64 random queries and keys of
# size K. We take the length of each query's dq, and of these the mean and the *median*: half of the queries get less. To switch the
# scale off, we make q larger by the root of K (and dq with it, says the chain rule). Guess: without the scale, will the mean fall with
# K? Will the median?

# %% id="plot-scale"
sizes, curves = [4, 16, 64, 256, 1024], {}
for how, power in (("with", 0), ("without", 0.5)):
    lengths = []
    for K in sizes:
        q, k, v, dout = (rng.standard_normal((1, 8, 64, size)) for size in (K, K, 8, 8))
        cache = scaled_dot_product_attention(K**power * q, k, v)[1]
        dq = K**power * scaled_dot_product_attention_backward(dout, cache)[0]
        lengths.append(np.linalg.norm(dq, axis=-1).ravel())
    curves |= {f"mean, {how}": np.mean(lengths, axis=1), f"median, {how}": np.median(lengths, axis=1)}
assert curves["mean, without"][-1] > 3 * curves["mean, with"][-1]
assert curves["median, without"][-1] < 0.1 * curves["median, with"][-1]
plot_curves(sizes, curves, "size of a key, K", "length of dq of a query", log_x=True, log_y=True)

# %% [markdown] id="memory-text"
# With the scale all queries get about as much, whatever K is. Without it the mean even *grows*; what dies is the median. Where p
# is near 1 for one key and near 0 elsewhere, ds is near 0 for all keys: the query cannot learn to look elsewhere. A few queries
# hesitate between two keys and get a much larger gradient. The median dies late: up to K = 64 it is even larger than with the scale, at
# 256 it has come down, at 1024 it is almost 0.
#
# ## 10. What the cache costs
#
# For the way back attention keeps q, k and v, which grow with the length T of the text, and the weights p: T numbers for each of T
# queries. Guess: from which T on does p take more memory than q, k and v together, with K = 64? One head, float32.

# %% id="plot-memory"
texts, whole, inputs = [16, 32, 64, 128, 256, 512, 1024], [], []
for T in texts:
    cache = scaled_dot_product_attention(*np.ones((3, 1, 1, T, 64), dtype="float32"))[1]
    inputs.append(sum(array.nbytes for array in cache[:3]) / 1e6)
    whole.append(inputs[-1] + cache[6].nbytes / 1e6)  # the seventh is p
assert whole[3] < 2 * inputs[3] and whole[4] > 2 * inputs[4]
plot_curves(texts, {"q, k, v": inputs, "q, k, v, p": whole}, "tokens", "megabytes", log_x=True, log_y=True)

# %% [markdown] id="train-text"
# Between 128 and 256: p has T² numbers, the others 3 · 64 T, so at T = 192. The way out is to forget p and to compute it again on the way
# back, from q and k, for a few keys at a time. That is the idea of FlashAttention.
#
# ## 11. A block learns by your hand
#
# Letters come in random order, and the model has to say at each place which letter came *just before*. Without looking back the loss stays
# at log V. A head that looks one place back can solve it.
#
# The model: letters plus places, LayerNorm, attention, the sum with what went in, a last linear layer. On the way back x, used by the
# norm and by the sum, gets two gradients, and what the norm made gets three, from q, k and v. They add up.


# %% id="block"
def loss_and_gradients(w, ids, targets, mask):
    x = w["letters"][ids] + w["places"]  # (B, T, D)
    normed, norm_cache = layer_norm(x, w["gain"])
    heads = [normed @ w[name].T for name in "qkv"]
    out, attention_cache = scaled_dot_product_attention(*(y[:, None] for y in heads), mask)  # one head
    logits = (x + out[:, 0]) @ w["last"].T
    loss, loss_cache = cross_entropy(logits, targets)

    # (x, weight, False) is what `linear` without a bias would have kept
    dsum, dlast, _ = linear_backward(cross_entropy_backward(1.0, loss_cache), (x + out[:, 0], w["last"], False))
    dheads = scaled_dot_product_attention_backward(dsum[:, None], attention_cache)
    back = [linear_backward(dy[:, 0], (normed, w[name], False)) for dy, name in zip(dheads, "qkv", strict=True)]
    dx, dgain, _ = layer_norm_backward(sum(part[0] for part in back), norm_cache)
    dx = dx + dsum
    dletters = embedding_backward(dx, (ids, w["letters"]))
    gradients = {"letters": dletters, "places": dx.sum(0), "gain": dgain, "last": dlast}
    return loss, gradients | {name: part[1] for name, part in zip("qkv", back, strict=True)}, attention_cache[6]


# %% [markdown] id="check-text"
# First the check, then gradient descent. The targets of the first place are -100: they do not count.

# %% id="block-check"
V, T, D = 12, 8, 16
shapes = {"letters": (V, D), "places": (T, D), "q": (D, D), "k": (D, D), "v": (D, D), "last": (V, D)}
w = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()} | {"gain": np.ones(D)}
ids, mask = rng.integers(0, V, (STEPS, 32, T)), np.tri(T, dtype=bool)
targets = np.where(np.arange(T) == 0, -100, np.roll(ids, 1, axis=-1))
few = ids[0, :3], targets[0, :3], mask
gradients = loss_and_gradients(w, *few)[1]
assert all(worst(gradients[name], lambda: loss_and_gradients(w, *few)[0], w[name]) < 1e-6 for name in w)

# %% id="block-train"
for step in range(STEPS):
    loss_now, gradients, p = loss_and_gradients(w, ids[step], targets[step], mask)
    w = {name: w[name] - 0.3 * gradients[name] for name in w}
    if step in (0, STEPS - 1):
        print(f"step {step}: loss {loss_now:.4f}, log V = {np.log(V):.2f}")
assert loss_now < 0.1

# %% [markdown] id="look-text"
# Solved. Where does each place look? Guess the picture, and its first row.

# %% id="plot-weights"
assert (p[0, 0].argmax(-1)[1:] == np.arange(T - 1)).all()
plot_attention(p[0, 0], [str(t) for t in range(T)])

# %% [markdown] id="summary"
# A row is the place that looks, a column the place that is looked at: the weight lies one to the left of the diagonal. Only place 0 looks
# at itself, for it sees nothing else; its target does not count. minilm's GPT in numpy chains just these functions, block by block.
#
# ## Summary
#
# * In a norm each number moves all others, through mean and spread: the gradient has no part along (1, ..., 1), and hardly any along n.
# * Attention goes back in four steps. Hidden keys get exactly 0, and what was shared gets the sum.
# * Test with a random `dout` and in float64: the plain sum of what a norm or a softmax returns has no slope at all.
#
# No row on the ladder: a gradient is no language model.
#
# **Read next**: Ba, Kiros and Hinton 2016, "Layer normalization"; Zhang and Sennrich 2019, "Root mean square layer normalization"; Dao et al.
# 2022, "FlashAttention". In minilm `minilm/byhand/basic.py`, `minilm/byhand/attention.py` and `minilm/byhand/agreement.py`,
# joined to blocks in `minilm/byhand/blocks.py`, and to a model in `minilm/models/numpy_gpt.py`.
