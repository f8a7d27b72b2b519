# %% [markdown] id="title"
# # 06 Transformer blocks: how does a stack of attentions become a model?
#
# One attention moves what one token knows to where another needs it. That is not a language model yet: nothing has computed with
# what was fetched, and one move is not enough. First the river tells "bank" what it is, and only then can "bank" tell others. So
# attentions must be stacked. But a stack of layers dies or explodes unless it is built with care: of
# **transformer blocks**.
#
# **You will write** three short functions: a norm, the part in which a token thinks for itself, and the wiring of a block. They
# run in a GPT of your own, which gets a row on the ladder.
#
# needs: 01, 02, 03, 04, 05. Time: 90 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, ABLATION = 500, 250
DOCUMENTS = 480

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import math
from functools import partial

import torch
from torch import nn

from minilm import GPT, Batches, BPETokenizer, NgramConfig, TrainConfig, encode_corpus, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.evaluation.ladder import counted_rungs, floor_rung, model_rung, uniform_rung
from minilm.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from minilm.layers.basic import Dropout, Linear, silu
from minilm.layers.blocks import TransformerBlock
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.text.stories import stories

STEPS, ABLATION, DOCUMENTS = (20, 10, 60) if QUICK else (STEPS, ABLATION, DOCUMENTS)
_ = torch.manual_seed(6)

# %% [markdown] id="add-text"
# ## 1. Add, do not replace
#
# In lesson 05 the row of "ran" was (0, 2, 0), an action, and its attention fetched (2, 0, 0): an animal. What should "ran" hand
# on to the next layer? If the new row replaces the old one, it knows that there is an animal, and no longer that something was
# done. If the new row is added, it knows both:

# %% id="add"
torch.tensor([0.0, 2, 0]) + torch.tensor([2.0, 0, 0])  # "ran", and what it fetched

# %% [markdown] id="stack-text"
# So each layer **adds** to a row of D numbers that goes through the whole model, the **residual stream**. Layers read from it and
# write to it, and what was known is not lost.
#
# Second, think of the slopes of lesson 04. If a layer replaces x by f(x), its slope is f'. Through 32 layers, 32 such factors are
# multiplied: if each is a half, hardly anything is left; if each is 3, the product is enormous. If x becomes x + f(x), the slope
# is 1 + f'. Multiply that out over all layers: one of the terms is 1 · 1 · 1 ..., a way on which the gradient comes through
# untouched.
#
# We measure. Let a layer be a matrix of random weights and the bend of lesson 04, SiLU(z) = z · sigmoid(z). The weights have a
# variance of 1 / D, so that the matrix alone keeps the size of a row: it adds up D terms.

# %% id="stack"
D, DEPTH = 64, 32
start, goal = torch.randn(100, D), torch.randn(100, D)
matrices = torch.randn(DEPTH, D, D) / math.sqrt(D)


def through_the_stack(wiring):  # the streams (100, D) before the first layer and after each; wiring joins x and a layer
    streams = [start.clone().requires_grad_()]
    for matrix in matrices:
        streams.append(wiring(streams[-1], lambda x, matrix=matrix: silu(x @ matrix)))
    return streams


# %% [markdown] id="spread-predict"
# The **standard deviation** says how far numbers lie from their mean; it is 1 at the start. How will it go on over 32 layers if
# each replaces what was there? If its weights are three times as large? And if each adds? (The axis is logarithmic: a straight
# line means a fixed factor for each layer.)

# %% id="plot-spread"
wirings = {"replace": lambda x, f: f(x), "replace, 3 × weights": lambda x, f: f(3 * x), "add": lambda x, f: x + f(x)}
spreads = {name: [x.std().item() for x in through_the_stack(wiring)] for name, wiring in wirings.items()}
assert spreads["replace"][-1] < 1e-6 and spreads["replace, 3 × weights"][-1] > 1e6 and spreads["add"][-1] > 1e3
plot_curves(range(DEPTH + 1), spreads, "layer", "standard deviation of the stream", log_y=True)

# %% [markdown] id="norm-text"
# All three are nearly straight. A factor below 1 kills the stream, one above 1 blows it up. Adding alone is no cure: what a layer
# adds is in proportion to what it reads, so the stream grows like a debt with interest. Unless every layer reads numbers of the
# *same* size, whatever the size of the stream.
#
# ## 2. Layer norm
#
# Take a token with the numbers 2, 4, 4, 10. Their mean is 5: take it away, and -3, -1, -1, 5 are left. The mean of the squares is
# (9 + 1 + 1 + 25) / 4 = 9. That is the **variance**, and its root, 3, the standard deviation. Divide by it. What are mean and
# variance now?

# %% id="norm-loop"
token = [2.0, 4, 4, 10]
mean = sum(token) / len(token)
centred = [number - mean for number in token]
variance = sum(c**2 for c in centred) / len(token)
normed = [c / math.sqrt(variance) for c in centred]
normed, sum(normed) / len(normed), sum(n**2 for n in normed) / len(normed)

# %% [markdown] id="norm-exercise-text"
# Mean 0 and variance 1, whatever the token was. Three things are left:
#
# * A token whose numbers are all alike has variance 0. A small number `eps` is added to the variance, under the root, so that
#   nothing is divided by 0.
# * The next part may want some of the D numbers larger than others. So each has a **weight** by which it is multiplied, and a
#   **bias** that is added after that. They are learned, and start at 1 and 0.
# * Each token is normalised on its own. If the tokens of a text shared a mean, the model could peek at what comes later.
#
# x has the shape (B, T, D), or any other that ends in D. `x.mean(-1, keepdim=True)` is the mean along the last axis, and keeps
# that axis, with length 1, so that it can be taken away from x.
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
# Where does the norm belong? In front of each layer: x + f(norm(x)). Every layer reads rows of the same size, and the stream
# itself is not touched.
#
# Now the way back. We take the product of the last stream with random numbers as a loss, and compare the length of its gradient
# at each layer with that at the last. Four wirings: replace or add, with and without the norm. Which of them will bring a
# gradient of a useful size back to layer 0?

# %% id="plot-gradient"
wirings["replace, norm"] = lambda x, f: f(layer_norm(x, torch.ones(D)))
wirings["add, norm"] = lambda x, f: x + f(layer_norm(x, torch.ones(D)))
slopes = {}
for name in ("replace", "add", "replace, norm", "add, norm"):
    streams = through_the_stack(wirings[name])
    lengths = torch.stack([g.norm() for g in torch.autograd.grad((streams[-1] * goal).sum(), streams)])
    slopes[name] = lengths.flip(0) / lengths[-1]  # from the last layer back to the start
assert slopes["replace"][-1] < 1e-6 and slopes["add"][-1] > 1e3 and 1 < slopes["add, norm"][-1] < 10
plot_curves(range(DEPTH + 1), slopes, "layers on the way back", "gradient (1 at the last layer)", log_y=True)

# %% [markdown] id="mlp-text"
# Without the norm the gradient vanishes or explodes. With it both are tamer, but only "add, norm" stays within a factor of ten on
# the way back to layer 0.
#
# ## 3. Where a token thinks for itself
#
# "ran" has fetched the animal: its row is (2, 2, 0). Somebody should note that an animal *and* an action are here. Can attention?
# It only averages values. Can a linear layer? It makes w1 · animal + w2 · action + b, and should give something to (2, 2), but 0
# to (0, 0), (2, 0) and (0, 2). The first 0 demands b = 0, the second w1 = 0, the third w2 = 0. Then (2, 2) gets 0 as well.
#
# It takes a bend, or a product. So the second half of a block is an **MLP**, as in lesson 04. It looks at one token at a time,
# all of them with the same weights. Usual today is **SwiGLU**, which has a gate:
#
# * two linear layers make F numbers each of the D: `gate(x)` and `up(x)`;
# * the SiLU of a gate's number says how far it is open (near 0 for very negative numbers);
# * the two are multiplied, number by number, and `down` makes D numbers of the F.
#
# **Exercise 2.** Write it. `gate`, `up` and `down` are functions that you are given; `silu` is imported above. Then we let the gate
# read "animal" and `up` "action". What should come out for the four rows?


# %% tags=["exercise"] id="exercise-swiglu"
def swiglu(x, gate, up, down):
    """x (..., D) -> (..., D): silu(gate(x)) decides how much of up(x), both (..., F), goes into down."""
    raise NotImplementedError


# %% tags=["check"] id="check-swiglu"
swiglu = check("swiglu", swiglu)

# %% id="swiglu-see"
rows = torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]])
noted = swiglu(rows, lambda x: x[:, :1], lambda x: x[:, 1:], lambda x: x)
assert (noted[:3] == 0).all() and noted[3] > 3
noted[:, 0]

# %% [markdown] id="block-text"
# ## 4. The block
#
# A **block** is both halves. First the tokens exchange what they know, then each thinks about it. Each half reads the stream
# through a norm of its own, and adds what it found. As the norm stands before the part, this is called **pre-norm**.
#
# **Exercise 3.** Wire the block. All four parts are functions of x. The MLP reads the stream *after* attention has written to it.


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
# Your functions own no weights. In torch an `nn.Module` keeps them: an object that holds weights and is called like a function,
# where `forward` says what a call does. A tensor wrapped in `nn.Parameter` is registered as a weight, so that
# `model.parameters()` finds it and training moves it. `Linear` is minilm's module for the linear layer of lesson 04.


# %% id="norm-module"
class Norm(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        return layer_norm(x, self.weight, self.bias)


# %% id="mlp-module"
class Gated(nn.Module):
    def __init__(self, d_model, d_ff, output_std):
        super().__init__()
        self.gate, self.up = Linear(d_model, d_ff, bias=False), Linear(d_model, d_ff, bias=False)
        self.down = Linear(d_ff, d_model, bias=False, std=output_std)

    def forward(self, x):
        return swiglu(x, self.gate, self.up, self.down)


# %% [markdown] id="gpt-text"
# minilm's `GPT` takes the builder of its blocks as an argument. Around the blocks:
#
# > ids → a row for each token (lesson 04), plus a learned row for each place → L blocks → a last norm → scores
#
# Attention alone does not know in which order the tokens stand, hence the places (lesson 13). The score of a next token is the
# product of the last row with that token's own row in the table.
#
# `MultiHeadAttention` holds four matrices: for queries, keys, values, and one that joins the heads. It calls the attention
# function that you pass. In `my_gpt` that is the library's; **put your own from lesson 05 there**, if you like.


# %% id="block-builder"
def my_block(config, attention, wiring=pre_norm, output_std=None):
    D, H = config.d_model, config.n_heads
    output_std = 0.02 / math.sqrt(2 * config.n_layers) if output_std is None else output_std
    heads = MultiHeadAttention(D, H, H, bias=False, output_std=output_std, attention=attention)
    return TransformerBlock(heads, Gated(D, config.d_ff, output_std), Norm(D), Norm(D), Dropout(0.0), wiring)


# %% id="gpt-builder"
def my_gpt(config, wiring=pre_norm, output_std=None):
    block = partial(my_block, wiring=wiring, output_std=output_std)
    model = GPT(config, attention=scaled_dot_product_attention, block=block)
    model.norm = Norm(config.d_model)
    return model


# %% [markdown] id="count-text"
# So these are yours: `layer_norm` everywhere, `swiglu` and `pre_norm` in every block, and attention if you put it there. From the
# library come the linear layers, the tables and the cutting of heads. (`Dropout(0.0)` does nothing.)
#
# ## 6. How many weights?
#
# Count one block by hand. Attention has four matrices (D, D), SwiGLU three of D times F. It is usual to choose F = 8/3 D:
# why that odd number?

# %% id="count"
config = gpt2_config(vocab_size=512, context_length=64, d_model=48, n_layers=4, n_heads=4, d_ff=128, bias=False)
D, F, L, V, T = config.d_model, config.d_ff, config.n_layers, config.vocab_size, config.context_length
norms, tables = (2 * L + 1) * 2 * D, V * D + T * D
n_weights = sum(weight.numel() for weight in my_gpt(config).parameters())
assert F == 8 * D / 3 and 4 * D * D + 3 * D * F == 12 * D * D and n_weights == L * 12 * D * D + norms + tables
print(f"{L} blocks {L * 12 * D * D:,} + norms {norms:,} + tables {tables:,} = {n_weights:,} weights")

# %% [markdown] id="init-text"
# 4 D² + 8 D²: a block has **12 D²** weights. An MLP with two matrices and F = 4 D, as in GPT-2, has 8 D² as well: 8/3 was chosen
# so that the two can be compared.
#
# ## 7. Start small
#
# `output_std` above hides an idea. All matrices start at random with a standard deviation of 0.02, only the two that write to the
# stream start smaller. L blocks write 2 L times. The variances of independent things add up, so after 2 L equal writes the
# standard deviation has grown with the root of 2 L. Divide what is written by that root, and the sum is as large as a single
# write, however deep the model is.
#
# We build models with 2, 8 and 32 blocks, twice as wide as above, and look at the stream that leaves the last block
# (`nn.Identity()`, which does nothing, replaces the last norm). In which rows will the three numbers be alike?


# %% id="init"
def spread_at_the_end(n_layers, output_std):
    model = my_gpt(gpt2_config(d_model=96, d_ff=256, n_layers=n_layers, bias=False), output_std=output_std)
    model.norm = nn.Identity()
    return model.hidden(torch.randint(1024, (2, 64))).std().item()


# %% id="init-table"
table = {}
for name, std in {"1 / sqrt(D)": 96**-0.5, "0.02": 0.02, "0.02 / sqrt(2 L)": None, "0": 0.0}.items():
    table[name] = [spread_at_the_end(n_layers, std) for n_layers in (2, 8, 32)]
    print(f"writers start with {name:16}", *(f"{spread:8.3f}" for spread in table[name]))
assert [spreads[2] > 2 * spreads[0] for spreads in table.values()] == [True, True, False, False]

# %% [markdown] id="train-text"
# The first row is the rule of section 1, the second that of the first GPT, the third that of GPT-2; in the last, blocks say
# nothing at first. With the last two a deep model starts as tame as a shallow one.
#
# ## 8. What is each part good for?
#
# Stories, five sixths to train on, the rest held out. As a bar, `counted_rungs` counts unigram, bigram and Kneser-Ney n-gram on
# the same tokens: their bits per byte.

# %% id="data"
documents, cut = list(stories(DOCUMENTS, seed=6)), DOCUMENTS * 5 // 6
tokenizer = BPETokenizer.train(documents[:cut], vocab_size=V)
train_ids, held_out = (encode_corpus(some, tokenizer) for some in (documents[:cut], documents[cut:]))
counted = [rung for rung, _ in counted_rungs(train_ids, held_out, tokenizer, NgramConfig(vocab_size=V))]
unigram, bigram, kneser_ney = (rung.bits_per_byte for rung in counted)
unigram, bigram, kneser_ney

# %% [markdown] id="ablation-predict"
# To learn what a part is good for, leave it out: an **ablation**. Each of these wirings lacks one thing, and all five models get
# the same steps on the same stories. (`train` is a black box until lesson 07. Muon, which lesson 12 explains, is a way to take
# steps that learns fast.)
#
# Before you run it: which will be the worst? And without attention each token sees nothing but itself and its place. Which model
# that you know can it at best become?

# %% id="ablations"
wirings = {
    "whole": pre_norm,
    "no norms": lambda x, attention, mlp, norm_1, norm_2: pre_norm(x, attention, mlp, nn.Identity(), nn.Identity()),
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
curves, bits = {}, {}
for name, wiring in wirings.items():
    model, history = trained(ABLATION, wiring)
    curves[name] = torch.tensor([record["loss"] for record in history]).reshape(10, -1).mean(dim=1)
    bits[name] = model_rung(name, model, held_out, tokenizer, 0.0).bits_per_byte
    print(f"{name:12} {bits[name]:.2f} bits per byte of held-out stories")
assert QUICK or (min(bits, key=bits.get) == "whole" and bits["no attention"] > bigram - 0.05)
assert QUICK or (abs(bits["no residual"] - unigram) < 0.1 and curves["no attention"][1] < curves["whole"][1])
plot_curves(torch.arange(1, 11) * ABLATION // 10, curves, "step", "loss, nats per token")

# %% [markdown] id="ablation-why"
# Without the residual nothing comes through four blocks: the model learns how often each token occurs, the unigram, and no more.
# Without attention it is ahead at first, for one token is soon known. But it is on its way to the bigram, and cannot get much past
# it. Without norms or without the MLP it learns, but more slowly. (A short run says who learns *fast*, not who is best in the end.)
#
# ## 9. The ladder
#
# Now the whole model, with more steps. Guess: above or below the bigram? And the Kneser-Ney n-gram, which looks at four tokens
# where yours sees 64?

# %% id="ladder"
model, history = trained(STEPS, pre_norm)
mine = model_rung("your GPT", model, held_out, tokenizer, history[-1]["seconds"])
assert QUICK or kneser_ney < mine.bits_per_byte < bigram
rungs = [uniform_rung(held_out, tokenizer), *counted, mine, floor_rung(held_out, tokenizer)]
plot_ladder(sorted(rungs, key=lambda rung: -rung.bits_per_byte))

# %% [markdown] id="summary"
# Below the bigram, and still above the n-gram that has only counted. Counts are ready after one look at the text; weights must be
# moved step by step, and here they had few steps.
#
# ## Summary
#
# * Layers add to a residual stream: on it the gradient has a way of its own through any depth, and what was known is not lost.
# * Each half of a block reads the stream through a norm. Attention moves knowledge between tokens, the MLP computes with it, one
#   token at a time.
# * A block has 12 D² weights. What writes to the stream starts smaller by sqrt(2 L), so that depth does not matter at the start.
#
# **On the ladder**: a GPT that runs on your own functions. Lesson 09 beats the n-gram.
#
# **Read next**: He and others 2015, "Deep residual learning for image recognition"; Shazeer 2020, "GLU variants improve
# transformer"; Xiong and others 2020, "On layer normalization in the transformer architecture", which compares pre-norm with
# **post-norm** (Vaswani and others 2017), where the sum is normalised instead of what is read. In a **parallel** block (GPT-J, Wang
# and Komatsuzaki 2021) both halves read the same x. In minilm `minilm/layers/blocks.py`, and `minilm/layers/wirings.py` for these
# two.
