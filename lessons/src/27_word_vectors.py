# %% [markdown] id="title"
# # 27 Word vectors: known by their company
#
# To a model, token 17 is no more like token 18 than like token 900. Yet a reader who meets "the wug crept into its
# burrow" and "she fed the wug" knows what kind of word *wug* is, though nobody has explained it. How? And can a
# machine find it out by counting?
#
# **You will write** four functions: the counting of neighbours, the objective of GloVe with its gradients, a step in
# which each number has its own rate, and the search that completes analogies.
#
# needs: 01, 02, 04, 06, 07. Time: 90 minutes. Run time: about two minutes on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STORIES, EPOCHS = 2700, 12
STEPS, SEEDS = 60, (0, 1, 2)

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np
import torch

from minilm import GPT, Batches, BPETokenizer, TrainConfig, encode_corpus, evaluate, gpt2_config, train
from minilm.checks.exercises import check, reveal
from minilm.classical.bag_of_ngrams import words
from minilm.classical.vectors import WordVectors, project
from minilm.models.start_vectors import names_as_words, start_with_vectors
from minilm.plots.curves import plot_curves
from minilm.plots.vectors import plot_vectors
from minilm.text.stories import stories

if QUICK:
    STORIES, EPOCHS, STEPS, SEEDS = 600, 1, 3, (0,)
torch.set_num_threads(1)
rng = np.random.default_rng(27)

# %% [markdown] id="six-text"
# ## 1. Six tokens
#
# "You shall know a word by the company it keeps", wrote the linguist J. R. Firth in 1957. So let us write down the
# company. Each word sees its neighbours on both sides, up to a **window** of, say, two words. The nearer a neighbour,
# the more it should count: one that is d places away counts 1 / d. The company of *saw*:

# %% id="six"
six = ["the", "fox", "saw", "the", "old", "owl"]
for step in (-2, -1, 1, 2):
    print(f"{six[2 + step]}: {abs(step)} away, counts {1 / abs(step)}")

# %% [markdown] id="count-text"
# *the* stands there twice, so `saw` and `the` meet 1/2 + 1 = 1.5 times. And *the* sees *saw* as often as *saw* sees
# *the*, so each pair is counted in both orders.
#
# **Exercise 1.** Count all pairs. Words of different documents do not meet. Equal words can: in "a b a" each of the
# two *a* sees the other, 2 places away, which makes 1/2 + 1/2 for the pair (a, a). There are many words to come, so
# look no further than the window: the check has a text of 8,000 words, too many to compare each place with every other.


# %% tags=["exercise"] id="exercise-count"
def count_neighbours(documents, window):
    """Lists of words -> {(word, other): sum of 1 / distance}, over places of a document at most `window` apart."""
    raise NotImplementedError


# %% tags=["check"] id="check-count"
count_neighbours = check("count_neighbours", count_neighbours)

# %% [markdown] id="stories-text"
# Now the built-in stories, with a window of 10. Words that occur fewer than five times are left out, for four
# sentences are hardly a company.

# %% id="stories"
texts = list(stories(STORIES, seed=27))
documents = [words(text) for text in texts]
names, often = np.unique(np.concatenate(documents), return_counts=True)
names = names[often >= 5].tolist()
index = {word: row for row, word in enumerate(names)}
met = {pair: n for pair, n in count_neighbours(documents, 10).items() if pair[0] in index and pair[1] in index}
rows, columns = (np.array([index[pair[side]] for pair in met]) for side in (0, 1))
counts = np.array(list(met.values()))
print(f"{len(names):,} words, {len(counts):,} of {len(names) ** 2:,} pairs ever meet")

# %% [markdown] id="rows-text"
# So a word has a row of numbers: how often it meets each other word. That is a vector already! Two words are alike if
# their rows point in similar directions; the measure is the **cosine** of the angle between them, 1 for the same
# direction, 0 for a right angle. `nearest` sorts by it. **Predict**: whom will it find for *hedgehog*, for *mother*,
# for *happy*?

# %% id="rows"
table = np.zeros((len(names), len(names)))
table[rows, columns] = counts
by_counts = WordVectors(names, np.log1p(table))  # log (1 + count), or "the" would outshout all others
for word in ("hedgehog", "mother", "happy"):
    print(f"{word}:", ", ".join(other for other, _ in by_counts.nearest(word, 5)))

# %% [markdown] id="ratio-text"
# That a hedgehog is like an otter, nobody has told it. But each word has as many numbers as there are words, and most
# are 0. With 400,000 words there would be 160 billion. Can a short vector say the same?
#
# ## 2. Logarithms of counts, as products
#
# What should a short vector be good for? Look at what tells *she* from *he*:

# %% id="ratio"
for other in ("her", "his", "the"):
    she, he = table[index["she"], index[other]], table[index["he"], index[other]]
    print(f"{other}: with she {she:6.0f}, with he {he:6.0f}, log of the ratio {np.log(she / he):5.2f}")

# %% [markdown] id="product-text"
# *the* says nothing: it meets both. What tells them apart is a ratio, and the logarithm of a ratio is a difference of
# logarithms. So if a dot product of two vectors were the *logarithm* of a count, then
#
# (vector of she - vector of he) · (vector of her) = log of the ratio
#
# and a *difference of vectors* would mean something. That is the idea of **GloVe** ("global vectors", 2014). Each
# word gets a vector w as itself, a vector c as the company of others, and two biases, b and d, because some words are
# just frequent. For all pairs (i, j)
#
# w_i · c_j + b_i + d_j should be log X_ij
#
# where X_ij is how often they meet. (The biases say how frequent *she* and *he* are altogether, so that what is left to
# the difference of their vectors is the log of the ratio less that.) In three dimensions, by hand:

# %% id="three"
score = np.array([1.0, 0.0, 2.0]) @ np.array([0.5, 3.0, 0.25]) + 0.4 + 0.2  # w, c, b, d
print(f"the score is {score:.1f}: these two should meet exp({score:.1f}) = {np.exp(score):.2f} times")
print(f"if they met 4 times, log X is {np.log(4):.2f}, and the score too high by {score - np.log(4):.2f}")

# %% [markdown] id="weight-text"
# By how much the score is too high, is the **residual** r.
#
# Two questions remain. What about pairs that never meet? log 0 is no number, so they are left out. And should a pair
# that met once, by chance, count as much as one that met 500 times? No: each pair has a weight f, which rises with
# its count and ends at 1. The paper tried some and chose (count / 100) to the power of 0.75, and 1 from 100 on. **Predict**: what share of the pairs has the full weight? How many have met less than once
# (a single time, some places apart)?

# %% id="weight"
f = np.minimum(1, (counts / 100) ** 0.75)
print(f"full weight: {(f == 1).mean():.1%}, less than one meeting: {(counts < 1).mean():.1%}")
some = np.argsort(counts)[::500]
plot_curves(counts[some], {"f": f[some]}, "times two words meet", "what the pair counts", "The weight f", log_x=True)

# %% [markdown] id="slopes-text"
# ## 3. The objective and its gradients
#
# Weighted least squares: for N pairs, where row n of each array belongs to pair n,
#
# J = 1/2 · sum of f r², with r = w · c + b + d - log x
#
# By the chain rule of lesson 04: the slope of 1/2 f r² along r is f r. Call it the **pull**. And how does r change
# with w? As c says: one more in w's first number is c's first number more in r. So the gradient of a pair's w is its
# pull times c, that of its c the pull times w, that of either bias the pull itself.
#
# **Exercise 2.** Write J and the gradients. `pull[:, None]` is a column (N, 1), which goes with vectors (N, D).


# %% tags=["exercise"] id="exercise-slopes"
def slopes(w, c, b, d, log_x, f):
    """w, c (N, D), the rest (N,) -> (J, one number; dw (N, D); dc (N, D); db (N,), which is also the gradient of d)."""
    raise NotImplementedError


# %% tags=["check"] id="check-slopes"
slopes = check("slopes", slopes)

# %% [markdown] id="adagrad-text"
# ## 4. A rate for each number
#
# *the* takes part in every batch, *marble* in few. With one learning rate for all, it is too large for the one or too
# small for the other. **AdaGrad** remembers, for each number of the table, the sum of all its squared gradients, and
# divides by the root:
#
# squares += gradient², then number -= rate · gradient / (root of squares + 1e-10)
#
# Whoever has been through much moves little. If the squares begin at 0, the first step is always about `rate`, up or
# down, whatever the size of the gradient (why?).
#
# A trap: in a batch of pairs the same word comes again and again. All its gradients must be **added up**, and then it
# takes *one* step; the square is that of the sum. But `total[rows] += gradients` keeps only the last of equal rows,
# because numpy reads all, then writes all. `np.add.at(total, rows, gradients)` adds each.
#
# **Exercise 3.** Write the step. Only the rows that occur are touched, and the tables given to you stay as they are:
# return which rows have moved, their new numbers and their new squares.


# %% tags=["exercise"] id="exercise-adagrad"
def adagrad(table, squares, rows, gradients, learning_rate):
    """Tables (V, D), rows (N,) that may come again, gradients (N, D) -> (touched (R,) ascending, new rows (R, D), new squares (R, D))."""
    raise NotImplementedError


# %% tags=["check"] id="check-adagrad"
adagrad = check("adagrad", adagrad)

# %% [markdown] id="train-text"
# Now train, with your counts, your gradients and your steps. The vectors have 50 numbers, and the last column of each
# table is the bias. All pairs come in random order, 1024 in a batch, again in each epoch.


# %% id="train"
def epoch(order):
    total = 0.0
    for batch in np.split(order, range(1024, len(order), 1024)):
        i, j = rows[batch], columns[batch]
        (w, b), (c, d) = np.split(W[i], [50], axis=1), np.split(C[j], [50], axis=1)
        J, dw, dc, db = slopes(w, c, b[:, 0], d[:, 0], log_counts[batch], f[batch])
        for table, squares, which, gradients in ((W, W_squares, i, dw), (C, C_squares, j, dc)):
            touched, moved, grown = adagrad(table, squares, which, np.column_stack([gradients, db]), 0.05)
            table[touched], squares[touched] = moved, grown
        total += J
    return total / len(order)


W, C = (rng.random((2, len(names), 51)) - 0.5) / 50
W[:, 50] = C[:, 50] = 0
W_squares, C_squares, log_counts = np.zeros_like(W), np.zeros_like(C), np.log(counts)
costs = [epoch(rng.permutation(len(counts))) for _ in range(EPOCHS)]
assert QUICK or costs[-1] < costs[0] / 3
print("J of a pair, in each epoch:", *(f"{cost:.3f}" for cost in costs))

# %% [markdown] id="near-text"
# The table of counts is symmetric, so w and c of a word mean the same, and differ only by how they began. Their sum
# is taken as the vector of the word.
#
# ## 5. Neighbours
#
# **Predict**: who is near *cake*? And near *gloomy*, only gloomy words, or cheerful ones too?

# %% id="near"
vectors = WordVectors(names, (W + C)[:, :50])
for word in ("hedgehog", "mother", "cake", "gloomy", "sad"):
    print(f"{word}:", ", ".join(other for other, _ in vectors.nearest(word, 5)))

# %% [markdown] id="classes-text"
# Anecdotes are not measures. So take words of the same kind, and ask how many of the five nearest to each are of that
# kind, too. Beside it, the same for the long rows of logarithms from section 1. **Predict** who wins, and where.

# %% id="classes"
kinds = {"animals": "hedgehog rabbit fox otter mouse duckling frog mole kitten piglet"}
kinds["family"] = "mother father grandmother grandfather aunt uncle sister brother godmother godfather"
kinds["traits"] = "curious quiet cheerful careful stubborn dreamy gentle clever shy lively merry thoughtful tidy"
kinds["happy"] = "happy glad proud delighted joyful pleased content"
kinds["sad"] = "sad unhappy downhearted miserable gloomy sorry"
shares = {}
for kind, text in kinds.items():
    some = text.split()
    near = [[[other for other, _ in which.nearest(word, 5)] for word in some] for which in (vectors, by_counts)]
    shares[kind] = np.isin(near, some).mean(axis=(1, 2))
    print(f"{kind:8} GloVe {shares[kind][0]:.2f}, rows of counts {shares[kind][1]:.2f}")
assert QUICK or (min(shares["animals"][0], shares["family"][0]) > 0.8 and shares["sad"][0] < 0.6)
assert QUICK or np.mean([*shares.values()], axis=0)[1] > np.mean([*shares.values()], axis=0)[0]

# %% [markdown] id="classes-read"
# Animals and family are found almost without fault. The sad words are not: some of them share their company with
# happy words, since a story puts either into the same sentence ("felt ..."), and *sad* and *sorry* stand in sentences
# of their own. Company says *where a word can stand*, not whether it is good or bad.
#
# And a surprise: the plain rows are better! In this little world a thousand numbers a word are affordable, and they
# forget nothing. GloVe keeps most of it in 50 numbers a word, so it is a compression that one can afford for any
# vocabulary, and of a size that a network can take in. With large texts much in the rows is chance, and squeezing
# should help; here we cannot see that.
#
# To look at 50 dimensions, turn them until the two in which the words differ most lie in the plane (**principal
# components**). **Predict**: three kinds of words; will they mix? (The second direction holds less, and is drawn larger.)

# %% id="picture"
shown = {kind: kinds[kind].split()[:7] for kind in ("animals", "family", "traits")}
flat = [word for some in shown.values() for word in some]
points, held_by = project(vectors.part(flat).units, 2)
plot_vectors(points, flat, shown, shares=held_by, title="Twenty-one words, from 50 numbers to two")

# %% [markdown] id="analogy-text"
# ## 6. Analogies
#
# If differences mean something, one can calculate with them: from *bake* to *cake* as from *sew* to what? Go from
# *sew* as far, and in the direction, that leads from *bake* to *cake*:
#
# wanted = sew + (cake - bake), where each of the three has the length 1
#
# and take the word whose cosine with `wanted` is largest. The three words of the question are not allowed as the
# answer, because very often one of them would be the nearest.
#
# **Exercise 4.** Write the scores. The rows of `units` have length 1, but `wanted`, made of three of them, has not.


# %% tags=["exercise"] id="exercise-analogy"
def analogy_scores(units, a, b, c):
    """a is to b as c is to ...? units (V, D), three rows -> (V,): the cosine of b - a + c with each row, and -inf for a, b, c."""
    raise NotImplementedError


# %% tags=["check"] id="check-analogy"
analogy_scores = check("analogy_scores", analogy_scores)

# %% [markdown] id="relations-text"
# One famous example proves little, and so does a number alone. If *sew* is near *blanket* anyway, no calculation is
# needed. So beside the analogy, ask what is **nearest to c alone**, with the same words forbidden. Every pair of a
# relation is asked with every other one. **Predict**: in which of the three relations does the step from a to b help?


# %% id="ask"
def ask(vectors, pairs):
    right = []
    for some in ([*one, *other] for one in pairs for other in pairs if one != other):
        a, b, c, answer = (vectors.row(word) for word in some)
        scores = analogy_scores(vectors.units, a, b, c)
        alone = np.where(np.isinf(scores), scores, vectors.units @ vectors.units[c])
        right.append((scores.argmax() == answer, alone.argmax() == answer, True))
    return np.sum(right, axis=0)


# %% id="relations"
relations = {"work, thing": "bake cake, build bench, sew blanket, cook soup, carve flute, paint picture"}
relations["made of"] = "silver bell, glass marble, brass compass, silk ribbon, amber bead, copper coin, ivory button"
relations["family"] = "mother father, grandmother grandfather, aunt uncle, sister brother, godmother godfather"
found = {}
for relation, text in relations.items():
    for name, which in (("rows of counts", by_counts), ("GloVe", vectors)):
        right, alone, n = found[relation, name] = ask(which, [pair.split() for pair in text.split(", ")])
        print(f"{relation:11} {name:15} right {right:2} of {n}, nearest to c alone {alone:2}")
work, made, family = ([found[relation, name] for name in ("rows of counts", "GloVe")] for relation in relations)
assert QUICK or (work[1][0] >= work[1][1] + 3 and abs(made[1][0] - made[1][1]) <= 8 and family[1][0] <= 12)
assert QUICK or work[0][0] > 1.5 * work[1][0]

# %% [markdown] id="relations-read"
# Only the first relation is an analogy: the step from the work to the thing finds answers that are not simply near. In
# the second nearly all of GloVe's answers are right, and nearly all would be without any calculation, because *silver*
# and *bell* always stand together: a number near 100% that shows nothing. Family fails: in these stories a mother and a
# father keep the same company, so no direction tells them apart.
#
# In the first, the rows of counts find nearly twice as many as GloVe. So the arithmetic is not a gift of GloVe: it lies
# in the logarithms of the counts, and some of it is lost when they are squeezed.
#
# ## 7. What are they worth to a GPT?
#
# The first thing in a GPT is a table with a vector for each token, drawn at random. Let it start with ours instead,
# for all tokens that are a whole word (`start_with_vectors` gives them the mean and the size of random ones). The
# text is the same, so the vectors know nothing that the GPT could not learn; but they know it from the first step.
#
# Four starts: drawn; GloVe; the same vectors **shuffled** among the words, which have the same numbers and the wrong
# meaning; and the rows of counts, brought down to 50 numbers by principal components, without any training. Three
# seeds each. **Predict** the order.


# %% id="learn"
def learn(start, seed):
    def look(step, model, record):
        if step % (STEPS // 3) == 0:
            costs.append(evaluate(model, held, tokenizer).bits_per_byte)

    torch.manual_seed(seed)
    costs, model = [], GPT(gpt2_config(vocab_size=1024, context_length=64, d_model=50, n_layers=2, n_heads=5))
    if start is not None:
        start_with_vectors(model, names_as_words(tokenizer.token_bytes), start)
    config = TrainConfig(steps=STEPS, batch_size=8, learning_rate=2e-3, warmup=STEPS // 3, eval_every=0)
    train(model, Batches(ids, 8, 64, seed), config, on_step=look, progress=False)
    return costs


# %% id="starts"
tokenizer = BPETokenizer.train(texts[:300], vocab_size=1024)
ids, held = encode_corpus(texts, tokenizer).ids, encode_corpus(list(stories(12, seed=28)), tokenizer)
starts = {"drawn": None, "GloVe": vectors, "shuffled": WordVectors(rng.permutation(names).tolist(), vectors.matrix)}
starts["counts"] = WordVectors(names, project(by_counts.matrix, 50)[0])
results = {name: np.array([learn(start, seed) for seed in SEEDS]) for name, start in starts.items()}

# %% id="worth"
ends = {name: costs[:, -1].round(3).tolist() for name, costs in results.items()}
print(ends)
assert QUICK or max(*ends["GloVe"], *ends["counts"]) < min(*ends["drawn"], *ends["shuffled"])
curves = {name: costs.mean(axis=0) for name, costs in results.items()}
plot_curves(STEPS // 3 * np.arange(1, 4), curves, "steps", "bits per byte of new stories", "Four starts of one GPT")

# %% [markdown] id="worth-read"
# With word vectors the GPT is ahead, with each seed. Shuffled, they help nobody: so it is the meaning that helps, not
# the shape of the numbers. And the counts are as good a start as GloVe, in seconds of work.
#
# Read the curves from left to right: after 60 steps the drawn table is about where GloVe's was after 40. It is a head
# start; how long it lasts, a larger `STEPS` will tell. It should be worth more where the vectors come from more text
# than the GPT can see.
#
# After a pass:

# %% tags=["check"] id="reveal"
reveal("slopes")

# %% [markdown] id="summary"
# ## Summary
#
# * Words that keep the same company have similar rows of counts. GloVe says the logarithms of the counts by dot
#   products, in few numbers a word, and weighs rare pairs less.
# * Rows that come again in a batch get one step on the sum of their gradients; AdaGrad gives each number its own
#   rate.
# * Measure against the simple: plain counts find neighbours as well here, and what is nearest to c alone answers many
#   an "analogy".
#
# No row on the ladder: word vectors say which words are alike, and predict no next token, so there are no bits to
# count.
#
# **Read next**: Pennington, Socher and Manning 2014, "GloVe"; Levy and Goldberg 2014, "Linguistic regularities in
# sparse and explicit word representations"; in minilm `minilm/classical/cooccurrence.py` (the same counts, in
# arrays), `minilm/classical/glove.py`, `minilm/models/start_vectors.py`; and `minilm train --model glove`, then
# `minilm vectors`.
