# %% [markdown] id="title"
# # 03 n-grams: how far do you get by counting?
#
# The unigram of lesson 02 knows how often things occur, and nothing of their neighbours. Now the model may look back, at the
# last one, two or four tokens. It learns by counting, and it is the bar that the neural models of this course must clear.
#
# **You will write** a counter, two ways to make probabilities of counts, and a draw. With them your own model writes stories.
#
# needs: 01, 02. Time: 100 minutes. Run time: under a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
DOCUMENTS = 300

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import lzma
from collections import Counter
from functools import partial

import numpy as np

from minilm import BPETokenizer, NgramConfig, NgramLM
from minilm.checks.exercises import check, reveal
from minilm.metrics import negative_log_likelihood, perplexity, text_bits_per_byte
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.plots.measuring import Row
from minilm.text.stories import StoryWorld, stories

DOCUMENTS = 90 if QUICK else DOCUMENTS

# %% [markdown] id="markov-text"
# ## 1. Look back, but not far
#
# The probability of a text is a product: that of its first token, times that of the second after the first, times that of the
# third after the first two, and so on. To learn those numbers by counting, we would have to see every past many times. But a
# past of twenty tokens was hardly ever there before.
#
# The way out is an assumption named after Andrey Markov, who in 1913 counted the vowels of a verse novel by hand: **only the
# last n - 1 tokens matter for the next one**. They are called the **context**. The context together with the next token is an
# **n-gram**, n tokens in a row: a unigram is one, a bigram two, a trigram three. n is the **order** of the model.
#
# The assumption is false, but how far does it carry? First ten words and their bigrams: for each word, we count what came after
# it. How likely is "dog" after "the"? The obvious answer is the **relative frequency**: how often it came, divided by how often
# anything came. Guess it, and that of "cat" after "saw".

# %% id="tiny"
words = ["the", "cat", "saw", "the", "dog", "and", "the", "dog", "saw", "me"]
after = {word: Counter() for word in sorted(set(words))}
for t in range(1, len(words)):
    after[words[t - 1]][words[t]] += 1
print("after   ", *after)
for before, counts in after.items():
    print(f"{before:8}", *(f"{counts[word]:{len(word)}}" for word in after))
print("dog after the:", after["the"]["dog"], "of", after["the"].total())
print("cat after saw:", after["saw"]["cat"], "of", after["saw"].total())

# %% [markdown] id="zeros-text"
# Each row is a context, each column a word that came next. No other numbers give these ten words a higher probability than the
# relative frequencies do: they are the **maximum likelihood** estimate. But most of the cells are 0. "Saw cat" is held to be
# impossible, only because ten words are not many.
#
# ## 2. Count
#
# Now with real stories and the tokens of lesson 01. We cut the stories into **three** parts: one to count, a held-out part on
# which we choose settings, and a test that we only measure on.

# %% id="data"
texts = list(stories(DOCUMENTS, seed=3))
a, b = DOCUMENTS * 4 // 6, DOCUMENTS * 5 // 6
tokenizer = BPETokenizer.train(texts[:a], vocab_size=512)
V, END = tokenizer.vocab_size, tokenizer.end_of_text
documents = [[END, *tokenizer.encode(text)] for text in texts]
train, held_out, test = documents[:a], documents[a:b], documents[b:]
stream = [token for document in train for token in document]
print(f"{len(stream)} tokens to count, {sum(map(len, held_out))} held out, {sum(map(len, test))} to test on")

# %% [markdown] id="count-text"
# Each document begins with the token `<|endoftext|>`, and all stand behind one another in one stream. At the borders two things
# have to be settled:
#
# * Where a story ends, the next one begins, and has nothing to do with it. So a context never reaches back *beyond*
#   `<|endoftext|>`; but it may *begin* with it: how stories begin is worth knowing.
# * `<|endoftext|>` itself is predicted like any token: so the model learns where stories end. Only the one that opens the
#   stream is never predicted, for nothing stands before it (this matters for unigrams alone: their context is empty).
#
# With 9 for `<|endoftext|>`, the stream 9 4 5 4 5 9 5 has these bigrams: after (9,) came 4 and 5, after (4,) twice 5, after
# (5,) once 4 and once 9. Its trigrams: after (9, 4) came 5, after (4, 5) once 4 and once 9, after (5, 4) came 5. There is no
# (5, 9).
#
# **Exercise 1.** Count the n-grams of one order.


# %% tags=["exercise"] id="exercise-count"
def count_ngrams(ids, order, end_of_text):
    """Ids (N,) -> {context, a tuple of order - 1 ids: {token: how often it came after}}."""
    raise NotImplementedError


# %% tags=["check"] id="check-count"
count_ngrams = check("count_ngrams", count_ngrams)

# %% id="tables"
tables = [count_ngrams(stream, order, END) for order in range(1, 13)]
for order in (1, 2, 3, 4, 6, 12):
    times = [n for counts in tables[order - 1].values() for n in counts.values()]
    print(f"order {order:2}: {len(times):5} different n-grams, {times.count(1):5} of them seen once")

# %% [markdown] id="model-text"
# The longer the n-grams, the more different ones there are, and the more of them were seen only once.
#
# ## 3. The trouble with zero
#
# From the tokens so far, a model gives each of the V tokens a probability. Ours looks the context up in the tables. At the
# start of a story there are fewer than order - 1 tokens: then it takes what there is, and the table of that length. `smooth`
# makes probabilities of the counts after the context; at first, relative frequencies. `chances` notes the probability of each
# token that really came, `perplexity_of` is lesson 02.


# %% id="model"
def next_token(past, order, smooth):
    context = tuple(past[max(0, len(past) - order + 1) :])
    return smooth(tables[len(context)].get(context, {}))


def chances(documents, order, smooth):
    return np.array([next_token(d[:t], order, smooth)[d[t]] for d in documents for t in range(1, len(d))])


def perplexity_of(p):
    return perplexity(negative_log_likelihood(p), len(p))


# %% id="frequency"
def relative_frequency(counts):
    return np.array([counts.get(token, 0) for token in range(V)]) / max(1, sum(counts.values()))


# %% [markdown] id="zero-predict"
# We measure on some of the stories that were counted, and on new ones. What will a longer context do to either number?

# %% id="zero"
counted = train[: len(test)]
for order in (1, 2, 3):
    p, new_p = (chances(some, order, relative_frequency) for some in (counted, held_out))
    print(f"order {order}: counted {perplexity_of(p):6.1f}, new {perplexity_of(new_p):6.1f}")
print(f"for order 3, {np.mean(new_p == 0):.1%} of the new tokens are impossible")
assert perplexity_of(new_p) == np.inf and 0 < np.mean(new_p == 0) < 0.3

# %% [markdown] id="add-k-text"
# On the counted stories it falls steeply; on new ones it is infinite. Most new tokens fare well, but a single one that gets 0
# is enough, because probabilities are multiplied. Our stories are a sample of what could be told: 0 means "not seen yet", not
# "never".
#
# ## 4. Pretend to have seen everything a little
#
# The simplest cure: before dividing, give every token k counts more, say half a count. To remain probabilities, the numbers
# must sum to 1. The counts alone sum to their total; V tokens have been given k each; so what must each be divided by?
#
# And if the context itself was never seen? Then all counts are 0, and with k > 0 your formula makes all tokens equally likely.
# With k = 0 it would be 0 / 0; we decide that it shall be the same there.
#
# **Exercise 2.** Make probabilities of the counts after one context.


# %% tags=["exercise"] id="exercise-add-k"
def add_k(counts, vocab_size, k):
    """{token: count} -> probabilities (V,), a numpy array. No counts: all equally likely, for k = 0 too."""
    raise NotImplementedError


# %% tags=["check"] id="check-add-k"
add_k = check("add_k", add_k)

# %% [markdown] id="k-predict"
# Which k is best on new stories? k = 1, Laplace's rule, sounds modest. Before you run the cell, draw the curves of the orders 2
# to 4 in your mind. (`partial(add_k, vocab_size=V, k=k)` is your `add_k` with two of its arguments filled in.)

# %% id="plot-k"
ks, curves = [1e-4, 1e-3, 1e-2, 0.1, 1], {}
for order in (2, 3, 4):
    curves[f"order {order}"] = [perplexity_of(chances(held_out, order, partial(add_k, vocab_size=V, k=k))) for k in ks]
assert all(min(y) < y[-1] / 2 for y in curves.values()) and curves["order 4"][-1] > curves["order 2"][-1]
plot_curves(ks, curves, "k", "perplexity of held-out stories", log_x=True, log_y=True, mark_best=True)

# %% [markdown] id="k-why"
# One count for each of 512 tokens is not modest at all: after a context that was seen five times, 512 of 517 counts are
# imagined. The longer the context, the fewer its counts, and the more they drown.
#
# A small k helps, but add-k has a flaw that no k mends. After an unseen context it treats all tokens alike, though the last
# *one* token would have told a lot. Better to ask the shorter contexts too.
#
# ## 5. Ask all of them
#
# Take several distributions for the next token: the uniform one (1 / V each), that of the unigram, of the bigram and so on.
# Give each a **weight**, weights that sum to 1, and average. This is **interpolation**, after Jelinek and Mercer (1980). The
# average sums to 1 again, and what one of them holds possible stays possible.
#
# **Exercise 3.** Average distributions with weights.


# %% tags=["exercise"] id="exercise-interpolate"
def interpolate(distributions, weights):
    """n arrays (V,) and n weights that sum to 1 -> their weighted average (V,)."""
    raise NotImplementedError


# %% tags=["check"] id="check-interpolate"
interpolate = check("interpolate", interpolate)

# %% [markdown] id="weight-predict"
# Which weights? Take two models only, first: a 6-gram that is not smoothed, with weight w, and a smoothed trigram with 1 - w.
# For each w we average what the two gave to each token that came, on counted stories and on held-out ones. Where will the best
# w be on either? (Where a curve ends, the perplexity is infinite.)

# %% id="plot-weight"
unsmoothed, smoothed = (partial(add_k, vocab_size=V, k=k) for k in (0, 0.001))
ws, curves = np.linspace(0, 1, 21), {}
for name, some in (("counted", counted), ("held-out", held_out)):
    p, q = chances(some, 6, unsmoothed), chances(some, 3, smoothed)
    curves[name] = [perplexity_of(interpolate([p, q], [w, 1 - w])) for w in ws]
assert np.argmin(curves["counted"]) == 20 > np.argmin(curves["held-out"]) > 0
plot_curves(ws, curves, "weight of the 6-gram", "perplexity", mark_best=True)

# %% [markdown] id="weight-why"
# On counted stories the longest context never finds anything impossible: it remembers them. All weight runs to it, and no new
# story is possible. So weights, like k, must be chosen on text that was **not counted**. And chosen so that the held-out text
# comes out well, they flatter us there: hence the third part, the test.
#
# With six weights we cannot try all values, but a rule of two lines finds them. For each token that came, which part of its
# mixed probability is owed to each distribution? That is its **credit**. With weights 0.5 and 0.5 and probabilities 0.1 and
# 0.3, the mixture is 0.05 + 0.15 = 0.2; the credits are 0.05 / 0.2 = 0.25 and 0.15 / 0.2 = 0.75. The new weights are the mean
# credits; repeat. (This is *expectation maximization*: no step makes the text less likely.) `interpolate` averages any rows of
# numbers: here, what each distribution gave to all tokens that came. The first row is the uniform one.


# %% id="credit"
def all_chances(documents, order):
    rows = [chances(documents, n, unsmoothed) for n in range(1, order + 1)]
    return np.stack([np.full(len(rows[0]), 1 / V), *rows])  # row 0 is the uniform distribution


def fit_weights(rows):
    weights = np.full(len(rows), 1 / len(rows))
    for _ in range(40):
        credit = weights[:, None] * rows / interpolate(rows, weights)
        weights = credit.mean(axis=1)
    return weights


# %% id="weights"
on_counted, on_held_out = (fit_weights(all_chances(some, 5)) for some in (counted, held_out))
assert on_counted[5] > 0.95 > on_held_out[5]
on_counted.round(3), on_held_out.round(3)

# %% [markdown] id="order-predict"
# ## 6. How far should one look back?
#
# Now everything at once, for the orders 1 to 6: without smoothing on the counted stories; then on the **test**, with add-k and
# interpolated, k and weights chosen on the held-out part. Which of the three curves will fall all the way, which will turn?

# %% id="plot-order"
orders, held_p, test_p = range(1, 7), all_chances(held_out, 6), all_chances(test, 6)
mixed = [interpolate(test_p[: n + 1], fit_weights(held_p[: n + 1])) for n in orders]
seen = [perplexity_of(chances(counted, n, unsmoothed)) for n in orders]
added, averaged = [perplexity_of(chances(test, n, smoothed)) for n in orders], [perplexity_of(p) for p in mixed]
assert seen == sorted(seen, reverse=True) and min(added) < added[5] and averaged[5] < min(added)
curves = {"counted, not smoothed": seen, "new, add-k": added, "new, interpolated": averaged}
plot_curves(orders, curves, "order", "perplexity", log_y=True, mark_best=True)

# %% [markdown] id="order-why"
# The first curve falls with every order, and says nothing: it measures memory. That is **overfitting**, learning the sample
# instead of the language. Add-k turns early, for its long contexts are often unseen. Interpolated, a long context that knows
# nothing does little harm: with k = 0 it answers 1 / V, which wastes its weight, but the short ones are asked as well.
#
# ## 7. Let it write
#
# A model that gives probabilities can write: draw a token, put it behind the others, ask for the next. To draw token w with
# probability p(w), lay the probabilities behind one another on a line from 0 to 1, each a piece of that length. Let a random
# number u fall on the line: the token whose piece is hit is drawn.
#
# It is the first token at which the running sum of the probabilities **exceeds** u. With p = (0.25, 0, 0.75), u = 0.2 gives
# token 0 and u = 0.25 token 2; an impossible token has no piece and is never hit. But computers round: the running sum may end
# a hair below 1. If u is beyond that, take the last token that is possible.
#
# **Exercise 4.** Draw, with the u that you are given.


# %% tags=["exercise"] id="exercise-draw"
def draw(probabilities, u):
    """p (V,) and a number u, 0 <= u < 1 -> the id of the token whose piece of the line u hits."""
    raise NotImplementedError


# %% tags=["check"] id="check-draw"
draw = check("draw", draw)

# %% [markdown] id="write-predict"
# All parts of the writer are yours now. It starts with `<|endoftext|>` and stops when it draws it again. Models of the orders
# 1, 2, 3 and 5 write, not smoothed. From which on will you find whole words, and from which on whole sentences?


# %% id="write"
def write(order, n_tokens, rng):
    past = [END]
    while len(past) <= n_tokens and past[1:][-1:] != [END]:
        past.append(draw(next_token(past, order, unsmoothed), rng.random()))
    return past[1:]


# %% id="read"
for order in (1, 2, 3, 5):
    print(f"order {order}: {tokenizer.decode(write(order, 60, np.random.default_rng(7)))}\n")

# %% [markdown] id="copy-text"
# Order 3 writes mostly whole words, order 5 nearly whole sentences. But does it write, or does it copy? We look for the longest
# run of its tokens that stands in the counted stories, and do the same for order 12, and for real new stories, which repeat
# phrases of their own accord.


# %% id="copy"
def longest_copy(tokens):
    text, written, n = "".join(map(chr, stream)), "".join(map(chr, tokens)), 0  # each token as one character
    while any(written[i : i + n + 1] in text for i in range(len(written) - n)):
        n += 1
    return n


samples = {f"order {n}": [write(n, 150, np.random.default_rng(seed)) for seed in range(8)] for n in (2, 3, 5, 12)}
samples["new stories"] = [document[1:151] for document in test[:8]]
copies = [sum(map(longest_copy, written)) / 8 for written in samples.values()]
assert copies[:4] == sorted(copies[:4]) and copies[0] < copies[4] < copies[3] and (QUICK or copies[2] < copies[4])
dict(zip(samples, copies, strict=True))

# %% [markdown] id="library-text"
# With 200 counted stories, order 5 copies no longer than real stories do: it writes. Order 12 copies longer; it hardly ever has
# a choice, for most of its n-grams were seen once, so it recites what came then.
#
# ## 8. The library's version
#
# `reveal` shows minilm's version. `NgramLM` is its fast twin: in sorted arrays, for all places of a text at once. The numbers
# must be the same as yours.

# %% tags=["check"] id="reveal"
reveal("count_ngrams")

# %% id="library"
library = NgramLM(NgramConfig(vocab_size=V, order=3, smoothing="add-k", k=0.001)).fit(np.array(stream), END)
theirs = -sum(library.score(document[1:], with_end=False) for document in test)
assert np.isclose(theirs, negative_log_likelihood(chances(test, 3, smoothed)), rtol=1e-9)

# %% [markdown] id="ladder-predict"
# (The end of a document, `<|endoftext|>`, is not scored, here and on the ladder.) The library also has a better smoothing than
# ours, **Kneser-Ney**. Our weights are the same for all contexts, be they seen once or a thousand times; Kneser-Ney trusts each
# context as far as its own counts go. Lesson 11 opens it.
#
# ## 9. The ladder
#
# Now the test, in bits per byte. Uniform is 8, and under all models lies the floor that you know, the story world itself. xz is
# that of lesson 02: it reads the counted stories first. Unigram, bigram and 5-gram count tokens, and are interpolated, with the
# weights from the held-out part. Guess: which step down is the longest, and who is better, xz or the 5-gram?

# %% id="ladder"
byte, counted_text, test_text = 8 * np.log(2), "".join(texts[:a]), "".join(texts[b:])  # a byte in nats
xz_bytes = len(lzma.compress((counted_text + test_text).encode())) - len(lzma.compress(counted_text.encode()))
models = [
    ("uniform", byte * len(test_text.encode()), "no idea: all bytes are equally likely"),
    ("unigram of tokens", negative_log_likelihood(mixed[0]), "how often each token occurs"),
    ("bigram", negative_log_likelihood(mixed[1]), "and what came after the last token"),
    ("xz", byte * xz_bytes, "points back to strings, and has read the counted stories"),
    ("your 5-gram", negative_log_likelihood(mixed[4]), "asks the last 4, 3, 2, 1 and 0 tokens, and averages"),
    ("true floor", -sum(StoryWorld().log_prob(text) for text in texts[b:]), "knows all the dice: the floor"),
]
rungs = [Row(name, text_bits_per_byte(nats, test_text), sentence) for name, nats, sentence in models]
steps = -np.diff([rung.bits_per_byte for rung in rungs])
assert steps[0] > sum(steps[1:]) and (QUICK or min(steps) > 0)
plot_ladder(rungs)

# %% [markdown] id="summary"
# The first step is longer than all others together: to know the tokens and how often each occurs is most of the way. On all 300
# stories your 5-gram beats xz, which points back to one earlier place where the n-gram asks all of them.
#
# ## Summary
#
# * An n-gram looks up what came after the last n - 1 tokens. With longer contexts the counts run out: most of what can be said
#   was never counted, and a single 0 makes a text impossible.
# * Smoothing gives the unseen its part. Add-k gives all tokens alike; interpolation asks the shorter contexts, and is better.
# * Settings are chosen on text that was neither counted nor is the test. On counted text the longest memory always wins.
#
# **On the ladder**: the bigram, and your interpolated 5-gram. Lesson 09 shows what it takes to beat it. When it wrote, you saw
# what it cannot do: after a few tokens it has forgotten the hero's name.
#
# **Read next**: Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse data"; Shannon 1948,
# "A mathematical theory of communication", section 3. In minilm `minilm/classical/counting.py`, then its fast twin
# `minilm/classical/ngram.py`.
