# %% [markdown] id="title"
# # 10 Fine-tuning: can a reader learn to judge from a hundred examples?
#
# Texts are plenty, labels are dear: somebody has to read a text and say what it is. A model that has read two thousand stories can guess
# the next token, and nobody told it what a happy end is. Does its reading help, when only a hundred stories
# have a label? And can it be taught to answer, and to stop?
#
# **You will write** the step from many vectors to one, the loss of a label, an honest measure, and the targets that teach a model to
# answer. They run in every experiment below.
#
# needs: 01, 02, 03, 04, 05, 06, 07, 08, 09. Time: 85 minutes. Run time: about three minutes of one processor core.


# %% tags=["parameters"] id="parameters"
QUICK = False
STEPS, DOCUMENTS, TESTED, SEEDS, TUNING, DRAWN, TALKS = 300, 2000, 200, 3, 30, 4800, 1500

# %% id="setup"
import copy
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("minilm") is None:  # on Colab, say
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "minilm"], check=True)

import torch

from minilm import BPETokenizer, SpeedrunConfig, SpeedrunGPT, TrainConfig, train
from minilm.checks.exercises import check, reveal
from minilm.classical.bag_of_ngrams import BagOfNgrams
from minilm.classical.logistic_regression import LogisticRegression
from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.finetuning.predict import encode_text, outputs
from minilm.finetuning.sft import complete
from minilm.layers.basic import Linear
from minilm.metrics import accuracy, confusion_matrix
from minilm.plots.classification import plot_confusion, plot_learning_curves
from minilm.tasks.instructions import instructions
from minilm.tasks.sentiment import LABELS, labelled
from minilm.text.stories import stories
from minilm.training.recipes import RECIPES

# %% [markdown] id="question"
# ## 1. The question, and who answers it without a network
#
# Our stories end well or badly, and say so: "Ada was glad". That sentence is taken out of the stories below. Whether it is positive or
# negative must be seen from what happens. The test stories tell of other events than those to learn from.

# %% id="data"
if QUICK:
    STEPS, DOCUMENTS, TESTED, SEEDS, TUNING, DRAWN, TALKS = 6, 60, 20, 1, 2, 600, 30
texts, labels = zip(*labelled(100, 101, "silent"), strict=True)
test_texts, truth = zip(*labelled(TESTED, 1, "silent", "test"), strict=True)
print(*(f"{label}: ...{text[-230:]}\n" for text, label in zip(texts[:2], labels, strict=False)), sep="\n")


# %% [markdown] id="baseline-text"
# First two **baselines**: always the same answer; and **logistic regression**, which looks for one weight
# a word, such that the weights of a text add up to a score; above 0 it is positive. It only counts words: no order, no network.
#
# It learns from a hundred stories, once from all of them, once from their last 40 words (about 63 tokens, all that our classifiers
# will read). Guess how often each is right.


# %% id="baseline"
def counting(texts, labels, asked, longest=1, last=0):  # learn, then answer; last = 40: of each text its last 40 words
    seen, asked = ([" ".join(text.split()[-last:]) for text in some] for some in (texts, asked))
    return LogisticRegression(BagOfNgrams(longest)).fit(seen, labels).predict(asked)


whole, end = (accuracy(counting(texts, labels, test_texts, last=last), truth) for last in (0, 40))
print(f"always positive: {accuracy(['positive'] * TESTED, truth)}; whole stories: {whole:.3f}; their ends: {end:.3f}")
assert QUICK or 0.7 < whole < end


# %% [markdown] id="baseline-read"
# By counting alone, most are right! And the ends are better: each word that says nothing is a
# chance to be misled. Any network is held against *the ends*.
#
# ## 2. Reading without labels
#
# Now two thousand stories that nobody has labelled. As in lesson 09 each row is a whole story, and the model is the fast
# `SpeedrunGPT`. `RaggedBatches` puts rows of similar length side by side, and
# fills up the short ones **on the right**, with `pad`. This is **pretraining**, a minute and a half of one core. Its loss ends low:
# our stories repeat their sentences.


# %% id="pretrain"
read = list(stories(DOCUMENTS, seed=10))
tokenizer = BPETokenizer.train(read[::4], vocab_size=1024)
END = tokenizer.end_of_text
rows = [[END, *tokenizer.encode(story), END][:257] for story in read]
torch.manual_seed(10)
config = SpeedrunConfig(vocab_size=tokenizer.vocab_size, context_length=256, n_layers=2, max_ngram=1)
base = SpeedrunGPT(config)
batches = RaggedBatches([row[:-1] for row in rows], [row[1:] for row in rows], batch_size=8, pad=END)
history = train(base, batches, TrainConfig(steps=STEPS, threads=1, **RECIPES["speedrun"]), progress=False)
print(f"{history[0]['loss']:.2f} nats per token at first, {history[-1]['loss']:.2f} at last")

# %% [markdown] id="pool-text"
# ## 3. One vector for a text
#
# The last layer, the head, turns each hidden vector into scores of 1,024 tokens. For two labels that head is thrown away: what is left, the
# **backbone**, gives hidden vectors (B, T, D), one for each token. A label is wanted for each *text*: (B, D). That step is **pooling**:
#
# * **last**: the vector of the last token, the only one that has read everything, since each token sees only what stands before it;
# * **mean**: the mean of the vectors of all tokens;
# * **first**: the vector of the first token (in BERT, tokens see both sides; here the first has seen nothing yet).
#
# The most frequent bug of all: texts differ in length, so the last *column* is padding for most. A mask
# (B, T) says which places hold tokens: True first, then False.
#
# By hand, D = 1: vectors 1, 2, 9 where only the first two are tokens. Last: 2. Mean: 1.5. First: 1.
#
# **Exercise 1.** Write all three. `mask.sum(1)` counts the tokens of each text; `x[torch.arange(B), places]` takes from each row its own place.


# %% tags=["exercise"] id="exercise-pool"
def pool(hidden, mask, how="last"):
    """hidden (B, T, D), mask (B, T), True at the tokens, which stand first -> (B, D); how: "last", "mean" or "first"."""
    raise NotImplementedError


# %% tags=["check"] id="check-pool"
pool = check("pool", pool)

# %% [markdown] id="classifier-text"
# The classifier is a copy of the backbone, your `pool`, and a new **head**: one linear layer from D = 128 to 2 numbers, with small weights at first. `PAD` is the
# id -1. No token has it. (The backbone reads it as token 0, and nobody looks.) We pool by last; `minilm finetune`, unless told
# otherwise, by mean.
#
# Whether a text stands alone or beside a longer one must not change its scores. A short test finds the bug:


# %% id="classifier"
class Classifier(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.config = copy.deepcopy(backbone), backbone.config
        self.score = Linear(backbone.config.d_model, 2)

    def forward(self, ids):  # (B, T) -> (B, 2)
        mask = ids != PAD
        return self.score(pool(self.backbone.hidden(ids.where(mask, 0)), mask, "last"))


model, short = Classifier(base), [END, *tokenizer.encode("Ada was sad.")]
alone, beside = model(torch.tensor([short])), model(torch.tensor([short + [PAD] * 3, short + short[:3]]))
assert torch.allclose(alone[0], beside[0], atol=1e-5)


# %% [markdown] id="loss-text"
# ## 4. The loss of a label
#
# The loss is that of lesson 07: -log p of the right label, the mean over the examples, and a target of -100 is not counted. Few labels
# bring two wishes.
#
# **Never quite certain.** A hundred examples are soon known by heart. The loss then goes on falling only by making scores larger, without
# end. **Label smoothing** says: take each label for right with 1 - s only, and share out s among *all* C labels alike. The loss is the
# surprise under these shares:
#
#     loss = -(1 - s) * log p(label)  -  s * (mean of log p over all C labels)
#
# **Rare labels.** If nine in ten examples are positive, "always positive" is a comfortable answer. So the loss of an example is multiplied by a
# **class weight**, that of its label: N / (C n) for a label that n of N examples have: 90 and 10 give 0.56 and 5. All labels
# weigh alike in sum, and the mean weight over the examples is 1. So the sum is still divided by how many examples count. (PyTorch divides by
# the sum of the weights: then an example's say would depend on who else is in its batch.)
#
# By hand, p = 1/4, 3/4, and the label is the second: 0.288 without smoothing; with s = 0.2 it is 0.8 * 0.288 + 0.2 * (1.386 + 0.288) / 2 =
# 0.398; with a class weight of 2 twice that.
#
# **Exercise 2.** Write it, for scores of any size (stay in the logarithms), and say 0 where nothing counts.


# %% tags=["exercise"] id="exercise-loss"
def smoothed_cross_entropy(logits, targets, smoothing=0.0, weights=None):
    """logits (..., C), targets (...) with -100 for "not counted", weights (C,) or None -> (), in nats."""
    raise NotImplementedError


# %% tags=["check"] id="check-loss"
smoothed_cross_entropy = check("smoothed_cross_entropy", smoothed_cross_entropy)

# %% [markdown] id="curve-text"
# ## 5. Does reading help?
#
# Fine-tuning is training, only gently and briefly: 30 steps with 16 stories each (10 where there are 10), of which the last 63 tokens are
# read. The backbone learns along with the head. We start from the **pretrained** backbone, or from one with **fresh** random weights.


# %% id="finetune"
def finetune(backbone, texts, labels, asked, seed=0, weights=None, steps=TUNING):  # learn, then answer
    def loss(model, inputs, targets):
        return smoothed_cross_entropy(model(inputs), targets, 0.05, weights)

    torch.manual_seed(seed)
    model = Classifier(backbone or SpeedrunGPT(config))
    learned, new = ([encode_text(text, tokenizer, 64) for text in some] for some in (texts, asked))
    batches = RaggedBatches(learned, [LABELS.index(label) for label in labels], 16, seed)
    plan = TrainConfig(steps=steps, learning_rate=1e-3, weight_decay=0.01, schedule="linear", warmup=3, threads=1)
    train(model, batches, plan, loss_function=loss, progress=False)
    said = dict(outputs(model, new))  # the two scores of each text, by its number
    return [LABELS[said[i].argmax()] for i in range(len(asked))]


# %% [markdown] id="curve-predict"
# One run is a sample, so each point below is three: other examples, other random numbers. **Predict** three curves over 10, 30 and 100
# examples: fresh, pretrained, and the counted ends of section 1. Which is lowest? Which is highest?

# %% id="plot-curve"
sizes, starts = [10, 30, 100], {"fresh": None, "pretrained": base}
scores = {name: [[] for _ in sizes] for name in (*starts, "counting words")}
for seed in range(SEEDS):
    for i, n in enumerate(sizes):
        data = *zip(*labelled(n, 100 + seed, "silent"), strict=True), test_texts
        said = {name: finetune(start, *data, seed) for name, start in starts.items()}
        for name, given in {**said, "counting words": counting(*data, last=40)}.items():
            scores[name][i].append(accuracy(given, truth))
fresh, pretrained, counted = ([sum(runs) / SEEDS for runs in rows] for rows in scores.values())
for row in zip(sizes, fresh, pretrained, counted, strict=True):
    print("{} examples: fresh {:.3f}, pretrained {:.3f}, counting {:.3f}".format(*row))
assert QUICK or sum(pretrained) > sum(fresh) + 0.03
plot_learning_curves(sizes, scores, chance=0.5)


# %% [markdown] id="curve-read"
# Reading helps: on average over the runs the pretrained model is ahead of the fresh one, which must learn from its few
# labels what a word is. (Or is just undertrained: 30 steps at this gentle rate are few.)
#
# And yet counting words, in a fraction of a second, is behind at 10 examples (0.745 against 0.805), but level at 100. Here the words of the
# ending give it away, one by one, and a sum of weights is the right kind of model. Section 7 has texts of which words say nothing.
#
# ## 6. Accuracy is not enough
#
# Let sad endings be rare: one in six, in training as well as in the test. "Always positive" has an accuracy of 0.83,
# and finds not a single sad story. So ask for each label: of the times it was *given* and the times it was *true*, taken together, how many
# were right? (A right one is in both.)
#
#     F1 = 2 * right / (times given + times true)
#
# It lies between precision (right / given) and recall (right / true), 1 if all is right and 0 if nothing is. **Macro F1** is the
# mean of F1 over all labels: a rare label counts as much as a frequent one.
#
# By hand: the truth is good, bad, bad, bad, and "bad" is always given. F1 of bad: 2 * 3 / (4 + 3) = 0.857. F1 of good: 2 * 0 / (0 + 1) = 0. Macro F1: 0.429,
# at an accuracy of 0.75.
#
# **Exercise 3.** Write it, for all labels that were given or are true, be they two or twenty.


# %% tags=["exercise"] id="exercise-f1"
def macro_f1(given, truth):
    """Two lists of labels, equally long -> a Python float: the mean of F1 over all labels that were given or are true."""
    raise NotImplementedError


# %% tags=["check"] id="check-f1"
macro_f1 = check("macro_f1", macro_f1)

# %% [markdown] id="rare-text"
# Thirty happy and six sad stories are all we learn from now. Three runs with your loss as before, and three with class weights: 0.6 for a happy story and
# 3 for a sad one. What will weights do to the matrix? (Its row is the true label, its column the given one.)


# %% id="plot-rare"
drawn = labelled(60, 20, "silent"), labelled(2 * TESTED, 21, "silent", "test")
some = ([one for i, one in enumerate(part) if i % 2 == 0 or i % 10 == 1] for part in drawn)  # every fifth sad one
(texts, labels), (asked, answers) = (zip(*examples, strict=True) for examples in some)
weights = torch.tensor([len(labels) / 2 / labels.count(label) for label in LABELS])
given = {"always positive": [["positive"] * len(asked)], "plain": [], "weighted": []}
for seed in range(SEEDS):
    given["plain"].append(finetune(base, texts, labels, asked, seed))
    given["weighted"].append(finetune(base, texts, labels, asked, seed, weights))
for name, runs in given.items():
    print(f"{name:15}", *(f"accuracy {accuracy(r, answers):.3f}, macro F1 {macro_f1(r, answers):.3f}  " for r in runs))
always, *ours = (macro_f1(said, answers) for runs in given.values() for said in runs)
assert QUICK or always < 0.5 < min(ours) - 0.1
plot_confusion(confusion_matrix(given["plain"][0], answers, LABELS), LABELS, "plain loss")


# %% [markdown] id="rare-read"
# Macro F1 sees what accuracy hides: the fine-tuned models find sad stories, "always positive" finds none. But look how far apart the runs are. Class
# weights change less than another seed does, and not always for the better: all 36 examples are soon known by heart, and three times a pull of almost nothing
# is still almost nothing (Byrd and Lipton 2019). Weights count where a model cannot learn everything by heart.


# %% [markdown] id="twins-text"
# ## 7. When words say nothing
#
# "Ada was sad in the morning, but she was glad in the evening." Its twin has the same words, and the other label: "Ada was
# glad in the morning, but she was sad in the evening." Whoever only counts words is at chance, *whatever* was learned.
#
# Counting pieces of up to four words could do it: "glad in the evening" is such a piece. But each of sixteen feelings must then have been seen just there.
# So: single words, pieces of four, a fresh and a pretrained model, with two hundred examples. **Predict** four numbers.


# %% id="twins"
drawn = labelled(DRAWN, 30, "twins"), labelled(DRAWN // 2, 31, "twins", "test")
some = ([one for one in part if " in the morning, but " in one.text] for part in drawn)
(texts, labels), (asked, answers) = (zip(*examples, strict=True) for examples in some)
data = texts, labels, asked
said = {"words": counting(*data), "pieces of four": counting(*data, longest=4)}
said |= {name: finetune(start, *data, steps=3 * TUNING) for name, start in starts.items()}
right = {name: accuracy(given, answers) for name, given in said.items()}
print(f"{len(texts)} examples, one run on {len(asked)} stories:", *(f"{k} {share:.3f}" for k, share in right.items()))
assert QUICK or (right["words"] < 0.65 and right["pretrained"] > right["pieces of four"] + 0.05)


# %% [markdown] id="twins-read"
# Now the networks are worth their price: they read in order. And the one that has read stories is ahead again, in one run on 92 stories:
# "glad" and "happy" stood in like places there, so what is learned of one holds for the other.
#
# The full `twins` data mix two dozen patterns of sentences. In our trials, with 100 to 2,000
# labels, our small model got .46 to .55 of these right: chance. A baseline at chance says that a task is not about words; it does not say
# that your model can do it.


# %% [markdown] id="answer-text"
# ## 8. From labels to answers
#
# Many tasks want a text: a prompt goes in, an answer comes out, and the model must stop. That needs no new head: it is
# next-token training on prompt and answer, one after the other, with one change. **Only the answer is counted.** The prompt is read, but nobody
# wants the model to write prompts. And the end belongs to the answer: that target alone teaches it to stop.
#
# By hand: prompt 1 2 3, answer 4 5, end 0.
#
#     inputs     1     2    3   4   5
#     targets  -100  -100   4   5   0
#
# **Exercise 4.** Write it. Where does the first counted target stand? An answer may be empty: then only the end is learned. And a token may
# occur in the prompt and in the answer, so decide by places.


# %% tags=["exercise"] id="exercise-supervised"
def supervised(prompt_ids, answer_ids, end):
    """Ids of a prompt (ValueError if empty), of an answer, its end -> (inputs, targets), equally long; -100: not counted."""
    raise NotImplementedError


# %% tags=["check"] id="check-supervised"
supervised = check("supervised", supervised)

# %% tags=["check"] id="reveal"
reveal("supervised")  # the library's version; the other three can be revealed in the same way

# %% [markdown] id="talk-text"
# Our requests are like "Begin a story about a brave girl called Ada", and the answer is a first sentence. What will the pretrained model make of a
# request before it has seen one? (Greedy, at most 60 tokens.)

# %% id="before"
talks = [(talk.messages[0]["content"], talk.answer) for talk in instructions(TALKS, 10, kinds=("beginning",))]
new = [talk.messages[0]["content"] for talk in instructions(40, 11, "test", kinds=("beginning",))]


def prompt(request):
    return [END, *tokenizer.encode(request + "\n\n")]


def show(model):  # three answers; how many of all stop by themselves, take up the trait, take up the name
    said = complete(model, tokenizer, [prompt(request) for request in new], max_new_tokens=60)
    texts = [tokenizer.decode(one.ids) + (" (stops)" if one.reason == "stop token" else " ...") for one in said]
    print(*(f"{request}\n  -> {text}\n" for request, text in zip(new[:3], texts, strict=False)), sep="\n")
    words = [("(stops)", *request.strip(".").split()[-4::3]) for request in new]  # "... a brave girl called Ada."
    return [sum(row[k] in text for row, text in zip(words, texts, strict=True)) for k in range(3)]


before = show(base)


# %% [markdown] id="tune-text"
# It takes the request for a piece of a story, and goes on telling. Now fifteen hundred requests with their answers, each seen about once, with the recipe of pretraining at half
# its pace. Padding gets the target -100 by its place, not by its id: the same id `END`, at the end of an answer, must count. What will change, what not?


# %% id="after"
pairs = [supervised(prompt(request), tokenizer.encode(answer), END) for request, answer in talks]
teller, batches = copy.deepcopy(base), RaggedBatches(*zip(*pairs, strict=True), batch_size=16, pad=END)
recipe = RECIPES["speedrun"] | {"learning_rate": 5e-3, "matrix_learning_rate": 1e-2}
_ = train(teller, batches, TrainConfig(steps=3 * TUNING, threads=1, **recipe), progress=False)
print(f"of {len(new)} stop, take up the trait, take up the name: {before} before, {(after := show(teller))} after")
assert QUICK or (before[0] < 4 and after[0] > 36 and after[1] > before[1] + 12)


# %% [markdown] id="summary"
# It has learned to stop, and the form of a first sentence. It takes up the trait from the request, but mostly not the name: to copy a rare word from far back is
# harder than to say a likely one. A falling loss does not show that: look at the answers.
#
# ## Summary
#
# * With few labels a pretrained model gets further than the same model with random weights. Pool at each text's own last token, never at padding.
# * Baselines first, and more than one seed. Where words decide, counting them is nearly as good and far cheaper; where order decides, it is chance.
# * To learn to answer is to learn next tokens, counted on the answer and its end only.
#
# No row on the ladder: labels and answers are judged right or wrong, and bits per byte are for whole texts.
#
# **Read next**: Howard and Ruder 2018, "Universal language model fine-tuning for text classification"; Radford et al. 2018, "Improving language understanding by
# generative pre-training"; Ouyang et al. 2022 on instructions. In minilm `minilm/finetuning/heads.py`, `losses.py` and `sft.py`.
