# %% [markdown] id="title"
# # 01 Text and tokens: what does a model read?
#
# A language model computes, so it can only read numbers. Which numbers should a text become? The answer decides how long a text is
# for the model, how many things it must know, and whether there are words that it cannot see.
#
# **You will write** the algorithm that GPT-2 and most models since use, byte-pair encoding, in four short functions, and a fifth
# that makes rectangles of texts.
#
# needs: nothing but Python. Time: 90 minutes. Run time: a few seconds on a laptop.

# %% tags=["parameters"] id="parameters"
QUICK = False
DOCUMENTS = 500

# %% id="setup"
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

from collections import Counter

import numpy as np
import regex

from minilm import BPETokenizer
from minilm.checks.exercises import check, reveal
from minilm.plots.tokens import plot_compression, plot_merges, plot_zipf
from minilm.text.bpe import GPT2_PATTERN
from minilm.text.stories import stories

if QUICK:
    DOCUMENTS = 100

# %% [markdown] id="bytes-text"
# ## 1. What a file really is
#
# A file on a disk is a row of **bytes**, and a byte is a number from 0 to 255: no letters. Which
# numbers stand for which letters is an agreement, and the one that nearly everybody keeps is called **UTF-8**. In Python,
# `encode` turns a text (a row of characters) into its bytes in UTF-8, and `decode` turns bytes into text.
#
# Before you run the cell: how many bytes will e have, and é, and a hedgehog?

# %% id="bytes"
text = "the café 🦔"
for character in "eé🦔":
    print(character, list(character.encode()))
print(len(text), "characters,", len(text.encode()), "bytes")
half = "é".encode()[:1]
half.decode(errors="replace")

# %% [markdown] id="kinds-text"
# The letters, digits and signs of English take one byte each, with a number below 128; all others take two, three or
# four bytes, each of 128 or more. So `len` of a text is not the length of its file, and a byte alone may be no character at all.
# If you decode half an é, Python stops with an error or, with `errors="replace"`, puts the sign � in its place.
#
# ## 2. Bytes, characters or words?
#
# What the model reads one after the other are **tokens**. Each different token has a number, its **id**, and all of them together are the
# **vocabulary**. Bytes could be the tokens, or characters, or words. We try all three on short stories, which minilm makes up from
# a seed: some to build the vocabulary from, others, *held out*, to see how it does on new text. A word
# is, for now, what stands between blanks: `split` cuts there. And then somebody writes a sentence of their own.
#
# Before you run the cell: which kind of token makes the longest text, and which the largest vocabulary? What will not be known?

# %% id="kinds"
documents = list(stories(DOCUMENTS, seed=1))
held_out = list(stories(100, seed=2))
train, other = "\n".join(documents), "\n".join(held_out)
kinds = {
    "bytes": (range(256), other.encode()),
    "characters": (set(train), other),
    "words": (set(train.split()), other.split()),
}
for name, (vocabulary, tokens) in kinds.items():
    print(f"{name:10}  vocabulary {len(vocabulary):5}   held-out stories: {len(tokens):6} tokens")
assert len(other.split()) < len(other) / 4
sentence = "The hedgehog ordered a café au lait 🦔 unhappily."
print("words we do not know:     ", [word for word in sentence.split() if word not in set(train.split())])
print("characters we do not know:", sorted(set(sentence) - set(train)))

# %% [markdown] id="zipf-text"
# Words make the shortest text by far: fewer than a quarter of the tokens. Short is good: a model works once for each token, and
# looks back on a limited number of them. But each choice has its trouble:
#
# * **Bytes**: nothing is unknown, but texts get long.
# * **Characters**: just as long in English, and of the many thousands in the world's scripts some will always be missing.
# * **Words**: short, but new ones cannot be read, and the list never ends: "unhappily." would stand
#   there again without its full stop, and again with a capital letter.
#
# ## 3. A few words do most of the work
#
# Could we not just take more words? Count how often each word occurs (this time without full stops and commas, so there are
# fewer words than above) and sort: the commonest gets **rank** 1, the next rank 2. Suppose that the first
# occurs some thousands of times. What do you expect of the word of rank 10, and of rank 100? The picture has *logarithmic* axes:
# the same step always means ten times as much (1, 10, 100), so that large and small counts can be seen together.

# %% id="zipf"
counts = Counter(regex.findall(r"\p{L}+", train))  # \p{L} is any letter, + is one or more of them
common = sum(count for _, count in counts.most_common(100)) / counts.total()
print(f"the 100 commonest of {len(counts)} words make {common:.0%} of the text")
assert common > 0.5 > 100 / len(counts)
plot_zipf(counts)

# %% [markdown] id="bpe-text"
# The line is *first / rank*: the word of rank 10 would occur a tenth as often as the first. Words of any language lie near such a line:
# this is **Zipf's law**. Our stories lack the endless tail of rare words that a library has. So our points fall off at the right end, and
# what the tail would have of the text goes to the words in the middle: they lie above the line.
#
# A hundred words are most of a text, and most words are rare. Then let frequent strings be tokens, and let rare ones be put
# together from smaller tokens, in the worst case from bytes, so that nothing is unknown. **Byte-pair encoding** finds them:
#
# > Begin with bytes. Find the pair of neighbours that occurs most often. Make it a new token. Begin again.
#
# ## 4. By hand
#
# A tiny text: *sea* occurs 3 times, *tea* 3 times, *eat* twice. We keep each word once, as a list of ids, and beside it how often
# it occurs.

# %% id="tiny"
words = [list(word.encode()) for word in ("sea", "tea", "eat")]
frequencies = [3, 3, 2]
words

# %% [markdown] id="count-text"
# Which pair of neighbours is the most frequent one? Find out on paper first. Every place counts: "aaa" holds the pair (a, a)
# twice. And pairs live inside words: the last letter of one is no neighbour of the first of the next.
#
# **Exercise 1.** Count the pairs. (`for word, frequency in zip(words, frequencies)` walks through both lists together. A dictionary has
# no entry yet for a pair seen for the first time: `counts.get(p, 0)` then says 0, and so does a `Counter`.)
#
# If Python cannot read your cell (`SyntaxError`), mend it and run it again *before* the check.


# %% tags=["exercise"] id="exercise-count"
def count_pairs(words, frequencies):
    """words: lists of ids; frequencies: how often each word occurs -> {(left, right): how often this pair occurs}."""
    raise NotImplementedError


# %% tags=["check"] id="check-count"
count_pairs = check("count_pairs", count_pairs)

# %% id="count-see"
pair_counts = count_pairs(words, frequencies)
assert pair_counts[ord("e"), ord("a")] == 8 == max(pair_counts.values())
{chr(left) + chr(right): count for (left, right), count in pair_counts.items()}

# %% [markdown] id="merge-text"
# The pair (e, a) stands in every word and becomes the first new token. Ids 0 to 255 are the bytes, so its id is 256.
#
# To **merge** a pair is to put the new token wherever the pair stands. In "aaa" the pair (a, a) stands twice,
# but the middle a cannot be used twice. We go from left to right, and what has been merged is used up: "aaa" becomes the new token
# and an a.
#
# **Exercise 2.** Merge a pair.


# %% tags=["exercise"] id="exercise-merge"
def merge_pair(ids, pair, token):
    """The list of ids with each occurrence of pair (left, right) replaced by token: left to right, without overlap."""
    raise NotImplementedError


# %% tags=["check"] id="check-merge"
merge_pair = check("merge_pair", merge_pair)

# %% id="merge-see"
spelled = [bytes([byte]) for byte in range(256)]  # what each id stands for
e, a = ord("e"), ord("a")  # ord: the number of a character
print([merge_pair(word, (e, a), 256) for word in words])
spelled.append(spelled[e] + spelled[a])
spelled[97], spelled[256]

# %% [markdown] id="learn-text"
# What does 256 stand for? We keep a list, `spelled`. It starts with the 256 bytes: `spelled[97]` is `bytes([97])`, which is `b"a"`
# (b marks bytes). Each merge appends what its left and its right token spell together:
# here `b"e" + b"a"`, so `spelled[256]` is `b"ea"`. The next merge makes 257.
#
# Which pair? Count again: (s, 256) occurs 3 times, and so does (t, 256). We need a rule for ties, or two computers would make
# two vocabularies. Ours: among the most frequent pairs, compare what the left tokens spell, and if that is the same, what the right
# ones spell; what comes *last* in the alphabet wins. Here t comes after s, so "tea" is made first.
#
# Not the ids: 256 is more than the id of s, but "ea" comes before "s". Python can compare bytes, and tuples from
# left to right: `(3, b"t", b"ea") > (3, b"s", b"ea")`. And `max(counts, key=f)` finds the pair for which the function f
# gives the largest value.
#
# **Exercise 3.** Learn the merges. Merge i (from 0) makes token 256 + i. Stop early if no word holds a pair any more.


# %% tags=["exercise"] id="exercise-learn"
def learn_merges(words, frequencies, n_merges):
    """words: lists of byte ids 0..255 -> the list of the first n_merges pairs (left id, right id), in the order of learning."""
    raise NotImplementedError


# %% tags=["check"] id="check-learn"
learn_merges = check("learn_merges", learn_merges)

# %% id="learn-see"
merges = learn_merges(words, frequencies, 4)
spelled = [bytes([byte]) for byte in range(256)]  # what each id stands for
for left, right in merges:
    spelled.append(spelled[left] + spelled[right])
assert spelled[256:] == [b"ea", b"tea", b"sea", b"eat"]
merges

# %% [markdown] id="encode-text"
# ## 5. A new word
#
# The four merges are all that is kept. Now a new word comes: "seat". To **encode** it, we do what
# the training would have done: begin with its bytes and apply the merges, in the order in which they were learned. Nothing is
# counted any more, and nobody looks for the longest token. In what tokens will "seat" end?
#
# **Exercise 4.** Encode a word.


# %% tags=["exercise"] id="exercise-encode"
def encode_piece(piece, merges):
    """piece: bytes; merges: pairs in the order of learning, merge i makes 256 + i -> the list of ids."""
    raise NotImplementedError


# %% tags=["check"] id="check-encode"
encode_piece = check("encode_piece", encode_piece)

# %% id="encode-see"
assert encode_piece(b"seat", merges) == [258, ord("t")]
[spelled[i] for i in encode_piece("seat🦔".encode(), merges)]

# %% [markdown] id="pieces-text"
# Nothing is unknown: what no merge reaches stays as bytes, even a hedgehog.
#
# ## 6. Pieces
#
# What is a "word" in a real text? GPT-2 cuts with a pattern before anything is merged. Guess how it cuts this line; mind the blanks.

# %% id="pieces"
regex.findall(GPT2_PATTERN, "She's got 12 hedgehogs,  hasn't she?\n")

# %% [markdown] id="pieces-read"
# A piece is a word, a number or a group of signs, *with the one blank before it*; short English endings such as 's are pieces too, and so is
# what is left of the blanks: hasn takes one of the two with it, so the other stays alone. Side by side, the pieces are the text.
#
# Pairs live inside pieces. Without this rule, "e" and blank would soon be a token, then "the c", and the vocabulary
# would fill with "dog.", "dog," and "dog!".
#
# Now your functions learn from real pieces. What will be the first merges?

# %% id="stories-learn"
piece_counts = Counter(regex.findall(GPT2_PATTERN, "\n".join(documents[:50])))
pieces = [list(piece.encode()) for piece in piece_counts]
learned = learn_merges(pieces, list(piece_counts.values()), 40)
story_spelled = [bytes([byte]) for byte in range(256)]
for left, right in learned:
    story_spelled.append(story_spelled[left] + story_spelled[right])
print([token.decode() for token in story_spelled[256:]])

# %% [markdown] id="library-text"
# The library's `BPETokenizer` does the same, but looks only at the places where a merged pair stands, instead of counting all pairs
# anew: so it is fast enough for large texts. Its merges must equal yours. `reveal` shows the library's version of your function,
# once yours has passed.

# %% tags=["check"] id="reveal"
reveal("learn_merges")

# %% id="library"
tokenizer = BPETokenizer.train(["\n".join(documents[:50])], vocab_size=256 + 40 + 1)  # bytes, merges, 1 special token
assert tokenizer.merges == [tuple(pair) for pair in learned]
tokenizer = BPETokenizer.train(documents, vocab_size=1024)
[tokenizer.decode([i]) for i in tokenizer.encode("The hedgehog ordered a boat.")]

# %% [markdown] id="grow-text"
# (The one special token is for section 8.) And here is how a piece grows, from bytes to its last tokens, a row for each merge that
# does something. Which parts of " together" are frequent by themselves? ␣ is a blank.

# %% id="grow"
ids = list(b" together")
rows = [[tokenizer.token_bytes[i] for i in ids]]
for i, pair in enumerate(tokenizer.merges):
    merged = merge_pair(ids, pair, 256 + i)
    if merged != ids:
        ids = merged
        rows.append([tokenizer.token_bytes[i] for i in ids])
plot_merges(rows)

# %% [markdown] id="size-text"
# ## 7. How large should the vocabulary be?
#
# We measure how many bytes of held-out text one token stands for. The smallest vocabulary
# has 257 ids (no merge: the bytes and the special token), the next 320 and 512, and then it doubles: 1024, 2048. Will a token
# cover twice as much then? Draw your curve in the air first. The square is a vocabulary of all the pieces of the training stories.

# %% id="size"
n_bytes = len(other.encode())
sizes = [257, 320, 512, 1024, 2048]
tokenizers = [BPETokenizer.train(documents, vocab_size=size) for size in sizes]
per_token = [n_bytes / len(t.encode(other)) for t in tokenizers]
whole = len(set(regex.findall(GPT2_PATTERN, train))), n_bytes / len(regex.findall(GPT2_PATTERN, other))
gains = [per_token[i + 1] / per_token[i] for i in (2, 3)]
assert 2 > gains[0] > gains[1] > 1 == per_token[0]
assert whole[0] < sizes[-1] and whole[1] > per_token[-1]
print(f"from 512 to 1024 ids a token covers {gains[0]:.2f} times as much, from 1024 to 2048 {gains[1]:.2f} times")
plot_compression(sizes, per_token, {"whole pieces": whole})

# %% [markdown] id="special-text"
# The second doubling brings less than the first, since the frequent strings are found first. Whole pieces need fewer ids, without
# bytes and half-grown tokens, but they read our stories only.
#
# And tokens cost: the model keeps a row of numbers for each id, and must choose among all at each step. A rare token
# is seldom seen, so little is learned about it. Large models have a hundred thousand tokens and more; we stay with 1024.
#
# ## 8. Signals, and back to text
#
# One id is not text: `<|endoftext|>` says to the model that a document ends and another begins. Such **special tokens** are put in as ids by
# the program. They must never come out of `encode`, or a user could type one, and give a signal that only the program may give.
#
# The way back: join the bytes of all tokens *first*, then decode. What comes out if we decode one token at a time, as
# a program does that shows an answer while it is being written?

# %% id="special"
assert tokenizer.end_of_text not in tokenizer.encode("<|endoftext|>")
ids = tokenizer.encode("café 🦔")
print("one by one:", [tokenizer.decode([i]) for i in ids])
print("together:  ", tokenizer.decode(ids))
assert "".join(tokenizer.decode([i]) for i in ids) != tokenizer.decode(ids) == "café 🦔"

# %% [markdown] id="pad-text"
# The sign � stands for bytes that are no whole character. So such a program keeps them back until the rest has come.
#
# ## 9. Texts of different lengths
#
# A model is trained on many texts at a time, as a rectangle of ids: B rows of L columns. Shorter rows are filled up with some id, the
# **padding**, and longer ones are cut. Two rows, `[5, 6, 7, 8, 9]` and `[3]`, with L = 4 and the padding 0:
#
#     side="right"    5 6 7 8    True  True  True  True
#                     3 0 0 0    True  False False False
#
#     side="left"     6 7 8 9    True  True  True  True
#                     0 0 0 3    False False False True
#
# The **mask** is True where a token is real, for the padding's id may be a real token too. On the right, for training, a long row keeps its
# *first* L tokens. On the left it keeps its *last*: there the model is to go on writing straight after a real token.
# L is `length`, or if none is given, that of the longest row.
#
# **Exercise 5.** Pad the rows; one may be empty. Keep the first line of the function as it is. (`np.full((B, L), pad)` makes a rectangle
# full of `pad`, and `ids[0, 2:5] = [7, 8, 9]` writes three numbers into its first row.)


# %% tags=["exercise"] id="exercise-pad"
def pad_batch(rows, pad, length=None, side="right"):
    """rows: lists of ids -> (ids (B, L) as np.int64, mask (B, L) of True and False: True where a real token is).

    side: where the padding goes, "right" (keeps the first L tokens of a row) or "left" (keeps the last L).
    """
    raise NotImplementedError


# %% tags=["check"] id="check-pad"
pad_batch = check("pad_batch", pad_batch)

# %% id="pad-see"
rows = [[tokenizer.end_of_text, *tokenizer.encode(line)] for line in ("The cat ran.", "Yes!", "Once there was a boat.")]
batch, mask = pad_batch(rows, pad=tokenizer.end_of_text, side="left")
assert mask.sum() == sum(len(row) for row in rows)
np.where(mask, batch, -1)  # -1 only to see the padding

# %% [markdown] id="summary"
# ## Summary
#
# * A text is bytes. Byte-pair encoding joins the most frequent neighbours again and again: frequent words become one token, rare ones
#   several, and nothing is unknown.
# * To encode, apply the merges inside each piece, in the order of learning; to decode, join the bytes first. Special tokens are ids, never text.
# * A larger vocabulary makes texts shorter, each doubling by less. Tokens of different vocabularies cannot be compared, bytes can.
#
# The *ladder*, the course's table of all its models, gets no row yet: a tokenizer predicts nothing. Lesson 02 measures
# what does.
#
# **Read next**: Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword units"; in minilm
# `minilm/text/bpe_train.py` (`trace_merges` is the fast way) and `minilm/text/bpe.py`.
