# %% [markdown] id="title"
# # 05 Self-attention: who should listen to whom?
#
# A word alone says little. In "the river bank" and "the bank paid", the word "bank" must look at its neighbours to know what it
# means. An n-gram looks at a fixed few of them. Self-attention lets every token decide, from what the tokens are, to whom it
# listens and how much.
#
# **You will write** three short functions: a mask, the attention itself, and the cut into heads. Then your own attention runs
# inside a small GPT that you train here.
#
# Here we leave numpy for torch: its tensors are arrays that can keep the book of lesson 04 by themselves. A tensor made with
# `requires_grad=True` remembers what is computed with it, `backward()` goes back through all of it, and the slopes lie in `.grad`.
#
# needs: 01, 02, 04. Time: 75 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS = 800
LENGTHS = [64, 128, 256, 512, 1024, 2048]

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import math

import torch

from minilm.checks.exercises import check, reveal
from minilm.plots.attention import plot_attention

if QUICK:
    STEPS, LENGTHS = 20, LENGTHS[:5]
_ = torch.manual_seed(5)

# %% [markdown] id="tiny-text"
# ## 1. Six tokens, three numbers each
#
# Let a sentence of six tokens be six vectors of three numbers. We choose them by hand, so that we can see what happens: the first
# number says "I am an animal", the second "I am an action", the third "I am a place".

# %% id="tiny"
tokens = ["the", "cat", "ran", "to", "the", "barn"]
x = torch.tensor([[0.1, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0.1, 0.3], [0.1, 0, 0], [0, 0, 2]])
x.shape

# %% [markdown] id="three-roles"
# Every token plays three roles. As a **query** it asks: what am I looking for? As a **key** it answers: this is what I have. As a
# **value** it hands over what it has to say. In a model, three matrices make the three roles from the token's vector, and they are
# learned. Here we write one of them by hand: an action looks for an animal (who ran?), a place for an action (what happened here?).

# %% id="roles"
looks_for = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]])
q = x @ looks_for
k = v = x
q

# %% [markdown] id="scores-text"
# The score of a query and a key is their dot product: large where what is asked for and what is there point the same way. Before
# you run the next cell, guess: which token gets the highest score from "ran"?

# %% id="scores"
scores = q @ k.T
assert scores[2].argmax() == tokens.index("cat")
scores[2]

# %% [markdown] id="loop-text"
# ## 2. In loops
#
# To turn the scores of one query into shares that sum to 1, we use the softmax: exp of each score, divided by the sum. The output
# is the average of the values, each weighted by its share. In plain loops:


# %% id="loop"
def attention_in_loops(q, k, v):
    out = torch.zeros(len(q), v.shape[1])
    for t in range(len(q)):
        weights = [math.exp(float(q[t] @ k[s])) for s in range(len(k))]
        for s in range(len(k)):
            out[t] += weights[s] / sum(weights) * v[s]
    return out


attention_in_loops(q, k, v)[2]

# %% [markdown] id="loop-read"
# The row of "ran" was (0, 2, 0): an action. What came out is almost (2, 0, 0): it has fetched "animal". A model adds this to the old
# row (lesson 06), and then knows that an animal ran. That is all that attention does: it moves what one token knows to where another
# token needs it.
#
# ## 3. As matrices
#
# All queries meet all keys in one product. Row t of the result belongs to query t, column s to key s, so the softmax runs along
# each row.

# %% id="matrix"
weights = torch.softmax(q @ k.T, dim=-1)
out = weights @ v
assert torch.allclose(out, attention_in_loops(q, k, v), atol=1e-6)
weights.sum(dim=-1)

# %% [markdown] id="plot-text"
# Here are the weights as a picture. Row t shows where token t looks. What will the rows of the two "the" look like? They ask for
# nothing: all their scores are 0.

# %% id="plot-weights"
plot_attention(weights, tokens)

# %% [markdown] id="scale-text"
# ## 4. Why divide by the root of K?
#
# A dot product adds K terms. If the numbers are drawn independently, with mean 0 and variance 1 (the mean of their squares), each
# term has variance 1, and the sum K: the more numbers a key has, the larger the scores, and the softmax puts all its weight on
# one token. Then almost no gradient flows to the others. Dividing by the square root of K brings the variance back to 1. We
# measure it: the *entropy* of the weights says among how many tokens a query hesitates (exp of it is that number; 64 keys, so at
# most 64).


# %% id="entropy"
def hesitates_among(p):
    return torch.exp(-(p * torch.log(p + 1e-12)).sum(-1)).mean().item()


for K in (4, 64, 1024):
    raw = torch.randn(64, K) @ torch.randn(64, K).T
    bare, scaled = (hesitates_among(torch.softmax(x, dim=-1)) for x in (raw, raw / math.sqrt(K)))
    print(f"K = {K:4}: without scale {bare:5.1f} of 64 tokens, with {scaled:5.1f}")

assert torch.allclose(weights[0], torch.full((6,), 1 / 6))  # "the" hesitated among all six
assert bare < 2 < 20 < scaled

# %% [markdown] id="mask-text"
# ## 5. No peeking: the causal mask
#
# A language model predicts the next token. If token t could look at token t + 1, it would only have to copy the answer: it would
# train to perfection and be useless. So query t may only see the keys at its own place and before. We write who may see whom as a
# boolean matrix, True = may attend, one row a query, one column a key.
#
# Often there are more keys than queries: while a text is being written, the keys of the past are kept, and only the new tokens
# ask. The last query is always the last key. With 2 queries and 5 keys, the first query is the fourth token and sees four keys.
#
# **Exercise 1.** Write the mask. `torch.ones(2, 5).tril(k)` keeps what lies on or below the k-th diagonal, and `torch.arange(5)` counts;
# comparisons give booleans, and `.bool()` makes them of numbers.


# %% tags=["exercise"] id="exercise-mask"
def causal_mask(n_queries, n_keys):
    """(T, S) booleans, with S >= T: query t sees key s when s <= t + S - T."""
    raise NotImplementedError


# %% tags=["check"] id="check-mask"
causal_mask = check("causal_mask", causal_mask)

# %% id="mask-see"
causal_mask(2, 5).int()

# %% [markdown] id="attention-text"
# ## 6. The whole of it
#
# A real model attends for a batch of B texts and in H heads at once. The shapes are q (B, H, T, K), k (B, H, S, K) and
# v (B, H, S, K'); matrix products work on the last two axes and leave the others alone.
#
# What must a hidden key get? Its weight must be 0 after the softmax, and exp(-inf) is 0. A score of 0 would not do: exp(0) is 1, and
# nor would -100 where the other scores are below that.
#
# Two corners are left. A query that may see nothing at all: its row would be 0 / 0, and we define its output as zeros. And large
# scores: exp(800) is more than a float can hold. Take the largest score of its row away from every score first; the shares stay the
# same, for exp(a - m) = exp(a) / exp(m), and exp(m) falls out of the fraction. `torch.softmax(scores, dim=-1)` does just that.
#
# **Exercise 2.** Write scaled dot-product attention. `k.mT` swaps the last two axes of k, `scores.masked_fill(~mask, x)` is a new tensor with x
# wherever the mask says False. No loops over tokens: this will train a GPT. And a NaN that is replaced at the end stays in the gradient, so
# give the *weights* of a query that sees nothing their zeros before they meet the values.


# %% tags=["exercise"] id="exercise-attention"
def scaled_dot_product_attention(q, k, v, mask=None):
    """softmax(q k^T / sqrt(K)) v -> (B, H, T, K'). mask: None, or True = may attend; its shape is (T, S) or broadcasts to (B, H, T, S).

    A query that sees nothing gets zeros.
    """
    raise NotImplementedError


# %% tags=["check"] id="check-attention"
scaled_dot_product_attention = check("scaled_dot_product_attention", scaled_dot_product_attention)

# %% [markdown] id="causal-text"
# With the mask, what comes later cannot matter. We can prove it with a gradient: how much does the output at place 2 change when
# the value at place s changes? For s > 2 it must be exactly 0, not just small.

# %% id="causal"
q, k = torch.randn(1, 1, 6, 4), torch.randn(1, 1, 6, 4)
v = torch.randn(1, 1, 6, 4, requires_grad=True)
scaled_dot_product_attention(q, k, v, causal_mask(6, 6))[0, 0, 2].sum().backward()
assert (v.grad[0, 0, 3:] == 0).all() and (v.grad[0, 0, :3] != 0).all()
v.grad[0, 0].abs().sum(-1)

# %% [markdown] id="heads-text"
# ## 7. Heads
#
# One attention can look for one thing at a time. A sentence needs several: who did it, where, what goes with what. So the vector of
# D numbers is cut into H heads of K = D / H numbers, each attends on its own, and the results are laid side by side again.
#
# The cut is a matter of axes: (B, T, D) becomes (B, H, T, K), where head h holds the numbers h * K to h * K + K - 1 of each token.
# Beware of a shortcut that gives the right shape and mixes up the tokens.
#
# **Exercise 3.** Cut the heads.


# %% tags=["exercise"] id="exercise-heads"
def split_heads(x, n_heads):
    """(B, T, D) -> (B, H, T, K)."""
    raise NotImplementedError


# %% tags=["check"] id="check-heads"
split_heads = check("split_heads", split_heads)

# %% id="heads-see"
split_heads(torch.arange(12.0).reshape(1, 2, 6), 3)[0]

# %% [markdown] id="library-text"
# ## 8. The library's version
#
# After a pass, `reveal` shows how minilm writes it. Yours may well be as good. (`share_heads` does nothing here: it is for models
# in which several query heads share a key head, G of them.)

# %% tags=["check"] id="reveal"
reveal("scaled_dot_product_attention")

# %% [markdown] id="gpt-text"
# ## 9. Your attention in a GPT
#
# In minilm the attention is an argument of the model. So your function (if it passed; the checks above said so) is what runs here.
# We train a small GPT on the built-in stories. Training itself is lesson 07; take it as a black box for now.

# %% id="gpt-data"
from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, gpt2_config, train
from minilm.text.stories import stories

documents = list(stories(400, seed=1))
tokenizer = BPETokenizer.train(documents, vocab_size=512)
ids = encode_corpus(documents, tokenizer).ids
print(len(ids), "tokens")

# %% id="gpt-train"
config = gpt2_config(vocab_size=512, context_length=64, d_model=64, n_layers=2, n_heads=4)


def trained(attention):
    torch.manual_seed(5)
    model = GPT(config, attention=attention)
    plan = TrainConfig(steps=STEPS, learning_rate=3e-3, threads=1)
    history = train(model, Batches(ids, batch_size=16, context_length=64), plan, progress=False)
    return model, [row["loss"] for row in history]


model, losses = trained(scaled_dot_product_attention)
assert losses[-1] < losses[0] - 0.5
print(f"loss: {losses[0]:.2f} nats per token at first, {losses[-1]:.2f} at last (log 512 = {math.log(512):.2f})")

# %% [markdown] id="look-text"
# Where does it look? We make a copy of the model, with the same weights and the watching attention, which also writes its weights
# down: the values are replaced by the identity matrix, so that what comes out is the weights themselves. The picture has all four
# heads of the last layer. Before you look: will they look the same?


# %% id="look"
def watched(model, attention, some):
    seen = []

    def watching(q, k, v, mask=None):
        identity = torch.eye(k.shape[2]).expand(*k.shape[:2], -1, -1)
        seen.append(attention(q, k, identity, mask).detach())
        return attention(q, k, v, mask)

    logits = GPT.from_arrays(config, model.arrays(), attention=watching)(torch.tensor([some]))
    return logits, torch.cat(seen)  # (layers, H, T, T)


some = [tokenizer.end_of_text, *tokenizer.encode("Once there was a little girl named")]
logits, maps = watched(model, scaled_dot_product_attention, some)
plot_attention(maps[-1], [tokenizer.decode([i]) for i in some])

# %% [markdown] id="next-text"
# Not at all: each has a way of its own. Nobody told them to; they began with other random numbers.
#
# And what does it expect next? The five likeliest tokens (a blank alone, or one with a letter, begins a name that is built of several tokens):

# %% id="next"
probabilities = torch.softmax(logits[0, -1], dim=-1)
for p, i in zip(*probabilities.topk(5), strict=True):
    print(f"{p.item():6.1%}  {tokenizer.decode([int(i)])!r}")

# %% [markdown] id="bare-text"
# ## 10. The scale in a trained model
#
# Section 4 spoke of random vectors. Does a real model need the scale? We train the same model once more, from the same random numbers
# and as long, but undo the division. Then we look at one story through both: how low is the loss, the mean over the last 50 steps, and
# among how many tokens do the eight heads hesitate? Of 64 tokens the first sees one and the last 64, so a head that looks everywhere
# alike hesitates among 32.5 on average. Write down what you expect of both before you run it.


# %% id="bare"
def without_scale(q, k, v, mask=None):
    return scaled_dot_product_attention(q * math.sqrt(q.shape[-1]), k, v, mask)


runs = {"with": (scaled_dot_product_attention, model, losses), "without": (without_scale, *trained(without_scale))}
story = tokenizer.encode(documents[0])[:64]
among = {}
for name, (attention, one, past) in runs.items():
    among[name] = [hesitates_among(p) for p in watched(one, attention, story)[1].flatten(0, 1)]
    print(f"{name:>7} scale: loss {sum(past[-50:]) / len(past[-50:]):.2f},", *(f"{n:4.1f}" for n in among[name]))
assert QUICK or sum(among["without"]) < sum(among["with"])

# %% [markdown] id="fused-text"
# Without the scale the heads do hesitate less: that much was right. But the loss is no higher for it: it is even a little lower. Here K is 16, so the division
# makes the scores only 4 times smaller; and the weights begin so small that all scores are near 0, and at first every head of both models
# looks everywhere. Nothing is stuck on one token, as it was with the random vectors, and scores that grow faster even learn faster. The
# scale guards against what large K and large weights would do; a model as small as this one can live without it. One model and one
# seed prove little, of course: it is a measurement, not a law.
#
# ## 11. What a fused kernel changes
#
# The scores of H heads are H * T * T numbers of four bytes, and your function writes them to memory several times: the scores, the
# masked ones, the weights. `minilm.fast.attention` calls a *fused kernel* instead: one piece of machine code that takes a block of
# queries and a block of keys at a time, does all four steps on it while it lies in the processor's own small memory, and keeps only
# running sums for each query. The scores as a whole are never written down, and on the way back they are computed once more.
#
# We let both go forward and backward over T tokens in 4 heads with K = 16, and double T from point to point. Both axes of the plot are
# logarithmic: equal steps are equal factors, and a power of T becomes a straight line.
# Predict: how much longer does twice the text take? And is the kernel faster by a fixed factor, or does it grow more slowly?

# %% id="fused-time"
from timeit import repeat

from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.plots.curves import plot_curves


def milliseconds(attention, T):
    q, k, v = torch.randn(3, 1, 4, T, 16, requires_grad=True)
    mask = causal_mask(T, T)
    return 1000 * min(repeat(lambda: attention(q, k, v, mask).sum().backward(), number=1, repeat=7))


ways = {"in four steps": scaled_dot_product_attention, "fused": fused}
curves = {name: [milliseconds(attention, T) for T in LENGTHS] for name, attention in ways.items()}
plot_curves(LENGTHS, curves, "tokens T", "milliseconds, forward and backward", log_x=True, log_y=True)

# %% id="fused-claim"
q, k, v = torch.randn(3, 1, 4, 256, 16)
assert torch.allclose(*(attention(q, k, v, causal_mask(256, 256)) for attention in ways.values()), atol=1e-5)
assert (q @ k.mT).nbytes == 4 * 256**2 * 4
for T in LENGTHS:
    print(f"T = {T:4}: scores {16 * T**2 / 2**20:5.2f} MiB, q, k, v and output {4 * 256 * T / 2**20:4.2f} MiB")

# %% [markdown] id="summary"
# The results are the same, and on the machine that made this notebook the kernel took less time at every length. But it computes as many
# products as you do, and in the end its line, too, rises about fourfold for twice the text; the four steps may rise faster still, once
# their scores no longer fit into the processor's memory. What a kernel changes most is memory: at 2,048 tokens the scores take 64 MiB, in
# each layer, and all else together 2. The kernel needs the 2, and the mask, which is one for all heads. Times depend on the machine and
# on what else it does, and so no `assert` speaks of them.
#
# ## Summary
#
# * Attention is a weighted average: the weights come from queries meeting keys, what is averaged are the values.
# * Scores are divided by the root of K so that the softmax stays soft, and hidden keys get -inf before it, never after.
# * Heads are several attentions side by side. Scores grow with T squared: a fused kernel gives the same result without storing them.
#
# No row on the ladder yet: one attention is not a language model. Lesson 06 builds the block around it.
#
# **Read next**: Vaswani et al. 2017, "Attention is all you need", section 3.2; Dao et al. 2022,
# "FlashAttention"; in minilm `minilm/layers/attention.py`, `minilm/layers/masks.py` and `minilm/fast/attention.py`.
