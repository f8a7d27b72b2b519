# %% [markdown] id="title"
# # 26 Hidden Markov models: what you see, and what is behind it
#
# You see words. Behind them stands what nobody wrote down: that "her" is a determiner here and a pronoun there, that a letter is a vowel.
# A hidden Markov model says how such states follow each other and what each shows. Then it can be asked: what was behind
# this text? It can even find out what states there are.
#
# **You will write** four functions: the forward recursion, Viterbi's best path, states and moves in hindsight, and the counting
# that learns from examples.
#
# needs: 01, 02, 03. Time: 90 minutes. Run time: under a minute on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
STORIES, ROUNDS, GUESSES = (20, 100, 500), 60, 8

# %% id="setup"
import importlib.util
import itertools
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import numpy as np

from minilm import BPETokenizer, NgramConfig, encode_corpus
from minilm.checks.exercises import check, reveal
from minilm.classical.config import HMMConfig, HMMTraining
from minilm.classical.hmm_chain import backward
from minilm.classical.hmm_train import baum_welch, learn_hmm, random_hmm, shares
from minilm.classical.tagger import BigramTagger, GreedyTagger, HMMTagger, MajorityTagger
from minilm.evaluation.hmm_rung import hmm_rung
from minilm.evaluation.ladder import counted_rungs, floor_rung
from minilm.plots.curves import plot_curves
from minilm.plots.hmm import plot_rounds, plot_token_states
from minilm.plots.ladder import plot_ladder
from minilm.tasks.parts_of_speech import parts_of_speech
from minilm.text.stories import stories

STORIES, ROUNDS, GUESSES = ((5, 20, 40), 40, 4) if QUICK else (STORIES, ROUNDS, GUESSES)

# %% [markdown] id="cat-text"
# ## 1. The cat behind the door
#
# A cat is behind a door. It is content (state 0) or hungry (state 1), and we only hear it: purr (0), silence (1), meow (2). Three tables
# are the whole model:
#
# * `start[i]`: how likely it begins in state i
# * `transition[i, j]`: how likely j comes after i
# * `emission[i, w]`: how likely state i makes the sound w
#
# There are K = 2 states, V = 3 sounds and T moments. Later the sounds will be letters and words: all of them are **tokens**.
#
# Hence the name: where the state goes depends on nothing but the state (Markov), and the state is never seen (hidden), only what it makes.

# %% id="cat"
start = np.array([0.6, 0.4])
transition = np.array([[0.8, 0.2], [0.3, 0.7]])
emission = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])
heard = np.array([0, 1, 2])  # purr, silence, meow
likelihoods = emission.T[heard]  # (T, K): how likely each state makes what was heard
likelihoods

# %% [markdown] id="paths-text"
# ## 2. All paths, by hand
#
# Three moments, two states: eight ways. One of them, content, content, hungry, has the probability
#
# 0.6 * 0.6 (begins content, purrs) * 0.8 * 0.3 (stays, is silent) * 0.2 * 0.6 (grows hungry, meows)
#
# Before you run the cell: which of the eight will be the likeliest?


# %% id="paths"
paths = {}
for path in itertools.product(range(2), repeat=3):
    paths[path] = start[path[0]] * transition[path[:-1], path[1:]].prod() * likelihoods[range(3), path].prod()
    print(path, f"{paths[path]:.5f}")
print("all together:", sum(paths.values()))

# %% [markdown] id="forward-text"
# (0, 0, 1) is the likeliest, and (0, 1, 1) comes close. The silence does not tell them apart, only the moves do.
#
# All eight together are the probability of what was heard. But thirty sounds have a billion paths. Luckily all paths
# that are in state j at time t go on alike. So keep **one number for each state**: the sum over all paths
# that end there. The next row follows from this one:
#
# a_t(j) = (sum over i of a_{t-1}(i) * transition[i, j]) * likelihoods[t, j]
#
# K * K products a step, instead of K times as many paths with each.

# %% id="alpha"
a = start * likelihoods[0]
for t in range(1, 3):
    a = (a @ transition) * likelihoods[t]
assert np.isclose(a.sum(), sum(paths.values()))
print("the sum over all paths:", a.sum().round(5), "  after 2,000 sounds:", 0.3**2000)

# %% [markdown] id="scaling-text"
# The second number is the trouble: a product of 2,000 probabilities is too small for a float, which ends at about 10^-308. So divide each row by its sum.
# The divided row is more than a trick: it is p(state at t | all sounds up to t), the **belief**. And the sum that you divide by is
# p(sound t | the sounds before it): take its logarithm before it is gone, for these logarithms add up to the log-probability of
# everything heard.
#
# One step: what is *expected* at t (`start` at first, later `beliefs[t - 1] @ transition`), times `likelihoods[t]`, divided by the sum.
#
# **Exercise 1.** Write the forward recursion.


# %% tags=["exercise"] id="exercise-forward"
def forward_beliefs(start, transition, likelihoods):
    """start (K,), transition (K, K), likelihoods (T, K) -> beliefs (T, K), log p(token t | tokens before it) (T,) in nats."""
    raise NotImplementedError


# %% tags=["check"] id="check-forward"
forward_beliefs = check("forward_beliefs", forward_beliefs)

# %% id="forward-use"
beliefs, log_probs = forward_beliefs(start, transition, likelihoods)
assert np.isclose(np.exp(log_probs.sum()), sum(paths.values()))
print(beliefs, "\n2,100 sounds:", forward_beliefs(start, transition, emission.T[np.tile(heard, 700)])[1].sum(), "nats")

# %% [markdown] id="viterbi-text"
# ## 3. The best path
#
# What did the cat do? Not the sum is asked for now, but the *one* path that is likeliest. Again: of all paths that are
# in state j at time t, only the best can be part of the best path. So keep its score for each state, the largest instead
# of the sum, **and where it came from**:
#
# best_t(j) = max over i of (best_{t-1}(i) + log transition[i, j]) + log likelihoods[t, j]
#
# In logarithms, as nothing has to be added up here, products become sums, and nothing becomes too small. (Where a table has a 0, `np.log` gives -inf,
# which is right: with any number in its place a forbidden path wins where it pays. And it gives a warning, which
# `with np.errstate(divide="ignore"):` keeps quiet.)
#
# At the end take the state with the largest score, and follow the notes back: the state at t - 1 is the one noted at t for the state at t.
#
# **Exercise 2.** Write Viterbi's algorithm.


# %% tags=["exercise"] id="exercise-viterbi"
def viterbi(start, transition, likelihoods):
    """The likeliest path of states, whole numbers (T,), and log p(path, tokens), a number, in nats."""
    raise NotImplementedError


# %% tags=["check"] id="check-viterbi"
viterbi = check("viterbi", viterbi)

# %% id="viterbi-use"
path, score = viterbi(start, transition, likelihoods)
assert tuple(path) == max(paths, key=paths.get) and np.isclose(np.exp(score), max(paths.values()))
print(path, f"{np.exp(score):.5f}", "\nahead:", backward(transition, likelihoods, beliefs, log_probs).round(2).tolist())

# %% [markdown] id="hindsight-text"
# ## 4. In hindsight
#
# A belief knows what was heard so far. The meow at the end also tells something about the silence before it. How much? `backward` from the
# library walks from the end to the beginning. Its row t says how much likelier **what comes after t** is out of state i than it was by the
# beliefs at t: above 1 speaks for i. Nothing comes after the last place, so 1 there, and before that
#
# ahead_t(i) = sum over j of transition[i, j] * likelihoods[t + 1, j] * ahead_{t+1}(j) / p(token t + 1)
#
# (The last cell has printed it for our three sounds: before the meow, hunger weighs about twice as much.) Then p(state i at t | everything) = beliefs[t, i] * ahead[t, i]. And a *move* from i to j between t and t + 1 has the probability
#
# beliefs[t, i] * transition[i, j] * likelihoods[t + 1, j] * ahead[t + 1, j] / p(token t + 1)
#
# which you add up over t: how many moves from i to j are to be expected, T - 1 in all.
#
# **Exercise 3.** Write it, with your `forward_beliefs` and with `ahead = backward(transition, likelihoods, beliefs, log_probs)`. `np.exp(log_probs)[:, None]`
# has the p(token) as a column.


# %% tags=["exercise"] id="exercise-smooth"
def smooth(start, transition, likelihoods):
    """states (T, K): p(state at t | all tokens); moves (K, K): expected moves, summed over t; log_probs (T,) as of `forward_beliefs`."""
    raise NotImplementedError


# %% tags=["check"] id="check-smooth"
smooth = check("smooth", smooth)

# %% [markdown] id="moments-text"
# Fifty moments of a cat that we made up, so that we know the truth. Which curve will change sooner when the cat grows hungry, the belief or
# hindsight? Which will waver more?

# %% id="moments"
rng, truth = np.random.default_rng(4), [0]
while len(truth) < 50:
    truth.append(int(rng.choice(2, p=transition[truth[-1]])))
sounds = emission.T[[rng.choice(3, p=emission[state]) for state in truth]]
curves = {n: f(start, transition, sounds)[0][:, 1] for n, f in (("belief", forward_beliefs), ("in hindsight", smooth))}
print({name: int(((curve > 0.5) == truth).sum()) for name, curve in curves.items()}, "right of 50")
plot_curves(range(50), curves | {"truth": truth}, "moment", "p(hungry)", "What is believed, and what is known later")

# %% [markdown] id="em-text"
# The belief jumps at every sound. Hindsight is calmer, and turns earlier: it has heard what follows.
#
# ## 5. Learning, and nobody tells
#
# Where do the tables come from? If we knew the states, we would count: how often each came first, followed another, made a token. We do not,
# but `smooth` says how often each *is to be expected*, under a model that we have. So:
#
# 1. guess a model, 2. count what it expects, 3. take the **shares** of these counts as a better model, again and again.
#
# This is EM, for these models Baum and Welch's algorithm. It works: the shares are the model that makes the expected states likeliest, and
# the likelihood of the text can only rise with it.
#
# One round with your `smooth`, for one document. (`shares` divides each row of counts by its sum. Before that it adds the second argument
# to each count, here nothing; a row without any count stays as it was in the third.)


# %% id="one-round"
def one_round(start, transition, emission, ids):
    states, moves, logs = smooth(start, transition, emission.T[ids])
    made = np.stack([np.bincount(ids, column, emission.shape[1]) for column in states.T])
    return *(shares(n, 0.0, old) for n, old in ((states[0], start), (moves, transition), (made, emission))), logs.sum()


# %% [markdown] id="letters-text"
# The text: every different word of three letters or more in some stories *once*, mixed, 30 to a document. 26 letters and the blank (26), and 27 ends
# a document. Two states. Nobody says what they are for. **Guess**: which two kinds of characters will they be?
#
# The library learns from all documents. First: does it do what you do, on one of them?

# %% id="letters"
LETTERS, END = "abcdefghijklmnopqrstuvwxyz ", 27
running = "".join(c if c in LETTERS else " " for c in " ".join(stories(200, seed=0)).lower()).split()
words = sorted({word for word in running if len(word) > 2})
np.random.default_rng(0).shuffle(words)
two_states, training = HMMConfig(28, n_states=2), HMMTraining(ROUNDS, tolerance=1e-5, pseudo_count=0.01)


def spelled(words):
    documents = (" ".join(words[i : i + 30]) for i in range(0, len(words), 30))
    return np.array([i for document in documents for i in (*map(LETTERS.index, document), END)])


# %% id="same"
one, guess = spelled(words[:30]), random_hmm(two_states, np.random.default_rng(2), end_of_text=END)
tables = guess.start, guess.transition, guess.emission
for theirs in baum_welch(guess, one, HMMTraining(3, 0.0, pseudo_count=0.0))[1]:
    *tables, mine = one_round(*tables, one)
    assert np.isclose(mine, theirs.log_prob)
    print(f"round {theirs.number}: {mine:.3f} nats")

# %% [markdown] id="guesses-text"
# It rises, and yours and theirs agree. Now all documents, from several guesses, in nats a token, so that the curves fall. (Each count is
# imagined 0.01 larger, the `pseudo_count`: nothing is impossible. What never gets worse is then the likelihood with a small reward for that,
# the `objective`. And rounds end when one gains less than `tolerance` nats a token.) **Predict**: will all guesses end at the same height?

# %% id="guesses"
ids, models, curves = spelled(words), {}, {}
for seed in range(GUESSES):
    model, rounds = learn_hmm(two_states, ids, END, training, np.random.default_rng(seed))
    assert (np.diff([a_round.objective for a_round in rounds]) > -1e-6).all()  # no round makes it worse
    models[rounds[-1].objective] = model
    curves[f"guess {seed}"] = [a_round.nats_per_token for a_round in rounds]
plot_rounds(curves, since=1, title=f"{GUESSES} guesses, from round 1 on")


# %% id="vowels"
def with_e(ids, model):  # how likely each letter is in the state in which e mostly is
    states = model.posteriors(ids)
    states = states[:, states[ids == LETTERS.index("e")].mean(0).argmax()]
    return np.array([states[ids == i].mean() if i in ids else 0.0 for i in range(26)])


for seed, model in enumerate(models.values()):
    print(f"guess {seed}:", *(LETTERS[i] for i in np.flatnonzero(with_e(ids, model) > 0.5)))
share = with_e(ids, models[max(models)])
assert [*np.array([*LETTERS])[:26][share > 0.5]] == [*"aeiou"] and (QUICK or len(curves["guess 6"]) < ROUNDS / 2)
plot_token_states(share, LETTERS[:26], [letter in "aeiou" for letter in LETTERS[:26]])

# %% [markdown] id="vowels-read"
# A model that has never heard of vowels found them, because vowels and consonants like to take turns.
#
# But look at the other guesses. Most of them ended higher, with letters sorted as nobody can explain. EM climbs the hill on which it
# begins. Some of these climbs are not finished: guess 6 stopped early, on a plain where a round gained less than `tolerance`. (Try 0, and
# 300 rounds.) Nothing but the likelihood said which guess to believe, and that is the rule: guess several times, and keep the likeliest.
#
# Nor does it work on any text. The same stories as they run, from the same guesses:

# %% id="running"
text, found = spelled(running[: 3000 if not QUICK else 600]), {}
for seed in range(4):
    model, rounds = learn_hmm(two_states, text, END, training, np.random.default_rng(seed))
    found[rounds[-1].objective] = "".join(LETTERS[i] for i in np.flatnonzero(with_e(text, model) > 0.5))
assert found[max(found)] != "aeiou"
print("running text, in one state with e:", found[max(found)])

# %% [markdown] id="tags-text"
# No vowels. That is no failure of EM: it found a likelier model of *this* text, whose rhythm "the" and "and" set. Whether a likely model
# means something to *us* depends on the data, on the number of states, and on luck.
#
# ## 6. Learning from examples
#
# So where states have a meaning, better say it. The states of a sentence shall now be **parts of speech**, in short: NOUN, NAME, VERB, ADJective,
# ADVerb, PRONoun, NUMber, DETerminer (*the*, *a*), PREPosition (*on*, *to* town), PARTicle (*to* sing), CONJunction (*and*), MARK (a full stop).
# The story world can tell them for all of its words. Then nothing is hidden in training, and learning is counting.
#
# **Exercise 4.** Count. Each of `sequences` is a pair of arrays: states (T,) and tokens (T,). Both may be empty, T = 0: then there is nothing
# to count. One trap of numpy: `table[rows, columns] += 1` adds 1 to a place only once, however often it is named.


# %% tags=["exercise"] id="exercise-counts"
def supervised_counts(sequences, n_states, vocab_size):
    """How often each state came first (K,), i was followed by j (K, K), a state made a token (K, V): three arrays of floats."""
    raise NotImplementedError


# %% tags=["check"] id="check-counts"
supervised_counts = check("supervised_counts", supervised_counts)

# %% id="moves"
train = [parts_of_speech(n, seed=0) for n in STORIES]
tagger = HMMTagger().fit(train[1])
pairs = [(np.array([tagger.tags.index(tag) for tag in s.tags]), tagger.word_ids(s.words)) for s in train[1]]
_, moves, _ = supervised_counts(pairs, len(tagger.tags), len(tagger.words))
assert np.array_equal(moves, tagger.counts.transition)
for tag in ("DET", "PART", "NOUN"):
    p = shares(moves[tagger.tags.index(tag)], 0.0, np.zeros(len(moves)))
    print(tag, "->", ", ".join(f"{tagger.tags[j]} {p[j]:.0%}" for j in p.argsort()[:-4:-1]))

# %% [markdown] id="contest-text"
# Four taggers count in the same sentences. *Majority* gives each word its most frequent tag. *Bigram* looks at the word and its own last tag.
# *Greedy* has the tables of the HMM and chooses from left to right. The HMM itself asks your `viterbi`. (Again each count is imagined 0.01 larger;
# new words are known by their look, as "ends in -ing".)
#
# **Predict** the order. What is it worth to know more words? To look at the tag before? To decide only at the end?


# %% id="my-tagger"
class MyTagger(HMMTagger):
    def tag_ids(self, sentences):
        return [viterbi(self.start, self.transition, self.emission.T[ids])[0] for ids in sentences]


# %% id="contest"
test = parts_of_speech(100 if not QUICK else 20, seed=1, split="test")
kinds, truth = (MajorityTagger, BigramTagger, GreedyTagger, MyTagger), np.concatenate([s.tags for s in test])
asked = [s.words for s in test]
given = [[np.concatenate(kind().fit(part).predict(asked)) for kind in kinds] for part in train]
accuracy = np.array([[(tags == truth).mean() for tags in row] for row in given])
print("stories  majority  bigram  greedy  Viterbi")
for n, row in zip(STORIES, accuracy, strict=True):
    print(f"{n:7}", "".join(f"{a:9.3f}" for a in row))
assert (accuracy[:, 3] > accuracy[:, :3].max(1)).all() and (QUICK or (accuracy[:, 1] > accuracy[:, 2]).all())

# %% id="second-thoughts"
greedy, mine = given[-1][2:]
rows = np.stack([[word.strip() for words in asked for word in words], greedy, truth], axis=1)
better, times = np.unique(rows[(mine == truth) & (greedy != truth)], axis=0, return_counts=True)
for i in times.argsort()[:-7:-1]:
    print(f"{times[i]:3} times: {better[i, 0]} is {better[i, 2]}, greedy says {better[i, 1]}")

# %% [markdown] id="contest-read"
# Viterbi leads at every size. That is not because of the tables, for greedy has the same, and is hardly better than majority, if at all. What it
# gains over greedy are the *second thoughts*: what a word is, the next word often tells, and greedy has decided before it comes. Bigram has
# no second thoughts either, and yet beats greedy: it has counted what *this very word* was after that tag, where the tables multiply
# what is true of the tag and what is true of the word. Phrases that come again, as in these stories, reward that. More examples help all four, but
# what majority gets wrong with many of them, it will always get wrong: a word that is two things gets one tag.
#
# ## 7. On the ladder
#
# An HMM is a language model, too: move the belief on, and mix what the states make. 1024 tokens, 600 stories, states learned by Baum-Welch from a part of them.
# The lowest bar is the *true floor*: what the dice of the story world leave open, below which no model can get.
# **Predict**: 32 states, learned with care. Better than the bigram, which only knows the last token?

# %% id="ladder"
documents, unseen = list(stories(600 if not QUICK else 100, seed=1)), list(stories(60 if not QUICK else 10, seed=2))
tokenizer = BPETokenizer.train(documents[:300], vocab_size=1024)
text, held_out = encode_corpus(documents, tokenizer), encode_corpus(unseen, tokenizer)
(unigram, _), (bigram, _), _ = counted_rungs(text, held_out, tokenizer, NgramConfig(1024, order=2))
training = HMMTraining(ROUNDS, tolerance=1e-5, most_tokens=60_000)
few, many = (hmm_rung(text, held_out, tokenizer, K, training=training)[0] for K in (8, 32))
assert unigram.bits_per_byte > few.bits_per_byte > many.bits_per_byte > bigram.bits_per_byte
plot_ladder([unigram, few, many, bigram, floor_rung(held_out, tokenizer)], mine="HMM, 32 states")

# %% [markdown] id="ladder-read"
# Far from it. All that the past can tell an HMM about what comes next goes through one of 32 states: at most 5 bits. The last token is one of
# 1024, up to 10 bits, and in our stories it says a lot: after " was" come other words than after " the". The HMM *can* keep something for
# ever, which no n-gram can, but with one of K things to keep, it spends them on what the last token was.
#
# More states would help, at K * K for each step. Or not *one of* K states but K numbers at once: that is a recurrent network.

# %% tags=["check"] id="reveal"
reveal("forward_beliefs")

# %% [markdown] id="summary"
# ## Summary
#
# * One number for each state sums over all paths (forward) or keeps the best (Viterbi): a step costs K * K, whatever the number of paths.
# * EM counts what a model expects and takes the shares: the likelihood never falls, but where it ends depends on the guess. Keep the likeliest.
# * Where the states are known, learning is counting, and deciding at the end beats deciding at once. As a language model, an HMM remembers too little.
#
# **On the ladder**: HMMs with 8 and 32 states, between unigram and bigram.
#
# **Read next**: Rabiner 1989, "A tutorial on hidden Markov models"; Cave and Neuwirth 1980, who found the vowels so; Brants 2000, "TnT"; in minilm
# `minilm/classical/hmm_chain.py` and `minilm/classical/hmm_train.py`.
