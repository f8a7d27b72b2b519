# %% [markdown] id="title"
# # 02 Measuring language: how surprised are you?
#
# Soon we shall build models that predict text, each in its own way. Which one is better? We need a measure: one that cannot be
# fooled, and that is fair to models which cut the text into different tokens. This lesson builds it from a guessing game.
#
# **You will write** three short functions: the surprise of a model at a text, its perplexity, and its bits per byte. With them
# begins the *ladder*, the table on which all models of this course will stand.
#
# needs: 01. Time: 60 minutes. Run time: some ten seconds on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
DOCUMENTS = 500

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import lzma
import math
import zlib
from collections import Counter

import numpy as np

from minilm import BPETokenizer
from minilm.checks.exercises import check, reveal
from minilm.plots.curves import plot_curves
from minilm.plots.ladder import plot_ladder
from minilm.plots.measuring import Row, plot_measures, plot_surprise
from minilm.text.stories import StoryWorld, stories

if QUICK:
    DOCUMENTS = 100

# %% [markdown] id="game-text"
# ## 1. A guessing game
#
# A story begins `Once there was a `. Which character comes next? You cannot know, but you would not bet on a `z` either. Say
# your guess, and how sure you are.
#
# We let a machine play that has read four fifths of our stories; the rest we keep aside, *held out*, for testing. It looks up
# where it has seen the last characters before, and counts what came then.

# %% id="game"
documents = list(stories(DOCUMENTS, seed=1))
train, held_out = documents[: DOCUMENTS * 4 // 5], documents[DOCUMENTS * 4 // 5 :]
train_text, held_out_text = "".join(train), "".join(held_out)
alphabet = sorted(set(train_text + held_out_text))


def followers(context):
    """Which characters came after this context in the training stories, and how often."""
    k = len(context)
    return Counter(train_text[i + k] for i in range(len(train_text) - k) if train_text.startswith(context, i))


followers("there was a ").most_common(6)

# %% [markdown] id="model-text"
# Counts become **probabilities** when we divide by their sum: numbers from 0 to 1, a share for each character, which together
# make 1. A **language model** is no more than that: given what stands before, it gives each possible next token a probability.
#
# A character that was never seen there would get 0, as if it were impossible. We are more careful, and give each character a
# hundredth of a count for free.


# %% id="model"
def probability(character, context):
    counts = followers(context)
    return (counts[character] + 0.01) / (counts.total() + 0.01 * len(alphabet))


assert abs(sum(probability(c, "rainy ") for c in alphabet) - 1) < 1e-9

# %% [markdown] id="chain-text"
# ## 2. The probability of a text
#
# Take a text of four tokens: *the cat slept .* Of 10,000 texts, let 2,000 begin with "the", a share of 0.2. Of those let 100 go
# on with "cat": a share of 0.05. Of those, 30 go on with "slept" (0.3), and of those, 15 end with "." (0.5). So 15 of 10,000
# texts are this one. The shares are multiplied, each taken *among the texts that began like that*:
#
# > p(t1 t2 t3 ...) = p(t1) · p(t2 given t1) · p(t3 given t1 t2) · ...
#
# This is the **chain rule**. It is exact for any text, and it is why predicting the next token is enough: who can do that can
# say how probable a whole book is. But what will a computer say of a text of 1,000 tokens, each with a probability of 0.2?

# %% id="chain"
tiny = [0.2, 0.05, 0.3, 0.5]
print("the tiny text:", math.prod(tiny), "  1,000 tokens:", math.prod([0.2] * 1000))
assert math.isclose(math.prod(tiny), 15 / 10_000) and math.prod([0.2] * 1000) == 0

# %% [markdown] id="log-text"
# Zero, and wrong: the true product has some 700 zeros behind the point, and no float is so small. Logarithms help:
#
# > log(a · b) = log a + log b
#
# They turn products into sums. The logarithm of a number below 1 is negative, so we turn the sign:
#
# > surprise of a token = -log p
#
# Half as probable means a fixed amount more surprise, however probable it was before. Before you draw it: how surprising is a
# token with p = 1? And where does the curve go as p goes to 0?

# %% id="log-curve"
surprises = [-math.log(p) for p in tiny]
print([round(surprise, 3) for surprise in surprises], "together", round(sum(surprises), 3))
assert math.isclose(sum(surprises), -math.log(math.prod(tiny)))
p = np.linspace(0.01, 1, 200)
plot_curves(p, {"surprise": -np.log(p)}, "probability of the token that came", "surprise, -log p")

# %% [markdown] id="where-text"
# What was certain is no surprise; what was held impossible surprises without end. And where probabilities are multiplied,
# surprises add up.
#
# ## 3. Where is the surprise?
#
# We let the machine read a sentence and look at its surprise at each character, given the four before it. Where will the high
# bars stand: at the beginning of words, inside, or at their end? (␣ is a blank.)

# %% id="where"
sentence = "Once there was a little hedgehog named Emil."
places = range(4, len(sentence))
given = [probability(sentence[i], sentence[i - 4 : i]) for i in places]
sentence_surprises = -np.log2(given)
beginnings = [sentence_surprises[i - 4] for i in places if sentence[i - 1] == " "]
assert np.mean(beginnings) > 2 * np.mean(sentence_surprises)
plot_surprise(sentence[4:], sentence_surprises)

# %% [markdown] id="bits-text"
# At the beginnings, mostly: that is where the story decides something. Further on, the rest of a word is often nearly free. Where
# a bar inside a word is high, another word was likelier: after `␣the` a blank comes as a rule, and no `r`.
#
# The bars are in **bits**, logarithms with base 2; with the natural logarithm we speak of **nats**. One bit is the surprise at
# one fair coin. A probability of 1/8 is three coins in a row, 3 bits. And a bit is what you think it is, a 0 or a 1 in a file:
#
# ## 4. Surprise is length
#
# Four letters come with probabilities 1/2, 1/4, 1/8 and 1/8. Two binary digits for each letter would do. But we can be clever,
# and write the frequent one short. No code is the beginning of another, so the row of digits can be read back without any
# commas:

# %% id="code"
shares = {"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "d": 1 / 8}
code = {"a": "0", "b": "10", "c": "110", "d": "111"}
message = "abacabad"
written = "".join(code[letter] for letter in message)
print(written, "has", len(written), "digits; two for each letter would make", 2 * len(message))
assert len(written) == sum(-math.log2(shares[letter]) for letter in message)

# %% [markdown] id="nll-text"
# Each letter got -log2 p digits: its length *is* its surprise. Claude Shannon proved in 1948 that no code is shorter on average,
# if the letters do come with these probabilities, and that one gets as near as one likes. So a model that is less surprised by a
# text could compress it to a smaller file. Our measure has a meaning that you can put on a disk.
#
# From here on we compute in nats, and turn them into bits at the end. Half a probability is one bit more, and -log(1/2) = log 2
# nats more: so one bit is log 2 nats, about 0.7.
#
# **Exercise 1.** The total surprise of a model at a text, from the probabilities that it gave to the tokens that came.


# %% tags=["exercise"] id="exercise-nll"
def negative_log_likelihood(probabilities):
    """The sum of -log p, in nats, also for thousands of tokens; math.inf if a probability is 0; 0 if there are none."""
    raise NotImplementedError


# %% tags=["check"] id="check-nll"
negative_log_likelihood = check("negative_log_likelihood", negative_log_likelihood)

# %% id="nll-see"
sentence_nats, size = negative_log_likelihood(given), 8 * len(given)
bits = sentence_nats / math.log(2)
print(f"{sentence_nats:.1f} nats = {bits:.1f} bits; a file takes {size}: compressed to {bits / size:.0%}")

# %% [markdown] id="perplexity-text"
# ## 5. Perplexity: among how many?
#
# A long text surprises more than a short one, so we divide by the number of tokens: the mean surprise. Few people feel what
# "1.2 nats per token" means. Then think of dice. Each roll of a fair die with V faces has probability 1/V and a surprise of log
# V. So if a model's mean surprise is log V, it is as unsure as one who rolls a die with V faces for each token. That V is its
# **perplexity**.
#
# **Exercise 2.** The perplexity, from the total surprise. Which V has log V = mean surprise?


# %% tags=["exercise"] id="exercise-perplexity"
def perplexity(nats, tokens):
    """nats: the total surprise at so many tokens -> among how many equally likely tokens the model seems to choose."""
    raise NotImplementedError


# %% tags=["check"] id="check-perplexity"
perplexity = check("perplexity", perplexity)

# %% id="perplexity-see"
for faces in (2, 6, 256):
    rolls = negative_log_likelihood([1 / faces] * 1000)
    print(faces, "faces: perplexity", round(perplexity(rolls, 1000), 6))
    assert math.isclose(perplexity(rolls, 1000), faces)
print(f"the sentence above: {perplexity(sentence_nats, len(given)):.2f} of {len(alphabet)} characters")

# %% [markdown] id="split-text"
# This is a test to keep: a model that finds V tokens equally likely has perplexity V, on every text. If an evaluation says
# anything else, the evaluation is wrong.
#
# ## 6. Tokens cannot be compared
#
# Now a trick. A model gives the token `tomorrow` a probability of 1/16. Another one, no wiser, has cut it in two: it gives
# `tomor` 1/16, and then `row` follows for certain. Is the second model better?

# %% id="split"
for tokens in ([1 / 16], [1 / 16, 1.0]):
    total, n = negative_log_likelihood(tokens), len(tokens)
    print(f"{total:.3f} nats in all, {total / n:.3f} per token, perplexity {perplexity(total, n):.1f}")

# %% [markdown] id="bpb-text"
# The same knowledge, the same total surprise, but twice the tokens: half the nats per token, and the perplexity fell from 16 to
# 4. A number that is divided by *tokens* depends on who cut the text. So we divide by something that no tokenizer can change:
# the bytes of the text, as it lies on the disk in UTF-8. And since files are measured in bits: **bits per byte**.
#
# A file takes 8 bits for a byte, so 8 is "no idea", 2 is "compressed to 25 %".
#
# **Exercise 3.** Bits per byte, of the original text: nothing cut off, nothing cleaned.


# %% tags=["exercise"] id="exercise-bpb"
def text_bits_per_byte(nats, text):
    """nats: the total surprise at the whole text -> bits for each byte of the text in UTF-8."""
    raise NotImplementedError


# %% tags=["check"] id="check-bpb"
text_bits_per_byte = check("text_bits_per_byte", text_bits_per_byte)

# %% tags=["check"] id="reveal"
reveal("negative_log_likelihood")  # the library's version of exercise 1, once yours has passed

# %% id="bpb-see"
for character in "eé🦔":
    print(f"one of 256 tokens, and it is {character}: {text_bits_per_byte(math.log(256), character):.2f} bits per byte")

# %% [markdown] id="greek-text"
# ## 7. The experiment
#
# The simplest model that learns anything is the **unigram** model: it counts how often each token occurs and never looks at
# what stands before. It gives each token the share (count + 1) / (all counts + V), where V is the size of the vocabulary; the 1
# is there so that no token is impossible.
#
# We count the same stories in three ways: in characters, in bytes, and in BPE tokens (512 of them). To tell characters and
# bytes apart we write the stories in Greek letters (the small ones only), which take two bytes each.


# %% id="greek"
def unigram(train_ids, ids, vocab_size):
    """The probabilities that counting gives to each of the ids."""
    counts = np.bincount(train_ids, minlength=vocab_size) + 1
    return (counts / counts.sum())[ids].tolist()


letters = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβψδεφγηιξκλμνοπϟρστθωςχυζ")
greek_train, greek_held_out = train_text.translate(letters), held_out_text.translate(letters)
bpe = BPETokenizer.train([document.translate(letters) for document in train], vocab_size=512)
kinds = {
    "characters": (lambda text: [ord(c) for c in text], 1024),  # ord: the number of a character, here below 1024
    "bytes": (lambda text: list(text.encode()), 256),
    "BPE-512": (bpe.encode, 512),
}
greek_held_out[:50]

# %% [markdown] id="kinds-text"
# Predict before you run: which of the three has the lowest perplexity, which the lowest bits per byte? Remember "tomorrow": who
# has more tokens has less surprise for each.

# %% id="kinds-plot"
perplexities, bits_per_byte = [], []
for encode, vocab_size in kinds.values():
    greek_ids = encode(greek_held_out)
    greek_nats = negative_log_likelihood(unigram(encode(greek_train), greek_ids, vocab_size))
    perplexities.append(perplexity(greek_nats, len(greek_ids)))
    bits_per_byte.append(text_bits_per_byte(greek_nats, greek_held_out))
assert perplexities[1] < perplexities[0] < perplexities[2] and bits_per_byte[2] < bits_per_byte[0] < bits_per_byte[1]
plot_measures(list(kinds), perplexities, bits_per_byte)

# %% [markdown] id="same-text"
# The order is turned around! Bytes have the lowest perplexity, as nearly half of them are little news: each of our Greek letters begins
# with one of the same two bytes. But as a compressor they are the worst, and BPE, by far the most perplexed, is the best: its tokens
# hold whole words.
#
# There is one thing that bits per byte cannot do: compare *texts*. The same model of characters on the same stories, in Latin
# letters now:

# %% id="same"
latin_nats = negative_log_likelihood(unigram([ord(c) for c in train_text], [ord(c) for c in held_out_text], 1024))
latin_bits = text_bits_per_byte(latin_nats, held_out_text)
print(f"Latin letters {latin_bits:.2f} bits per byte, Greek letters {bits_per_byte[0]:.2f}")
assert math.isclose(latin_bits * len(held_out_text.encode()), bits_per_byte[0] * len(greek_held_out.encode()))

# %% [markdown] id="heart-text"
# Nothing was understood better in Greek; the same surprise was shared out among more bytes. So: *one* text for all models, and
# bits per byte.
#
# ## 8. Four ways to fool yourself
#
# **Testing on what was learned.** Here is a model that has learned its stories by heart. Each of them it holds equally likely,
# and nothing else is possible. How will it do on the training stories, how on the held-out ones?

# %% id="heart"
by_heart = {}
for name, some in (("training", train), ("held-out", held_out)):
    heart_nats = negative_log_likelihood([train.count(document) / len(train) for document in some])
    by_heart[name] = text_bits_per_byte(heart_nats, "".join(some))
by_heart

# %% [markdown] id="means-text"
# Almost nothing, and infinity. Only text that the model has not seen says what it has learned. And we split by whole
# *documents*: if a story were cut in the middle, its first half would tell the names and the plot of the second.
#
# **Means of means.** A collection holds a long story and a short message. Each has its bits per byte. Is the mean of the two
# the measure of the collection?

# %% id="means"
train_ids, held_out_ids = list(train_text.encode()), list(held_out_text.encode())
pair = [held_out[0], "🦔🦔"]
pair_nats = [negative_log_likelihood(unigram(train_ids, list(d.encode()), 256)) for d in pair]
each = [text_bits_per_byte(nats, document) for nats, document in zip(pair_nats, pair, strict=True)]
together = text_bits_per_byte(sum(pair_nats), "".join(pair))
print(f"each {each[0]:.2f} and {each[1]:.2f}, their mean {sum(each) / 2:.2f}; the collection {together:.2f}")
assert sum(each) / 2 > 2 * together

# %% [markdown] id="peek-text"
# The mean of the two lets 8 bytes count as much as the whole story. Add all nats, add all bytes, and divide once: then each
# byte counts the same. That holds for batches, windows and files as well.
#
# **Peeking.** This "model" always says, with probability 0.9, that the token which it has just read comes again. Off by one
# place, an evaluation would hold its prediction against that very token:

# %% id="peek"
# The model has read place t and speaks of place t + 1. Off by one, its word is held against place t: no slip of the pen here.
peeking = [0.9 if held_out_ids[t] == held_out_ids[t] else 0.1 / 255 for t in range(len(held_out_ids))]
honest = [1 / 256] + [0.9 if held_out_ids[t] == held_out_ids[t - 1] else 0.1 / 255 for t in range(1, len(held_out_ids))]
peeking, honest = (text_bits_per_byte(negative_log_likelihood(ps), held_out_text) for ps in (peeking, honest))
print(f"peeking {peeking:.2f} bits per byte, honest {honest:.2f}")
assert peeking < 1 and honest > 8

# %% [markdown] id="ladder-text"
# A second test to keep: a copier must do badly, worse than no idea at all. If it shines, the evaluation peeks. (The fourth way
# you know by now: comparing perplexities of different tokenizers.)
#
# ## 9. The ladder begins
#
# All on the held-out stories. At the bottom a model that finds all bytes equally likely, then our unigram of bytes.
#
# Compression programs are models too: their file's size in bits is their surprise. Python brings two along. `zlib`, which makes
# zip files, looks for repeated strings in the text itself. And `lzma`, which makes xz files, may even read the training stories
# first: we compress both together, and subtract what the training stories take alone.
#
# Can a model reach 0? No: whoever invents a story makes choices, and they cannot be foreseen. Our stories come from a story
# world with known dice, so `log_prob` can say exactly how probable a story is. That is the **floor** under every model: on
# average, nobody who has not seen these stories comes below it.
#
# Draw the bars in your mind before you look: 8 bits at the top, the floor at the bottom. How far down does mere counting come,
# and how much room is left below the programs?

# %% id="ladder"
byte, world = 8 * math.log(2), StoryWorld()  # a byte of a compressed file, in nats; the dice
xz_bytes = len(lzma.compress(bytes(train_ids + held_out_ids))) - len(lzma.compress(bytes(train_ids)))
models = [
    ("uniform", negative_log_likelihood([1 / 256] * len(held_out_ids)), "no idea: all bytes are equally likely"),
    ("unigram", negative_log_likelihood(unigram(train_ids, held_out_ids, 256)), "how often each byte occurs"),
    ("zip", len(zlib.compress(bytes(held_out_ids), 9)) * byte, "points back to strings that stood there before"),
    ("xz", xz_bytes * byte, "points back too, and has read the training stories"),
    ("true floor", -sum(map(world.log_prob, held_out)), "the story world, which knows all its dice"),
]
rungs = [Row(name, text_bits_per_byte(nats, held_out_text), sentence) for name, nats, sentence in models]
measures = [rung.bits_per_byte for rung in rungs]
assert measures == sorted(measures, reverse=True) and math.isclose(measures[0], 8) and measures[-1] < measures[-2] / 3
assert by_heart["training"] < text_bits_per_byte(-sum(map(world.log_prob, train)), train_text)  # an alarm bell
plot_ladder(rungs)

# %% [markdown] id="summary"
# Counting alone halves the file, and a program that remembers strings gets far lower. But it still needs several times as many
# bits as the floor: that gap is what the models of this course are for.
#
# The last assert is an alarm bell: the model that knew the training stories by heart needs *fewer* bits for them than the floor
# under those same stories. On a few stories a guess may be lucky; but a model that comes below the floor on many has seen the test.
#
# ## Summary
#
# * A model's surprise at a text is the sum of -log p over its tokens. It is also the length of the shortest file that the model
#   could make of it.
# * Perplexity is the number of equally likely choices, and depends on the tokenizer. Bits per byte do not: compare models by
#   them, on one held-out text.
# * Add all nats, add all bytes, divide once. Uniform must give V, a copier must fail, and on average nobody honest comes
#   below the floor.
#
# **On the ladder**: uniform, unigram, two compression programs, and the floor. The next lessons climb down between them: lesson
# 03 lets counts look at the tokens before.
#
# **Read next**: Shannon 1951, "Prediction and entropy of printed English", who played the guessing game with people; in minilm
# `minilm/metrics.py`, and `minilm/evaluation/evaluate.py`, which scores every token of a long text exactly once.
