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
# # 6. Your own data, your own model, your own learning rule
#
# Nothing in seqzoo has to be taken as it comes. A model is made of parts, and a part is a small
# module that does a few things which somebody else's code relies on. The one idea here: **for every
# part, the least it must offer**, as ten lines or so that you can start from.
#
# | part | the least it offers |
# |---|---|
# | data | `obs [B, T, M]`, and `mask [B, T]` where lengths differ |
# | likelihood | `dim`, `natural_dim`, `distribution(natural)`, `mean`, `sample`, `check` |
# | prior over paths | `dim`, `forward(mask)`, which returns an `inference.Path` |
# | guide over paths | `features_dim`, `dim`, `forward(features, mask, prior, decoder)`: a `Path` |
# | encoder | `features_dim`, `forward(obs, mask)` |
# | guide of one step | `latent_dim`, `statistics_dim`, `initial`, `encode`, `step`, `forward` |
# | learning rule | `gradients(batch)`, which fills `.grad` |
#
# Two minutes on one core.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.functional import softplus

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
SEQUENCES = 12 if SMOKE else 120
EPOCHS = 2 if SMOKE else 60
started = time.perf_counter()
_ = torch.manual_seed(0)

# %% [markdown]
# ## Data
#
# Say that three sensors watch something that swings, for as long as each recording happens to last,
# and now and then one of them reports nonsense. We keep the clean signal, to score against.

# %%
random = np.random.default_rng(0)
STEP = 0.1  # seconds


def recording():
    """A slow swing of random frequency and phase, seen by three sensors: noisy and clean [T, 3]."""
    steps = random.integers(30, 61)
    t = STEP * np.arange(steps)[:, None]
    phase = random.uniform(0, 2 * np.pi) + np.array([0.0, 1.0, 2.0])
    clean = np.sin(2 * np.pi * random.uniform(0.3, 0.5) * t + phase) * random.uniform(0.5, 1.5)
    noisy = clean + 0.15 * random.standard_normal(clean.shape)
    wild = random.random(clean.shape) < 0.07
    return np.where(wild, 3 * random.standard_normal(clean.shape), noisy), clean


recordings = [recording() for _ in range(SEQUENCES + 10)]
noisy, clean = (
    [torch.tensor(pair[i], dtype=torch.float32) for pair in recordings] for i in range(2)
)
train, test = data.collate(noisy[10:]), data.collate(noisy[:10])
truth = data.collate(clean[:10]).obs
spread = float((torch.cat(noisy) - torch.cat(clean)).std())  # of the sensors' errors
print(f"obs {tuple(train.obs.shape)}, {train.frames} real frames of {train.mask.numel()}")

# %% [markdown]
# `data.collate` pads sequences of different lengths and says in `mask` which frames are real. A
# `Batch` is a data set by itself: `inference.fit` shuffles its rows. Anything with `__len__` and
# `rows(index) -> Batch` is one, too.
#
# Piano rolls from arrays have a class that also cuts them into pieces, or into windows with the
# frame that follows:

# %%
canon = np.zeros((64, 88))
for voice in range(3):
    for step in range(voice * 8, 64):
        canon[step, 39 + [0, 2, 4, 5, 7, 5, 4, 2][(step // 2) % 8] + 12 * (voice - 1)] = 1
print(data.PianoRolls([canon, canon[:40]], chunk=16))
print(data.PianoRolls([canon], window=8).rows(slice(4)).target.shape)

# %% [markdown]
# ## A likelihood
#
# The sensors' outliers call for heavy tails: a Laplace distribution, whose spread is learned. A
# decoder puts out `natural_dim` numbers a frame; what they mean is the likelihood's business. The
# base class brings `dim`, `natural_dim`, `sample`, `mode`, and a `check` for shape, type and NaN.


# %%
class Laplace(zoo.likelihoods.ExponentialFamily):
    """p(y | eta) = exp(-|y - eta| / s) / 2s, the spread s learned."""

    def __init__(self, dim):
        super().__init__(dim)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def distribution(self, natural):
        return dist.Laplace(natural, self.log_scale.exp(), validate_args=False).to_event(1)

    def mean(self, natural):
        return natural


# %% [markdown]
# ## A prior
#
# Priors and guides return laws of whole paths. Most of what one wants is a `LinearChain`,
#
# $$ z_t = a_t z_{t-1} + b_t + s_t \varepsilon_t, \qquad z_0 = 0, $$
#
# which has an exact KL divergence from any other such chain. Here every dimension learns how fast
# it forgets, and all of them have variance 1 at all times.


# %%
class Forgetful(nn.Module):
    """z_t = a z_{t-1} + sqrt(1 - a²) e_t, a of each dimension learned."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.raw = nn.Parameter(torch.linspace(0.0, 4.0, dim))

    def forward(self, mask):
        a = torch.sigmoid(self.raw)[None]  # [1, K], the same at every step
        first = torch.arange(mask.shape[-1], device=mask.device)[:, None] == 0
        scale = torch.where(first, 1.0, (1 - a.square()).sqrt())  # [T, K]
        return inference.LinearChain(mask, a, torch.zeros_like(scale), scale)


# %% [markdown]
# ## A guide over paths, and the net that reads the data for it
#
# $q(z \mid x)$ is a chain as well, its gate a number for each dimension, its means and spreads read
# from features. The features come from a convolution over time. Note the products with `mask`:
# what a net makes of padding must not reach real frames.


# %%
class Gated(nn.Module):
    """q(z_t | z_{t-1}, x) = N(a z_{t-1} + m_t, s_t²)."""

    def __init__(self, features_dim, dim):
        super().__init__()
        self.features_dim, self.dim = features_dim, dim
        self.heads = nn.Linear(features_dim, 2 * dim)
        self.gate = nn.Parameter(torch.zeros(dim))

    def forward(self, features, mask, prior, decoder=None):
        mean, spread = self.heads(features).chunk(2, -1)
        a = torch.sigmoid(self.gate)[None]
        return inference.LinearChain(mask, a, mean, softplus(spread) + 1e-3)


class Convolution(zoo.Described, nn.Module):
    """Features of a frame from its neighbours, `[B, T, M] -> [B, T, F]`."""

    def __init__(self, inputs, features_dim, width=9):
        super().__init__()
        self.features_dim = features_dim
        self.first = nn.Conv1d(inputs, features_dim, width, padding="same")
        self.second = nn.Conv1d(features_dim, features_dim, width, padding="same")

    def forward(self, obs, mask):
        real = mask[:, None]  # [B, 1, T]
        hidden = torch.relu(self.first(obs.transpose(1, 2))) * real
        return torch.relu(self.second(hidden) * real).transpose(1, 2)


def build(likelihood, K=4):
    return zoo.VRAE(
        *(3, K, likelihood),
        hidden=32,
        prior=Forgetful(K),
        encoder=Convolution(3, 32),
        guide=Gated(32, K),
        decoder=zoo.decoders.CausalDecoder(K, 3, hidden=32, width=32),
    )


net = build(Laplace(3))
print(repr(net).splitlines()[1].strip())

# %% [markdown]
# It is a model like any other now. We train it by the rule of the zoo, beside the same net with a
# Gaussian likelihood, whose spread one has to name: it gets the true standard deviation of the
# sensors' errors, outliers included.

# %%
HOW = {"epochs": EPOCHS, "batch_size": 20, "lr": 5e-3, "clip": 20.0, "progress": False}


def train_by(rule):
    fitted = inference.fit(rule, train, **HOW)
    losses = [record["loss"] for record in fitted.history]
    print(f"{rule}: loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")
    return losses


gaussian = build(zoo.likelihoods.Gaussian(3, scale=spread))
curves = {"Laplace": train_by(inference.SequenceELBO(net))}
curves["Gaussian"] = train_by(inference.SequenceELBO(gaussian))


def error(found):
    """Mean squared error against the clean signal, over real frames."""
    return float((found - truth)[test.mask].square().mean())


restored = {
    "the sensors": test.obs,
    "Gaussian": gaussian.reconstruct(test).cpu(),
    "Laplace, your own": net.reconstruct(test).cpu(),
}
for name, found in restored.items():
    print(f"{name:20} mean squared error {error(found):.3f}")

# %%
row, sensor = 0, 0
real = test.mask[row]
seconds = STEP * np.arange(int(real.sum()))
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.plot(seconds, test.obs[row, real, sensor], ".", color="grey", label="sensor")
axis.plot(seconds, truth[row, real, sensor], color="black", lw=1, label="truth")
for name, colour in (("Gaussian", "#00798c"), ("Laplace, your own", "#d1495b")):
    axis.plot(seconds, restored[name][row, real, sensor], color=colour, label=name)
axis.set(xlabel="time (s)", ylabel="signal (arbitrary units)", title="a test recording")
axis.legend(frameon=False, ncols=4, fontsize=8)
plt.show()

# %% [markdown]
# ## A learning rule
#
# A rule fills `.grad`, and `fit` does all the rest: batches, optimizer, clipping, checkpoints. Here
# is **wake-sleep** (Hinton et al., 1995), which sends no gradient through a sample:
#
# - *wake*: draw $z \sim q(z \mid x)$ for real data; prior and decoder learn from $-\log p(x, z)$;
# - *sleep*: dream $(x, z)$ with the model; the guide learns from $-\log q(z \mid x)$.
#
# What it reports as `loss` is the negative ELBO in nats a frame, like that of other rules.


# %%
class WakeSleep(inference.LearningRule):
    def gradients(self, batch):
        net, frames = self.net, batch.frames
        net.zero_grad(set_to_none=True)
        with torch.no_grad():
            encoding = net.prepare(batch)
            path = encoding.belief.rsample()
            entropy = -encoding.belief.log_prob(path).sum()
        prior = net.prior(batch.mask)
        wake = -(net.emit(path, encoding).log_prob(batch.obs) + prior.log_prob(path)).sum()
        (wake / frames).backward()
        with torch.no_grad():
            path = net.prior(batch.mask).rsample()
            dream = net.likelihood.sample(net.natural(path, encoding))
        belief = net.prepare(data.Batch(dream, batch.mask)).belief
        (-belief.log_prob(path).sum() / frames).backward()
        loss = (wake.detach() - entropy) / frames
        return {"loss": loss, "frames": torch.tensor(float(frames))}


sleeper = build(Laplace(3))
curves["Laplace, wake-sleep"] = train_by(WakeSleep(sleeper))
found = sleeper.reconstruct(test).cpu()
print(f"{'wake-sleep':20} mean squared error {error(found):.3f}")

# %% [markdown]
# Because rules only fill `.grad`, one line compares them on one network, parameter by parameter.
# The wake phase *is* the gradient of the ELBO for decoder and likelihood. The sleep phase is not
# the gradient for guide and encoder: it minimises $\mathrm{KL}(p \| q)$ on dreams. (The prior's
# gradients are close, not equal: the ELBO takes its KL term exactly, wake-sleep has one sample.)

# %%
compared = inference.alignment(inference.SequenceELBO(net), WakeSleep(net), train)
parts = ("decoder", "likelihood", "prior", "recognition", "encoder")
groups = [[value for name, value in compared.items() if name.startswith(part)] for part in parts]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, curve in curves.items():
    left.plot(range(1, len(curve) + 1), curve, label=name)
left.set(xlabel="epoch", ylabel="-ELBO (nats a frame)", title="training")
left.legend(frameon=False, fontsize=8)
for place, members in enumerate(groups):
    right.plot([place] * len(members), members, "o", alpha=0.6)
right.axhline(0, color="grey", lw=0.8)
right.set_xticks(range(len(parts)), parts)
right.set(ylabel="cosine of the gradients", title="wake-sleep against the ELBO", ylim=(-1.05, 1.05))
plt.show()

# %% [markdown]
# The loss of a Gaussian model and of a Laplace one are both nats a frame of the same data, so they
# may be compared.
#
# ## A guide of single steps
#
# The rVAE learns by a local rule from pairs $(u_{t-1}, y_t)$, so that its guide is asked one step
# at a time: what a frame alone says (`encode`), the belief given that and the past (`forward`), and
# the statistics that are passed on (`step`).


# %%
class Leaky(nn.Module):
    """The mean is a leaky average of a linear code of the frames; the spread is constant."""

    latent_dim = statistics_dim = 4

    def __init__(self):
        super().__init__()
        self.code = nn.Linear(3, 4)
        self.log_spread = nn.Parameter(torch.zeros(4))

    def initial(self, rows):
        return self.code.weight.new_zeros(rows, 4)

    def encode(self, obs):
        return self.code(obs)

    def step(self, features, past):
        return 0.7 * past + 0.3 * features

    def forward(self, features, past):
        return dist.Normal(self.step(features, past), self.log_spread.exp()).to_event(1)


online = zoo.RVAE(3, 4, Laplace(3), hidden=32, guide=Leaky())
train_by(inference.LocalELBO(online))
found = online.reconstruct(test).cpu()
print(f"{'rVAE, leaky guide':20} mean squared error {error(found):.3f}")

# %% [markdown]
# It knows the past alone, and is linear: a place to start from.
#
# ## When something does not fit
#
# Parts are checked where they meet, and data where they come in. An error says what was found, what
# was expected, and often what to do.

# %%
wrong = {
    "one axis too few": lambda: data.Batch(torch.zeros(20, 3)),
    "integers": lambda: data.Batch(torch.zeros(2, 20, 3, dtype=torch.long)),
    "a mask of another length": lambda: data.Batch(
        torch.zeros(2, 20, 3), torch.ones(2, 19, dtype=torch.bool)
    ),
    "not a piano": lambda: data.PianoRolls([np.zeros((20, 61))]),
    "loudness": lambda: data.PianoRolls([80 * canon]),
    "outside the support": lambda: zoo.likelihoods.Bernoulli(3).check(test.obs),
    "another number of sensors": lambda: net.reconstruct(torch.zeros(1, 20, 2)),
    "likelihood and model": lambda: zoo.VRAE(3, 4, Laplace(2)),
    "prior and model": lambda: zoo.VRAE(3, 4, Laplace(3), prior=Forgetful(5)),
    "guide and encoder": lambda: zoo.VRAE(
        3, 4, Laplace(3), encoder=Convolution(3, 32), guide=Gated(16, 4)
    ),
    "guide and model": lambda: zoo.RVAE(3, 2, Laplace(3), guide=Leaky()),
    "rule and prior": lambda: inference.SequenceELBO(
        net, objective="marginal-increments"
    ).gradients(train),
    "rules on two nets": lambda: inference.alignment(WakeSleep(net), WakeSleep(sleeper), train),
}
for what, do in wrong.items():
    try:
        do()
    except ValueError as message:
        print(f"{what}\n    {message}")
    else:
        raise AssertionError(f"{what} went through")

# %% [markdown]
# What the zoo's own parts return is checked, and so are laws and guides of yours; a net of your own
# may still end in an error of torch, whose last lines tell the shapes. One call of
# `rule.gradients(train.rows(slice(2)))` finds such a thing before training does.
#
# ## Save, load, sample
#
# `zoo.save` writes the weights, and a card that names the classes and their arguments. The card is
# data: whoever loads the model hands over the classes that are not the zoo's. A class of your own
# keeps its arguments as attributes of the same names, as `Forgetful` does, or inherits from
# `zoo.Described`, as `Convolution` does.

# %%
zoo.save("swing", net, title="a swing, by three sensors")
again = zoo.load("swing", classes=[Laplace, Forgetful, Gated, Convolution])
same = torch.equal(again.reconstruct(test).cpu(), net.reconstruct(test).cpu())
print(f"the loaded network says the same: {same}")

dreams = again.sample(sequences=4, steps=60, seed=1, noise=False)
figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), sharey=True, layout="constrained")
for axis, dream in zip(axes, dreams):
    axis.plot(STEP * np.arange(60), dream)
    axis.set_xlabel("time (s)")
axes[0].set_ylabel("signal (arbitrary units)")
axes[-1].legend([f"sensor {i + 1}" for i in range(3)], fontsize=7, frameon=False)
figure.suptitle("recordings that the model makes up, without noise")
plt.show()

# %% [markdown]
# ## What to take away
#
# - Parts meet in a few attributes and one call. Prior and guide return laws of paths.
# - A rule is one method. Compare it with another before you train with it.
# - Three tests that are worth writing for a part of your own: padding changes nothing; gradients
#   reach every parameter; saved and loaded, it is the same.

# %%
padded = data.collate([*noisy[:10], torch.zeros(90, 3)]).rows(slice(10))  # more padding
longer = net.reconstruct(padded)[:, : truth.shape[1]]
gap = (longer - net.reconstruct(test))[test.mask].abs().max()
print(f"padding changes reconstructions by {gap:.1e} at most")
_ = WakeSleep(net).gradients(train.to(net.device))
still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
print(f"parameters without a gradient: {still or 'none'}")
print(f"{time.perf_counter() - started:.0f} s")
