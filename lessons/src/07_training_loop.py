# %% [markdown] id="title"
# # 07 The training loop: how do random weights become a model?
#
# The GPT of lesson 06 began with random numbers and knew nothing. Then `train`, a black box, ran over some stories, and it had
# learned. This lesson opens the box. Inside is a loop of a dozen lines: guess the next token, measure how wrong that was, and
# move every weight a little.
#
# **You will write** three short functions: the loss, the length of a step, and the sharing out of a batch that is too large for
# the memory. They train a GPT that is built from your parts of lessons 05 and 06.
#
# needs: 01, 02, 03, 04, 05, 06. Time: 90 minutes. Run time: about a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, EPISODES, TRAINING, DOCUMENTS = 300, 16, 600, 480

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import math
import tempfile

import torch

from minilm import GPT, AdamW, Batches, BPETokenizer, NgramConfig, TrainConfig, encode_corpus, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.evaluation.ladder import counted_rungs, model_rung
from minilm.layers.attention import scaled_dot_product_attention
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.plots.loss import plot_loss
from minilm.text.stories import stories
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

STEPS, EPISODES, TRAINING, DOCUMENTS = (20, 3, 10, 60) if QUICK else (STEPS, EPISODES, TRAINING, DOCUMENTS)
torch.set_num_threads(1)  # the models are small: a second thread would only wait

# %% [markdown] id="tiny-text"
# ## 1. One step by hand
#
# A language of three tokens, a, b and c, and a text: a b a b a c. The smallest model is a table of 3 times 3 scores: row a holds
# the scores of what may follow an a. It knows nothing, so all scores are 0.
#
# **Inputs** and **targets** are the same text, shifted by one place: where the model reads token t, it should say token t + 1.

# %% id="tiny"
ids = torch.tensor([0, 1, 0, 1, 0, 2])
inputs, targets = ids[:-1], ids[1:]
table = torch.zeros(3, 3, requires_grad=True)
p = torch.softmax(table[inputs], dim=-1)  # (5, 3): for each of the five inputs, how likely is a, b, c?
loss = -torch.log(p[range(5), targets]).mean()
assert abs(loss.item() - math.log(3)) < 1e-6
loss.item()

# %% [markdown] id="tiny-slope"
# The **loss** is the mean surprise of lesson 02, in nats: -log p of what really came. If V tokens are equally likely, each has the
# probability 1 / V, and the loss is log V; here log 3. Whatever a model is, it should begin near log V; if not,
# something is wrong before training has begun.
#
# Now the slopes of lesson 04. What should happen to row a? It stood there three times; b came twice and c once. Three guesses of
# 1/3 give each token 1, so a got 1 too much, b 1 too little, and c just enough. Over five targets that is +1/5, -1/5, 0:

# %% id="tiny-gradient"
loss.backward()
assert torch.allclose(table.grad[0], torch.tensor([0.2, -0.2, 0.0]))
table.grad

# %% [markdown] id="tiny-step-text"
# The gradient points uphill. A step goes against it: score - rate · slope, for all weights at once. The **learning rate** says
# how far. What is the loss after a step, with five different rates?

# %% id="tiny-step"
after = {}
for rate in (0.1, 1, 3, 10, 30):
    after[rate] = -torch.log_softmax(table - rate * table.grad, dim=-1)[inputs, targets].mean().item()
assert after[1] < loss.item() < after[30]
after

# %% [markdown] id="loss-text"
# A slope is true at the place where it was measured. Small steps help a little, larger ones more, and one that is far too large
# does harm.
#
# ## 2. The loss
#
# Three things make a real loss harder than this one.
#
# * Scores can be large. exp(1000) is infinite, and the softmax of a token that is 200 below the best is stored as 0 in float32; the
#   log of that is infinite, though the true surprise is 200. So never leave the logs. With m the largest score of the row,
#   log p = (score - m) - log of the sum of exp(each score - m).
# * Not every target counts. Texts differ in length; a batch is a rectangle, so short ones are padded (lesson 01), and nobody
#   should learn to predict padding. Such targets get a label that is no token, usually -100.
# * The mean is over the targets that count. If there are none, the loss is 0 (and still a tensor), not 0 / 0.

# %% [markdown] id="loss-exercise-text"
# Logits is the usual word for scores. `log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)` picks from each row the number
# at its label; labels must be 0 to V - 1 there, so give ignored ones some label first: `targets.where(counted, 0)` keeps the
# targets where the boolean tensor `counted` is True, and is 0 elsewhere. `.clamp(min=1)` is at least 1.
# `amax(-1, keepdim=True)` keeps a last axis of size 1, so that rows can be lined up with it; so does `sum`. Gradients must flow: stay
# with tensors.
#
# **Exercise 1.** Write the loss. (No loops: it will run thousands of times.)


# %% tags=["exercise"] id="exercise-loss"
def cross_entropy(logits, targets, ignore_index=-100):
    """logits (..., V), targets (...) -> (): mean of -log p(target) in nats, over the targets that are not ignore_index."""
    raise NotImplementedError


# %% tags=["check"] id="check-loss"
cross_entropy = check("cross_entropy", cross_entropy)

# %% id="loss-see"
assert abs(cross_entropy(torch.zeros(2, 3, 512), torch.full((2, 3), 7)).item() - math.log(512)) < 1e-5
math.log(512), math.exp(2.0)

# %% [markdown] id="clip-text"
# So a model of 512 tokens begins at 6.24 nats. The other way round, a loss of 2 nats means that it hesitates as if between
# exp(2) = 7.4 equally likely tokens: its perplexity.
#
# ## 3. Not too far at once
#
# Now and then a batch is so odd that its gradient is very long. One such step can throw away what a thousand good ones have
# learned. So take all gradients of all weights as *one* vector and measure its length, the root of the sum of all squares. If it
# is longer than `max_norm`, multiply everything by one factor that makes it exactly that long. This is **clipping**. One factor
# for all keeps the direction; cutting each number for itself would not.
#
# By hand: the gradients (3, 0) and (4) have length 5. With max_norm = 1 the factor is 1/5.
#
# **Exercise 2.** Write length and factor. Careful: a short gradient is not stretched, and one of zeros has length 0.


# %% tags=["exercise"] id="exercise-clip"
def clip_factor(gradients, max_norm):
    """List of tensors -> (norm, factor), numbers: length as one vector; what shortens it to max_norm, 1 if it is short enough."""
    raise NotImplementedError


# %% tags=["check"] id="check-clip"
clip_factor = check("clip_factor", clip_factor)

# %% [markdown] id="data-text"
# ## 4. The loop
#
# The data are stories as one long row of tokens, a sixth of them held out. Training looks at a **batch** at a time: B windows
# of T tokens, and as targets the same windows one place further. `Batches` cuts the text into windows and shuffles them; when
# all have been seen, an **epoch** is over, and it cuts anew.

# %% id="data"
documents, cut = list(stories(DOCUMENTS, seed=7)), DOCUMENTS * 5 // 6
tokenizer = BPETokenizer.train(documents[:cut], vocab_size=512)
train_ids, held_out = (encode_corpus(some, tokenizer) for some in (documents[:cut], documents[cut:]))
x, y = next(Batches(train_ids.ids, batch_size=8, context_length=32))
assert torch.equal(y[:, :-1], x[:, 1:])
print(tokenizer.decode(x[0].tolist()), tokenizer.decode(y[0].tolist()), sep="\n---\n")

# %% [markdown] id="fresh-text"
# The model is a GPT with one block. **Put your own parts into `parts`**: your attention of lesson 05, and as `"block"` the
# `my_block` of lesson 06, if you copy its cells to here. For the step we take an **optimizer**: AdamW, a gradient step that
# finds a fitting size for each weight from the gradients it has seen. It stays a black box until lesson 12. `fresh` gives a new
# model with its optimizer and batches.

# %% id="fresh"
parts = {"attention": scaled_dot_product_attention}
held_x, held_y = next(Batches(held_out.ids, batch_size=100, context_length=32))


def fresh(learning_rate=3e-3, seed=7, data=train_ids):
    torch.manual_seed(seed)
    model = GPT(gpt2_config(vocab_size=512, context_length=32, d_model=32, n_layers=1, n_heads=2), **parts)
    return model, AdamW(model.parameters(), lr=learning_rate), Batches(data.ids, 8, 32, seed=seed)


def held_out_loss(model):
    return cross_entropy(model(held_x), held_y).item()


# %% [markdown] id="loop-text"
# Here is the loop.


# %% id="loop"
def learn(model, optimizer, batches, steps, max_norm=1.0):
    losses = []
    for _ in range(steps):
        x, y = next(batches)
        loss = cross_entropy(model(x), y)  # forward: guess, and measure how wrong
        loss.backward()  # a slope for every weight
        _, factor = clip_factor([weight.grad for weight in model.parameters()], max_norm)
        for weight in model.parameters():
            weight.grad *= factor  # not too far at once
        optimizer.step()  # move the weights
        optimizer.zero_grad()  # forget the slopes: backward() adds to what is there
        losses.append(loss.item())
    return losses


# %% [markdown] id="without-predict"
# What is each line good for? Leave one out. Without `step`, without `zero_grad`, without clipping (a max_norm that is infinite),
# and without the shift, where the target is the input itself. Beside the last training losses we measure the loss on held-out
# text. Which one looks best, and is it?

# %% id="without"
runs = {name: fresh() for name in ("whole", "no step", "no zero_grad", "no clip", "no shift")}
runs["no step"][1].step = runs["no zero_grad"][1].zero_grad = lambda: None  # a function that does nothing
runs["no shift"] = *runs["no shift"][:2], ((x, x) for x, _ in runs["no shift"][2])
ends = {}
for name, run in runs.items():
    losses = learn(*run, STEPS, math.inf if name == "no clip" else 1.0)
    ends[name] = sum(losses[-20:]) / 20, held_out_loss(run[0])
    print(f"{name:12} training {ends[name][0]:6.3f}, held out {ends[name][1]:6.3f} nats per token")
assert abs(ends["no step"][1] - math.log(512)) < 0.1
assert QUICK or (ends["no zero_grad"][1] > ends["whole"][1] + 0.5 and ends["no shift"][1] > 7 > ends["whole"][1])

# %% [markdown] id="without-why"
# * Without `step` nothing moves: log 512, still.
# * Without `zero_grad` every step follows the sum of all slopes so far, most of them from places left long ago. It learns, badly;
#   no error says so.
# * Without the shift the training loss is almost 0, and the model is worse than one that knows nothing: it has learned to repeat
#   what it reads. A loss that is too good to be true is not true.
# * Without clipping this model does about as well. Clipping is an insurance: it pays in the runs that would have failed.
#
# ## 5. How far?
#
# The learning rate is the one setting that must be found for every model. Three runs: 0.00003, 0.003, and 0.3. Draw the three
# curves in your mind. Which falls fastest, and where does each end? (Each point is the mean of 30 steps.)

# %% id="plot-rates"
curves = {}
for rate, name in ((3e-5, "too small"), (3e-3, "right"), (0.3, "too large")):
    curves[name] = torch.tensor(learn(*fresh(rate), STEPS)).reshape(10, -1).mean(dim=1)
assert QUICK or curves["right"][-1] < min(curves["too small"][-1], curves["too large"][-1]) - 0.5
plot_curves(torch.arange(1, 11) * STEPS // 10, curves, "step", "loss, nats per token")

# %% [markdown] id="rates-why"
# Too small: it creeps. Too large: each step jumps over the valley, and it stays high up. (To find a good one, try a factor of 3 up and
# down until it gets no better.) In practice the rate also rises over the first steps and falls towards the end; lesson 12 says
# why.
#
# ## 6. Learning by heart
#
# A training loss says how well a model knows what it has read. We train on no more than a dozen stories, many epochs, and look
# at the held-out stories every 50 steps. How will the two curves go on? (A ring marks the lowest point of each.)

# %% id="plot-overfitting"
few = encode_corpus(documents[:12], tokenizer)
model, optimizer, batches = fresh(learning_rate=5e-3, data=few)
curves = {"a dozen stories": [], "held-out stories": []}
for _ in range(EPISODES):
    curves["a dozen stories"].append(sum(learn(model, optimizer, batches, 50)) / 50)
    curves["held-out stories"].append(held_out_loss(model))
assert QUICK or curves["a dozen stories"][-1] + 2.5 < min(curves["held-out stories"]) + 0.5 < held_out_loss(model)
plot_curves(torch.arange(1, EPISODES + 1) * 50, curves, "step", "loss, nats per token", mark_best=True)

# %% [markdown] id="overfitting-why"
# At first both fall: what is learned holds for all stories. (The training curve begins higher, being the mean of
# 50 steps; the other is measured at their end.) Then the model begins to know its dozen by heart, and is ever more sure
# of continuations that are wrong elsewhere. This is **overfitting**. Three things help: more text, fewer steps, or a copy of the
# weights kept from where the upper ring is.
#
# ## 7. A batch that does not fit
#
# Large batches give calmer gradients, and take memory. But gradients add up: `backward` adds to `.grad`. So cut the batch into
# small ones, go forward and backward with each, and step once at the end. The sum should be the gradient of the big batch's
# loss: the mean over *all* its targets.
#
# Suppose that of two batches one has 6 targets and one 2. The big mean is (sum of 6 losses + sum of 2 losses) / 8. From the small
# means: 6/8 of the first plus 2/8 of the second. Half and half would be wrong: each target of the second batch would weigh three
# times as much as one of the first.
#
# **Exercise 3.** Write the shares. A batch may have no target at all; if no batch has any, all shares are 0.


# %% tags=["exercise"] id="exercise-shares"
def token_shares(counts):
    """List of the batches' numbers of targets -> list of what each batch's mean loss is multiplied by."""
    raise NotImplementedError


# %% tags=["check"] id="check-shares"
token_shares = check("token_shares", token_shares)

# %% tags=["check"] id="reveal"
reveal("cross_entropy")  # the library's version; the other two can be revealed in the same way

# %% [markdown] id="accumulate-text"
# We measure it with eight texts of different lengths, two in a batch, in float64 (16 digits; `double` changes the model's). How
# far off, do you think, is the mean of means: 1 percent, 10 percent?

# %% id="accumulate"
x, y = next(Batches(train_ids.ids, 8, 32))
y[torch.arange(32) >= torch.tensor([[32], [32], [30], [20], [9], [5], [2], [1]])] = -100  # where each text ends
counts = [int((some != -100).sum()) for some in y.chunk(4)]
gradients = []
for shares in ([1.0], token_shares(counts), [0.25] * 4):
    model, n = fresh()[0].double(), len(shares)
    for share, some_x, some_y in zip(shares, x.chunk(n), y.chunk(n), strict=True):
        (share * cross_entropy(model(some_x), some_y)).backward()
    gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
big, shared, means = gradients
assert (shared - big).norm() < 1e-10 and (means - big).norm() > 0.1 * big.norm()
print(f"{counts} targets: the mean of means is {(means - big).norm() / big.norm():.0%} of the gradient's length off")

# %% [markdown] id="seeds-text"
# By shares the gradient is the same to the last digits. The mean of means is far off: a batch with three targets has a long and odd
# gradient, and it got a quarter of the say.
#
# ## 8. Chance, and disaster
#
# The weights begin at random, and the batches are shuffled. Both hang on a **seed**. The same seed must give the same losses,
# bit for bit. Other seeds give other losses, and how far apart these lie is important: a difference smaller than that proves
# nothing. Compare the held-out losses of seeds 1, 2 and 3 with what clipping changed in section 4.

# %% id="seeds"
runs = [fresh(seed=seed) for seed in (1, 1, 2, 3)]
losses = [learn(*run, STEPS) for run in runs]
held = [held_out_loss(run[0]) for run in runs[1:]]
assert losses[0] == losses[1] and (QUICK or max(held) - min(held) > abs(ends["no clip"][1] - ends["whole"][1]))
[round(loss, 3) for loss in held]

# %% [markdown] id="nan-text"
# Clipping changed less than another seed does.
#
# Disaster is called NaN, "not a number": what 0 / 0 gives, or infinite minus infinite. Any sum with a NaN in it is NaN. Let one
# of the weights be NaN. How many are, after a single step?

# %% id="nan"
model, optimizer, batches = fresh()
model.embedding.weight.data[5, 0] = math.nan
losses = learn(model, optimizer, batches, 1)
lost = torch.cat([weight.isnan().flatten() for weight in model.parameters()]).float().mean().item()
assert math.isnan(losses[0]) and lost > 0.99
f"loss {losses[0]}, {lost:.1%} of the weights are lost"

# %% [markdown] id="train-text"
# The loss met that weight, and every slope met the loss. Our loop noticed nothing. `minilm.train` asks before each step whether
# loss and gradient are numbers, and stops with an error while the weights are still good.
#
# ## 9. The library's loop
#
# Otherwise `train` is the same loop with what a long run needs: it lets the learning rate rise and fall, accumulates gradients,
# looks at held-out text now and then, and at Ctrl-C finishes the step first. Your loss goes in as an argument.
#
# A run may break off, and the best model may not be the last. So `save`, which is called after every step, keeps what was
# measured: a **checkpoint** is a folder with weights, config and tokenizer. It holds no code: who loads it brings the parts.
#
# Now a GPT with two wider blocks, on all training stories. Every 100 steps we take the bits per byte of lesson 02 on held-out
# stories. How many will it reach? (Look up what the bigram and the n-gram had in lesson 06.)


# %% id="train"
def save(step, model, record):
    if "validation" in record:
        save_checkpoint(folder, model, tokenizer, step=step, validation=record["validation"].bits_per_byte)


# %% id="plot-training"
folder, _ = tempfile.mkdtemp(), torch.manual_seed(7)
gpt = GPT(gpt2_config(vocab_size=512, context_length=64, d_model=64, n_layers=2, n_heads=4), **parts)
plan = TrainConfig(steps=TRAINING, learning_rate=5e-3, eval_every=100, threads=1)
given = {"loss_function": lambda model, x, y: cross_entropy(model(x), y), "on_step": save, "progress": False}
given["evaluate"] = lambda model: model_rung("your GPT", model, held_out, tokenizer, 0.0)  # seconds: not known yet
history = train(gpt, Batches(train_ids.ids, 16, 64), plan, **given)
assert abs(history[0]["loss"] - math.log(512)) < 0.2 and history[-1]["loss"] < history[0]["loss"]
plot_loss(history)

# %% [markdown] id="load-text"
# The grey line jumps because every batch is another text; the black one is the mean of the last 20, and so it lags behind. The
# first loss was near log 512 = 6.24.
#
# Does the best saved model come back whole? And where does it stand on the ladder?

# %% id="ladder"
loaded = load_checkpoint(folder, **parts)
mine = model_rung("your GPT", loaded.model, held_out, tokenizer, history[-1]["seconds"])
assert mine.bits_per_byte == loaded.validation  # to the last bit
counted = [rung for rung, _ in counted_rungs(train_ids, held_out, tokenizer, NgramConfig(vocab_size=512))]
assert QUICK or counted[2].bits_per_byte < mine.bits_per_byte < counted[1].bits_per_byte
plot_ladder(sorted([*counted, mine], key=lambda rung: -rung.bits_per_byte), mine="your GPT")

# %% [markdown] id="summary"
# Past the bigram, and far behind the n-gram that has only counted.
#
# ## Summary
#
# * Training is a loop: forward, loss, backward, clip, step, forget. A forgotten line gives no error, only a worse model, so know
#   what to expect: log V at the start, and no miracle at the end.
# * The loss is a mean over the targets that count, in nats, whether the batch comes whole or in pieces.
# * Only text that was never trained on says what has been learned. One run is a sample: other seeds give other numbers.
#
# **On the ladder**: your GPT, trained by your own loss. Lesson 09 sets out to beat the n-gram.
#
# **Read next**: Bottou 2012, "Stochastic gradient descent tricks"; Pascanu and others 2013, "On the difficulty of training
# recurrent neural networks", where clipping comes from. In minilm `minilm/training/loop.py`, `loss.py` and `checkpoint.py`.
