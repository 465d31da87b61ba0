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
# # 4. Can this posterior be trusted?
#
# A guide $q(z \mid x)$ is a claim about what data tell of a latent state. Nothing in the training
# loss says how far the claim is right: the ELBO is below $\log p(x)$ by
# $\mathrm{KL}(q \,\|\, p(z \mid x))$, and neither of the two is known.
#
# The one idea here: **several diagnostics, each blind to something**. We take a model whose
# posterior is known, give it guides that are wrong in known ways, and see who notices:
#
# - k-hat, the tail of the importance weights $p(x, z) / q(z \mid x)$;
# - the importance-weighted bound, and how it rises with the number of draws;
# - simulation-based calibration (SBC), ranks of true latents among draws of the guide;
# - coverage, how often an interval holds what it should.
#
# Then the same of a model that ships with seqzoo, with all of it handed to ArviZ. Some ten
# seconds on one core, nothing to download.

# %%
import os
import time

import arviz as az
import matplotlib.pyplot as plt
import torch
from torch import nn

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
SEQUENCES = 20 if SMOKE else 200
DRAWS = 100 if SMOKE else 2000  # of a guide, for k-hat and bounds
ROUNDS = 5 if SMOKE else 20  # of SBC: each simulates so many sequences
started = time.perf_counter()

# %% [markdown]
# ## A model whose posterior is known
#
# Two frames of four numbers, each from one hidden number:
#
# $$ z_t \sim \mathcal{N}(0, \sigma^2), \quad x_t = w z_t + \varepsilon, \quad
#    \varepsilon \sim \mathcal{N}(0, \tau^2 I). $$
#
# Given $x_t$, $z_t$ is Gaussian again, with precision $1/\sigma^2 + w^\top w / \tau^2$. In seqzoo
# it is a VRAE with a white-noise prior and three small parts of our own: a decoder, an encoder that
# puts out the mean of the posterior, and a guide. The guide takes what makes it wrong: a factor of
# the variance, a shift in standard deviations, or that it looks at no data (the prior).

# %%
T, SIGMA, TAU = 2, 1.1, 0.8
W = torch.tensor([[1.0, 0.5, -0.7, 0.9]])
PRECISION = 1 / SIGMA**2 + float(W @ W.T) / TAU**2


class Decoder(nn.Module):
    def forward(self, path, mask=None):
        return path @ W / TAU  # natural parameters of a Gaussian with known noise


class Encoder(nn.Module):
    features_dim = 1

    def forward(self, obs, mask):
        return obs @ W.T / TAU**2 / PRECISION


class Guide(nn.Module):
    features_dim, dim = 1, 1

    def __init__(self, share=1.0, shift=0.0, blind=False):
        super().__init__()
        self.share, self.shift, self.blind = share, shift, blind

    def forward(self, features, mask, prior, decoder):
        if self.blind:
            return prior.expand(mask.shape[:1])
        mean = features + self.shift / PRECISION**0.5
        spread = torch.full_like(features, (self.share / PRECISION) ** 0.5)
        return inference.LinearChain(mask, 0, mean, spread)


def model(**wrong):
    parts = {
        "encoder": Encoder(),
        "guide": Guide(**wrong),
        "decoder": Decoder(),
        "decoder_input": "path",
    }
    family, prior = zoo.likelihoods.Gaussian(4, TAU), zoo.priors.WhiteNoise(1, SIGMA)
    return zoo.VRAE(4, 1, family, prior=prior, **parts)


NETS = {
    "the posterior": model(),
    "half the variance": model(share=0.5),
    "a tenth of it": model(share=0.1),
    "shifted by 1 sd": model(shift=1.0),
    "the prior": model(blind=True),
}
COLOURS = dict(zip(NETS, ("#00798c", "#edae49", "#d1495b", "#1d3557", "#8d99ae")))
batch = data.Batch(NETS["the posterior"].sample(SEQUENCES, T, seed=1))
evidence = torch.distributions.MultivariateNormal(
    torch.zeros(4), SIGMA**2 * W.T @ W + TAU**2 * torch.eye(4)
)
exact = evidence.log_prob(batch.obs).sum(1)  # log p(x) of each sequence
print(f"log p(x), exact: {exact.mean():.3f} nats a sequence")

# %% [markdown]
# ## k-hat and the bound
#
# `khat` fits a Pareto tail to the weights of each sequence. With `good_khat(num_samples)` or less
# (0.7 at most), weighted draws stand in for the posterior. For a Gaussian guide with a share $v$ of
# the right variance $\hat k \to 1 - v$: half the variance is *forgiven*, as weights can mend it.

# %%
limit = inference.good_khat(DRAWS)
numbers = (1, 10, 100) if SMOKE else (1, 3, 10, 30, 100, 300)
khats, gaps = {}, {}
for name, net in NETS.items():
    khats[name] = inference.khat(net, batch, DRAWS)
    torch.manual_seed(0)
    found = [inference.importance_bound(net, batch, number, at_once=100) for number in numbers]
    gaps[name] = [float((bound - exact).mean()) for bound in found]
    print(f"{name:20} k-hat {khats[name].median():5.2f}, ELBO - log p(x) {gaps[name][0]:7.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for place, (name, shapes) in enumerate(khats.items()):
    heights = place + torch.linspace(-0.3, 0.3, len(shapes))
    left.plot(shapes, heights, ".", ms=3, color=COLOURS[name])
    left.plot([shapes.median()] * 2, (place - 0.4, place + 0.4), color="k", lw=1.5)
left.axvline(limit, color="k", ls="--", lw=1)
left.set_yticks(range(len(NETS)), NETS)
left.invert_yaxis()
left.set(
    xlabel=f"k-hat of each sequence, medians; dashed: {limit:.2f}", title="tail of the weights"
)
for name, gap in gaps.items():
    right.plot(numbers, gap, "o-", ms=4, color=COLOURS[name], label=name)
right.axhline(0, color="k", lw=0.8)
right.set(xscale="log", xlabel="draws M", ylabel="nats", title="bound of M draws minus log p(x)")
right.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# The posterior's own weights are all equal: k-hat is 0, and one draw is enough. A tenth of the
# variance is out: k-hat is too high, and its bound has not arrived with hundreds of draws. But half
# the variance, the shift and, for nearly all sequences, the prior pass. That is right by what is
# asked: *weighted* draws of these are good, and their bounds arrive at $\log p(x)$. (In two
# dimensions. In a hundred the prior would be hopeless, and any small mistake multiplies.)
#
# ## Simulation-based calibration
#
# Is an *unweighted* draw a draw of the posterior? Draw $z$ from the prior and $x$ given $z$: then
# $z$ is a draw of the posterior of this very $x$, so among draws of the guide its rank must be
# uniform. `sbc` does so for every latent, and for $\log p(x \mid z)$.

# %%
simulated = data.Batch(torch.zeros(20 if SMOKE else 200, T, 4))  # its shape is taken
checks = {
    name: inference.sbc(inference.simulator(net, simulated), ROUNDS, num_samples=99)
    for name, net in NETS.items()
}
figure, axes = plt.subplots(2, len(NETS), figsize=(12, 4.4), layout="constrained", sharex=True)
for column, (name, check) in zip(axes.T, checks.items()):
    for axis, what in zip(column, ("z", "log_likelihood")):
        ranks = check.ranks[what].flatten()
        axis.hist(ranks, bins=10, range=(0, 100), density=True, color=COLOURS[name], rwidth=0.9)
        axis.axhline(0.01, color="k", lw=1)
        axis.set(yticks=[], title=f"p = {check.p_value(what):.1g}")
        axis.title.set_fontsize(9)
    column[0].set_title(f"{name}\n{column[0].get_title()}", fontsize=9)
    column[1].set_xlabel("rank of the truth")
axes[0, 0].set_ylabel("z")
axes[1, 0].set_ylabel("log p(x | z)")
plt.show()

# %% [markdown]
# Read the shapes: a trough is a guide that is too narrow (the truth is outside of its draws too
# often), a slope is one that is off to a side. Half the variance, which k-hat forgave, is plain
# here. And the prior has *uniform* ranks of $z$: it is right on average over data, as it says the
# same of all of them. Only $\log p(x \mid z)$ finds that its draws explain the data worse than the
# truth does.
#
# ## Coverage
#
# The same ranks as a question of daily life: how often is the truth within the interval that claims
# 90 %?

# %%
levels = torch.linspace(0.05, 0.95, 19)
figure, axis = plt.subplots(figsize=(4.4, 3.8), layout="constrained")
axis.plot((0, 1), (0, 1), color="k", lw=0.8)
for name, check in checks.items():
    covered = inference.coverage(check.pits["z"], levels.tolist())
    axis.plot(levels, covered, "o-", ms=3, color=COLOURS[name], label=name)
axis.set(xlabel="nominal level", ylabel="share covered", title="intervals of z")
axis.legend(frameon=False, fontsize=8)
plt.show()

print(f"{'guide':20}{'k-hat':>8}{'ELBO gap':>10}{'SBC: z':>10}{'log p(x|z)':>12}{'90 % holds':>12}")
for name, check in checks.items():
    p_values = "".join(
        f"{check.p_value(what):>{width}.1g}" for what, width in (("z", 10), ("log_likelihood", 12))
    )
    ninety = float(inference.coverage(check.pits["z"], [0.9])[0])
    middle = float(khats[name].median())
    print(f"{name:20}{middle:8.2f}{gaps[name][0]:10.3f}{p_values}{ninety:12.0%}")

# %% [markdown]
# | question | ask |
# |---|---|
# | can I weigh draws of this guide? | k-hat |
# | how much likelihood does it lose? | the bound, as the number of draws grows |
# | can I take its draws as they are? | SBC, of $\log p(x \mid z)$ too |
# | are its intervals as wide as they say? | coverage |
#
# ## A model that ships, and ArviZ
#
# `ppc/rvae` reads spikes of a population of neurons. It is a model of single frames, given the
# statistics of what it saw before, so k-hat is one of each frame. `to_arviz` has everything that
# ArviZ can use, with names: posterior and prior, predictions from either, likelihoods, data.

# %%
net = zoo.load("ppc/rvae")
spikes = data.PPC(1, 10 if SMOKE else 80, seed=3, split="test").batch()
shapes = inference.khat(net, spikes, DRAWS)[0]
share = float((shapes <= limit).double().mean())
print(f"k-hat is {limit:.2f} or less in {share:.0%} of the frames, median {shapes.median():.2f}")

found = inference.to_arviz(net, spikes, num_samples=100, obs_axis="neuron")
print(", ".join(f"{name}: {dict(found[name].sizes)}" for name in ("posterior", "observed_data")))
az.summary(found, var_names="x", kind="stats").head(6)

# %% [markdown]
# There is no R-hat in that table, on purpose. R-hat and effective sample sizes ask whether a chain
# has forgotten where it began. Draws of a guide are independent by construction: R-hat would be 1
# for the worst of guides, and we have just seen five that it could not tell apart. It is the right
# question for *Gibbs chains*, such as those of a harmonium: `inference.clamped_gibbs` and
# `convergence`, or `seqzoo study chains balls/refh`.

# %%
draws = found["posterior"]["x"].values[0, :, 0]  # [draws, time, latent]
predicted = found["posterior_predictive"]["y"].values[0, :, 0].sum(-1)
seen = found["observed_data"]["y"].values[0].sum(-1)
figure, axes = plt.subplots(3, 1, figsize=(8, 5.4), sharex=True, layout="constrained")
names = ("latent 1", "latent 2", "spikes of all neurons")
for axis, values, name in zip(axes, (draws[..., 0], draws[..., 1], predicted), names):
    low, middle, high = (torch.tensor(values).quantile(q, dim=0) for q in (0.05, 0.5, 0.95))
    axis.fill_between(range(len(low)), low, high, color="#00798c", alpha=0.3, lw=0)
    axis.plot(middle, color="#00798c", lw=1)
    axis.set_ylabel(name)
axes[0].set_title("90 % of the posterior, and of what it expects to see", fontsize=10)
axes[2].plot(seen, "k.", ms=4, label="seen")
axes[2].legend(loc="upper right", fontsize=8)
axes[2].set_xlabel("frame t")
plt.show()

# %% [markdown]
# ## What to take away
#
# - No one number will do. k-hat asks about weighted draws, SBC about plain ones.
# - Test a function of latents *and* data in SBC, or a guide that never looks will pass.
# - For any model of the zoo, on the command line: `seqzoo diagnose ppc/rvae --out report`, which
#   writes a page with these figures, and the draws as `posterior.nc`.

# %%
print(f"{time.perf_counter() - started:.0f} s")
