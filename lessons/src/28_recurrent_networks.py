# %% [markdown] id="title"
# # 28 Recurrent networks: a memory of fixed size
#
# An n-gram knows the last few words. A transformer looks back at everything, and pays for it with every token. Between
# them stands an older idea: read the text token by token, and carry **one vector** along, in which
# all that matters must find room. How far back can such a model remember, and why is that hard to learn?
#
# **You will write** a step of the plain recurrent network, a step of the LSTM, the way back through its gates, and the first
# attention there was, which was invented because one vector was not enough.
#
# needs: 01, 02, 03, 04. Time: 90 minutes. Run time: about a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, DELAYS, LM_STEPS, GPT_STEPS, SPELLING_STEPS = 200, (3, 8, 24), 350, 190, 120

# %% id="setup"
import importlib.util
import math
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np
import torch

from minilm import GPT, BPETokenizer, NgramConfig, TrainConfig, encode_corpus, evaluate, gpt2_config, train
from minilm.analysis.gradient_flow import gradient_by_distance
from minilm.byhand.recurrent import Cell, lstm_step, through_time, through_time_backward
from minilm.checks.exercises import check, reveal
from minilm.layers.recurrent import LSTMLayer, RNNLayer
from minilm.models.rnn_lm import RecurrentLM, RNNConfig
from minilm.plots.curves import plot_curves
from minilm.plots.recurrent import plot_alignment, plot_gradient_flow
from minilm.tasks.copying import CopyBatches, copied
from minilm.text.stories import stories

if QUICK:
    STEPS, DELAYS, LM_STEPS, GPT_STEPS, SPELLING_STEPS = 3, (3, 8), 3, 3, 3

# %% [markdown] id="tiny-text"
# ## 1. One number for a memory
#
# Six tokens, each a number, and a memory h of one number. At each token
#
# h = tanh(0.5 x + 0.8 h)
#
# where tanh squeezes any number to between -1 and 1. Two texts: in one the only signal comes first, in the other last. Which h will be
# larger after the sixth token?

# %% id="tiny"
for text in ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]):
    h = 0.0
    for x in text:
        h = math.tanh(0.5 * x + 0.8 * h)
    print(text, f"{h:.2f}")

# %% [markdown] id="cell-text"
# What comes first fades, but it is not gone. With vectors, the token x and the memory h each go through a matrix:
#
# h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
#
# The same four weights serve at every token: hence *recurrent*. (Two biases are a habit of the libraries; either may be None without the
# other.) Rows are examples: x is (B, I), h is (B, H), and weight_ih (H, I) has a row for each output, so it is turned with `.T`.
#
# **Exercise 1.** Write one step. Stay with tensors, here and below: gradients are to come back through your steps.


# %% tags=["exercise"] id="exercise-rnn"
def rnn_cell(x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None):
    """x (B, I), h (B, H), weight_ih (H, I), weight_hh (H, H), biases (H,) or None -> the next h (B, H)."""
    raise NotImplementedError


# %% tags=["check"] id="check-rnn"
rnn_cell = check("rnn_cell", rnn_cell)

# %% [markdown] id="loop-text"
# A text is a loop over your cell. The library's `RNNLayer` holds the weights and stacks the results; we hand it your step.
# Its own computes W_ih x for all tokens at once. That is all it can do ahead of time: W_hh h has to
# wait for the token before. A transformer waits for nobody, which suits fast hardware.


# %% id="loop"
def weights(layer):
    return layer.input.weight, layer.recurrent.weight, layer.input.bias, layer.recurrent.bias


class MyRNN(RNNLayer):
    def steps(self, x, state=None):  # x (B, T, I); gives the state after each token
        state = self.start(x) if state is None else state
        for token in x.unbind(1):
            state = (rnn_cell(token, state[0], *weights(self)),)
            yield state


# %% [markdown] id="time-text"
# ## 2. Back through time
#
# To learn, the gradient must come back along the same way. One step
# back is what lesson 04 derived: through the tanh, times 1 - h'², then through the matrix, turned:
#
# gradient at h = W_hh^T (gradient at h' · (1 - h'²))
#
# With one number, every step back multiplies by 0.8 (1 - h²), which is at most 0.8.
#
# A product of many factors below 1 vanishes, of many above 1 explodes. For vectors each factor is a matrix, and the same is
# true. `gradient_by_distance` measures how long the gradient of the last h is at the states before it, on average.
#
# Take a fresh network of 24 numbers. **Predict** what is left 10, 30 and 60 steps back.


# %% id="vanish"
def flow(layer):
    draw = torch.Generator().manual_seed(1)
    return gradient_by_distance(layer, torch.randn(8, 61, 24, generator=draw), draw)


torch.manual_seed(28)
plain = MyRNN(24, 24)
fades = np.array(flow(plain))[::10]
assert fades[0] > 1000 * fades[1] and (abs(fades[1:-1] / fades[2:] - 500) < 200).all()
print("10, 20, ... 60 steps back:", *(f"{fade:.0e}  " for fade in fades[1:]))

# %% [markdown] id="vanish-read"
# The first ten steps cost a factor of more than a thousand, every ten after them one of about five hundred. However much a word that far
# back may matter: nobody is told. An exploding gradient can be cut to a fixed length, which `train` does. A vanished one cannot be mended so:
# the noise of what is near drowns it.
#
# ## 3. A memory that is added to
#
# The remedy of Hochreiter and Schmidhuber (1997): a second memory c, to which each step adds, and which goes through no matrix and no tanh
# on its way. **Gates**, numbers between 0 (shut) and 1 (open), say what is added, kept and shown. (The one in the way of c, f, came three
# years later: Gers, Schmidhuber and Cummins.)
#
# - i, f, o = sigmoid of three sums (input, forget, output gate), g = tanh of a fourth one (the proposal of what to add)
# - c' = f c + i g
# - h' = o tanh(c')
#
# Each of the four sums is what the RNN computed: W_ih x + b_ih + W_hh h + b_hh, with weights of its own. They lie stacked in one
# matrix of 4 H rows, **in the order i, f, g, o**, so that one product makes all four. `a.chunk(4, dim=-1)` cuts the result.
#
# **Exercise 2.** Write the step of the LSTM (long short-term memory). `torch.sigmoid` is there.


# %% tags=["exercise"] id="exercise-lstm"
def lstm_cell(x, state, weight_ih, weight_hh, bias_ih=None, bias_hh=None):
    """x (B, I), state (h, c), each (B, H), weights (4 H, I) and (4 H, H), biases (4 H,) or None -> the next (h, c)."""
    raise NotImplementedError


# %% tags=["check"] id="check-lstm"
lstm_cell = check("lstm_cell", lstm_cell)


# %% id="lstm-loop"
class MyLSTM(LSTMLayer):
    def steps(self, x, state=None):
        state = self.start(x) if state is None else state
        for token in x.unbind(1):
            state = lstm_cell(token, state, *weights(self))
            yield state


# %% [markdown] id="forget-text"
# From c' = f c + ... a gradient comes back times f: no matrix, no tanh. If f is 1/2, though, ten steps leave a thousandth, and a gate
# whose sum is near 0 *is* 1/2. So f must start open. Its bias b decides: sigmoid(1) = 0.73 is customary, and sigmoid(b) = 1 - 1/T for
# b about log T: then (1 - 1/T)^T, about 1/e, is left after T steps.
#
# **Predict** the four curves: RNN, LSTM with random biases, with b = 1, and with b = log 60. (Of an LSTM's state, h and c count together.)

# %% id="forget"
nets = {"RNN": plain, "LSTM": MyLSTM(24, 24), "b = 1": MyLSTM(24, 24, forget_bias=1.0)}
reach = {name: flow(net) for name, net in nets.items()}
reach["b = log 60"] = flow(MyLSTM(24, 24, forget_bias=math.log(60)))
at_30, last = [curve[30] for curve in reach.values()], reach["b = log 60"]
assert 5 * at_30[0] < at_30[1] < at_30[2] / 20 < 0.0005 and 0.15 < min(last) < last[2] < 0.25 < 0.7 < last[60]
plot_gradient_flow(reach)

# %% [markdown] id="forget-read"
# So an LSTM is no cure by itself: with random biases its gradient dies too, only more slowly. What reaches far is a gate that begins
# wide open. (What is below 1e-12 is drawn there.) The last curve falls to about 0.2 at once, for the last h shows c through a gate and a tanh. From there
# it does not fall to 1/e, but rises: old states also act through h, on gates and proposals, which adds to the way through c.
#
# ## 4. The way back, by hand
#
# One step of the LSTM, with a = the four sums. In come dh and dc, the gradients of the *new* h and c. Note where each number was used:
#
# - the new c was used **twice**: in h' = o tanh(c'), and by the next step, which has sent dc. Both add up: dc + dh · o · (1 - tanh(c')²).
# - in c' = f c + i g each factor gets this sum times its partner; in h' = o tanh(c') the gate o gets dh · tanh(c').
# - then back into the sums: a sigmoid s has the slope s (1 - s), a tanh g the slope 1 - g².
# - the old c gets the sum times f. That is the open way.
#
# The two halves of a, from_x = W_ih x + b_ih and from_h = W_hh h + b_hh, were added, so both get the same gradient. The old h was used in
# from_h only, so that directly it gets zeros.
#
# **Exercise 3.** Write it in numpy, as in lesson 04. `shown` is tanh(c'); `np.concatenate([...], axis=-1)` lays the four parts side by side.


# %% tags=["exercise"] id="exercise-back"
def lstm_step_backward(dstate, cache):
    """dstate (dh, dc) of the new state, each (B, H), cache (c, i, f, g, o, shown), c the old one
    -> gradient of from_x (B, 4 H), of from_h (B, 4 H), and (zeros, gradient of the old c)."""
    raise NotImplementedError


# %% tags=["check"] id="check-back"
lstm_step_backward = check("lstm_step_backward", lstm_step_backward)

# %% [markdown] id="back-text"
# The library's `through_time_backward` walks from the last token to the first, calls your step, and sums the gradients of the weights over
# all tokens. Autograd does the same to your `lstm_cell`. Do they agree?

# %% id="back"
layer = MyLSTM(3, 4).double()
x, dout = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 9, 4, dtype=torch.float64)
(layer(x)[0] * dout).sum().backward()
arrays = [tensor.detach().numpy() for tensor in (x, *weights(layer))]
out, cache = through_time(Cell(lstm_step, lstm_step_backward), arrays[0], (np.zeros((2, 4)),) * 2, *arrays[1:])
dx, *_, dweight_ih, dweight_hh, _, _ = through_time_backward(dout.numpy(), cache)
for by_hand, tensor in ((dx, x), (dweight_ih, layer.input.weight), (dweight_hh, layer.recurrent.weight)):
    assert np.allclose(by_hand, tensor.grad.numpy(), rtol=0, atol=1e-12)

# %% [markdown] id="copy-text"
# ## 5. What can be learned from how far?
#
# The purest test of memory: one of eight symbols, then blanks for a while, then a sign that asks for it. To guess is right once in
# eight times. All three networks run on your cells and get the same 200 steps and the same rate. (An LSTM of the same width has four times the weights.)
#
# **Predict** for a delay of 3, 8 and 24 tokens: who will have learned it?


# %% id="copy"
def learn_to_copy(build, delay):
    torch.manual_seed(0)
    model = RecurrentLM(RNNConfig(vocab_size=10, d_model=32, tie_embeddings=False))
    model.stack.blocks[0] = build(delay)
    model.embedding.weight.data *= 10
    plan = TrainConfig(steps=STEPS, learning_rate=0.01, warmup=10, weight_decay=0.0, threads=1)
    train(model, CopyBatches(32, 1, delay), plan, progress=False)
    return copied(model, CopyBatches(500, 1, delay, seed=1))


# %% id="copy-plot"
nets = {"RNN": lambda delay: MyRNN(32, 32), "b = 1": lambda delay: MyLSTM(32, 32, forget_bias=1.0)}
nets["b = log delay"] = lambda delay: MyLSTM(32, 32, forget_bias=math.log(delay))
right = {name: [learn_to_copy(build, delay) for delay in DELAYS] for name, build in nets.items()}
assert QUICK or [[round(share) for share in row] for row in right.values()] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
plot_curves(DELAYS, right, "tokens between symbol and question", "share of right answers", "One symbol to remember")

# %% [markdown] id="copy-read"
# Over three tokens every network has learned it; over 8 both LSTMs have, and the RNN is guessing (with most seeds: try some). Over 24 the
# customary LSTM guesses, too, and only the one with wide open gates gets there.
#
# ## 6. On the ladder
#
# Now real text. The state is carried on, and the gradient is cut after each window of 32 tokens: **truncated**
# back-propagation through time, since a whole book of steps cannot be kept. The model may remember from beyond; it only is not taught to.
# (`Streams` in `training/streams.py` sees to that.)
#
# Beside it a small GPT, a black box here, and counts, up to a 5-gram smoothed as Kneser and Ney did (lesson 11, or a black box). Both networks
# train for about the same time of one core, by kernels that compute the same numbers as your code, only faster. Guess the order of all five.


# %% id="data"
from minilm.evaluation.ladder import counted_rungs
from minilm.fast.choose import with_kernels
from minilm.training.loss import next_token_loss
from minilm.training.streams import batches_for

texts = list(stories(60 if QUICK else 1200, seed=28))
tokenizer = BPETokenizer.train(texts[:300], vocab_size=512)
learned, held = encode_corpus(texts[:-50], tokenizer), encode_corpus(texts[-50:], tokenizer)


def fit(model, steps, rate):
    model = with_kernels(False, model)
    plan = TrainConfig(steps=steps, learning_rate=rate, batch_size=16, threads=1)
    batches, loss = batches_for(model, learned.ids, plan, next_token_loss)
    seconds = train(model, batches, plan, loss_function=loss, progress=False)[-1]["seconds"]
    return evaluate(model, held, tokenizer).bits_per_byte, seconds, sum(w.numel() for w in model.parameters())


# %% id="ladder"
counted = [rung for rung, _ in counted_rungs(learned, held, tokenizer, NgramConfig(vocab_size=512, order=5))]
rungs = {rung.name: (rung.bits_per_byte, rung.train_seconds, 0) for rung in counted}
torch.manual_seed(0)
rungs["LSTM"] = fit(RecurrentLM(RNNConfig(vocab_size=512, d_model=192, window=32)), LM_STEPS, 0.01)
rungs["GPT"] = fit(GPT(gpt2_config(vocab_size=512, context_length=64, d_model=64, n_layers=2)), GPT_STEPS, 0.005)
for name, (bits, seconds, n) in rungs.items():
    print(f"{name:10} {bits:6.3f} bits per byte after {seconds:4.1f} s", f"with {n:,} weights" if n else "")
assert QUICK or rungs["Kneser-Ney"] < rungs["LSTM"] < min(rungs["bigram"], rungs["GPT"])  # bits come first

# %% [markdown] id="ladder-read"
# Read it with care. After these few seconds the LSTM is ahead of the GPT, and of a bigram. But this is one seed, the LSTM has nearly three times the
# weights, and the rates were tried in passing, the LSTM's more than the GPT's: another budget may give another order. And counting is far
# ahead of both, in the blink of an eye.
#
# ## 7. One vector is not enough
#
# Translate: read a sentence with one network, the **encoder**, hand its last state to another, the **decoder**, and let that write.
# So it was done in 2014, and all went through one vector. Bahdanau, Cho and Bengio kept *all* the encoder's
# states, and let the decoder look at them before each token it writes. For a state q of the decoder and the encoder's states m_1, m_2, ...:
#
# - score of place s = v · tanh(W_q q + W_m m_s): how well they fit
# - weights = softmax of the scores: shares that sum to 1
# - context = sum of weight_s · m_s, which the decoder reads beside its token
#
# That is **attention**, three years before the transformer. In lesson 05 a product of two vectors will take the place of tanh and v.
#
# Padding is hidden, with a score of -inf *before* the softmax (`masked_fill(~mask, -math.inf)`); and a
# row that may look nowhere would be 0 / 0, so it gets zeros.
#
# **Exercise 4.** Write it. Before you do: what would the weights depend on if the tanh were left out?


# %% tags=["exercise"] id="exercise-look"
def additive_attention(query, memory, mask, weight_query, weight_memory, v):
    """query (B, Q), memory (B, S, M), mask (B, S), True = may look, or None, weight_query (A, Q), weight_memory (A, M), v (A,)
    -> context (B, M), weights (B, S)."""
    raise NotImplementedError


# %% tags=["check"] id="check-look"
additive_attention = check("additive_attention", additive_attention)

# %% [markdown] id="spell-text"
# Without the tanh, v · W_q q would be added to every score of the row alike, which no softmax notices: the decoder could not ask.
#
# The task: "four thousand and seven" is to become 4007, letter by letter in, digit by digit out. 9,000 numbers to learn from,
# 1,000 others to be asked. Two models, equal but for one part: your attention, or `LastPlace`, which always looks at the last letter's
# state, as it was before 2014. Guess how many of the unseen numbers each of them gets right in all digits.


# %% id="spell"
from minilm.layers.additive_attention import AdditiveAttention, LastPlace
from minilm.models.recurrent_seq2seq import RecurrentSeq2Seq, Seq2SeqConfig
from minilm.tasks import spelling


class Look(AdditiveAttention):
    def forward(self, query, memory, mask):
        return additive_attention(query, memory, mask, self.query.weight, self.memory.weight, self.v)


learn, test = spelling.spelled_numbers(1000, seed=0)
plan = TrainConfig(steps=SPELLING_STEPS, learning_rate=0.01, warmup=20, weight_decay=0.0, threads=1)
shares = {}
for name, look in (("last place", LastPlace), ("attention", Look)):
    torch.manual_seed(0)
    model = with_kernels(False, RecurrentSeq2Seq(Seq2SeqConfig(spelling.SOURCE_SIZE, spelling.TARGET_SIZE, 64), look))
    train(model, spelling.SpellingBatches(learn, 32), plan, loss_function=spelling.spelling_loss, progress=False)
    shares[name] = spelling.accuracy(model, test)
print({name: f"{share:.3f}" for name, share in shares.items()})
assert QUICK or (shares["attention"] > 0.75 and shares["last place"] < 0.2)

# %% [markdown] id="map-text"
# One of them can do it and the other hardly at all. (The vector has room for four digits: it is harder to learn, not impossible.)
#
# And attention can be looked at. A row for each digit that it writes, a column for each letter. **Predict**: where must it look to write
# the 8, and where for the 0, which has no word?

# %% id="map"
words = "eight thousand and forty two"
(ids,), looks = model.translate(spelling.batch_of([spelling.Spelled(words, "")])[0], spelling.END, 6)
plot_alignment(looks[0, : len(ids) + 1], words, [*spelling.decode_digits(ids), "end"])

# %% [markdown] id="map-read"
# For the 8 it looks at the beginning of "eight", for the 4, less surely, at "forty", for the 2 at "two". And the 0, which has no word, hangs on
# "an(d)": after "thousand", that is what tells that there are no hundreds. Nobody told it which letters belong to which digit. But the map
# does not explain all that the model does: each state knows what came before it, too.

# %% [markdown] id="summary"
# ## Summary
#
# - A recurrent network carries one state of fixed size through the text. The tokens have to wait for each other.
# - Back through time a gradient is multiplied at every step. In a plain network it vanishes as a power of the distance; in an LSTM it
#   survives where the forget gate is open, and whether it starts open decides what can be learned.
# - One vector is a narrow door. Attention lets the decoder look back at all states, and this idea outlived the network it was made for.
#
# **Read next**: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); Pascanu, Mikolov and Bengio, "On the difficulty of training
# recurrent neural networks" (2013); Tallec and Ollivier, "Can recurrent neural networks warp time?" (2018), on the bias; Bahdanau, Cho and
# Bengio, "Neural machine translation by jointly learning to align and translate" (2014). In `minilm`: `layers/recurrent.py`,
# `byhand/recurrent.py`, `training/streams.py`, `models/recurrent_seq2seq.py`; and `minilm train --model lstm`.

# %% tags=["check"] id="reveal"
reveal("lstm_cell")
