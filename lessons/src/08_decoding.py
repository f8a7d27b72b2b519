# %% [markdown] id="title"
# # 08 Decoding and the KV cache: how does a model talk?
#
# A language model does not write. It reads a text and says how likely each token is to come next. To make it talk, somebody must
# *choose* a token, again and again. How to choose decides whether the text is dull, lively or mad. And who lets the model read the whole
# text anew for each token waits far too long; a memory, the **KV cache**, saves nearly all of that.
#
# **You will write** two filters, attention with a memory, and the loop. With your parts of lessons 03, 05 and 06, they are a GPT of
# your own that talks.
#
# needs: 01, 02, 03, 05, 06, 07. Time: 90 minutes. Run time: two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, DOCUMENTS, NEW = 400, 1500, 120
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

from functools import partial
from time import process_time
from timeit import repeat

import numpy as np
import torch

from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, generate, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.classical.counting import draw
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.masks import causal_mask
from minilm.plots.curves import plot_curves
from minilm.plots.decoding import plot_draws, plot_kept
from minilm.text.stories import stories

STEPS, DOCUMENTS, NEW, LENGTHS = (10, 200, 12, (16, 32, 64)) if QUICK else (STEPS, DOCUMENTS, NEW, LENGTHS)
torch.set_num_threads(1)

# %% [markdown] id="tiny-text"
# ## 1. Five tokens
#
# After "the dog", a model gives five tokens the scores below. The simplest choice is the likeliest token, always: **greedy**. It says
# the same each time, and readily goes in circles.
#
# The other way is to draw, each token as often as its probability says. Between the two lies the **temperature** T: divide the scores by T before the
# softmax. What will T = 0.5 do to the likeliest token? And T = 2?

# %% id="tiny"
words, scores = ["barks", "sleeps", "runs", "flies", "of"], torch.tensor([2, 1.5, 1, 0.5, 0]).double()
for T in (0.1, 0.5, 1.0, 2.0, 100.0):
    p = torch.softmax(scores / T, dim=-1)
    print(f"T = {T:5}", *(f"{word} {x:.3f}" for word, x in zip(words, p, strict=True)), sep="   ")

# %% [markdown] id="temperature-text"
# Scores are logarithms, so to divide them by T takes the T-th root of the odds (how much likelier one is
# than another): T = 0.5 squares them. A small T comes near to greedy, a
# large one near to dice. T = 0 would be a division by 0, and is *defined* as greedy.
#
# For the draw we take `draw` of lesson 03: lay the probabilities on a line, and see on whose piece a random u between 0 and 1 falls.
# **Paste your own `draw` above the next cell**, and it is yours from there on. `keep` is for the filters of section 3.


# %% id="choose"
def choose(logits, temperature=1.0, keep=lambda logits: logits):  # (B, V) -> (B,)
    if temperature == 0:
        return logits.argmax(dim=-1)
    rows = torch.softmax(keep(logits.double() / temperature), dim=-1)
    return torch.tensor([draw(row.numpy(), rng.random()) for row in rows])


rng = np.random.default_rng(8)

# %% [markdown] id="chi-text"
# Is it right? One draw proves nothing, so we draw 2,000 times with T = 0.5, and compare. A token expected E times comes a bit more or less
# often; the **chi-square** adds up (drawn - E)² / E over all tokens. If all is well, it is about the number of tokens less one, here 4, and above
# 18.5 only once in a thousand.
#
# Beside it runs a sampler with a mistake that was found in real programs: the softmax first, and then the division by T, with the sum
# brought back to 1 (by the softmax in `choose`, which undoes the logarithm). Guess: how far off is that?


# %% id="plot-draws"
def chi_square(n=2000, **how):
    drawn = torch.bincount(choose(scores.repeat(n, 1), **how), minlength=5)
    expected = n * torch.softmax(scores / 0.5, dim=-1)
    return drawn, expected, ((drawn - expected) ** 2 / expected).sum().item()


drawn, expected, right = chi_square(temperature=0.5)
late = chi_square(keep=lambda logits: torch.log(torch.softmax(logits, dim=-1) / 0.5))[2]
assert right < 18.5 < 100 < late
print(f"chi-square: {right:.1f}; with the temperature behind the softmax: {late:.0f}")
plot_draws(words, drawn.tolist(), expected.tolist())

# %% [markdown] id="gpt-text"
# Dividing all probabilities by T and then by their sum changes nothing at all: that sampler ignores T. Its texts look fine, and only
# counting finds it.
#
# ## 2. Somebody to talk
#
# A GPT with two blocks learns from the built-in stories, for about a minute. **Put your own parts into `parts`**, as in lesson 07: your attention of lesson 05, and as
# `"block"` your `my_block` of lesson 06.

# %% id="train"
documents = list(stories(DOCUMENTS, seed=8))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=2048)
ids, END = encode_corpus(documents, tokenizer).ids, tokenizer.end_of_text
parts = {"attention": scaled_dot_product_attention}
torch.manual_seed(8)
gpt = GPT(gpt2_config(vocab_size=2048, context_length=256, d_model=64, n_layers=2, n_heads=4), **parts)
plan = TrainConfig(steps=STEPS, optimizer="muon", learning_rate=1e-2, matrix_learning_rate=0.05, threads=1)
history = train(gpt, Batches(ids, batch_size=8, context_length=64), plan, progress=False)
print(f"loss {history[0]['loss']:.2f} at first, {history[-1]['loss']:.2f} nats per token at last")

# %% [markdown] id="tail-text"
# ## 3. The long tail
#
# There are 2,048 tokens, and most of them are nonsense at any one place. Each is unlikely, but together? Guess, for the trained model: what
# do all tokens but the ten likeliest have together, on average over a text?

# %% id="tail"
with torch.no_grad():
    p = torch.softmax(gpt(torch.from_numpy(ids[:200].astype(np.int64))[None])[0], dim=-1)
tail = 1 - p.topk(10).values.sum(-1).mean().item()
print(f"all but ten: {tail:.1%}. A text of 100 tokens without one of them: probability {(1 - tail) ** 100:.1g}")

# %% [markdown] id="topk-text"
# Some of these are good. But after one wrong token, the text is unlike any that was learned: one mistake makes the next. So cut off the tail.
#
# **Top-k** keeps the k largest scores of each row. What is out gets -inf: exp(-inf) is 0, whatever comes after. Two corners: k may be larger
# than V, then all stay; and of equal scores the lower ids stay, so that it is *exactly* k, always the same ones.
#
# By hand: 1, 3, 2, 2 with k = 2 becomes -inf, 3, 2, -inf.
#
# **Exercise 1.** Write it. `x.argsort(dim=-1, descending=True, stable=True)` gives, for each row, the ids from the largest down, and `stable` leaves
# equals in their order. `x.scatter(-1, ids, y)` is a new tensor that has the number y at these ids of each row.


# %% tags=["exercise"] id="exercise-topk"
def keep_top_k(logits, k):
    """(B, V) -> (B, V): exactly the k largest of each row stay as they are, the others become -inf."""
    raise NotImplementedError


# %% tags=["check"] id="check-topk"
keep_top_k = check("keep_top_k", keep_top_k)

# %% [markdown] id="topp-text"
# But what is a good k? After "Once there was a little girl" only a few tokens can follow; after "named", dozens of names can. **Top-p** keeps as
# many as it takes: go down from the likeliest, adding up probabilities, until the sum is p. The token that *brings* it to p stays, or the set
# would have less than p; so one always stays, however small p is.
#
# By hand: 0.3, 0.5, 0.2 and p = 0.6. Sorted: 0.5, 0.3, 0.2. What stands before each has 0, 0.5, 0.8 together. A token stays if that is *less than p*: the
# first two. (The check gives their logarithms: -1.20, -0.69, -1.61.)
#
# **Exercise 2.** Write it. `x.gather(-1, order)` brings a row into an order, `.cumsum(-1)` adds up from the left, its own number included. Then you
# know, in sorted order, who is out; `torch.zeros_like(out).scatter(-1, order, out)` brings the booleans back to their ids. For p = 1, return all: the running sum may be rounded
# to 1 before the rarest tokens are counted.


# %% tags=["exercise"] id="exercise-topp"
def keep_top_p(logits, p):
    """(B, V) -> (B, V): the smallest set of likeliest tokens with probability p or more stays, the others become -inf."""
    raise NotImplementedError


# %% tags=["check"] id="check-topp"
keep_top_p = check("keep_top_p", keep_top_p)

# %% [markdown] id="kept-text"
# Here is what p = 0.9 keeps at two places of a story. Which row will be short?

# %% id="plot-kept"
prompts = "Once there was a little girl", "Once there was a little girl named"
with torch.no_grad():
    last = torch.cat([gpt(torch.tensor([[END, *tokenizer.encode(prompt)]]))[:, -1] for prompt in prompts]).double()
kept = keep_top_p(last, 0.9).isfinite()
assert QUICK or kept[0].sum() < kept[1].sum()
plot_kept(torch.softmax(last, -1).numpy(), kept.numpy(), [f"...{prompt[-16:]}" for prompt in prompts])

# %% [markdown] id="cost-text"
# A few stay on the left, dozens on the right (30 are drawn). A fixed k = 10 would shut names out on the right.
#
# ## 4. A memory
#
# Now let it talk. The plain way: give the model the text, choose a token, append it, give it the whole text again. A text of n tokens makes
# it read 1 + 2 + ... + n. Nearly all of that is the same work as before. Is it really the same?
#
# In lesson 05 the mask said that a token sees nothing behind itself. So what a model computes at place 3 can never change when a place 7
# is added: not its row in the stream, and not its key and value in any block. Only one thing is new: the last token. It needs its own query,
# and the keys and values of *all* places. So keep those.

# %% id="unchanged"
q, k, v = torch.randn(3, 1, 1, 6, 4).double()
whole = scaled_dot_product_attention(q, k, v, causal_mask(6, 6))
alone = scaled_dot_product_attention(q[:, :, 5:], k, v)  # one query, but all keys and values
assert torch.allclose(whole[:, :, 5:], alone, rtol=0, atol=1e-12)

# %% [markdown] id="cache-text"
# In a picture of the scores, six rows shrink to one. Queries are not kept: a past token never asks again.
#
# A memory must also take several tokens at once, for the prompt is read in one go, called the **prefill**. With P remembered and T new tokens, new
# token t stands at place P + t, and sees everything up to there. Just so `causal_mask(T, P + T)` of lesson 05 was made: the last query
# stands at the place of the last key.
#
# **Exercise 3.** Write attention with a memory. `torch.cat([a, b], dim=2)` joins two tensors along axis 2, that of the tokens. At the beginning of a text, P is
# 0; that needs no case of its own. You may call `scaled_dot_product_attention` and `causal_mask`.


# %% tags=["exercise"] id="exercise-cache"
def attend_to_cache(q, k, v, past_k, past_v):
    """q, k (B, H, T, K), v (B, H, T, K'), past_k (B, H, P, K), past_v (B, H, P, K') -> (output (B, H, T, K'), all keys, all values)."""
    raise NotImplementedError


# %% tags=["check"] id="check-cache"
attend_to_cache = check("attend_to_cache", attend_to_cache)

# %% [markdown] id="pieces-text"
# However a text is cut into pieces, the output must be that of the whole:

# %% id="pieces"
for cuts in ([6], [1] * 6, [4, 1, 1], [2, 3, 1]):
    keys = values = q[:, :, :0]  # nothing yet
    outs = []
    for new_q, new_k, new_v in zip(*(x.split(cuts, dim=2) for x in (q, k, v)), strict=True):
        out, keys, values = attend_to_cache(new_q, new_k, new_v, keys, values)
        outs.append(out)
    assert torch.allclose(torch.cat(outs, dim=2), whole, rtol=0, atol=1e-12)

# %% [markdown] id="loop-text"
# ## 5. The loop
#
# A model has such a memory in each block. In minilm they lie in one object, `cache = model.new_cache(1, max_length)` for one row of at most
# so many tokens, and `model(ids, cache)` reads tokens that follow those in the cache. (It does not join tensors as yours does, which copies the past each
# time, but writes into arrays with room for `max_length`. And it counts how many tokens it holds, so that new ones get the right places.)
#
# What is said *behind* the last token that was read is what comes next. So:
#
# 1. read the prompt, look at the logits of its last place, choose;
# 2. read the chosen token *alone*, look, choose; and so on.
#
# **Exercise 4.** Write the loop. `choose` is a function such as ours of section 1. `torch.tensor([[5, 7]])` is one row of two ids, and `int()` makes
# a number of a tensor that holds one.


# %% tags=["exercise"] id="exercise-loop"
def continue_text(model, prompt, choose, max_new_tokens):
    """prompt: list of ids -> list of the max_new_tokens ids that follow. The model reads each token once.

    model(ids (1, T), cache) -> logits (1, T, V); choose(logits (1, V)) -> id (1,).
    """
    raise NotImplementedError


# %% tags=["check"] id="check-loop"
continue_text = check("continue_text", continue_text)

# %% tags=["check"] id="reveal"
reveal("continue_text")  # the library's version; the other three can be revealed in the same way

# %% [markdown] id="talk-text"
# Attention, block, draw, filters, loop: whatever you have pasted and passed is yours; the memory is the library's. Your GPT talks! One
# prompt, four ways to choose, 50 tokens each. Before you read: which text will go in circles, which will be mad?


# %% id="talk"
@torch.no_grad()
def say(prompt, n=50, **how):
    return tokenizer.decode(continue_text(gpt, [END, *tokenizer.encode(prompt)], partial(choose, **how), n))


top_k, top_p = partial(keep_top_k, k=10), partial(keep_top_p, p=0.8)  # functions with k, or p, filled in
for how in ({"temperature": 0}, {"temperature": 0.7}, {"temperature": 1.5}, {"temperature": 1, "keep": top_p}):
    name = f"T = {how['temperature']}" + (", top-p 0.8" if "keep" in how else "")
    print(f"{name}: One morning a{say('One morning a', **how)}\n")

# %% [markdown] id="words-text"
# Greedy repeats itself, T = 1.5 falls apart. Let us count. How many of the words in a text occur in the stories? Our tokens are pieces of
# words, and a wrong piece makes a word that does not exist. We raise the temperature, with no filter, with top-k and with top-p.
# **Predict** the three curves.


# %% id="plot-words"
def real_words(**how):
    said = [word for prompt in ("", "One day") for word in say(prompt, NEW, **how).split()[:-1]]
    return sum(word in known for word in said) / max(1, len(said))


known, temperatures = set(" ".join(documents).split()), (0.4, 0.7, 1.0, 1.3, 1.6)
filters = {"no filter": lambda x: x, "top-k 10": top_k, "top-p 0.8": top_p}
curves = {name: [real_words(temperature=T, keep=keep) for T in temperatures] for name, keep in filters.items()}
every, ten, most = curves.values()
assert QUICK or (every[-1] < every[0] - 0.03 and min(sum(ten[2:]), sum(most[2:])) > sum(every[2:]))
plot_curves(temperatures, curves, "temperature", "share of real words")

# %% [markdown] id="words-read"
# Without a filter the share falls as the temperature rises, and both filters keep many non-words out. (Small ups and
# downs are chance.) Our filters come behind the temperature, as usual: top-k
# still keeps ten tokens at T = 1.6, while top-p keeps the more, the flatter the row has become. A high share is not all:
# the greedy text has real words, over and over.
#
# ## 6. What the memory saves
#
# Does the library say the same, with and without a cache? (Its choosers get the texts so far as well.)

# %% id="library"
prompt, greedy = [END, *tokenizer.encode("Once there was")], lambda logits, texts: logits.argmax(-1)
with torch.no_grad():
    mine = continue_text(gpt, prompt, partial(choose, temperature=0), 40)
assert mine == list(generate(gpt, prompt, greedy, 40)) == list(generate(gpt, prompt, greedy, 40, use_cache=False))

# %% [markdown] id="time-text"
# Now the processor time for *one* more token, behind texts of different lengths; both axes are logarithmic. The model is larger and untrained: what the
# weights are does not matter. Without a cache it reads n tokens, and
# makes n times n scores in each head; with one it reads one token, and makes n. (`head` is the last step, `hidden` all before it.)
#
# The third curve is a limit, the **roofline**: for each token, all weights and the whole cache must come out of the memory once. That takes their bytes,
# divided by the bytes a second it delivers; we measure these by adding up 16 million numbers.
# Predict: n doubles from point to point. By which factor does each curve rise, and how far from the limit is the cache's?


# %% id="plot-time"
@torch.no_grad()
def milliseconds(n):  # without a cache, with one
    text, cache = torch.zeros(1, n, dtype=torch.long), large.new_cache(1, n)
    large.hidden(text[:, 1:], cache)  # rollback, below, forgets the one more: section 8
    steps = lambda: large.head(large.hidden(text)[:, -1]), lambda: (large(text[:, :1], cache), cache.rollback(1))
    return [1000 * max(1e-6, min(repeat(step, timer=process_time, number=1, repeat=9))) for step in steps]


large, numbers = GPT(gpt2_config(context_length=1024, d_model=256, n_layers=4, n_heads=4), **parts), torch.ones(2**24)
a_second = numbers.nbytes / min(repeat(numbers.sum, timer=process_time, number=1, repeat=9))
weights, a_token = sum(w.nbytes for w in large.parameters()), large.new_cache(1, 1).bytes_per_token
limit = [1000 * (weights + n * a_token) / a_second for n in LENGTHS]
without, cached = zip(*map(milliseconds, LENGTHS), strict=True)
print(f"{weights / 1e6:.1f} MB of weights, {a_token:,} bytes of cache a token, {a_second / 1e9:.0f} GB a second")
curves = {"without a cache": without, "with a cache": cached, "limit": limit}
plot_curves(LENGTHS, curves, "tokens so far", "milliseconds for one more", log_x=True, log_y=True)

# %% [markdown] id="time-read"
# With the cache a step costs much the same at every length: one token's way through the model is most of it. Without it the cost rises, in the
# end to more than double for twice the text, for the scores grow with n².
#
# The limit lies a few times lower: here, starting the computations takes longer than the reading. In larger models the reading is nearly all, and
# only fewer bytes help: lesson 16. (Times depend on the machine, so no `assert` speaks of them.)
#
# ## 7. What it costs
#
# The cache pays with memory: for each token, in each of L blocks, a key and a value of D numbers. How large is that for a model of today? Say
# 32 blocks, 32 heads of 128 numbers, two bytes a number, 131,072 tokens. Guess in gigabytes.


# %% id="bytes"
assert gpt.new_cache(1, 10).bytes_per_token == 2 * 2 * 64 * 4  # keys and values, L = 2, D = 64, four bytes
for heads in (32, 8):  # keys and values, blocks, heads, numbers, bytes, tokens:
    print(f"{heads} heads of keys and values: {2 * 32 * heads * 128 * 2 * 131_072 / 2**30:.0f} GiB")

# %% [markdown] id="bytes-read"
# For one text! So in many models several heads of queries share one head of keys and values: 8 instead of 32 take a quarter.
#
# ## 8. To forget
#
# Sometimes the last tokens should go: somebody has deleted a word, or a draft was bad. A cache that counts its tokens forgets by counting
# fewer: `cache.rollback(n)`. What lies behind the count is never seen, and is overwritten. After that, nothing may be left of it:

# %% id="rollback"
story, cache = tokenizer.encode(documents[0])[:40], gpt.new_cache(1, 60)
with torch.no_grad():
    gpt(torch.tensor([story]), cache)
    cache.rollback(15)  # 25 are left
    after, fresh = gpt(torch.tensor([story[:5]]), cache), gpt(torch.tensor([story[:25] + story[:5]]))
assert torch.allclose(after, fresh[:, 25:], atol=1e-4) and cache.lengths.tolist() == [30]

# %% [markdown] id="summary"
# A frequent bug is a cache that has *not* forgotten: a second text read behind the first. A fresh cache for each text helps.
#
# ## Summary
#
# * A model gives probabilities, and the decoder chooses: greedy, or by a draw, sharpened by the temperature, its tail cut off by top-k or top-p.
# * A causal model never changes its mind about the past: keep keys and values, and each token is read once. The outputs are the same.
# * Bugs here make no errors, only other texts: so count draws, and compare with the plain way.
#
# No row on the ladder: decoding changes what is written, not the probabilities, and bits per byte measure those.
#
# **Read next**: Holtzman et al. 2020, "The curious case of neural text degeneration", on top-p; Fan et al. 2018 on top-k; Shazeer 2019, "Fast
# transformer decoding", on what a cache costs. In minilm `minilm/decoding/sampling.py`, `filters.py` and `generate.py`, and `minilm/layers/kv_cache.py`.
