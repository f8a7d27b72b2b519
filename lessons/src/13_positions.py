# %% [markdown] id="title"
# # 13 Positions: how a model knows what comes first
#
# "The dog bit the man" and "the man bit the dog" hold the same words. Attention, as you wrote it in lesson 05, cannot tell them apart.
# There are several ways to say where a token stands, and they differ most on texts longer than any in training.
#
# **You will write** five short functions: the hands of a clock, the oldest table made of them, the rotation that most models of today
# use, a bias that knows distances only, and a way to stretch a trained model.
#
# needs: 01, 02, 05, 06. Time: 90 minutes. Run time: two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS = 500
MORE_STEPS = 40

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import functools

import torch

from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.layers.alibi import alibi_slopes
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.changed_scores import attention_with
from minilm.layers.positions import half_split_to_interleaved, rotate_interleaved, silence
from minilm.plots.curves import plot_curves
from minilm.plots.positions import plot_hands
from minilm.text.stories import stories

if QUICK:
    STEPS, MORE_STEPS = 12, 2
_ = torch.manual_seed(13)

# %% [markdown] id="set-text"
# ## 1. A set, not a sequence
#
# Six tokens attend to each other, without a mask. Then the same six come in another order. Guess first: what happens to the output?

# %% id="set"
x = torch.randn(1, 1, 6, 4, dtype=torch.float64)
order = torch.tensor([5, 0, 3, 1, 4, 2])
mixed = x[:, :, order]
out, out_mixed = scaled_dot_product_attention(x, x, x), scaled_dot_product_attention(mixed, mixed, mixed)
assert torch.allclose(out_mixed, out[:, :, order], rtol=0, atol=1e-12)

# %% [markdown] id="learned-text"
# It comes out in the new order, and no token notices: a score depends on what two tokens are, never on where they stand. Attention
# sees a set.
#
# The simplest remedy is what our GPT has done so far: a second table, with a learned row for each place, added to the row of the token. It
# works, but place 33 learns nothing from place 32, and the table ends.
#
# ## 2. A clock with many hands
#
# How could a place be told *without* a row for each? As a clock tells time: with a few hands. The fast one tells neighbours apart, the
# slow ones say roughly where we are. In each place every hand turns on by an angle of its own, measured in **radians** (a whole turn is 2 pi,
# about 6.28). With K / 2 hands and a base theta, hand i turns by
#
# theta^(-2i / K) for each place, i = 0, 1, ..., K / 2 - 1
#
# So hand 0 turns by 1, and each next one more slowly; the more hands there are, the nearer the last one comes to being theta times
# slower. (Why K / 2? Each hand will make two numbers, so K numbers have K / 2 hands.) Two hands, so K = 4, and theta = 100, in loops:

# %% id="hands-loop"
for place in (0, 1, 10):
    print(f"place {place:2}:", [round(place * 100 ** (-2 * i / 4), 2) for i in range(2)])

# %% [markdown] id="angles-text"
# **Exercise 1.** Write the angles for any positions. They may come as a batch, with gaps, and even lie between two tokens.
# `positions[..., None]` has one more axis, of length 1, at the end, so that `positions[..., None] * speeds` multiplies each position by each
# of the speeds. Numbers in torch are float32 unless you say otherwise, and of a million float32 keeps hardly a digit behind the point: so
# compute in float64 from the beginning, with `torch.arange(n, dtype=torch.float64)` and `positions.double()`.


# %% tags=["exercise"] id="exercise-angles"
def rotary_angles(positions, d_head, theta):
    """positions (...,), whole or not -> angles (..., d_head / 2) in float64: position * theta^(-2i / d_head)."""
    raise NotImplementedError


# %% tags=["check"] id="check-angles"
rotary_angles = check("rotary_angles", rotary_angles)

# %% [markdown] id="clock-text"
# The six hands of K = 12, theta = 10000, at five places. Before you draw them: which hands can tell place 0 from 1? Which 0 from 100?
# (Drawn as in mathematics: at place 0 every hand points to the right, and it turns against the clock, so that width and height of its tip
# are cos and sin.)

# %% id="clock"
places = torch.tensor([0, 1, 2, 10, 100])
plot_hands(rotary_angles(places, 12, 10000.0), places)

# %% [markdown] id="table-text"
# Hand 0 tells neighbours apart, but it comes round after six places. The slowest has hardly moved at 100: it waits for longer texts.
#
# An angle of 6.28 should look like one of 0, so a model is given the tip of the hand: its height, sin, and its width, cos. Those numbers
# make the table of the first transformer, added to the tokens like a learned one, but fixed.
#
# **Exercise 2.** Write the table for places 0, 1, ..., with theta = 10000. Your `rotary_angles` gives all angles. `torch.stack([a, b], dim=-1)` lays
# two tensors side by side in a new last axis, `.flatten(-2)` makes one axis of the last two.


# %% tags=["exercise"] id="exercise-table"
def sinusoidal_positions(n_positions, d_model):
    """(n_positions, D) in float32 (.float() at the very end): even columns sines, odd columns cosines of the same hand."""
    raise NotImplementedError


# %% tags=["check"] id="check-table"
sinusoidal_positions = check("sinusoidal_positions", sinusoidal_positions)

# %% [markdown] id="turn-text"
# ## 3. To turn a point
#
# Turn the plane by an angle b. The point (1, 0) goes to (cos b, sin b), and (0, 1), a quarter of a turn ahead, to (-sin b, cos b). Any
# other point is a times the first plus c times the second, so
#
# (a, c) goes to (a cos b - c sin b, c cos b + a sin b)
#
# Five places on, every hand has turned by the angle of place 5, wherever it stood. So the row of place t + 5 is that of place t with each
# pair turned, by the same angles for all t: a shift is a rotation.

# %% id="shift"
table = sinusoidal_positions(50, 12)
width, height = table[:, 1::2], table[:, 0::2]  # cosines, sines
turn = rotary_angles(torch.tensor(5), 12, 10000.0)
moved = width * turn.cos() - height * turn.sin()
assert torch.allclose(moved[:-5], width[5:].double(), atol=1e-6)

# %% [markdown] id="rotary-text"
# ## 4. Turn queries and keys
#
# Rotary positions add nothing to the tokens. They take the numbers of a query in pairs, and turn each pair by the angle of its hand, at the
# place of the query. Keys likewise. Why does that help?
#
# A dot product depends on two lengths and the angle between. Turning *both* vectors by the same angle changes nothing. So a query turned
# for place t and a key turned for place s have the score of a query turned by t - s and a key not turned: **only the distance counts**.
#
# Which numbers make a pair? Llama's layout, as it is mostly stored, pairs number i with number i + K / 2, half a vector away.
#
# **Exercise 3.** Write the rotation. A model computes in float32 and the angles are float64, so cast the cosines and sines: `.to(x.dtype)`.


# %% tags=["exercise"] id="exercise-rotate"
def rotate_half_split(x, angles):
    """Turn pair (i, i + K/2) of x (..., T, K) by angles (..., T, K/2); the answer has the dtype of x."""
    raise NotImplementedError


# %% tags=["check"] id="check-rotate"
rotate_half_split = check("rotate_half_split", rotate_half_split)

# %% [markdown] id="distance-text"
# Three claims to test: a query four places behind its key gets the same score at the beginning of a text and far inside; four places
# *before* it, another one;
# and a rotation changes no length.
#
# Then let query and key both be 32 ones. Without positions their score is 32. **Predict** the curve: how will it go with the distance, fall
# straight, or waver?


# %% id="distance"
def score(t, s):
    turn = rotary_angles(torch.tensor([[t], [s]]), 32, 10000.0)
    return (rotate_half_split(q, turn[0]) * rotate_half_split(k, turn[1])).sum().item()


q, k = torch.randn(2, 1, 32, dtype=torch.float64)
assert abs(score(7, 3) - score(104, 100)) < 1e-12 and abs(score(7, 3) - score(3, 7)) > 1e-3
assert abs(rotate_half_split(q, rotary_angles(torch.tensor([99]), 32, 10000.0)).norm() - q.norm()) < 1e-12

# %% id="curve"
q = k = torch.ones(1, 32, dtype=torch.float64)
by_distance = [score(t, 0) for t in range(100)]
assert abs(by_distance[0] - 32) < 1e-12 and by_distance[27] < 14 and by_distance[33] > 18
plot_curves(range(100), {"score": by_distance}, "distance", "dot product", "Two equal vectors, turned apart")

# %% [markdown] id="layout-text"
# It falls, but it wavers: the fast hands come round again, so 33 places away counts more than 27; the slow ones hold on.
#
# The values are not turned: they say *what*, and the scores alone decide *where* to look. And the pairs? The paper that invented it (Su
# et al. 2021) takes
# neighbours, (2i, 2i + 1).
# The numbers of a head have no order, so move the rows of the matrices that make q and k, and each
# layout gives the scores of the other.

# %% id="layout"
x, W_q, W_k = torch.randn(5, 12).double(), torch.randn(8, 12).double(), torch.randn(8, 12).double()
turn = rotary_angles(torch.arange(5), 8, 500.0)
halves = [rotate_half_split(x @ W.T, turn) for W in (W_q, W_k)]
pairs = [rotate_interleaved(x @ half_split_to_interleaved(W, n_heads=1).T, turn) for W in (W_q, W_k)]
assert torch.allclose(halves[0] @ halves[1].T, pairs[0] @ pairs[1].T, rtol=0, atol=1e-12)

# %% [markdown] id="alibi-text"
# ## 5. A bias that knows distances only
#
# ALiBi (attention with linear biases) is blunter. No vector changes: each score loses in proportion to the distance, *slope* times (place of the
# query - place of the key). Every head has its own slope, which `alibi_slopes` tells: 1/4, 1/16, 1/64 and 1/256 for four heads.
#
# **Exercise 4.** Write it, for scores with T queries and S keys. As in the mask of lesson 05, the last query stands at the last key. For a
# key ahead the distance is below 0: leave it, the mask hides those keys afterwards.
#
# Then guess: if all scores are 0 before, how much weight does the last of 32 tokens keep for itself, per head? And what does a token see without
# any bias?


# %% tags=["exercise"] id="exercise-alibi"
def alibi(scores):
    """scores (B, H, T, S) -> scores - alibi_slopes(H)[h] * (place of the query - place of the key), in the dtype of scores."""
    raise NotImplementedError


# %% tags=["check"] id="check-alibi"
alibi = check("alibi", alibi)

# %% id="alibi-see"
print("slopes:", alibi_slopes(4))
print("ALiBi, the last token's weight on itself:", torch.softmax(alibi(torch.zeros(1, 4, 1, 32)), dim=-1)[0, :, 0, -1])
print("no bias, each token's weight on the first:", (torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None])[:, 0])

# %% [markdown] id="none-text"
# The first head looks mostly at its neighbours, the last one almost evenly at all.
#
# ## 6. Nothing at all
#
# Look at the last line. With a mask, token t sees t + 1 keys, so equal shares are 1, 1/2, 1/3, ... If a head fetches a mark that only the
# first token
# of the text carries, what comes out says where we are. So a causal model *can* do without: the mask leaks the order. To silence the table,
# `silence` sets it to 0 and excludes it from training.
#
# ## 7. The experiment: train short, read long
#
# Five equal GPTs are trained alike, on pieces of 32 tokens of the built-in stories. Then they read 128.
#
# The attention is an argument of our GPT, so the rotation fits in there: *your* functions turn the queries and keys.
# (`functools.partial(f, a)` is f with its first argument filled in.) `attention_with(alibi)` is attention whose scores go through your
# `alibi` before the mask. The tables: learned as it is; sinusoidal, made small enough not to drown the tokens, and frozen; and for the
# other three silenced. Muon, the optimizer, is a black box here, like all of the training.


# %% id="schemes"
def turned_attention(angles, q, k, v, mask=None):
    turn = angles(torch.arange(q.shape[2]), q.shape[3], 10000.0)
    return plain(rotate_half_split(q, turn), rotate_half_split(k, turn), v, mask)


plain = scaled_dot_product_attention
ATTENTION = {"learned": plain, "sinusoidal": plain, "rotary": functools.partial(turned_attention, rotary_angles)}
ATTENTION |= {"ALiBi": attention_with(alibi), "none": plain}


# %% id="build"
def build(name, length, attention):
    torch.manual_seed(13)
    config = gpt2_config(vocab_size=512, context_length=length, d_model=64, n_layers=2, n_heads=4)
    model = GPT(config, attention=attention)
    if name == "sinusoidal":
        model.positions.weight.data = 0.02 * sinusoidal_positions(length, 64)
        model.positions.weight.requires_grad_(False)
    elif name != "learned":
        silence(model.positions)
    return model


def fit(model, length, batch_size, steps, rate):
    rates = {"learning_rate": rate, "matrix_learning_rate": 10 * rate}
    train(model, Batches(ids, batch_size, length), TrainConfig(steps=steps, optimizer="muon", **rates), progress=False)
    return model


# %% id="train"
SHORT, LONG = 32, 128
documents = list(stories(1500, seed=1))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=512)
ids = encode_corpus(documents, tokenizer).ids
unseen = encode_corpus(list(stories(120, seed=2)), tokenizer).ids[: 250 * (LONG + 1)]
unseen = torch.tensor(unseen.astype("int64")).reshape(250, LONG + 1)
models = {}
for name, attention in ATTENTION.items():
    models[name] = fit(build(name, SHORT, attention), SHORT, 16, STEPS, 5e-3)

# %% [markdown] id="longer-text"
# A GPT refuses what is longer than its context length. To read on, we build a second one with room for 128 tokens, and give it the same weights.
# Only the table must become longer, and here the schemes part: a sine can be computed for any place, a silent table stays silent, but nobody has
# learned rows 32 to 127. We leave them as random as they were before training. (`state_dict()` is
# all weights of a model by name, `load_state_dict` puts them in; `torch.no_grad()` says that no gradients are wanted.)
#
# The loss is averaged over the texts, for each place apart. `gather` picks, at each place, the log-probability of the token that came.
#
# **Predict**, and write it down: up to place 32, who is best? Which curve jumps behind it, which creeps up, which stays? With more text to look back
# at, does anyone get *better*?


# %% id="longer"
def longer(name, attention):
    model, state = build(name, LONG, attention), models[name].state_dict()
    rows = model.positions.weight.detach().clone()
    rows[:SHORT] = state["positions.weight"]
    model.load_state_dict({**state, "positions.weight": rows})
    return model


@torch.no_grad()
def loss_by_place(model):
    log_p = torch.cat([torch.log_softmax(model(some), dim=-1) for some in unseen[:, :-1].split(50)])
    loss = -log_p.gather(-1, unseen[:, 1:, None])[..., 0].mean(0)
    return loss.reshape(-1, 8).mean(1)  # the mean of 8 places each


# %% id="extrapolate"
losses = {name: loss_by_place(longer(name, attention)) for name, attention in ATTENTION.items()}
for name, loss in losses.items():
    print(f"{name:10}  places 16 to 31: {loss[2:4].mean():.2f}   places 96 to 127: {loss[12:].mean():.2f}")
middle = torch.arange(LONG).reshape(-1, 8).float().mean(1)
plot_curves(middle, losses, "place in the text", "loss (nats per token)", f"Trained on {SHORT} tokens, reading {LONG}")

# %% [markdown] id="extrapolate-read"
# Up to place 32 the rotation leads, ALiBi and the learned table follow, and our small sinusoidal table says hardly more than silence.
# Then the learned table breaks at once: its rows behind 32 are noise. The rotation does not break off but soon fails as badly:
# query and key now differ by angles that never came in training, and scores come out that nobody has trained.
# The sinusoidal table and silence, which were weak from the start, get worse more gently.
#
# Only ALiBi reads on, a little worse than before. A far token loses so much score that it hardly counts, so ALiBi does not break, but it
# does not gain either: none of the five gets better for the longer text.
#
# These are tiny models, trained once: with another size or text each loses more or less.
#
# ## 8. Stretch it
#
# Can a trained rotary model be saved? Its troubles are angles that it never met. **Position interpolation** lets place p stand at
# p / 4: then 128 places lie between 0 and 32, where the model knows its way, only closer together.
#
# **Exercise 5.** Write it. One trap: whole numbers divided by a number become float32 in torch.


# %% tags=["exercise"] id="exercise-interpolated"
def interpolated_angles(positions, d_head, theta, factor):
    """The angles (..., d_head / 2) in float64 of positions that stand `factor` times as close together."""
    raise NotImplementedError


# %% tags=["check"] id="check-interpolated"
interpolated_angles = check("interpolated_angles", interpolated_angles)

# %% [markdown] id="stretch-text"
# `closer` is your function with the factor filled in. We read 128 tokens with and without interpolation, then train each for a few more
# steps on pieces of 128. **Predict**: does interpolation help at once? And who is better after the training?

# %% id="stretch"
closer = functools.partial(interpolated_angles, factor=LONG / SHORT)
stretched = {}
for name, angles in (("as it was", rotary_angles), ("interpolated", closer)):
    model = longer("rotary", functools.partial(turned_attention, angles))
    stretched[name] = loss_by_place(model)
    fit(model, LONG, 8, MORE_STEPS, 2e-3)
    stretched[f"{name}, trained on"] = loss_by_place(model)
for name, loss in stretched.items():
    print(f"{name:25}  places 16 to 31: {loss[2:4].mean():.2f}   places 96 to 127: {loss[12:].mean():.2f}")
plot_curves(middle, stretched, "place in the text", "loss (nats per token)", "Rotary, stretched to 128 tokens")

# %% id="claims"
if not QUICK:  # what the text above and below says, as asserts
    near, far = ({k: v[part].mean() for k, v in (losses | stretched).items()} for part in (slice(2, 4), slice(12, 16)))
    assert min(losses, key=near.get) == "rotary" and far["ALiBi"] < near["ALiBi"] + 0.4
    assert all(far[name] > near[name] + 0.4 for name in losses if name != "ALiBi")
    assert all(far[name] > near[name] + 1.5 for name in ("learned", "rotary"))
    assert near["interpolated"] > near["as it was"] + 0.5 and far["interpolated"] < far["as it was"]
    assert far["interpolated, trained on"] < far["as it was, trained on"] < far["as it was"] - 0.5

# %% [markdown] id="stretch-read"
# At once it helps far away, but costs dearly near by: neighbours stand a quarter of a place apart, and heads that
# looked one back must now miss. A short training sets most of this right, and far away the interpolated model then leads. But look at the
# curve without
# interpolation: the same training mends most of that one as well. And both pay for it at places 16 to 31, where the untouched model
# was better. The method is made for large models, which nobody wants to train for long.
# Set MORE_STEPS to ten times as many: how much of the lead is left, and does either still pay near by?
#
# After a pass:

# %% tags=["check"] id="reveal"
reveal("rotate_half_split")

# %% [markdown] id="summary"
# ## Summary
#
# * Attention sees a set; the order is told by a table that is added, by a rotation of queries and keys, by a bias on the scores, or leaks through the mask.
# * Sine and cosine of a few angles tell a place as the hands of a clock do; a shift turns them, so rotated scores know only the distance.
# * That a scheme *can* be computed for any length does not mean that the model can use it there: measure the loss by place.
#
# No row on the ladder: these five were trained for seconds, on stories.
#
# **Read next**: Su et al. 2021, "RoFormer"; Press et al. 2021, "Train short, test long"; Haviv et al. 2022 on no positions at all; Chen et al. 2023
# on interpolation; in minilm `minilm/layers/positions.py` and `minilm/layers/alibi.py`.
