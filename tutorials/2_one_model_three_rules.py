# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. One model, three learning rules
#
# A simple recurrent network reads a number, then distractors, and is asked at the end what was
# behind the number. Whatever it does with its recurrent weights, an error at the last step has to
# tell the first one. How does it get there?
#
# | rule | what travels back through time |
# |---|---|
# | `OutputBPTT` | the gradient |
# | `TargetPropagation` | targets, through a learned inverse of the network |
# | `TargetPropagation(propagate=False)` | nothing: the last step alone is taught |
#
# The one idea here: **a rule fills `.grad` on a network and does nothing else**. So three rules
# train one network with the same loop, and before training anything one can ask how far two of them
# agree.
#
# About one minute on one core.

# %%
import math
import os
import time

import matplotlib.pyplot as plt
import torch

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
STEPS = 4 if SMOKE else 10  # frames: the number and its distractors
SAMPLES = 200 if SMOKE else 3000  # training sequences
EPOCHS = 2 if SMOKE else 16
HIDDEN = 10 if SMOKE else 50
started = time.perf_counter()

# %% [markdown]
# ## The task
#
# The number is $x = a + 0.3 \sin(2 \pi a) + \varepsilon$ with $a \sim U(0, 1)$, and the question
# which of ten classes $a$ was in. The curve folds back, so several answers may be right. How well
# one can do is known exactly: the conditional entropy of the class given $x$. A network that has
# forgotten $x$ can know nothing but how often each class comes.

# %%
train = data.OneToMany("class", sequences=SAMPLES, steps=STEPS, seed=0)
test = data.OneToMany("class", sequences=200 if SMOKE else 2000, steps=STEPS, split="test").batch()
probe = data.OneToMany("class", sequences=300, steps=STEPS, split="validation").batch()
limit = data.one_to_many.conditional_entropy("class")
share = torch.bincount(data.OneToMany("class", sequences=20_000).target) / 20_000
forgotten = float(torch.special.entr(share).sum())
print(f"perfect: {limit:.3f} nats an answer; nothing remembered: {forgotten:.3f}")

figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
axis.scatter(train.obs[:1000, 0, 0], train.target[:1000], s=4, alpha=0.4)
axis.set(xlabel="the number that is read first, x", ylabel="class that is asked for")
plt.show()

# %% [markdown]
# ## The network
#
# $$ h_t = \tanh(W_{xh} x_t + W_{hh} h_{t-1} + b), \qquad
#    p(y \mid x_{1:T}) = \text{softmax}(W_{hy} h_T + c), $$
#
# with a second map beside it, $h_{t-1} \approx G(x_t, h_t) = \tanh(W_{xh} x_t + V h_t + c')$, which
# target propagation teaches and the other rules ignore. $W_{hh}$ starts as an orthogonal matrix,
# which neither loses nor amplifies anything where tanh is steep.


# %%
def network(initialiser=None):
    torch.manual_seed(0)
    ten = zoo.likelihoods.Categorical(10)
    return zoo.SRN(1, ten, hidden=HIDDEN, nonlinearity="tanh", initialiser=initialiser)


net = network()
print(net)

# %% [markdown]
# ## Before training: do the rules agree?
#
# Target propagation sets a target for the last state a step down the gradient of its own loss,
# $d_T = -\alpha\, \partial E / \partial h_T$, and sends it back through the inverse:
#
# $$ d_{t-1} = G(x_t, h_t + d_t) - G(x_t, h_t). $$
#
# Each step then learns to reach its target, and no gradient crosses time. BPTT sends back
# $-\partial E / \partial h_{t-1} = J_t^\top (-\partial E / \partial h_t)$ with the Jacobian $J_t$
# of the network. To first order the two are alike when the derivative of $G$ is like $J_t^\top$. It
# need not be: $G$ is taught to undo the network, $\partial G \approx J_t^{-1}$, and the two
# coincide where $J_t$ is near an orthogonal matrix.
#
# `inference.alignment` gives the cosine of two rules' gradients, parameter by parameter, and
# `inference.target_alignment` looks further in: the cosine between what targets ask of $h_t$ and
# $-\partial E / \partial h_t$, step by step.


# %%
RULES = {
    "BPTT": inference.OutputBPTT,
    "target propagation": lambda net: inference.TargetPropagation(net, alpha_i=0.1),
    "nothing sent back": lambda net: inference.TargetPropagation(net, alpha_i=0.1, propagate=False),
}
COLOURS = dict(zip(RULES, ("#00798c", "#d1495b", "#8d99ae")))


def cosines(net, name):
    """Of a rule's gradients with those of BPTT."""
    found = inference.alignment(RULES[name](net), RULES["BPTT"](net), probe)
    return {key: value for key, value in found.items() if not math.isnan(value)}  # taught by both


print(f"{'cosine with BPTT':20}{'target propagation':>20}{'nothing sent back':>20}")
both = [cosines(net, name) for name in list(RULES)[1:]]
for key in both[0]:
    print(f"{key:20}{both[0][key]:20.2f}{both[1][key]:20.2f}")
at_first = inference.target_alignment(RULES["target propagation"](net), probe)

# %% [markdown]
# The readout is taught alike by all three: its error does not have to travel. The gradients of the
# recurrent weights agree in part, for the last step is part of all of them. Targets that went
# through a $G$ which has learned nothing yet add noise to that, and bring it no nearer to the
# gradient.
#
# ## Training
#
# The same loop, data, seed and rates for all. `lr` takes a rate for each prefix of parameter names:
# the recurrent part, its inverse `back.`, and the readout.
#
# `fit` validates after each epoch. An `inference.AlignmentCurve` stands in for the function that
# scores the network then: it compares two rules' gradients first, and passes the score on.


# %%
def train_by(name, net):
    """Held-out loss after every epoch, and the cosine of W_hh's gradient with BPTT's."""

    def score(net):
        return -float(net.log_prob(test).mean())

    curve = inference.AlignmentCurve(RULES[name], RULES["BPTT"], probe, score)
    lr = {"": 1e-3, "back.": 1e-3, "readout.": 1e-2}
    how = {"epochs": EPOCHS, "batch_size": 100, "schedule": "cosine", "clip": 5.0, "seed": 0}
    fitted = inference.fit(RULES[name](net), train, lr=lr, validate=curve, progress=False, **how)
    losses = [record["validation"] for record in fitted.history]
    return losses, curve.cosines["from_state.weight"]


nets, losses, followed = {}, {}, {}
for name in RULES:
    nets[name] = network()
    losses[name], followed[name] = train_by(name, nets[name])
    print(f"{name:20} {losses[name][-1]:.3f} nats an answer after {EPOCHS} epochs")

# %%
epochs = range(1, EPOCHS + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name in RULES:
    left.plot(epochs, losses[name], "o-", ms=3, color=COLOURS[name], label=name)
    if name != "BPTT":
        right.plot(epochs, followed[name], "o-", ms=3, color=COLOURS[name], label=name)
left.axhline(limit, color="black", lw=1, label="perfect")
left.axhline(forgotten, color="grey", lw=1, ls=":", label="nothing remembered")
left.set(xlabel="epoch", ylabel="held-out loss (nats an answer)", title="one network, three rules")
left.legend(frameon=False, fontsize=8)
right.axhline(0, color="grey", lw=0.8)
right.set(xlabel="epoch", ylabel="cosine with BPTT", title="gradient of $W_{hh}$", ylim=(-0.2, 1))
right.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Even the rule that teaches the last step alone learns something, because an orthogonal network
# carries the number to the end whatever its weights. What the other two add to that is what travels
# back.
#
# ## Where target propagation stops
#
# After training, the inverse has learned. What the targets ask of each step, against the gradient
# there; and the same for a network that *starts* where a learned inverse and a transpose are alike:
# a `Latch`, whose units hold themselves, and whose $G$ begins as the matching inverse.

# %%
latch = network(zoo.initialisers.Latch(gain=1.2, input_gain=0.5))
latched_first = inference.target_alignment(RULES["target propagation"](latch), probe)
latch_loss, _ = train_by("target propagation", latch)
print(f"latch, target propagation: {latch_loss[-1]:.3f} nats an answer after {EPOCHS} epochs")

back = range(STEPS - 1, -1, -1)  # steps before the answer
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for axis, title, before, subject in (
    (axes[0], "orthogonal start", at_first, nets["target propagation"]),
    (axes[1], "latch", latched_first, latch),
):
    after = inference.target_alignment(RULES["target propagation"](subject), probe)
    axis.plot(back, before, "o--", ms=3, color="#8d99ae", label="before training")
    axis.plot(back, after, "o-", ms=3, color="#d1495b", label="after")
    axis.axhline(0, color="grey", lw=0.8)
    axis.set(xlabel="steps before the answer", title=title, ylim=(-0.25, 1.05))
    axis.invert_xaxis()
    axis.legend(frameon=False, fontsize=8)
axes[0].set_ylabel("cosine of target step\nand $-\\partial E/\\partial h_t$")
plt.show()

# %% [markdown]
# At the answer itself the two are equal by construction. From there, every step back costs some of
# the agreement, and how much depends on how far the network is from orthogonal where its units
# work, and on how well $G$ has learned. A network that starts with agreement all the way loses it
# as it learns: units saturate, an inverse amplifies where a transpose attenuates, and the cosine
# goes.
#
# Nor did it help here to start with agreement: compare the losses that are printed above.
#
# A low cosine says that target propagation is not gradient descent in disguise. It does not say
# that it learns nothing.
#
# ## The same question of another model
#
# Nothing of this is about one kind of network. The rVAE has a temporally local rule (see tutorial
# 1) and can be trained through time, too. Where the two differ is where gradients would have
# crossed time.

# %%
torch.manual_seed(0)
rvae = zoo.load("ppc/rvae")
batch = data.PPC(sequences=2 if SMOKE else 8, steps=50 if SMOKE else 400, seed=5).batch()
local = inference.LocalELBO(rvae, chunk=batch.frames)  # in one piece: both draw the same noise
found = inference.alignment(local, inference.BPTT(rvae), batch)
names = [name for name in found if name != "all"]
figure, axis = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
colours = ["#00798c" if name.startswith("recognition") else "#8d99ae" for name in names]
axis.barh(names, [found[name] for name in names], color=colours)
axis.axvline(0, color="black", lw=0.8)
axis.invert_yaxis()
axis.tick_params(axis="y", labelsize=8)
axis.set(xlabel="cosine of the gradients, LocalELBO and BPTT", title="rVAE; blue: its guide")
plt.show()

# %% [markdown]
# The decoder's gradient is the same in both, to rounding: $u_{t-1}$ comes into it as a number. The
# guide *makes* $u$, so that through time it is also asked to make the $u$ that is easiest to
# explain. (With the wrong result, as it happens: the README tells what BPTT does to the rVAE.)
#
# ## What to take away
#
# - `inference.alignment(rule_a, rule_b, batch)` before you train costs one batch; as you train,
#   `fit(validate=inference.AlignmentCurve(...))` draws the curve, and the training stays the same.
# - Sending targets back is worth more than sending nothing, and here less than the gradient.
# - With stochastic units (`stochastic=0.5`) sampling has no derivative: `StraightThrough` takes the
#   place of BPTT, and the rest stays as it is. `seqzoo study horizon` and `seqzoo study
#   alignment` plot loss and alignment against $T$; `seqzoo diagnose ppc/rvae --training` has the
#   curve of LocalELBO and BPTT.
# - A rule of your own is a subclass with one method: tutorial 6.

# %%
print(f"{time.perf_counter() - started:.0f} s")
