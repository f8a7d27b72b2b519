# %% [markdown] id="title"
# # 16 Smaller and faster: what is a weight worth in bytes?
#
# A trained model is a heap of numbers, with 4 bytes each. To say one more token it must read them all, and reading takes longer
# than computing. So fewer bytes are more speed, if the model stays as good. How few can they be? And is it better to shrink a
# large model, or to train a small one, with the large one as its teacher?
#
# **You will write** the rounding of weights to whole numbers, the product with them, the limit that the memory sets, and the
# loss by which one model teaches another.
#
# needs: 01, 02, 05, 06, 07, 08. Time: 90 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, STUDENT_STEPS, SEEDS, NEW_STORIES = 320, 180, (1, 2, 3), 16
WIDTH, LENGTHS = 1024, (1, 512, 1024, 2048)

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import copy
import time

import torch

from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, evaluate, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.decoding.quantize import Rounded, arrays, quantize, restore, to_bfloat16
from minilm.fast.matvec import kernel_product, torch_product, why_not
from minilm.plots.curves import plot_curves
from minilm.plots.smaller import plot_limits, plot_sizes
from minilm.text.stories import stories

if QUICK:
    STEPS, STUDENT_STEPS, SEEDS, NEW_STORIES, WIDTH, LENGTHS = 6, 3, (1,), 2, 64, (1, 8)
torch.set_num_threads(1)

# %% [markdown] id="tiny-text"
# ## 1. Three weights
#
# Weights need not be exact. The idea: store whole numbers from -127 to 127, one byte each (**int8**), and beside them one
# **scale**, the size of a step. The largest weight becomes 127 or -127, so the scale is the largest *size* divided by 127. In a
# loop:

# %% id="tiny"
weights = [-1.27, 0.643, 0.006]
scale = max(abs(w) for w in weights) / 127
for w in weights:
    print(f"{w:6} -> {round(w / scale):4} -> {round(w / scale) * scale:5.2f}")

# %% [markdown] id="int8-text"
# Each weight moves to the nearest step, so by half a scale at most. The third one grew by two thirds, but 0.004 in a sum with
# 1.27 is not much.
#
# A matrix (outputs, inputs) may have a scale for each output, that is for each row. Or each row is cut into **groups** of
# neighbouring inputs, and each group has its own. No scale ever depends on another row.
#
# **Exercise 1.** Write it with tensors. `reshape(n_outputs, -1, group)` cuts the rows into groups, `amax(-1, keepdim=True)`
# takes the largest along the last axis. A group of nothing but zeros has the scale 0: do not divide by it, for 0 / 0 is no
# number (`torch.where(test, a, b)` is a where the test is true, else b). Round to the nearest, and only then say
# `.to(torch.int8)`.


# %% tags=["exercise"] id="exercise-int8"
def to_int8(weight, group=64):
    """weight (O, I) -> (whole numbers (O, I) in int8, scales (O, I / group)); None: one group for each output."""
    raise NotImplementedError


# %% tags=["check"] id="check-int8"
to_int8 = check("to_int8", to_int8)

# %% [markdown] id="outlier-text"
# Now 256 ordinary weights in one row, of size 1 or so, and one of 60. **Predict**: what happens to the error of the
# *other* 255 with a scale for the row, and what with groups of 32?

# %% id="outlier"
torch.manual_seed(16)
row = torch.randn(1, 256)
row[0, 100] = 60
errors = {group: (restore(*to_int8(row, group)) - row).abs().median().item() for group in (None, 32)}
assert errors[32] < errors[None] / 5
errors

# %% [markdown] id="product-text"
# With one scale all weights pay for the large one. With groups only its 31 neighbours do. But every scale is a float32 of 4
# bytes: in groups of 32 that is one more bit for each weight, 9 instead of 8.
#
# ## 2. The product
#
# A linear layer computes y = sum of x_i w_i for each output, and w_i is now q_i times a scale s. The scale does not depend on
# i, so it can wait:
#
# sum of x_i (q_i s) = s · (sum of x_i q_i)
#
# With groups, each has a sum and a scale of its own, and then the groups are added up. You may do that, or restore the matrix first
# and multiply then (`repeat_interleave(n, dim=1)` repeats each column n times, next to each other): the result is the same.
#
# **Exercise 2.** Write the product. The number of groups is the second size of `scales`. The bias, if there is one, was never
# rounded.


# %% tags=["exercise"] id="exercise-product"
def product(x, numbers, scales, bias=None):
    """x (..., I), int8 numbers (O, I), scales (O, groups), bias (O,) or None -> x times the meant matrix, transposed: (..., O)."""
    raise NotImplementedError


# %% tags=["check"] id="check-product"
product = check("product", product)

# %% [markdown] id="data-text"
# ## 3. How few bits?
#
# A GPT of two layers learns from the built-in stories, and is measured on new ones, in bits per byte as always.

# %% id="data"
documents = list(stories(1200, seed=16))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=512)
ids, few_ids = (encode_corpus(some, tokenizer).ids for some in (documents, documents[:10]))
held = encode_corpus(list(stories(NEW_STORIES, seed=17)), tokenizer)


def fit(d_model, n_layers, steps, batch_size, ids=ids, seed=0, **more):
    torch.manual_seed(seed)
    model = GPT(gpt2_config(vocab_size=512, context_length=64, d_model=d_model, n_layers=n_layers, n_heads=4))
    plan = TrainConfig(steps=steps, optimizer="muon", learning_rate=5e-3, dtype="float32", threads=1)
    train(model, Batches(ids, batch_size, 64, seed=seed), plan, progress=False, **more)
    return model


# %% id="teacher"
large = fit(96, 2, STEPS, batch_size=16)


def bits(model):
    return evaluate(model, held, tokenizer).bits_per_byte


# %% [markdown] id="formats-text"
# `quantize(model, rounding, product)` replaces each matrix by what `rounding` makes of it, and multiplies with `product`: both
# are yours. bfloat16 is another way to 2 bytes: a float with 8 significant bits and no scale.
#
# Fewer bits than 8? With b bits the whole numbers reach 2^(b-1) - 1: 7 for 4 bits, 3 for 3 bits. A processor has no such
# type, so we keep them in int8 and count what they *would* take, scales included.


# %% id="formats"
def with_bits(weight, n_bits, group):
    scales = to_int8(weight.detach(), group)[1] * 127 / (2 ** (n_bits - 1) - 1)
    wide = scales.repeat_interleave(weight.shape[1] // scales.shape[1], dim=1)
    return Rounded((weight.detach() / wide).round().to(torch.int8), scales)


def count(model, kind):
    return sum(array.numel() for name, array in arrays(model).items() if kind in name)


# %% [markdown] id="plot-formats-text"
# **Predict**: at how many bits does the model begin to suffer? With one scale a row, or in groups, where does it break down?
# And at equal *bytes*, is it worth paying for scales?

# %% id="plot-formats"
found = {"one scale a row": [], "groups of 32": [], "floats": [(4, bits(large))]}
found["floats"].append((2, bits(quantize(copy.deepcopy(large), to_bfloat16))))
for name, group in (("one scale a row", None), ("groups of 32", 32)):
    for b in (8, 6, 5, 4, 3):
        small = quantize(copy.deepcopy(large), lambda w, b=b, group=group: with_bits(w, b, group), product)
        found[name].append((b / 8 + 4 * count(small, "scales") / count(small, "numbers"), bits(small)))
        print(f"{name}, {b} bits: {found[name][-1][0]:.2f} bytes, {found[name][-1][1]:.4f} bits per byte")
plot_sizes(found, "bytes for each weight, scales included", "bits per byte of new stories", joined=[*found])

# %% id="formats-claims"
rows, groups, (_, full) = found["one scale a row"], found["groups of 32"], found["floats"][0]
assert all(abs(cost - full) < 0.01 for _, cost in (found["floats"][1], rows[0], groups[0]))
assert QUICK or (groups[4][1] < rows[4][1] and rows[4][1] > full + 0.05)  # at equal bits: groups
assert QUICK or (rows[3][0] < 1.1 * groups[4][0] and rows[3][1] < groups[4][1])  # at equal bytes: rows

# %% [markdown] id="formats-read"
# bfloat16 and int8 cost nothing that one could notice. Below, the steps become so coarse that it shows: a little at 4 bits,
# clearly at 3. At equal *bits* groups are better. At equal *bytes* they are not, in this model: a float32 for every 32 weights
# is one bit a weight, and a fourth bit with one scale a row does more than groups do for 3. Our model has hardly any weight
# that is far out, as in the row above. Large models have some, and better groups (with scales of 2 bytes, say): there they pay.
#
# ## 4. How fast can it be?
#
# A step of decoding gives each text of a batch one more token. It reads all weights *once*, whatever the number of texts, and
# the keys and values of each text; and it computes a product and a sum, two FLOPs, with each weight for each text. Reading and
# computing go on at the same time, so the slower one decides.
#
# A machine has two numbers, then: bytes a second from memory (**bandwidth**) and FLOPs a second. We measure both, by adding up
# a large array and by multiplying large matrices. (The clock counts only the time that the processor gives us; we take the
# fastest of up to 40 runs.)


# %% id="machine"
def seconds(work):
    clock, times = time.perf_counter if sys.platform == "win32" else time.process_time, []
    while len(times) < 2 or (len(times) < 40 and sum(times) < 0.7):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


memory, factor = torch.ones(2**25), torch.ones(512, 512)
bandwidth, speed = memory.nbytes / seconds(memory.sum), 2 * 512**3 / seconds(lambda: factor @ factor)
print(f"{bandwidth / 1e9:.1f} GB and {speed / 1e9:.0f} GFLOPs a second: {speed / bandwidth:.1f} FLOPs for each byte")

# %% [markdown] id="limit-text"
# By hand: 1,000,000 weights in int8 with a scale for every 64 are 1,000,000 bytes and 15,625 scales of 4 bytes. At 1 GB a
# second, reading takes 1.0625 milliseconds. Computing, for one text, at 100 GFLOPs a second: 0.02. So the processor waits, most
# of the time.
#
# **Exercise 3.** Write the limit. Mind that `bits` are bits and all else is in bytes.


# %% tags=["exercise"] id="exercise-limit"
def step_seconds(n_weights, bits, group, cache_bytes, batch, bandwidth, speed):
    """The least seconds of a step for `batch` texts, each with cache_bytes of keys and values; a float32 scale for
    every `group` weights (None: no scales); bandwidth in bytes a second, speed in FLOPs a second."""
    raise NotImplementedError


# %% tags=["check"] id="check-limit"
step_seconds = check("step_seconds", step_seconds)

# %% [markdown] id="batch-text"
# First on paper: what does the limit say of a model with 50 million weights on this machine, for batches of up to 256 short
# texts? **Draw three curves** before you look: where do they begin, relative to each other, and where do they end?


# %% id="plot-batch"
def roof(kind, batch, cache_bytes=0, n_weights=50_000_000):  # tokens a second, at most
    return batch / step_seconds(n_weights, *kind, cache_bytes, batch, bandwidth, speed)


FORMATS, batches = {"float32": (32, None), "bfloat16": (16, None), "int8": (8, 64)}, [2**i for i in range(9)]
roofs = {name: [roof(kind, batch) for batch in batches] for name, kind in FORMATS.items()}
plot_curves(batches, roofs, "texts in a batch", "tokens a second, at most", log_x=True, log_y=True)

# %% [markdown] id="batch-read"
# For one text int8 allows almost four times the tokens of float32. With more texts each curve climbs, for the same bytes serve
# them all, until the processor is busy, and there bytes do not matter any more. Whoever serves many texts at once is bound by
# computing; whoever talks with one model on a laptop, by memory.
#
# Now the real thing: a GPT with 50 million weights. They are random: that costs the same time. A second limit comes in with
# long texts: all keys and values are read for each token, and nobody has rounded *them*.
#
# We measure your `product`, and a short piece of C++ that minilm brings (`matvec.cpp`), which multiplies each whole number when
# it arrives from memory and never restores the matrix. Where no compiler is found, torch does it instead. **Predict**: which of
# the four is fastest, and which slowest? How near do they come to their limits? How long must the text be for the cache to
# matter?


# %% id="big"
no_kernel = "quick mode" if QUICK else why_not()
kernel = torch_product if no_kernel else kernel_product
print("multiplied by", f"torch: {no_kernel}" if no_kernel else "the C++ kernel")
config = gpt2_config(vocab_size=2 * WIDTH, context_length=max(LENGTHS) + 1, d_model=WIDTH, n_layers=4, n_heads=16)
big, int8 = GPT(config).eval(), lambda weight: Rounded(*to_int8(weight.detach(), 64))
ways = {"float32": (lambda weight: Rounded(weight.detach()), kernel), "bfloat16": (to_bfloat16, kernel)}
ways |= {"int8": (int8, kernel), "int8, your product": (int8, product)}
models = {name: quantize(copy.deepcopy(big), *how) for name, how in ways.items()}


# %% id="measure"
@torch.no_grad()
def tokens_a_second(model, length):
    cache = model.new_cache(1, length + 1)
    cache.advance(length)
    return 1 / seconds(lambda: (model(torch.tensor([[1]]), cache), cache.rollback(1)))


# %% id="plot-speed"
measured = {name: [tokens_a_second(model, length) for length in LENGTHS] for name, model in models.items()}
n, kept = count(models["int8"], "numbers"), 2 * 4 * WIDTH * 4  # bytes a token: keys and values, 4 layers, 4 bytes each
limits = {name: [roof(kind, 1, kept * length, n) for length in LENGTHS] for name, kind in FORMATS.items()}
assert QUICK or limits["int8"][-1] < limits["int8"][0] / 2  # the cache takes more than the weights
plot_limits(LENGTHS, measured, limits, "tokens in the text so far", "tokens a second")

# %% [markdown] id="speed-read"
# The dotted lines are the limits. Where this notebook was made, on one busy core, int8 is faster than float32, but by less
# than its bytes are fewer: the quicker the reading, the more the rest counts, the calls of Python and torch, and turning whole
# numbers into floats (`minilm/fast/decode.py` saves some of it). Your product has the same few bytes, and it is slow, if it restores the matrix or
# makes floats of the whole numbers first: those are written to memory and read again. *Stored* small is not *read* small.
#
# Look at the limit of int8: with 2048 tokens in the text it has lost more than half its height. Each of them costs bytes for
# every new token, and the smaller the weights, the sooner the cache is the larger heap.

# %% [markdown] id="distil-text"
# ## 5. A teacher for a small model
#
# The other way to fewer bytes is a smaller model, the **student**. A text tells it which token came. A large model, the
# **teacher**, can tell it more: how likely *every* token was at this place. That is **distillation**: the student is to give
# the teacher's probabilities p, not only the text's token. The **Kullback-Leibler divergence** says how far its own, q, are
# from p:
#
# KL(p || q) = sum of p (log p - log q), over the vocabulary
#
# It is 0 where q is p, and never below. By hand: with p = (0.75, 0.25) and q = (0.5, 0.5) it is 0.75 · log 1.5 + 0.25 · log 0.5
# = 0.13 nats.
#
# Often both are taken at a temperature, as in lesson 08: a high one shows what the teacher holds for second and third best.
# Then the gradient shrinks, once because logits are divided by the temperature, and once because all probabilities move closer
# together. So the loss is multiplied by the temperature *squared*.
#
# **Exercise 4.** Write the loss: the mean over all places whose target counts (is not -100, as in lesson 07; the targets have
# no other part in it), and 0 if there are none. Stay in the logarithms (`torch.log_softmax`), and leave gradients alone, also
# the teacher's: who calls this asks the teacher without them.


# %% tags=["exercise"] id="exercise-distil"
def distillation_loss(teacher, student, targets, temperature=1.0):
    """Logits (..., V) twice, targets (...) -> (): the mean of temperature² · KL(teacher || student), both at the temperature."""
    raise NotImplementedError


# %% tags=["check"] id="check-distil"
distillation_loss = check("distillation_loss", distillation_loss)

# %% [markdown] id="students-text"
# ## 6. The experiment: alone or taught
#
# The student has one layer of width 32, about a tenth of the teacher's weights. Alone it learns from the text by cross-entropy.
# Taught, it sees the same text in the same order for as many steps, but learns from your loss only, at temperature 1; the
# teacher is `large` from above. Three seeds each, with all the stories, and with only ten.
#
# Equal steps are not equal time: the teacher has to read every batch, too, and it is large. So a third student learns alone
# from all the stories for two and a half times as many steps, which takes about as long.
#
# **Predict** the order of the five. With which text is a teacher worth more?


# %% id="taught"
def taught(model, inputs, targets):
    with torch.no_grad():
        wanted = large(inputs)
    return distillation_loss(wanted, model(inputs), targets)


def students(steps, ids=ids, **more):
    return [bits(fit(32, 1, steps, 8, ids, seed, **more)) for seed in SEEDS]


# %% id="students-all"
results = {"alone": students(STUDENT_STEPS), "taught": students(STUDENT_STEPS, loss_function=taught)}
results["alone, 2.5 times as long"] = students(STUDENT_STEPS * 5 // 2)

# %% id="students-few"
results["alone, ten stories"] = students(STUDENT_STEPS, few_ids)
results["taught, ten stories"] = students(STUDENT_STEPS, few_ids, loss_function=taught)
for name, costs in results.items():
    print(f"{name:25}", *(f"{cost:.3f}" for cost in costs), " bits per byte")
gains = [min(results["alone" + text]) - max(results["taught" + text]) for text in ("", ", ten stories")]
assert QUICK or (0 < gains[0] < gains[1] and max(results["alone, 2.5 times as long"]) < min(results["taught"]))

# %% [markdown] id="students-read"
# At equal steps the taught student is better, with each seed: probabilities for all tokens teach more than one token. With only ten
# stories a teacher is worth more still, for it knows stories that the student has never seen.
#
# But in equal *time*, the student who spent it on the text alone is far better here. Our students are at the beginning of their
# learning, where more steps help most. A teacher should pay where steps are not the bottleneck: where text is scarce, where a
# student has stopped improving, or where the teacher's answers are stored once for many students.
#
# ## 7. All together
#
# Last, all models by their bytes (vectors and the table of positions are counted like the matrices): the teacher in its formats
# and the students, in float32. **Predict**: for the bytes of a student, is a rounded teacher to be had? Which way is better
# down to a quarter of the bytes?

# %% id="plot-all"
n_large, n_student = (sum(p.numel() for p in fit(*shape, 1, 1).parameters()) / 1000 for shape in ((96, 2), (32, 1)))
everything = {"large, rounded": [(n_large * each, cost) for each, cost in rows]}
everything["large, floats"] = [(n_large * each, cost) for each, cost in found["floats"]]
everything |= {name: [(n_student * 4, cost) for cost in results[name]] for name in [*results][:3]}
assert QUICK or rows[-1][1] < min(min(costs) for costs in results.values())
plot_sizes(everything, "kilobytes of weights", "bits per byte of new stories", joined=["large, rounded"])

# %% [markdown] id="all-read"
# The rounded teacher is better than all our students: even with 3 bits, where it is no larger than they are. So round first: it
# takes seconds, and down to a quarter of the bytes it costs nothing. A smaller model is for when that is not enough, or when
# computing must be saved, not reading. (And students can be rounded as well.)
#
# After a pass:

# %% tags=["check"] id="reveal"
reveal("to_int8")

# %% [markdown] id="summary"
# ## Summary
#
# * A whole number and a shared scale replace a float: 8 bits cost nothing, 4 a little. Small groups help; their scales cost bytes.
# * At batch 1 the memory is the limit: a token takes at least bytes over bandwidth, of weights and of cache. Few bytes are only fast
#   if the product reads them as they are stored. With many texts at once, computing is the limit.
# * A teacher's probabilities teach more in a step than the text alone, most where text is scarce; a step costs more, too.
#
# No row on the ladder: these models were trained for seconds, to be made smaller.
#
# **Read next**: Dettmers et al. 2022, "LLM.int8()"; Williams, Waterman and Patterson 2009, "Roofline"; Hinton, Vinyals and Dean
# 2015, "Distilling the knowledge in a neural network"; in minilm `minilm/decoding/quantize.py`, `minilm/fast/matvec.py`,
# `minilm/training/distill.py`.
