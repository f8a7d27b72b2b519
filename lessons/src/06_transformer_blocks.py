# %% [markdown] id="title"
# # 06 Transformer blocks: how does a stack of attentions become a model?
#
# One attention moves what one token knows to where another needs it. One move is not enough: first the river tells "bank" what it
# is, and only then can "bank" tell others. And nobody has computed with what was fetched. So attentions must be stacked. But a
# stack of layers dies or explodes unless it is built with care. The unit that is built so is the **transformer block**.
#
# **You will write** three short functions: a norm, the part in which a token thinks for itself, and the wiring of a block. They
# run in a GPT of your own, which gets a row on the ladder.
#
# needs: 01, 02, 03, 04, 05. Time: 90 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, ABLATION, DOCUMENTS = 500, 250, 480

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import math

import torch

from minilm import GPT, Batches, BPETokenizer, NgramConfig, TrainConfig, encode_corpus, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.evaluation.ladder import counted_rungs, floor_rung, model_rung, uniform_rung
from minilm.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.basic import Dropout, silu
from minilm.layers.blocks import SwiGLU, TransformerBlock
from minilm.models.accounting import account
from minilm.plots.block import plot_block
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.text.stories import stories

STEPS, ABLATION, DOCUMENTS = (20, 10, 60) if QUICK else (STEPS, ABLATION, DOCUMENTS)
_ = torch.manual_seed(6)

# %% [markdown] id="add-text"
# ## 1. Add, do not replace
#
# In lesson 05 the row of "ran" was (0, 2, 0), an action, and its attention fetched (2, 0, 0): an animal. If the new row replaces
# the old one, the next layer knows the animal, and no longer the action. If it is added, the row is (2, 2, 0), and knows both. So
# each layer **adds** to a row of D numbers that goes through the whole model, the **residual stream**.
#
# Second, think of the slopes of lesson 04. If a layer replaces x by f(x), its slope is f'. Through 32 layers, 32 such factors are
# multiplied: of halves hardly anything is left, of threes the product is enormous. If x becomes x + f(x), the slope is 1 + f'.
# Multiplied out over all layers, one of the terms is 1 · 1 · 1 ..., a way on which the gradient comes through.
#
# We measure. Let a layer be a matrix of random weights and the bend of lesson 04, SiLU(z) = z · sigmoid(z). The weights have a
# variance (the mean of the squares, lesson 05) of 1 / D: each number of the new row is a sum of D terms, whose variances add up
# to that of the row's numbers.

# %% id="stack"
WIDTH, DEPTH = 64, 32
start, goal = torch.randn(2, 100, WIDTH)
matrices = torch.randn(DEPTH, WIDTH, WIDTH) / math.sqrt(WIDTH)


def layer(matrix):
    return lambda x: silu(x @ matrix)


def through_the_stack(join):  # the streams (100, D) at the start and after each layer f; join(x, f) joins both
    streams = [start.clone().requires_grad_()]
    for matrix in matrices:
        streams.append(join(streams[-1], layer(matrix)))
    return streams


# %% [markdown] id="spread-predict"
# The **standard deviation** says how far numbers lie from their mean; it is 1 at the start. What will it be after 8, 16, 24 and 32
# layers if each replaces what was there? If its weights are three times as large? And if each adds?

# %% id="spread"
joins = {"replace": lambda x, f: f(x), "replace, 3 × weights": lambda x, f: f(3 * x), "add": lambda x, f: x + f(x)}
spreads = {name: [x.std().item() for x in through_the_stack(join)[::8]] for name, join in joins.items()}
assert spreads["replace"][-1] < 1e-6 and spreads["replace, 3 × weights"][-1] > 1e6 and spreads["add"][-1] > 1e3
{name: [f"{spread:.2g}" for spread in numbers] for name, numbers in spreads.items()}

# %% [markdown] id="norm-text"
# From the second number on, nearly the same factor leads to the next. One below 1 kills the stream, one above 1 blows it up.
# Adding alone is no cure: what a layer adds is roughly in proportion to what it reads. Unless every layer reads numbers of the
# *same* size.
#
# ## 2. Layer norm
#
# Take a token with the numbers 2, 4, 4, 10. Less their mean, 5, they are -3, -1, -1, 5. The mean of their squares, the
# **variance**, is 36 / 4 = 9, and its root, 3, the standard deviation. Divide by it. What are mean and variance now?

# %% id="norm-loop"
token = [2.0, 4, 4, 10]
centred = [number - sum(token) / len(token) for number in token]
variance = sum(c**2 for c in centred) / len(token)
normed = [c / math.sqrt(variance) for c in centred]
normed, sum(normed) / len(normed), sum(n**2 for n in normed) / len(normed)

# %% [markdown] id="norm-exercise-text"
# Mean 0 and variance 1, whatever the token was. Three things are left:
#
# * A token whose numbers are all alike has variance 0. A small number `eps` is added to it, under the root: no division by 0.
# * The next part may want some of the D numbers larger than others. So each has a **weight** by which it is multiplied, and a
#   **bias** that is added after that. They are learned, and start at 1 and 0. `bias` may be None: then nothing is added.
# * Each token is normalised on its own. If tokens shared a mean, the model could peek at what comes later.
#
# x has the shape (B, T, D), or any other that ends in D. `x.mean(-1, keepdim=True)` is the mean along the last axis, which stays,
# with length 1. `torch.sqrt(y)` takes the root of each number of a tensor (`math.sqrt` takes a single number).
#
# **Exercise 1.** Write layer norm.


# %% tags=["exercise"] id="exercise-norm"
def layer_norm(x, weight, bias=None, eps=1e-5):
    """x (..., D), weight (D,), bias (D,) or None -> (..., D): each token with mean 0 and variance 1, then scaled and shifted."""
    raise NotImplementedError


# %% tags=["check"] id="check-norm"
layer_norm = check("layer_norm", layer_norm)

# %% id="norm-see"
ours = layer_norm(torch.tensor([token, [0.02, 0.04, 0.04, 0.10], [7, 7, 7, 7]]), torch.ones(4))
assert torch.allclose(ours[0], torch.tensor(normed), atol=1e-4) and (ours[2] == 0).all()
ours

# %% [markdown] id="gradient-predict"
# The norm belongs in front of each layer: x + f(norm(x)). Every layer reads rows of the same size, and the stream is not touched.
#
# Now the way back. As a loss we take the product of the last stream with random numbers. `torch.autograd.grad(loss, streams)`
# returns the slopes that `backward()` would put into `.grad`, one tensor for each stream. `g.norm()` is a length, the root of the
# sum of the squares; it has nothing to do with layer norm. Replace or add, with and without the norm: which of the four will
# bring a gradient of a useful size back to layer 0? (The axis is logarithmic: a straight line means a fixed factor for each
# layer.)

# %% id="plot-gradient"
joins["replace, norm"] = lambda x, f: f(layer_norm(x, torch.ones(WIDTH)))
joins["add, norm"] = lambda x, f: x + f(layer_norm(x, torch.ones(WIDTH)))
slopes = {}
for name in ("replace", "add", "replace, norm", "add, norm"):
    streams = through_the_stack(joins[name])
    gradients = torch.autograd.grad((streams[-1] * goal).sum(), streams)
    slopes[name] = [(g.norm() / gradients[-1].norm()).item() for g in reversed(gradients)]  # from the last layer back
assert slopes["replace"][-1] < 1e-6 and slopes["add"][-1] > 1e3 and 1 < slopes["add, norm"][-1] < 10
plot_curves(range(DEPTH + 1), slopes, "layers on the way back", "gradient (1 at the last layer)", log_y=True)

# %% [markdown] id="mlp-text"
# Without the norm the gradient vanishes or explodes. With it both are tamer, but only "add, norm" stays within a factor of ten on
# the way back to layer 0.
#
# ## 3. Where a token thinks for itself
#
# The row of "ran" is now (2, 2, 0). Somebody should note that an animal *and* an action are here. Attention only averages. A
# linear layer makes w1 · animal + w2 · action + b, and should give something to (2, 2), but 0 to (0, 0), (2, 0) and (0, 2). The
# first 0 demands b = 0, the second w1 = 0, the third w2 = 0. Then (2, 2) gets 0 as well.
#
# It takes a bend, or a product. So the second half of a block is an **MLP**, as in lesson 04, which looks at one token at a time.
# Usual today is **SwiGLU**, which has a gate:
#
# * two linear layers make F numbers each of the D: `gate(x)` and `up(x)`;
# * the SiLU of a gate's number says how far it is open;
# * the two are multiplied, number by number, and `down` makes D numbers of the F.
#
# **Exercise 2.** Write it. `gate`, `up` and `down` are functions that you are given. Then the gate reads "animal" and `up`
# "action": what should come out for the four?


# %% tags=["exercise"] id="exercise-swiglu"
def swiglu(x, gate, up, down):
    """x (..., D) -> (..., D): silu(gate(x)) decides how much of up(x), both (..., F), goes into down."""
    raise NotImplementedError


# %% tags=["check"] id="check-swiglu"
swiglu = check("swiglu", swiglu)

# %% id="swiglu-see"
noted = swiglu(torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]]), lambda x: x[:, :1], lambda x: x[:, 1:], lambda x: x)
assert (noted[:3] == 0).all() and noted[3] > 3
noted[:, 0]  # silu(2) = 1.76, times 2

# %% [markdown] id="block-text"
# ## 4. The block
#
# A **block** is both halves. First the tokens exchange what they know, then each thinks about it. Each half reads the stream
# through a norm of its own, and adds what it found. As the norm stands before the part, this is called **pre-norm**. The next cell
# fixes the sizes of our model and draws a block of it. How many arrows will leave the stream, and how many lead back?
#
# **Exercise 3.** Wire the block. All four parts are functions of x. The MLP reads the stream *after* attention has written to it.

# %% id="plot-block"
config = gpt2_config(vocab_size=512, context_length=64, d_model=48, n_layers=4, d_ff=128, mlp="swiglu", bias=False)
plot_block(account(config).bricks)


# %% tags=["exercise"] id="exercise-block"
def pre_norm(x, attention, mlp, attention_norm, mlp_norm):
    """x (B, T, D) -> (B, T, D): each half reads the stream through its norm, and adds what it found."""
    raise NotImplementedError


# %% tags=["check"] id="check-block"
pre_norm = check("pre_norm", pre_norm)

# %% tags=["check"] id="reveal"
reveal("pre_norm")  # the library's version; the other two can be revealed in the same way

# %% [markdown] id="module-text"
# ## 5. A GPT of your own
#
# Your functions own no weights. In torch a `torch.nn.Module` keeps them: an object that holds weights and is called like a
# function, where `forward` says what a call does. A tensor wrapped in `torch.nn.Parameter` is registered as a weight: training
# moves it.


# %% id="norm-module"
class Norm(torch.nn.Module):
    def __init__(self, d_model):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        return layer_norm(x, self.weight)


# %% id="mlp-module"
class Gated(SwiGLU):  # the library's module, with its three matrices; only what a call does is yours
    def forward(self, x):
        return swiglu(x, self.gate, self.up, self.down)


# %% [markdown] id="gpt-text"
# minilm's `GPT` takes the builder of its blocks as an argument, a function of config and attention. Around the blocks:
#
# > ids → a row for each token (lesson 04), plus a learned row for each place → L blocks → a last norm → scores
#
# Attention alone does not know in which order the tokens stand, hence the places (lesson 13). The score of a next token is the
# product of the row that leaves the last norm with that token's own row in the table.
#
# `MultiHeadAttention(D, H, H, ...)` holds four matrices: for queries, keys, values, and one that joins the heads. It gets H
# twice, for the heads of queries and of keys, and calls the attention function that you pass. In `my_gpt` that is the library's.
# **To use your own**, paste your `scaled_dot_product_attention` of lesson 05 into a cell above the next one: its name then means
# yours.


# %% id="block-builder"
def my_block(config, attention, wiring=pre_norm, output_std=None):
    D, H = config.d_model, config.n_heads
    output_std = 0.02 / math.sqrt(2 * config.n_layers) if output_std is None else output_std
    heads = MultiHeadAttention(D, H, H, bias=False, output_std=output_std, attention=attention)
    return TransformerBlock(heads, Gated(D, config.d_ff, False, output_std), Norm(D), Norm(D), Dropout(0.0), wiring)


# %% id="gpt-builder"
def my_gpt(config, wiring=pre_norm, output_std=None):
    model = GPT(config, scaled_dot_product_attention, block=lambda c, a: my_block(c, a, wiring, output_std))
    model.norm = Norm(config.d_model)
    return model


# %% [markdown] id="count-text"
# So `layer_norm`, `swiglu`, `pre_norm` and perhaps attention are yours; linear layers, tables and the cutting of heads are the
# library's.
#
# ## 6. How many weights?
#
# Count a block by hand. Attention has four matrices (D, D), SwiGLU three of D times F. Usually F = 8/3 D: why that odd number?
# There are 2 L + 1 norms, each with a weight of D numbers (and no bias), and two tables: V rows for the tokens, T for the places.

# %% id="count"
D, F, L, V, T = config.d_model, config.d_ff, config.n_layers, config.vocab_size, config.context_length
norms, tables, total = (2 * L + 1) * D, V * D + T * D, sum(weight.numel() for weight in my_gpt(config).parameters())
assert F == 8 * D / 3 and 4 * D * D + 3 * D * F == 12 * D * D and total == L * 12 * D * D + norms + tables
print(f"{L} blocks {L * 12 * D * D:,} + norms {norms:,} + tables {tables:,} = {total:,} weights")

# %% [markdown] id="init-text"
# 4 D² + 8 D²: a block has **12 D²** weights. An MLP with two matrices and F = 4 D, as in GPT-2, has 8 D² as well.
#
# ## 7. Start small
#
# `output_std` above hides an idea. All matrices of a block start at random with a standard deviation of 0.02, only the two that
# write to the stream start smaller. L blocks write 2 L times. The variances of independent things add up, so after 2 L equal
# writes the standard deviation has grown with the root of 2 L. Divide what is written by that root, and the sum is as large as a
# single write.
#
# We build models with 2, 8 and 32 blocks, twice as wide, and look at the stream that leaves the last (`torch.nn.Identity()` does
# nothing). In which rows will the three numbers be alike?


# %% id="init"
def spread_at_the_end(n_layers, output_std):
    model = my_gpt(gpt2_config(d_model=96, d_ff=256, n_layers=n_layers, bias=False), output_std=output_std)
    model.norm = torch.nn.Identity()
    return round(model.hidden(torch.randint(1024, (2, 64))).std().item(), 3)


# %% id="init-table"
rules = {"1 / sqrt(D)": 96**-0.5, "0.02": 0.02, "0.02 / sqrt(2 L)": None, "0": 0.0}
table = {rule: [spread_at_the_end(n_layers, std) for n_layers in (2, 8, 32)] for rule, std in rules.items()}
assert [spreads[2] > 2 * spreads[0] for spreads in table.values()] == [True, True, False, False]
table  # how the matrices start that write: the spread at the end of 2, 8 and 32 blocks

# %% [markdown] id="train-text"
# The first row is nearly the rule of section 1, the second that of the first GPT, the third that of GPT-2. In the last, blocks
# say nothing at first: 0.022 is what the two tables give, sqrt(0.02² + 0.01²).
#
# ## 8. What is each part good for?
#
# Stories, a sixth held out. As a bar, `counted_rungs` counts unigram, bigram and Kneser-Ney n-gram: their bits per byte.

# %% id="data"
documents, cut = list(stories(DOCUMENTS, seed=6)), DOCUMENTS * 5 // 6
tokenizer = BPETokenizer.train(documents[:cut], vocab_size=V)
train_ids, held_out = (encode_corpus(some, tokenizer) for some in (documents[:cut], documents[cut:]))
counted = [rung for rung, _ in counted_rungs(train_ids, held_out, tokenizer, NgramConfig(vocab_size=V))]
unigram, bigram, kneser_ney = (rung.bits_per_byte for rung in counted)
unigram, bigram, kneser_ney

# %% [markdown] id="ablation-predict"
# To learn what a part is good for, leave it out: an **ablation**. Each of these wirings lacks one thing, and all five models get
# the same steps. (`train` is a black box until lesson 07, and Muon, a way to take steps, until lesson 12.)
#
# Which will be the worst? And without attention each token sees nothing but itself and its place. Which model that you know can
# it at best become? (You can let a wiring of your own race them: **post-norm** normalises the sum x + f(x) instead of what f
# reads.)

# %% id="ablations"
wirings = {
    "whole": pre_norm,
    "no norms": lambda x, attention, mlp, norm_1, norm_2: pre_norm(x, attention, mlp, lambda x: x, lambda x: x),
    "no MLP": lambda x, attention, mlp, norm_1, norm_2: x + attention(norm_1(x)),
    "no attention": lambda x, attention, mlp, norm_1, norm_2: x + mlp(norm_2(x)),
    "no residual": lambda x, attention, mlp, norm_1, norm_2: mlp(norm_2(attention(norm_1(x)))),
}


# %% id="trained"
def trained(steps, wiring):
    torch.manual_seed(6)
    model = my_gpt(config, wiring=wiring)
    settings = TrainConfig(steps=steps, optimizer="muon", learning_rate=1e-2, matrix_learning_rate=0.04, threads=1)
    return model, train(model, Batches(train_ids.ids, 16, T), settings, progress=False)


# %% id="plot-ablations"
curves, bits = {}, {}  # of a curve ten points, means of ABLATION / 10 steps each
for name, wiring in wirings.items():
    model, history = trained(ABLATION, wiring)
    curves[name] = torch.tensor([record["loss"] for record in history]).reshape(10, -1).mean(dim=1)
    bits[name] = model_rung(name, model, held_out, tokenizer, 0.0).bits_per_byte
    print(f"{name:12} {bits[name]:.2f} bits per byte of held-out stories")
assert QUICK or (min(bits, key=bits.get) == "whole" and bits["no attention"] > bigram - 0.05)
assert QUICK or (abs(bits["no residual"] - unigram) < 0.1 and curves["no attention"][1] < curves["whole"][1])
plot_curves(torch.arange(1, 11) * ABLATION // 10, curves, "step", "loss, nats per token")

# %% id="alike"
alike = {}
for name in ("whole", "no residual"):
    rows = my_gpt(config, wirings[name]).hidden(torch.randint(V, (8, T)))
    rows = rows / rows.norm(dim=-1, keepdim=True)  # each of length 1
    alike[name] = (((rows @ rows.mT).sum() / 8 - T) / (T * (T - 1))).item()  # without each row with itself
assert alike["no residual"] > 0.8 > 0.2 > alike["whole"]
alike

# %% [markdown] id="ablation-why"
# Without the residual the norms keep the gradient's size, as in section 2, and still nothing is learned: attention begins by
# looking everywhere alike, so each layer replaces a row by an average of rows, and after four of them all rows point the same
# way. (`alike` is the mean **cosine** of the rows of two places in fresh models: their product once both are made 1 long, 1 if
# they point the same way.) What is left to learn is how often each token occurs, the unigram.
#
# Without attention it is ahead at first, for one token is soon known, but it cannot get much past the bigram. Without norms or
# without the MLP it learns, but more slowly. (A short run says who learns *fast*, not who is best in the end.)
#
# ## 9. The ladder
#
# Now the whole model, with more steps: above or below the bigram? And the Kneser-Ney n-gram, which sees four tokens?

# %% id="ladder"
model, history = trained(STEPS, pre_norm)
mine = model_rung("your GPT", model, held_out, tokenizer, history[-1]["seconds"])
assert QUICK or kneser_ney < mine.bits_per_byte < bigram
rungs = [uniform_rung(held_out, tokenizer), *counted, mine, floor_rung(held_out, tokenizer)]
plot_ladder(sorted(rungs, key=lambda rung: -rung.bits_per_byte), mine="your GPT")

# %% [markdown] id="summary"
# Below the bigram, and still above the n-gram. Counts are ready after one look at the text; weights had few steps here.
#
# ## Summary
#
# * Layers add to a residual stream: the gradient has a way of its own through any depth, and what was known is not lost.
# * Each half of a block reads the stream through a norm. Attention moves knowledge between tokens, the MLP computes with it, one
#   token at a time.
# * A block has 12 D² weights. What writes to the stream starts smaller by sqrt(2 L), so that depth does not matter at the start.
#
# **On the ladder**: a GPT that runs on your own functions. Lesson 09 beats the n-gram.
#
# **Read next**: He and others 2015, "Deep residual learning for image recognition"; Shazeer 2020, "GLU variants improve
# transformer"; Xiong and others 2020, "On layer normalization in the transformer architecture", on pre-norm and post-norm. In
# minilm `minilm/layers/blocks.py`, and `minilm/layers/wirings.py` for other wirings.
