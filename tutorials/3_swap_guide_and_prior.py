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
# # 3. Swap the guide and the prior, and mind the KL trap
#
# A variational recurrent auto-encoder (VRAE; Bayer & Osendorfer, 2014) explains a whole sequence by
# a latent path,
#
# $$ z_{1:T} \sim p(z), \quad x_t \sim p(x_t \mid z_{1:t}), \quad z_{1:T} \sim q(z \mid x_{1:T}), $$
#
# and is trained by the evidence lower bound (ELBO)
#
# $$ \log p(x) \;\ge\; \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q \,\|\, p). $$
#
# The one idea here: **a bound is as good as the guide can follow the prior**. Prior and guide are
# both *laws of paths*, so any goes with any, and the KL term is computed from whatever pair there
# is. We try a table of them on Bach's chorales, and then look at what happens when the KL term is
# replaced by something that is easier on the eye.
#
# Up to five minutes on one core, most of them for training twelve small models. The data (under
# 1 MB) are downloaded on first use, unless `SEQZOO_DATA` names a folder that has them.

# %%
import math
import os
import time

import matplotlib.pyplot as plt
import torch

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
K, HIDDEN = (2, 8) if SMOKE else (8, 64)  # latent dimensions, units of the nets
EPOCHS = 1 if SMOKE else 12
CHUNK = 20 if SMOKE else 50  # frames of a training piece
TESTED = 2 if SMOKE else 30  # chorales that are scored
PARTICLES = 4 if SMOKE else 200
started = time.perf_counter()

train = data.Polyphonic("jsb", split="train", chunk=CHUNK, recut=True)
if SMOKE:
    train = data.PianoRolls(train.sequences[:5], chunk=CHUNK)
test = data.Polyphonic("jsb", split="test").rows(slice(TESTED))
print(train)
print(f"scored on {len(test)} test chorales, {test.frames} frames")

# %% [markdown]
# ## Paths
#
# What the four priors think a latent path looks like:
#
# - `WhiteNoise`: $z_t = \varepsilon_t$, nothing is remembered;
# - `AR1`: $z_t = a z_{t-1} + \sqrt{1 - a^2}\,\varepsilon_t$;
# - `WienerProcess`: $z_t = z_{t-1} + \varepsilon_t$, the prior of the paper;
# - `GaussianProcess`: any kernel of `pyro.contrib.gp` over time.

# %%
PRIORS = {
    "white noise": lambda: zoo.priors.WhiteNoise(K),
    "AR1, a = 0.9": lambda: zoo.priors.AR1(K, coefficient=0.9),
    "Wiener process": lambda: zoo.priors.WienerProcess(K),
    "GP, Matérn 3/2": lambda: zoo.priors.GaussianProcess(K, "matern32", lengthscale=5.0),
}
GUIDES = {
    "diagonal": lambda: zoo.path_guides.Diagonal(HIDDEN, K),
    "increments": lambda: zoo.path_guides.Increments(HIDDEN, K),
    "Markov chain": lambda: zoo.path_guides.MarkovChain(HIDDEN, K),
}
mask = torch.ones(4, 100, dtype=torch.bool)  # four paths of 100 steps
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), layout="constrained")
for axis, (name, prior) in zip(axes, PRIORS.items()):
    with torch.no_grad():
        axis.plot(prior()(mask).sample()[..., 0].T, lw=1)
    axis.set(title=name, xlabel="step t")
axes[0].set_ylabel("one dimension of z[t]")
plt.show()

# %% [markdown]
# ## Every prior with every guide
#
# A guide reads features of the data and says what the posterior over paths is. All three are
# Gaussian chains; they differ in what a step may know of the step before:
#
# - `Diagonal`: $q(z_t) = \mathcal{N}(m_t, s_t^2)$, the steps independent (the paper's);
# - `Increments`: $q(z_t - z_{t-1}) = \mathcal{N}(m_t, s_t^2)$, the increments independent;
# - `MarkovChain`: $q(z_t \mid z_{t-1}) = \mathcal{N}(a_t z_{t-1} + m_t, s_t^2)$ with $a_t \in (0,
#   1)$.
#
# The swap is an argument each. Everything else (nets, budget, seed) is the same.


# %%
def build(prior, guide):
    torch.manual_seed(0)
    parts = {"prior": PRIORS[prior](), "guide": GUIDES[guide](), "obs_mean": 0.05}
    return zoo.VRAE(88, K, zoo.likelihoods.Bernoulli(88), hidden=HIDDEN, **parts)


def train_by(net, objective):
    rule = inference.SequenceELBO(net, objective=objective, kl_weight=[0.05, 1.0, 0.5])
    how = {"epochs": EPOCHS, "batch_size": 20, "lr": 5e-3, "schedule": "late", "clip": 5.0}
    return inference.fit(rule, train, progress=False, **how)


def per_frame(bounds):
    """Lower bounds [B] on the log-likelihood as an upper bound on its negative, nats a frame."""
    return -float(bounds.sum()) / test.frames


nets, table = {}, torch.zeros(len(PRIORS), len(GUIDES))
for i, prior in enumerate(PRIORS):
    for j, guide in enumerate(GUIDES):
        net = nets[prior, guide] = build(prior, guide)
        kl = train_by(net, "elbo").history[-1]["kl"]
        table[i, j] = per_frame(inference.elbo(net, test, num_samples=5))
        print(f"{prior:16}{guide:14} -ELBO {table[i, j]:6.2f} on test; KL in training {kl:.2f}")

# %%
figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
best = float(table.min())
picture = axis.imshow(table, cmap="viridis_r", vmin=best, vmax=best + 8, aspect="auto")
for i in range(len(PRIORS)):
    for j in range(len(GUIDES)):
        colour = "w" if table[i, j] > best + 4 else "k"
        axis.text(j, i, f"{table[i, j]:.1f}", ha="center", va="center", color=colour)
axis.set_xticks(range(len(GUIDES)), GUIDES)
axis.set_yticks(range(len(PRIORS)), PRIORS)
axis.set(xlabel="guide", ylabel="prior", title="negative ELBO on test chorales")
figure.colorbar(picture, ax=axis, label="nats a frame (lower is better)", extend="max")
plt.show()

# %% [markdown]
# Read it by rows: each prior wants a guide that can move as it does. A diagonal guide has no way to
# say "$z_t$ is close to $z_{t-1}$, wherever that is", which is what a Wiener process says at every
# step. Independent increments cannot say "back to zero". The Markov chain has a gate that can be
# near 0 or near 1, and gets along with the first three. The Gaussian process is smooth: where it
# goes depends on more than the step before, and none of these guides knows more than that.
#
# *White noise with a diagonal guide* and *a Wiener process with increments* have the same figure
# for a reason: this decoder sees the path's innovations, so they are one model written in two ways.
#
# ## The trap
#
# For a diagonal guide and a Wiener prior the exact divergence is, for one dimension,
#
# $$ \mathrm{KL}(q \| p) = \sum_t \tfrac12 \Big[ s_t^2 + s_{t-1}^2 + (m_t - m_{t-1})^2 - 1 \Big]
#    - \ln s_t . $$
#
# With means at rest and a constant spread $s$ a step costs $s^2 - \frac12 - \ln s$. The least of
# it, at $s^2 = \frac12$, is $\frac12 \ln 2 = 0.347$ nats a step and dimension, **even if nothing is
# said of the data at all**.
#
# The paper's text takes, in place of that, the divergence of each increment's own distribution from
# $\mathcal{N}(0, 1)$,
#
# $$ \sum_t \tfrac12 \Big[ s_t^2 + s_{t-1}^2 + (m_t - m_{t-1})^2 - 1
#    - \ln\!\big(s_t^2 + s_{t-1}^2\big) \Big], $$
#
# as if increments were independent under $q$. They are not: neighbours share a state. The sum is
# below the KL by $\frac12 \ln\frac{s_t^2 + s_{t-1}^2}{s_t^2}$ a step, its least value is zero, and
# what it gives is **no bound** on anything.

# %%
floor = math.log(2) / 2
s = torch.linspace(0.15, 1.5, 200)
figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
axis.plot(s, s**2 - 0.5 - s.log(), color="#1d3557", label="exact KL")
axis.plot(s, s**2 - 0.5 - (2 * s**2).log() / 2, color="#d1495b", label="marginal increments")
axis.axhline(floor, color="grey", lw=0.8, ls="--", label="ln(2) / 2")
axis.set(xlabel="spread s of every z[t]", ylabel="nats a step and dimension", ylim=(-0.1, 1.6))
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# seqzoo has it as an objective of its own, `objective="marginal-increments"`, whose name does not
# end in ELBO. The same network, trained by either:


# %%
@torch.no_grad()
def terms(net, seed=0):
    """-log p(x | z), the exact KL and the marginal one, nats a frame of the test chorales."""
    torch.manual_seed(seed)
    batch = test.to(net.device)
    encoding = net.prepare(batch)
    q, p = encoding.belief, net.prior(batch.mask)
    nll = -net.emit(q.rsample(), encoding).log_prob(batch.obs).sum()
    exact = inference.paths.kl_steps(q, p).sum()
    marginal = inference.paths.marginal_increments(q, p).sum()
    return [float(term) / test.frames for term in (nll, exact, marginal)]


surrogate = build("Wiener process", "diagonal")
train_by(surrogate, "marginal-increments")
shown = {
    "trained by\nthe ELBO": terms(nets["Wiener process", "diagonal"]),
    "trained by\nthe surrogate": terms(surrogate),
}
published = zoo.load("jsb/vrae-published")
shown["jsb/vrae-\npublished"] = terms(published)
columns = ("-log p(x|z)", "exact KL", "marginal", "bound", "no bound")
print(f"{'nats a frame':26}" + "".join(f"{column:>12}" for column in columns))
for name, (nll, exact, marginal) in shown.items():
    figures = (nll, exact, marginal, nll + exact, nll + marginal)
    title = name.replace("-\n", "-").replace("\n", " ")
    print(f"{title:26}" + "".join(f"{value:12.2f}" for value in figures))
for name, dims in (("small", K), ("published", published.latent_dim)):
    print(f"floor of the exact KL, {dims} dimensions ({name}): {floor * dims:.2f}")

# %% [markdown]
# Of the small network the objective changes the figure that is reported, and hardly anything else.
#
# `jsb/vrae-published` ships with seqzoo: the published model (32 dimensions, fast dropout both
# ways), trained on the published objective. The value of that objective looks excellent, and the
# bound that the very same networks give is far worse.

# %%
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for place, (nll, exact, marginal) in enumerate(shown.values()):
    for shift, height, colour in ((-0.2, exact, "#1d3557"), (0.2, marginal, "#d1495b")):
        axis.bar(place + shift, nll, 0.36, color="#adb5bd", label="-log p(x | z)")
        name = "exact KL (a bound)" if shift < 0 else "marginal increments (no bound)"
        bar = axis.bar(place + shift, height, 0.36, bottom=nll, color=colour, label=name)
        axis.bar_label(bar, [f"{nll + height:.1f}"], padding=2, fontsize=9)
axis.set_xticks(range(len(shown)), shown)
axis.set(ylabel="nats a frame", title="what the two objectives say of the same networks")
handles, labels = axis.get_legend_handles_labels()
unique = dict(zip(labels, handles))
axis.legend(unique.values(), unique.keys(), frameon=False, fontsize=8)
axis.margins(y=0.15)
plt.show()

# %% [markdown]
# ## A guide that works, and bounds that say what they are
#
# `jsb/vrae` has the prior of the paper, and a guide that follows it: `Autoregressive`, which reads
# the memory of the decoder that it steers. Three bounds, each an upper bound on the negative
# log-likelihood, each tighter than the one before:
#
# - `elbo`;
# - `importance_bound`: $\log \frac1k \sum_i p(x, z_i) / q(z_i)$ with whole paths;
# - `particle_bound`: a particle filter, which throws away paths that went astray as it goes.
#
# The last steps through the decoder, and so needs one that is causal.

# %%
torch.manual_seed(0)
bounds = {
    "ELBO": lambda net: inference.elbo(net, test, num_samples=5),
    "IW, 10 paths": lambda net: inference.importance_bound(net, test, num_samples=10),
    f"{PARTICLES} particles": lambda net: inference.particle_bound(net, test, PARTICLES),
}
print(f"{'nats a frame':22}" + "".join(f"{name:>16}" for name in bounds))
values = {}
for name, net in {"jsb/vrae": zoo.load("jsb/vrae"), "jsb/vrae-published": published}.items():
    values[name] = []
    for bound in bounds.values():
        try:
            values[name].append(per_frame(bound(net)))
        except ValueError as error:
            print(f"({name}: {error})")
    print(f"{name:22}" + "".join(f"{value:16.2f}" for value in values[name]))

# %%
figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
for (name, found), colour in zip(values.items(), ("#00798c", "#1d3557")):
    axis.plot(list(bounds)[: len(found)], found, "o-", color=colour, label=name)
nll, _, marginal = shown["jsb/vrae-\npublished"]
label = "jsb/vrae-published, its own objective (no bound)"
axis.axhline(nll + marginal, color="#d1495b", ls=":", label=label)
axis.set(ylabel="nats a frame", ylim=(0, None), title="upper bounds on -log p(x), test chorales")
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What to take away
#
# - Choose prior and guide together. `MarkovChain` is a safe start, `Autoregressive` (the default
#   where the decoder is causal) goes further.
# - A figure is comparable only if it is a bound. `inference.elbo`, `importance_bound` and
#   `particle_bound` always are.
# - A KL term that comes near zero, from a guide that cannot represent the prior, is a warning. On
#   the command line: `seqzoo study kl jsb/vrae-published`.

# %%
print(f"{time.perf_counter() - started:.0f} s")
