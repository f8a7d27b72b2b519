# %% [markdown] id="title"
# # 11 Kneser-Ney: how much is a count worth?
#
# In lesson 03 a model made of counts had to keep some probability for what it never saw. Adding k did it badly, mixing with weights did
# it better. But how much should a count give up, and who should get it? Here we ask the text. Its answers make the strongest n-gram model
# of this course, the one that a neural model has to beat.
#
# **You will write** five short functions: a discount, another way to count, the two together (that is Kneser-Ney), and the two tools with
# which the settings of any model are chosen, folds and a grid.
#
# needs: 03. Time: 100 minutes. Run time: under a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STORIES, NEW, CUTS, FOLDED = 400, 40, 10, 400  # FOLDED: how many stories are cross-validated

# %% id="setup"
import importlib.util
import subprocess
import sys
from functools import cache

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np

from minilm import BPETokenizer, NgramConfig, NgramLM, encode_corpus
from minilm.checks.exercises import check, reveal
from minilm.classical.counting import add_k, count_ngrams, interpolate
from minilm.classical.discounting import kneser_ney_counts
from minilm.classical.tuning import cross_validated_nats, held_out_nats
from minilm.metrics import negative_log_likelihood, perplexity, text_bits_per_byte
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.plots.measuring import Row
from minilm.text.stories import StoryWorld, stories

NEW, CUTS, FOLDED = (10, 3, 100) if QUICK else (NEW, CUTS, FOLDED)

# %% [markdown] id="where-we-are"
# ## 1. What we have, and what is wrong with it
#
# We count in some stories, look at new ones on the way, and keep a third part for the test. What does add-k do to the counts of the
# tokens that came after " was"?

# %% id="data"
train, new, test = (list(stories(n, seed=seed)) for n, seed in ((STORIES, 11), (NEW, 12), (NEW, 13)))
tokenizer = BPETokenizer.train(train, vocab_size=1024)
V, END = tokenizer.vocab_size, tokenizer.end_of_text
ids, new_ids = (encode_corpus(part, tokenizer).ids for part in (train, new))  # as lesson 03's stream: one array of ids
after_was = count_ngrams(ids, 2, END)[tuple(tokenizer.encode(" was"))]
print(f"{sum(after_was.values())} tokens came after ' was', {len(after_was)} different ones of {V}")
print(f"k = 1 gives {1 - add_k(after_was, V, k=1)[list(after_was)].sum():.0%} to those that never did")


# %% [markdown] id="two-complaints"
# How much add-k takes depends on k and on the size of the vocabulary, and it hands it out to all tokens alike. Interpolation is wiser
# about who receives: the shorter contexts decide. But with a weight of 0.8 for the longest, every count gives up a fifth: a count of 1
# loses 0.2, a count of 1000, the surest thing that we know, loses 200.
#
# ## 2. Ask the other half
#
# Cut the stories into two halves at random. Take all n-grams that occur exactly once in one half: how often do they occur in the other?
# If counts were the whole truth, once, on average. The same for those seen twice, three times, and so on. We do it with 5 tokens in a row
# and average over several cuts.


# %% id="halves"
def times_seen(texts, order=5):
    ngrams = count_ngrams(encode_corpus(texts, tokenizer).ids, order, END)
    return {(*context, token): times for context, after in ngrams.items() for token, times in after.items()}


rng, types, again = np.random.default_rng(3), np.zeros(10), np.zeros(10)
for _ in range(CUTS):
    one, other = (times_seen([train[i] for i in half]) for half in np.array_split(rng.permutation(STORIES), 2))
    for ngram, times in one.items():
        types[min(times, 9)] += 1  # different n-grams seen 1, 2 ... 8 times; place 9 is for all that came more often
        again[min(times, 9)] += other.get(ngram, 0)  # how often these came in the other half, together
r = np.arange(1, 9)
lost = r - again[r] / types[r]

# %% [markdown] id="halves-guess"
# `lost` is how much less often they occur in the other half. Kenneth Church and William Gale did this in 1991 with pairs of words in 44
# million words of news; their figures stand beside ours. Before you draw them: with a weight of 0.8 the loss is a fifth of the count, a
# straight line upwards. Will the measured lines follow it?

# %% id="plot-lost"
curves = {"a fifth": 0.2 * r, "our stories": lost, "news (1991)": [0.55, 0.75, 0.76, 0.77, 0.79, 0.77, 0.79, 0.79]}
assert 0.3 < lost[0] < 0.7 and lost.max() < 3 * lost[0]  # the counts grow eightfold
plot_curves(r, curves, "times seen in one half", "how much less in the other half")


# %% [markdown] id="discount-text"
# They do not. On the news, whether seen twice or eight times, a pair loses about three quarters of *one* count, and a little less if it
# was seen once. Our stories give nearly the same picture. Being seen is partly luck, and what was lucky in one half is not in the other.
#
# ## 3. Absolute discounting
#
# So let every count give up the same amount D, a part of one count. An example with five words. After "the" came "cat" 3 times and "dog"
# once; the probabilities of the shorter context stand in `shorter`. With D = 0.5, "cat" keeps 2.5 of 4 and "dog" 0.5 of 4. What they gave
# up is D for each *different* word: 2 * 0.5 of 4, a quarter. It is shared out as the shorter context says.

# %% id="tiny-discount"
shorter = np.array([0.1, 0.1, 0.2, 0.3, 0.3])  # cat, dog, hen, ran, sat
kept, given_up = np.array([2.5, 0.5, 0, 0, 0]) / 4, 2 * 0.5 / 4
kept + given_up * shorter, (kept + given_up * shorter).sum()


# %% [markdown] id="discount-formula"
# As a formula, with c(w) = how often w came after the context and total = how often any word did:
#
# p(w) = max(c(w) - D, 0) / total + D * (number of different words seen) / total * shorter(w)
#
# Two things to watch. A word that was never seen has nothing to give: its first term is 0, not -D. And a context that was never seen has
# a total of 0: then the shorter one decides alone.
#
# **Exercise 1.** Write absolute discounting.


# %% tags=["exercise"] id="exercise-discount"
def absolute_discount(counts, discount, shorter):
    """p(token | context), a new array (V,). counts: {token: how often}; shorter: p(token | shorter context), (V,)."""
    raise NotImplementedError


# %% tags=["check"] id="check-discount"
absolute_discount = check("absolute_discount", absolute_discount)

# %% [markdown] id="francisco-text"
# ## 4. San Francisco
#
# Who should get what was given up? "The shorter context decides", we said, and the shortest one knows how often each word occurs. A tiny
# corpus shows what is wrong with that. The word "green" does not occur in it, so after "green" the counts of single words decide. What is
# likelier there, "cup" or "Francisco"? Answer first, then let the model.

# %% id="francisco"
sentences = "we love San Francisco | they left San Francisco | you see San Francisco | my cup | a full cup"
words = ["|", "green", *sorted({*sentences.split()} - {"|"})]  # | stands before and after a sentence
number = {word: i for i, word in enumerate(words)}
tiny = [number[word] for word in f"| {sentences} |".split()]
unigrams, bigrams = (count_ngrams(tiny, n, end_of_text=0) for n in (1, 2))
p_words = absolute_discount(unigrams[()], 0.75, np.full(len(words), 1 / len(words)))
p = absolute_discount(bigrams.get((number["green"],), {}), 0.75, p_words)
assert p[number["Francisco"]] > p[number["cup"]] and np.isclose(p.sum(), 1)
print(f"after green: Francisco {p[number['Francisco']]:.3f}, cup {p[number['cup']]:.3f}")


# %% [markdown] id="francisco-why"
# A green Francisco! The word is frequent, but after one word only, and there the bigram knows it already. The shorter context is asked
# where the longer one has no answer, that is, in *new* company. So what should count is how readily a word enters new company: not how
# often it came, but after how many **different** words. That number is its *continuation count*: "Francisco" came after one word, "cup"
# after two.
#
# With longer n-grams too: the continuation count of "full cup" is the number of different words that came before "full cup", and the
# counts of trigrams tell it.
#
# **Exercise 2.** From the counts of n-grams to the continuation counts of n-grams that are one token shorter. The contexts are tuples;
# the first token is the one that is furthest back, and for bigrams the shorter context is the empty tuple.


# %% tags=["exercise"] id="exercise-continuation"
def continuation_counts(ngrams):
    """{context: {token: how often it came after}} -> {context without its first token: {token: after how many different ones}}."""
    raise NotImplementedError


# %% tags=["check"] id="check-continuation"
continuation_counts = check("continuation_counts", continuation_counts)

# %% [markdown] id="recursion-text"
# ## 5. Kneser-Ney
#
# Now put the two together. Level m holds the counts after contexts of m tokens: real counts at the top level, continuation counts below.
# At each level there is absolute discounting, and the shorter context's answer comes from the level below. Below level 0 there is only 1
# / V for each token. With trigrams:
#
# p(w | a b) = max(c(a b w) - D2, 0) / total + given up * p(w | b)
#
# where p(w | b) is the same with D1, the continuation counts after b, and p(w); and p(w) is the same with D0 and 1 / V.
#
# Begin at the bottom and climb. At level m the context is the *last* m tokens. Where the text has just begun, the context may have fewer
# tokens than the top level asks for: stop climbing when there are none left. `context` may also have more: then only its last tokens are
# used.
#
# **Exercise 3.** Write the climb, with your `absolute_discount`.


# %% tags=["exercise"] id="exercise-kneser-ney"
def kneser_ney(levels, context, discounts, vocab_size):
    """p(token | context), (V,). context: a tuple; levels[m]: {context of m tokens: {token: count}}; discounts[m]: its D."""
    raise NotImplementedError


# %% tags=["check"] id="check-kneser-ney"
kneser_ney = check("kneser_ney", kneser_ney)

# %% [markdown] id="levels-text"
# Nothing can stand before the beginning of a text, so an n-gram that begins there has no continuation count; it keeps its real one.
# `kneser_ney_counts` makes the levels so. Is "cup" likelier now?

# %% id="green-again"
tiny_levels = kneser_ney_counts(tiny, 2, end_of_text=0)
for word in ("San", "green"):
    p = kneser_ney(tiny_levels, (number[word],), (0.75, 0.75), len(words))
    print(f"after {word}: Francisco {p[number['Francisco']]:.3f}, cup {p[number['cup']]:.3f}")
assert p[number["cup"]] > 2 * p[number["Francisco"]]  # after green


# %% [markdown] id="estimate-text"
# ## 6. How large is D?
#
# The two halves say it, but then half of the text is not counted. Better: leave out one occurrence at a time, and ask the rest. Let n1
# n-grams occur once and n2 twice.
#
# * Leave out the only occurrence of one of the n1: to the rest it is new, and its probability is proportional to what was given up, so to
#   D.
# * Leave out one of the two occurrences of one of the n2: the rest has seen it once, and gives it something proportional to 1 - D. There
#   are 2 n2 such occurrences.
#
# The best D makes the product of all these probabilities large, so the sum of their logarithms: n1 log D + 2 n2 log(1 - D). At its top
# the slope is 0: n1 / D = 2 n2 / (1 - D), and so **D = n1 / (n1 + 2 n2)**. (Those seen more often change little.)

# %% id="estimate"
levels = kneser_ney_counts(ids, 4, END)
counts_at = [np.array([c for after in level.values() for c in after.values()]) for level in levels]
n1, n2 = (np.array([np.sum(counts == j) for counts in counts_at]) for j in (1, 2))
discounts = n1 / (n1 + 2 * n2)
print("contexts of 0 to 3 tokens: n1", n1, "n2", n2, "D", discounts.round(2))

# %% [markdown] id="library-text"
# D grows with the length of the context, for of longer n-grams more came only once. But at the top it drops: only there are the counts
# real. Below, what came after one single token counts 1, however often it came.
#
# ## 7. The library's version
#
# `NgramLM` does the same in sorted arrays, for all places of a text at once. Is it really the same? We score three new stories with your
# function, token by token, and with the library.

# %% id="same"
texts = [[END, *tokenizer.encode(story)] for story in new[:3]]
places = [(tuple(text[:t]), text[t]) for text in texts for t in range(1, len(text))]
by_hand = negative_log_likelihood(kneser_ney(levels, before, discounts, V)[w] for before, w in places)
library = NgramLM(NgramConfig(V, 4, "interpolated-kneser-ney")).fit(ids, END)  # discounts[m, c]: D for a count c
few_ids = encode_corpus(new[:3], tokenizer).ids
by_library = held_out_nats(library, few_ids)  # the nats of all tokens; <|endoftext|> is not scored
print(f"{by_hand:.6f} nats by hand, {by_library:.6f} by the library")
assert np.isclose(by_hand, by_library, rtol=1e-9) and np.allclose(discounts, library.discounts[:, 1])

# %% tags=["check"] id="reveal"
reveal("kneser_ney")

# %% [markdown] id="modified-text"
# ## 8. Three discounts
#
# Look at your first plot again: what was seen once loses less than what was seen twice, and that less than the rest. *Modified*
# Kneser-Ney (Chen and Goodman 1998) has three discounts, for the counts 1, 2, and 3 or more, estimated from n1 to n4 by the same kind of
# argument. It was the best that they compared. Will it beat the one discount on our stories?


# %% id="modified"
def perplexity_of(order, smoothing, to_score=new_ids):
    model = NgramLM(NgramConfig(V, order, smoothing, k=0.01)).fit(ids, END)
    return perplexity(held_out_nats(model, to_score), int(np.sum(to_score != END)))


one, three = perplexity_of(5, "interpolated-kneser-ney"), perplexity_of(5, "kneser-ney")
estimated = NgramLM(NgramConfig(V, 5, "kneser-ney")).fit(ids, END).discounts[4, 1:]
print(f"perplexity {one:.3f} with one discount, {three:.3f} with three")
print("five tokens in a row seen once, twice, more often: estimated discounts", estimated.round(2))
print("lost in the other half:", lost[:2].round(2), "and, for 3 to 8,", lost[2:].mean().round(2))
assert one < three and lost[2:].mean() < estimated[2]


# %% [markdown] id="modified-why"
# It does not: the estimate for 3 and more is far above what was really lost. A formula made for millions of words meets a small world of
# few sentences.
#
# ## 9. Folds
#
# Lesson 03 chose k and weights on held-out stories. But a few held-out stories are a matter of luck, and what we hold out is not counted.
# *Cross-validation* gives every story its turn: deal the training stories into k folds; k times, count all folds but one and score that
# one; then add up. Each story is scored once, by a model that did not count it.
#
# **Exercise 4.** Deal n indices to k folds like cards: 0 to the first fold, 1 to the second, round and round. No shuffling: the folds
# must be the same each time.


# %% tags=["exercise"] id="exercise-fold"
def k_fold(n, k):
    """[(training, validation), ...], k pairs of lists of indices in rising order: i is validated in fold i % k."""
    raise NotImplementedError


# %% tags=["check"] id="check-fold"
k_fold = check("k_fold", k_fold)

# %% id="folds"
documents = [tokenizer.encode(story) for story in train[:FOLDED]]
folds = k_fold(len(documents), 5)
four = NgramConfig(V, 4, "interpolated-kneser-ney")
[round(perplexity(cross_validated_nats(four, documents, END, [fold]), 1), 2) for fold in folds]  # of nats per 1 token


# %% [markdown] id="grid-text"
# The perplexities of the folds differ: that is the luck of a single split.
#
# ## 10. A grid
#
# Two settings are to be chosen together, for the best discount may depend on the order. With few choices we try all combinations, the
# last choice changing fastest. The *smallest* score wins, of equal ones the first. A score that is not a number (NaN) never wins; beware,
# it compares as False with everything.
#
# **Exercise 5.** Search a grid. `choices` may have any names; `score` takes one value of each, by name.


# %% tags=["exercise"] id="exercise-grid"
def grid_search(score, choices):
    """({name: value} with the smallest score, that score). choices: {name: list}; call score(order=2, discount=0.5)."""
    raise NotImplementedError


# %% tags=["check"] id="check-grid"
grid_search = check("grid_search", grid_search)

# %% [markdown] id="grid-guess"
# Before it runs: a discount of 0.1 hardly helps what was never seen, one of 0.9 throws away most of what was seen once. Should the best
# discount (circled) grow with the order, or shrink? (Order 2 is searched, not drawn: it lies far above.)


# %% id="plot-grid"
@cache  # what was tried once is remembered
def score(order, discount):  # the same D at each level, for counts of 1, 2 and 3 or more
    config = NgramConfig(V, order, "interpolated-kneser-ney", discounts=((discount,) * 3,) * order)
    return cross_validated_nats(config, documents, END, folds)


orders, amounts = [2, 3, 4, 5, 6], [0.1, 0.3, 0.5, 0.7, 0.9]
best, least = grid_search(score, {"order": orders, "discount": amounts})
print(best, f"perplexity {perplexity(least, 1):.3f} in cross-validation")
best_at = [min(amounts, key=lambda D: score(n, D)) for n in orders]
assert best_at == sorted(best_at) and best_at[0] < best_at[-1]
curves = {f"order {n}": [perplexity(score(n, D), 1) for D in amounts] for n in orders[1:]}
plot_curves(amounts, curves, "discount D", "perplexity in cross-validation", mark_best=True)


# %% [markdown] id="grid-why"
# It grows, though each top level has a lower D than the level below: the longer the n-grams, the more were seen once by luck, and a count
# of 1 is worth less; with a bad discount a longer context can even do harm. And the longest order won, so the list was too short: try 7
# and 8.
#
# ## 11. All methods, order by order
#
# Without any smoothing the perplexity is infinite as soon as one n-gram was never seen. What will the other curves do when contexts
# become long: rise or fall? (Interpolation: about half the weight to the longest context, half of the rest to the next one, and so on.
# Fitted weights do a little better.)


# %% id="plot-orders"
def mixed(before, order):
    shares = [add_k(raw[m].get(before[len(before) - m :], {}), V, k=0) for m in range(min(order, len(before) + 1))]
    weights = 2.0 ** np.arange(len(shares) + 1)
    return interpolate([np.full(V, 1 / V), *shares], weights / weights.sum())


orders, raw = range(1, 7), [count_ngrams(ids, n, END) for n in range(1, 7)]
add, kn = ([perplexity_of(n, how, few_ids) for n in orders] for how in ("add-k", "interpolated-kneser-ney"))
mix = [perplexity(negative_log_likelihood(mixed(c, n)[w] for c, w in places), len(places)) for n in orders]
assert perplexity_of(3, "maximum-likelihood") == np.inf and kn[5] < mix[4] < mix[5] < add[5] / 2 and mix[1] > add[1]
curves = {"add k = 0.01": add, "interpolation": mix, "Kneser-Ney": kn}
plot_curves(orders, curves, "order", "perplexity on three new stories", log_y=True, mark_best=True)


# %% [markdown] id="orders-why"
# Add-k drowns the few counts of long contexts. The other two ask the shorter ones. But fixed weights ignore the counts: at order 2 nearly
# half goes to unigram and uniform, though most bigrams are well counted; from 5 to 6 the curve rises, for the longest context gets half,
# seen or not. Kneser-Ney takes no more than it must, and asks the shorter context the right question.
#
# ## 12. The ladder
#
# Now the test stories, for the first time, in bits per byte, and the floor. (Stories and vocabulary are not those of lesson 03, so its
# numbers are others.) How far below the 5-gram will Kneser-Ney come?

# %% id="ladder"
order, D = best.values()
configs = [NgramConfig(V, n, "add-k", k=0.01) for n in (1, 2)]
configs += [NgramConfig(V, order, "interpolated-kneser-ney", discounts=d) for d in (((D,) * 3,) * order, ())]
nats = [held_out_nats(NgramLM(c).fit(ids, END), encode_corpus(test, tokenizer).ids) for c in configs]
texts = [(END, *tokenizer.encode(story)) for story in test]
nats.insert(2, negative_log_likelihood(mixed(text[:t], 5)[text[t]] for text in texts for t in range(1, len(text))))
nats += [-sum(StoryWorld().log_prob(story) for story in test)]
bits = [text_bits_per_byte(value, "".join(test)) for value in nats]
names = ["unigram of tokens", "bigram", "5-gram", "Kneser-Ney, one D", "Kneser-Ney", "true floor"]
notes = ["add k", "add k", "interpolated, fixed weights", "D from the grid", "D of each level", "knows all the dice"]
assert bits[0] > bits[1] > bits[2] > bits[4] > 2 * bits[5] and abs(bits[3] - bits[4]) < 0.02
plot_ladder(map(Row, names, bits, notes))

# %% [markdown] id="summary"
# Tried on a grid or computed from n1 and n2, the discounts are about equally good: the formula saves the search. But the floor is far
# away. The world remembers its hero's name for a whole story, our model for a few tokens. No discount can mend that; attention can.
#
# ## Summary
#
# * A count, large or small, is worth a part of one count less than it says. Take D from each, and give it to the shorter context.
# * The shorter context is asked in new company. So it counts after how many *different* tokens something came, not how often.
# * Settings are chosen on text that was not counted and is not the test: folds give each document its turn, a grid tries all
#   combinations.
#
# **On the ladder**: Kneser-Ney, far below the bigram, and the bar for neural models.
#
# **Read next**: Kneser and Ney 1995, "Improved backing-off for m-gram language modeling"; Chen and Goodman 1998, "An empirical study of
# smoothing techniques for language modeling"; Church and Gale 1991 on estimating the probabilities of English bigrams (Computer Speech
# and Language 5). In minilm `minilm/classical/discounting.py`, the same in arrays in `minilm/classical/ngram.py`, and
# `minilm/classical/tuning.py`.
