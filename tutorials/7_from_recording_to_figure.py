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
# # 7. A recording, from file to figure
#
# Forty neurons were recorded in sixty trials of unequal length. One electrode was dead, and the
# amplifier dropped out now and then. This tutorial reads the file, trains several models, compares
# them, and draws their latent states.
#
# The one idea here: **trust latent states as far as they predict**. A picture of latent paths looks
# convincing whatever the model has learned. Spikes that the model did not see decide: those of the
# next bin, of bins farther ahead, and of neurons that were hidden from it.
#
# The recording is simulated, so that we can look at the truth afterwards. All steps but those that
# look at the truth are the same for a file of your own. It needs `pip install "seqzoo[neuro]"`, and
# takes some minutes on two cores.

# %%
import os
import time
from datetime import UTC, datetime

import matplotlib.pyplot as plt
import numpy as np
import pynwb
from seqzoo.zoo import pictures

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
TRIALS, NEURONS, LONGEST = (12, 12, 40) if SMOKE else (60, 40, 100)
BIN = 0.02  # seconds
started = time.perf_counter()

# %% [markdown]
# ## A file to begin with
#
# The neurons follow a Lorenz system, the usual test of models of this kind (`data.Lorenz`). Its
# state circles in one of two wings, left or right, and changes between them at irregular times. The
# log-rate of each neuron is a linear function of the three coordinates.
#
# We write what a laboratory would: spike times of each unit, a table of trials, and for each unit
# the intervals in which it was recorded, which NWB calls `obs_intervals`. Leave this cell out if
# you have a file.

# %%
random = np.random.default_rng(0)
lorenz = data.Lorenz(TRIALS, LONGEST, seed=0, neurons=NEURONS, bin=BIN, rate=8.0, gain=0.6)
state, rates, counts = lorenz.state.numpy(), lorenz.rates.numpy(), lorenz.obs.numpy()
lengths = random.integers(2 * LONGEST // 3, LONGEST + 1, TRIALS)  # bins
starts = 1.0 + 3.0 * np.arange(TRIALS)  # seconds
DEAD = 7

times = [[] for _ in range(NEURONS)]
for trial, bin, neuron in zip(*np.nonzero(counts)):
    if bin < lengths[trial] and neuron != DEAD:
        number = int(counts[trial, bin, neuron])
        times[neuron] += list(starts[trial] + BIN * (bin + random.random(number)))

lost = sorted(random.choice(TRIALS, TRIALS // 6, replace=False))  # trials with a dropout of 0.2 s
edges = [0.0, *np.ravel([[starts[x] + 0.3, starts[x] + 0.5] for x in lost]), starts[-1] + 3.0]

session = pynwb.NWBFile("simulated", "tutorial", datetime(2026, 1, 1, tzinfo=UTC))
session.add_trial_column("wing", "the wing of the Lorenz system where the trial begins")
for trial in range(TRIALS):
    wing = "left" if state[trial, 0, 0] < 0 else "right"
    session.add_trial(starts[trial], starts[trial] + BIN * lengths[trial], wing=wing)
for neuron in range(NEURONS):
    recorded = [[0.0, 0.5]] if neuron == DEAD else np.reshape(edges, (-1, 2))
    session.add_unit(spike_times=np.sort(times[neuron]), obs_intervals=recorded)
with pynwb.NWBHDF5IO("session.nwb", "w") as file:
    file.write(session)

# %% [markdown]
# ## Read it, and look at it
#
# `from_nwb` counts spikes in bins. A bin outside of a unit's `obs_intervals` is missing, which is
# not the same as a bin without a spike: no likelihood, gradient or score depends on it.

# %%
spikes = data.Recording.from_nwb("session.nwb", bin=BIN, trials="trials")
print(spikes)
print(f"{spikes.batch().obs.sum():.0f} spikes; conditions: {', '.join(spikes.conditions)}")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
pictures.plot_missing(spikes, ax=left)
pictures.plot_raster(spikes, trial=int(lost[0]), ax=right)
plt.show()

# %% [markdown]
# Left: the fraction of bins that are missing. The dead electrode is the dark row, trials with a
# dropout are darker columns. Right: a trial with a dropout, a tick for each spike.
#
# ## Split
#
# By trials: some to train on, some to choose the best weights by, some for the figures below.

# %%
train, validation, test = spikes.split(0.6, 0.2, 0.2, seed=0)
print(f"trials: {len(train)} to train, {len(validation)} to validate, {len(test)} to test")

# %% [markdown]
# ## Train several models
#
# `zoo.compare` chooses widths, rates and minibatches from the data, trains, and keeps the weights
# that predict the validation trials best. Its table says what to try where a model ought to do
# better. The number of latents is ours to choose. A Lorenz system has three.
#
# - `poisson-lgds`: linear dynamics, and counts whose log-rates are linear in the state; by EM.
# - `rvae`: a recurrent variational autoencoder, by the temporally local rule.
# - `gru`: a recurrent network that predicts the next bin. It has no latent states of its own.

# %%
names = ["poisson-lgds", "rvae", "gru"]
fits = zoo.compare(
    *(names, train, validation),
    latent_dim=3,
    updates=20 if SMOKE else None,
    changes={"poisson-lgds": {"rule.iterations": 2 if SMOKE else 10}},
    progress=False,
)
print(fits)

pictures.plot_learning(fits, scaled=True)
plt.show()

# %% [markdown]
# ## Score on trials that nobody has seen
#
# **Bits per spike**: by how much a model predicts spikes better than the mean rate of each neuron
# does. 0 is no better than the mean. The true rates, known here alone, set the limit: spikes are
# random, and nothing predicts them better.
#
# *Next bin* is predicted from the bins before it. *Held-out* neurons, a quarter of all, are hidden
# from the model and predicted from the others (co-smoothing, as in the Neural Latents Benchmark).
# Missing bins count in neither.


# %%
def true(values, recording):
    """The truth beside a recording's trials, [N, T, D]."""
    return values[recording.names][:, : int(recording.lengths.max())]


print(fits.score(test, true_rates=true(lorenz.rates, test)))

# %% [markdown]
# The rVAE and the GRU predict the next bin better than linear dynamics do. Of hidden neurons the
# rVAE and the linear system say about the same, near the limit: those are told by the present.
#
# How far ahead does a model see? `forward_prediction` hides the last bins of every trial. The
# Lorenz system is chaotic, so that every prediction ends somewhere.

# %%
ahead = 5 if SMOKE else 20
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for name, fit in fits.items():
    found = inference.forward_prediction(fit.net, test, bins=ahead)
    ax.plot(BIN * np.arange(1, ahead + 1), found.ahead, label=f"{name}: {found.total:.2f}")
ax.axhline(0, color="black", lw=0.8, ls="--")
ax.set(xlabel="time ahead (s)", ylabel="bits per spike")
ax.legend(frameon=False, fontsize=8, title="all bins ahead")
plt.show()

# %% [markdown]
# With a dozen test trials the curves are noisy. Compare the models with one another by them, and
# not with other work.
#
# ## Latent states against the truth
#
# Latent states are known up to a change of coordinates at best. So we fit a linear map from latent
# to true states on training trials, and look at R² on test trials: 1 is perfect, 0 is no better
# than a constant.

# %%
decoded = {}
for name in ("poisson-lgds", "rvae"):
    given, wanted = fits[name].latents(train)["mean"], true(state, train)
    decoder = inference.fit_decoder(given, wanted, train.batch().mask)
    decoded[name] = decoder(fits[name].latents(test)["mean"]).numpy()
    score = inference.r_squared(decoded[name], true(state, test), test.batch().mask)
    print(f"{name:14} R² of x, y, z:", *(f"{each:.2f}" for each in score))

figure, axes = plt.subplots(2, 1, figsize=(9, 5), layout="constrained", sharex=True)
for (name, found), ax in zip(decoded.items(), axes):
    pictures.plot_over_time(found, true(state, test), trial=0, ax=ax)
    ax.set(title=name, ylabel="state")
plt.show()

# %% [markdown]
# The linear system is read better, though it predicts worse. The latent states of the rVAE are a
# nonlinear function of the true ones, and a linear map cannot undo that. R² of latents after a
# linear map is no measure of how much a model knows.
#
# ## Rates, also where nothing was seen
#
# The model has an expectation for every bin, also for those of the dropout and of the dead
# electrode. What it says of the dead electrode cannot be checked, and is not to be believed: no
# spike of that unit was ever seen.

# %%
dropout = int(lost[0])
rates_of = {name: fits[name].rates(spikes) for name in ("poisson-lgds", "rvae")}
pictures.plot_raster(spikes, rates_of["rvae"], trial=dropout)
plt.show()

# %% [markdown]
# ## Neurons that were hidden
#
# The score above is one number. Here is each of the held-out neurons: hidden by NaN, predicted from
# the others, and compared with the spikes that were counted.

# %%
_, outside = test.split_channels(0.75, seed=0)
held_out = [test.channels.index(channel) for channel in outside.channels]
blind = test.to_xarray().copy()
blind[..., held_out] = np.nan
blind = data.Recording.from_xarray(blind)
guessed = {name: fits[name].rates(blind) for name in names[:2]}
pictures.plot_neurons(guessed, test, channels=held_out)
plt.show()
pictures.plot_raster(test, guessed["rvae"], trial=0, channels=held_out)
plt.show()

# %% [markdown]
# ## The figure: latent paths by condition
#
# Trials that began in the left wing, and those that began in the right one. The first half second
# is drawn. A dot marks the start, a thick line the mean.

# %%
figure = plt.figure(figsize=(11, 4.6), layout="constrained")
for number, name in enumerate(("poisson-lgds", "rvae")):
    ax = figure.add_subplot(1, 2, number + 1, projection="3d")
    paths = fits[name].latents(spikes).isel(time=slice(25))
    pictures.plot_latents(paths, by="wing", dims=3, ax=ax)
    ax.set_title(name)
figure.savefig("latents.png", dpi=150)
plt.show()

# %% [markdown]
# ## Save, and come back
#
# `zoo.load` needs nothing but the folder: the card in it names the classes and their arguments.

# %%
fits["rvae"].save("my-rvae")
again = zoo.load("my-rvae")
print(type(again).__name__, inference.score(again, test, "cosmooth"))
print(f"{time.perf_counter() - started:.0f} s in all")

# %% [markdown]
# ## What to take away
#
# - Missing is not silent. Say which bins were not recorded, and no score depends on them.
# - Believe latent states as far as they predict spikes that the model did not see, and compare with
#   a simple model: here linear dynamics.
# - Every figure takes and returns matplotlib axes, so that it fits into one of your own.
