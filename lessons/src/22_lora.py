# %% [markdown] id="title"
# # 22 LoRA: must every skill be a whole model?
#
# In lesson 10 a trained model learned something new, and all its weights moved. So each skill is a model of its own, as
# large as the first: ten skills, ten models. But how much do the weights really change, and is the change worth all
# that room?
#
# **You will write** the nearest matrix of a given rank, a change of low rank beside a frozen matrix, its gradients by
# hand, and the one matrix that does the work of both.
#
# needs: 01, 02, 04, 06, 07, 10. Time: 90 minutes. Run time: two and a half minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
BASE_STEPS, STEPS, SEEDS, RANKS, STORIES = 500, 80, (1, 2, 3), (1, 2, 4, 8, 16), 12

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)
import copy
import tempfile

import numpy as np
import torch

from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, evaluate, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.finetuning import adapters, sft
from minilm.finetuning.freezing import count_parameters, freeze
from minilm.finetuning.lora import LoRALinear, children, load_lora, lora_arrays
from minilm.finetuning.lora_config import MAPS, LoRAConfig
from minilm.plots import curves, smaller
from minilm.tasks.sentiment import labelled
from minilm.text.stories import stories
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

if QUICK:
    BASE_STEPS, STEPS, SEEDS, RANKS, STORIES = 6, 3, (1,), (1, 8), 2

# %% [markdown] id="base-text"
# ## 1. A base and a skill
#
# The base is a small GPT that has read the built-in stories. The first skill is praise: short tales that end well, and
# book reviews that recommend the book. (The second one comes later: complaints.) All is measured as always, in bits per
# byte of new texts.

# %% id="data"
documents = list(stories(1200, seed=22))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=512)
lessons, exams = {}, {"stories": encode_corpus(list(stories(STORIES, seed=23)), tokenizer)}
for i, skill in enumerate(("praise", "complaint")):  # the labels alternate
    lessons[skill] = encode_corpus([text for text, _ in labelled(800, 22, "plain")[i::2]], tokenizer).ids
    exams[skill] = encode_corpus([text for text, _ in labelled(6 * STORIES, 22, "plain", "test")[i::2]], tokenizer)


# %% id="teach"
def teach(model, ids, steps, rate, seed=0, batch_size=8, **more):
    plan = TrainConfig(steps=steps, learning_rate=rate, weight_decay=0, dtype="float32", threads=1, **more)
    train(model, Batches(ids, batch_size, 64, seed=seed), plan, progress=False)
    return model


def bits(models, exam):  # the mean over some models
    return float(np.mean([evaluate(model, exams[exam], tokenizer).bits_per_byte for model in models]))


# %% id="base"
torch.manual_seed(22)
base = GPT(gpt2_config(vocab_size=512, context_length=64, d_model=64, n_layers=2, n_heads=4))
teach(base, encode_corpus(documents, tokenizer).ids, BASE_STEPS, 5e-3, batch_size=16, optimizer="muon")
before = adapters.fingerprint(base)  # SHA-256 of all its weights
{exam: round(bits([base], exam), 3) for exam in exams}

# %% [markdown] id="full-text"
# First full fine-tuning, as in lesson 10: copies of the base go on learning, three of them, each in another order. All
# matrices in the blocks learn; the tables, norms and biases rest, so that we can look at matrices alone (section 9 lets
# all learn: it makes little difference). The learning rates here and below are those that learned best among a few.
# (`children` yields each layer: its whole name, the module that holds it, its name there, the layer itself.)

# %% id="full"
maps, full = [whole for whole, _, name, _ in children(base, torch.nn.Module) if name in MAPS], []
for seed in SEEDS:
    freeze(model := copy.deepcopy(base), keep=[f"{name}.weight" for name in maps])
    full.append(teach(model, lessons["praise"], STEPS, 8e-3, seed))
untaught, taught = bits([base], "praise"), bits(full, "praise")
print(f"praise: {untaught:.3f} before, {taught:.3f} after")

# %% [markdown] id="rank-text"
# ## 2. How rich is a change?
#
# Take a column of three numbers and a row of three numbers, and multiply each with each. That makes nine numbers, and
# yet they say no more than six: every row is the same row, only longer or shorter. Such a matrix has **rank** 1.

# %% id="tiny"
[[b * a for a in (3.0, 2.0, 1.0)] for b in (1.0, -2.0, 0.5)]

# %% [markdown] id="svd-text"
# A sum of R such matrices has rank R at most. And every matrix is such a sum: the **singular value decomposition**
# writes it as
#
# S_1 · (column 1 of U) · (row 1 of Vh) + S_2 · (column 2 of U) · (row 2 of Vh) + ...
#
# where the columns of U have length 1 and stand at right angles, the rows of Vh likewise, and the sizes S, the
# **singular values**, fall. Whoever keeps only the first R parts has the nearest matrix of rank R that there is: for no
# other is the sum of the squared differences smaller (Eckart and Young 1936).
#
# **Exercise 1.** Write it, for a matrix with O rows and I columns. `U, S, Vh = torch.linalg.svd(matrix,
# full_matrices=False)` gives the three, S as a vector.


# %% tags=["exercise"] id="exercise-closest"
def closest_of_rank(matrix, rank):
    """The matrix (O, I) of at most this rank with the least sum of squared differences from the given one."""
    raise NotImplementedError


# %% tags=["check"] id="check-closest"
closest_of_rank = check("closest_of_rank", closest_of_rank)

# %% [markdown] id="spectrum-text"
# Now the change of each matrix in the blocks: W after minus W before. Square all its numbers and add them up: that is
# also S_1² + S_2² + ..., one square for each part. What share do the first R of its 64 parts hold? Beside it, for
# comparison, the same for random matrices of the same shapes. **Draw both curves** before you look.


# %% id="shares"
def change(model, name):
    return (model.get_submodule(name).weight - base.get_submodule(name).weight).detach()


def shares(matrices):
    squares = torch.stack([torch.linalg.svdvals(matrix) for matrix in matrices]) ** 2
    return (squares.cumsum(1) / squares.sum(1, keepdim=True)).mean(0)


# %% id="spectrum"
moved = [change(model, name) for model in full for name in maps]
kept = {"change": shares(moved), "random": shares([torch.randn_like(matrix) for matrix in moved])}
assert (kept["change"] >= kept["random"] - 1e-5).all() and (QUICK or kept["change"][7] < 0.5)
curves.plot_curves(range(1, 65), kept, "parts that are kept", "share of the squares", "How rich is the change?")

# %% [markdown] id="cut-text"
# The change is poorer than chance would be, but it is not poor: eight parts, an eighth of all, hold less than half of
# it. For large models one reads of ranks like 4 or 8, of thousands. Ours is narrow, has read little, and praise is far
# from what it knows.
#
# But squares are not skill. So we cut the change of each matrix to rank R, with your function, add it to the base, and
# measure. **Predict** how many parts it takes to get half of the gain.


# %% id="cut"
def cut(model, rank):
    small = copy.deepcopy(base)
    for name in maps:
        small.get_submodule(name).weight.data += closest_of_rank(change(model, name), rank)
    return small


cut_bits = {rank: bits([cut(model, rank) for model in full], "praise") for rank in (*RANKS, 64)}
assert QUICK or 0.35 < (untaught - cut_bits[8]) / (untaught - cut_bits[64]) < 0.65
{rank: round(value, 3) for rank, value in cut_bits.items()}

# %% [markdown] id="lora-text"
# Eight parts have about half of the gain, and one has a tenth: each is a piece of a plan that needs the others.
#
# ## 3. Learn it small from the beginning
#
# But must the change be learnt at full size? A change that *had* to be small from the first step on might make more of
# its few directions. **LoRA**, *low-rank adaptation* (Hu et al. 2021), leaves W as it is and puts two narrow matrices
# beside it: A with R rows, and B with R columns. A token x goes both ways, and the results are added:
#
# y = W x + b + scale · B A x
#
# A makes R numbers of x, B makes outputs of them. Only A and B learn: W is frozen, nothing is changed in it ever. The
# scale is alpha / R, with an alpha that one chooses once: so that with twice as many directions each counts half.
#
# By hand: x = (1, 2), A = (3, 4), B = (1, 0, -1) as a column, scale 0.5. Then A x is 1 · 3 + 2 · 4 = 11, and the change
# is (5.5, 0, -5.5).
#
# **Exercise 2.** Write the change. Tokens are rows, x (..., I), and A and B are stored like every weight of ours,
# (outputs, inputs).


# %% tags=["exercise"] id="exercise-lora"
def lora(x, A, B, scale):
    """The change of the output: x (..., I), A (R, I), B (O, R) -> scale * B A x (..., O), first through the narrow one."""
    raise NotImplementedError


# %% tags=["check"] id="check-lora"
lora = check("lora", lora)

# %% [markdown] id="gradient-text"
# ## 4. How it learns
#
# The change is two linear layers in a row, h = A x and then B h times the scale. So lesson 04 tells the way back: B
# gets its gradient from dout and h; what comes back through B, dh, is for A what dout is for B.
#
# **Exercise 3.** Write it in numpy, as in lesson 04: the cache holds what the forward pass kept, h = A x among it. You
# may call your `linear_backward` of lesson 04, if you paste it above: twice, and mind the scale. (W has a way to x of
# its own; who calls this adds it.)


# %% tags=["exercise"] id="exercise-backward"
def lora_backward(dout, cache):
    """dout (..., O), cache (x (..., I), A (R, I), B (O, R), scale, h (..., R)) -> dx (..., I), dA (R, I), dB (O, R)."""
    raise NotImplementedError


# %% tags=["check"] id="check-backward"
lora_backward = check("lora_backward", lora_backward)

# %% [markdown] id="zero-text"
# Where should A and B begin? With B = 0 the change is nothing, whatever A is, and the model begins as exactly the base.
# But can it learn from there? And what if A is 0, too? **Predict** which gradients are 0 in each case.

# %% id="zero"
x, dout, random_A, random_B = (torch.randn(shape).numpy() for shape in ((6, 3), (6, 4), (2, 3), (4, 2)))
for name, A, B in (("B = 0", random_A, 0 * random_B), ("A = B = 0", 0 * random_A, 0 * random_B)):
    _, dA, dB = lora_backward(dout, (x, A, B, 2.0, x @ A.T))
    print(f"{name:10} largest gradient of A: {abs(dA).max():.2f}, of B: {abs(dB).max():.2f}")

# %% [markdown] id="zero-read"
# With B = 0, B has a gradient and moves at once; from the second step on A has one, too. With both 0 nothing would ever
# move. So A begins random, and B at 0.
#
# ## 5. Into the model
#
# The model need not know. In each block stand six matrices, `q`, `k`, `v`, `out`, `up` and `down`, and in the place of
# each we put a layer that takes the same and gives the same: the old one, and your `lora` beside it.
# (`LoRALinear.from_linear` draws A and sets B to 0.)


# %% id="adapter"
class Adapter(LoRALinear):  # the library's layer, with your function in it
    def forward(self, x):
        return self.linear(x) + lora(x, self.A, self.B, self.scale)


def adapted(rank, seed=0):
    freeze(model := copy.deepcopy(base))
    generator = torch.Generator().manual_seed(seed)
    for _, parent, attribute, linear in [place for place in children(model, torch.nn.Module) if place[2] in MAPS]:
        setattr(parent, attribute, Adapter.from_linear(linear, rank, 16.0, generator))  # alpha is 16
    return model


# %% id="step-zero"
once = torch.tensor([tokenizer.encode("Once there was a")])
assert torch.equal(adapted(8)(once), base(once))  # step 0 is the base, bit for bit
count_parameters(adapted(8))

# %% [markdown] id="sweep-text"
# 18,432 numbers learn, and the rest of 155,392 is frozen. What decides how many? A matrix with O outputs and I inputs
# has O · I numbers, A and B have R · (I + O). A matrix grows with the square of its width, an adapter with the width:
# for a matrix of 4096 x 4096, as in a model of 7 billion weights, rank 8 is 0.4 % of its numbers. For ours, 64 x 64, it
# is 25 %: a model so small gains least.
#
# ## 6. Which rank?
#
# Adapters of several ranks learn praise, for as many steps and in the same orders as the full matrices did. **Draw the
# curve** first: where does rank 1 stand, where rank 16? And is *learning* with rank R better or worse than cutting to
# rank R afterwards?

# %% id="sweep"
found = {}
for rank in RANKS:
    models = [teach(adapted(rank, seed), lessons["praise"], STEPS, 2e-2, seed) for seed in SEEDS]
    found[rank] = [bits([model], "praise") for model in models]
    print(f"rank {rank:2}: {count_parameters(models[0]).trainable:6} numbers,", np.round(found[rank], 3))
assert QUICK or all(max(found[rank]) < cut_bits[rank] for rank in RANKS)  # learnt small beats cut small
assert QUICK or (taught < min(found[16]) and all(max(found[2 * rank]) < min(found[rank]) for rank in RANKS[:-1]))
lines = {"LoRA": [np.mean(found[rank]) for rank in RANKS], "cut afterwards": [cut_bits[rank] for rank in RANKS]}
lines["full"] = [taught] * len(RANKS)
curves.plot_curves(RANKS, lines, "rank", "bits per byte of new praise", log_x=True)

# %% [markdown] id="two-text"
# Learning small beats cutting small, at every rank: a change with but one direction can choose the best one. But here
# every rank costs something. With each doubling the adapter gets better, up to 16, and full fine-tuning is better
# still. "As good as full fine-tuning", which is said of LoRA for large models and near skills, is not true of this one
# in these few steps. What it offers here is a bargain: at rank 16 most of the gain for three eighths of the numbers in
# these matrices (in each of two blocks four of 64 x 64 and two of 64 x 256).
#
# ## 7. Two skills, one base
#
# Now the second skill, complaints: sad tales, and reviews that warn of the book. Both skills get an adapter of rank 8
# and three times as many steps, and are saved, with the base once. Beside A and B an adapter's checkpoint names its
# base and the SHA-256 of its weights: on any other base the change would be noise, so it is refused.
#
# **Predict** the table: each model on each exam. Then all three continue the same beginning, always with their
# likeliest token.

# %% id="store"
skills = {skill: teach(adapted(8), ids, 3 * STEPS, 2e-2) for skill, ids in lessons.items()}
paths = {"base": save_checkpoint(tempfile.mkdtemp(), base, tokenizer)}
for skill, model in skills.items():
    adapter = adapters.adapt(load_checkpoint(paths["base"]), LoRAConfig(rank=8, alpha=16.0), torch.Generator())
    load_lora(adapter.model, lora_arrays(model))  # your A and B in the library's adapter, which can be saved
    paths[skill] = save_checkpoint(tempfile.mkdtemp(), adapter, tokenizer)
{name: (path / "weights.safetensors").stat().st_size // 1000 for name, path in paths.items()}  # kB

# %% id="table"
prompt, table = [tokenizer.end_of_text, *tokenizer.encode("It had rained a little. In the end Jonah was")], {}
for name, path in paths.items():
    model = load_checkpoint(path).model
    table[name] = {exam: round(bits([model], exam), 3) for exam in exams}
    print(name, table[name], f"\n... Jonah was{sft.answer(model, tokenizer, [prompt], 25)[0]}\n")
assert adapters.fingerprint(base) == before == adapters.fingerprint(load_checkpoint(paths["base"]).model)
assert QUICK or all(table[skill][skill] == min(row[skill] for row in table.values()) for skill in skills)

# %% [markdown] id="merge-text"
# Each adapter is best at its own skill. The other one helps, too, because tales and reviews have much in common; but
# its words of feeling are the wrong ones. And one base serves both. It has not moved by a bit: whoever wants stories,
# takes the adapter out, and has forgotten nothing.
#
# ## 8. One matrix for both
#
# The way through A and B takes time. For use the change can be added to W: then there is one matrix, as fast as the
# base. Both ways are linear, W x and scale · B A x; so the matrix that does both is the sum of theirs.
#
# **Exercise 4.** Write the merged matrix. Leave `weight` as it is: other skills need it.


# %% tags=["exercise"] id="exercise-merged"
def merged_weight(weight, A, B, scale):
    """The one matrix that does what W (O, I) and its change do together: W + scale B A, a new tensor (O, I)."""
    raise NotImplementedError


# %% tags=["check"] id="check-merged"
merged_weight = check("merged_weight", merged_weight)

# %% [markdown] id="back-text"
# Is it the same model? And the way back: if the change is subtracted again, do we have the base? **Guess** what share
# of the numbers comes back as it was.

# %% id="merged"
model, back = copy.deepcopy(skills["praise"]), []
for _, parent, attribute, layer in list(children(model, Adapter)):
    W, A, B = layer.linear.weight.data, layer.A.detach(), layer.B.detach()
    merged = layer.linear.weight.data = merged_weight(W, A, B, layer.scale)
    back.append((merged - layer.scale * (B @ A) == W).float().mean().item())
    setattr(parent, attribute, layer.linear)
assert torch.allclose(model(once), skills["praise"](once), atol=1e-3) and max(back) < 1
print(f"{np.mean(back):.0%} of the numbers come back")

# %% [markdown] id="forget-text"
# Merged, the outputs are the same up to rounding. But not all numbers come back: (W + c) - c is not W in floating
# point. Whoever merges and unmerges often, drifts. So `minilm` keeps the old matrix, and puts it back.
#
# ## 9. What is forgotten?
#
# *With* the adapter in, stories suffer. It is said of LoRA that it learns less and forgets less. But then it must be
# compared with full fine-tuning that learns less, too. So both learn praise at four learning rates each, the largest
# being the one from above, with one seed. To the left is more praise, down is less forgotten. **Predict**: which curve
# lies lower?

# %% id="forget"
trade = {"all weights": [], "LoRA, rank 16": [], "base": [(untaught, bits([base], "stories"))]}
for share in (1, 1 / 2, 1 / 4, 1 / 8):
    for kind, model, rate in zip(trade, (copy.deepcopy(base), adapted(16, 1)), (8e-3, 2e-2), strict=False):
        teach(model, lessons["praise"], STEPS, share * rate, seed=1)
        trade[kind].append((bits([model], "praise"), bits([model], "stories")))
(x, all_stories), (lora_praise, lora_stories), _ = (np.array(points).T for points in trade.values())
assert QUICK or (lora_stories[0] < all_stories[0] and abs(x[0] - taught) < 0.1)  # less at their best rates; at equal
assert QUICK or (np.interp(lora_praise, x, all_stories) < lora_stories)[lora_praise < x.max()].all()  # praise more
smaller.plot_sizes(trade, "bits per byte of new praise", "bits per byte of new stories", joined=[*trade])

# %% [markdown] id="forget-read"
# At the rates that learn best LoRA forgets less: it learns less, too. But at *equal* praise it forgets more than all
# weights do, in this small model and in so few steps. What spares the stories is a small learning rate, for either.
# Whatever a paper claims, ask what was held equal.
#
# So the reason for LoRA here is not a better memory but the shelf: small files, one base that stays as it is, and a
# skill that can be taken out. Try it: what does rank 1 forget, if it learns three times as long? And mix a story into
# every batch of praise: what does that save?
#
# After a pass:

# %% tags=["check"] id="reveal"
reveal("lora_backward")

# %% [markdown] id="summary"
# ## Summary
#
# * A change of rank R is a sum of R columns times rows; the SVD gives the nearest one. But to learn with rank R is
#   better than to cut to it.
# * LoRA freezes W and learns scale · B A beside it: R (I + O) numbers, B = 0 at the start, so that step 0 is the base.
#   Merged it costs no time; to take it out again exactly, keep W.
# * Here more rank was always better, and forgetting less came from learning less. The gain is in storage: one base,
#   many small files.
#
# No row on the ladder: these models were trained for seconds, on a skill that the ladder does not ask for.
#
# **Read next**: Hu et al. 2021, "LoRA"; Aghajanyan et al. 2020, "Intrinsic dimensionality"; Biderman et al. 2024, "LoRA
# learns less and forgets less"; in minilm `minilm/finetuning/lora.py`, `minilm/finetuning/adapters.py`,
# `minilm/byhand/lora.py`.
