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
# # 5. Clean a tune, fill a gap, and listen
#
# A generative model of music has an opinion on which notes belong together. That is enough to take
# wrong notes out of a tune, and to put missing ones in, without ever being trained to do either.
# The one idea here: **make the damage a part of the model, and ask for the posterior**.
#
# The model is `nottingham/vosp`, a variational one-step predictor of folk tunes,
#
# $$ z_t \sim \text{a Wiener process}, \qquad h_t = f(x_t, h_{t-1}), \qquad
#    x_t \sim p(x_t \mid h_{t-1}, z_t), $$
#
# where a frame $x_t \in \{0, 1\}^{88}$ says which piano keys sound. It ships with seqzoo, so
# nothing is trained here. The notebook takes about a minute on one core. The data (under 1 MB) are
# downloaded on first use, unless `SEQZOO_DATA` names a folder that has them.

# %%
import os
import time
import wave

import matplotlib.pyplot as plt
import numpy as np
import torch

from seqzoo import data, inference, zoo

SMOKE = bool(os.environ.get("SEQZOO_SMOKE"))  # tiny sizes, to test that the notebook runs
TUNES = 2 if SMOKE else 12  # test tunes that are scored
FRAMES = 32 if SMOKE else 96  # of each
SAMPLES = 4 if SMOKE else 32  # particles of the denoiser
CHAINS = 2 if SMOKE else 8  # independent fillings of the gap
PASSES = 2 if SMOKE else 10  # of the conditional particle filter

FRAME = 0.25  # seconds a frame is played for: the published files do not say
started = time.perf_counter()
_ = torch.manual_seed(0)

# %% [markdown]
# ## The tunes
#
# Rolls come as a `Batch`: `obs [B, T, 88]` and `mask [B, T]`, True where a frame is real. We keep
# test tunes that are long enough, and cut them to the same length.

# %%
test = data.Polyphonic("nottingham", split="test", chunk=FRAMES)
long_enough = (test.lengths == FRAMES).nonzero()[:, 0]
tunes = test.rows(long_enough[:: max(1, len(long_enough) // TUNES)][:TUNES])
model = zoo.load("nottingham/vosp")
print(f"{len(tunes)} tunes of {FRAMES} frames, {tunes.obs.sum(-1).mean():.1f} keys a frame")
print(repr(model).splitlines()[1].strip())


# %%
def draw(panels, gap=None):
    """Piano rolls under one another; what is right in blue, added in red, lacking in grey."""
    size = (9, 1.7 * len(panels))
    _, axes = plt.subplots(len(panels), 1, figsize=size, sharex=True, layout="constrained")
    clean = next(iter(panels.values()))
    low, high = clean.any(0).nonzero()[[0, -1], 0].tolist()
    for axis, (title, roll) in zip(np.atleast_1d(axes), panels.items()):
        for colour, notes in (
            ("#ced4da", clean * (1 - roll)),
            ("#d1495b", roll * (1 - clean)),
            ("#1d3557", roll * clean),
        ):
            frames, keys = notes.nonzero().T
            axis.barh(keys + data.polyphonic.LOWEST, FRAME, 0.8, frames * FRAME, color=colour)
        if gap is not None:
            span = gap[0] * FRAME, (gap[1] + 1) * FRAME
            axis.axvspan(*span, color="#f4a261", alpha=0.25, lw=0, zorder=0)
        axis.set(ylabel="MIDI note", title=title, ylim=(low + 15, high + 27))
        axis.title.set_fontsize(10)
    axes[-1].set_xlabel("time (s)")
    axes[-1].set_xlim(0, len(clean) * FRAME)
    plt.show()


# %% [markdown]
# ## To listen, without any new package
#
# A MIDI file needs a player; a notebook can play samples. Each run of frames in which a key sounds
# becomes one note of a plucked string: a few decaying sine waves of frequency
# $f = 440 \cdot 2^{(n - 69)/12}$ Hz for MIDI note $n$, and their overtones.


# %%
def synthesise(roll, rate=11_025):
    """A piano roll [T, 88] as sound, a float array in [-1, 1]."""
    hop = int(FRAME * rate)
    sound = np.zeros((len(roll) + 4) * hop)  # the last note may ring on
    held = np.pad(np.asarray(roll, dtype=int), ((1, 1), (0, 0)))
    change = np.diff(held, axis=0)
    for key in np.flatnonzero(held.any(0)):
        pitch = 440 * 2 ** ((key + data.polyphonic.LOWEST - 69) / 12)
        for first, last in zip(*(np.flatnonzero(change[:, key] == way) for way in (1, -1))):
            t = np.arange((last - first + 2) * hop) / rate
            overtones = (np.sin(2 * np.pi * k * pitch * t) * 0.6**k for k in range(1, 5))
            let_go = np.clip(1 - (t - (last - first) * FRAME) / 0.15, 0, 1)  # a soft end
            begin = np.clip(t / 0.008, 0, 1)  # and no click at the start
            note = sum(overtones) * np.exp(-1.5 * t) * begin * let_go
            sound[first * hop : first * hop + len(note)] += note
    return sound / max(1e-9, np.abs(sound).max())


def listen(name, roll):
    """Writes name.mid and name.wav into this folder, and plays the tune in a notebook."""
    data.write_midi(f"{name}.mid", roll, step=FRAME)
    rate, sound = 11_025, synthesise(roll)
    with wave.open(f"{name}.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32_000 * sound).astype("<i2").tobytes())
    print(f"wrote {name}.mid and {name}.wav, {len(sound) / rate:.0f} s")
    try:
        from IPython.display import Audio, display
    except ImportError:
        return
    display(Audio(sound, rate=rate))


listen("clean", tunes.obs[0])

# %% [markdown]
# ## Wrong notes
#
# Every silent key of every frame is turned on with probability $r = 0.05$. Of 88 keys that makes
# about as many wrong ones as there are right ones.

# %%
RATE = 0.05
noisy = data.add_notes(tunes.obs, tunes.mask, RATE, seed=0)
print(f"{tunes.obs.sum():.0f} right notes, {(noisy - tunes.obs).sum():.0f} wrong ones")
listen("noisy", noisy[0])

# %% [markdown]
# Two ways to take them out.
#
# **As published** (Bayer & Osendorfer, 2014): the mode of $q(z \mid \tilde x)$, then the mode of
# $p(x \mid z)$. The recognition model has only ever seen clean tunes, and takes the noise $\tilde
# x$ for music.
#
# **With the noise in the model**: $p(\tilde x_t \mid x_t)$ is known, a silent key was turned on
# with probability $r$. Then a key that is heard sounded in truth with probability
#
# $$ p(x_{tk} = 1 \mid \tilde x_{tk} = 1, z) = \frac{p_{tk}}{p_{tk} + (1 - p_{tk})\, r}, $$
#
# and latent paths are weighed by how well they explain the noisy frame, by a particle filter.
# `inference.denoise` does the second when it is told the rate. Beside them stand two filters that
# know nothing of music: keep a key if a neighbouring frame has it too, or if it is a key that
# sounds more often than noise does.


# %%
def neighbours(roll):
    edge = torch.zeros_like(roll[:, :1])
    before, after = torch.cat((edge, roll[:, :-1]), 1), torch.cat((roll[:, 1:], edge), 1)
    return roll * torch.maximum(before, after)


often = data.Polyphonic("nottingham", split="train").rates()
ways = {
    "left as it is": noisy,
    "kept if a neighbouring frame has it": neighbours(noisy),
    "kept by how often the key sounds": noisy * (often > (1 - often) * RATE),
    "modes, as published": inference.denoise(model, data.Batch(noisy, tunes.mask)),
    "noise in the model": inference.denoise(
        model, data.Batch(noisy, tunes.mask), rate=RATE, num_samples=SAMPLES
    ),
}


def score(found, truth):
    """Share of the notes given that are right, of the right ones that are given, and F1."""
    hits, given, right = ((found * truth).sum(), found.sum(), truth.sum())
    return [float(x) for x in (hits / given.clamp_min(1), hits / right, 2 * hits / (given + right))]


print(f"{'':38}{'precision':>10}{'recall':>8}{'F1':>8}")
for name, found in ways.items():
    precision, recall, f1 = score(found, tunes.obs)
    print(f"{name:38}{precision:10.3f}{recall:8.3f}{f1:8.3f}")

# %%
draw(
    {
        "clean": tunes.obs[0],
        "noisy (red: wrong notes)": noisy[0],
        "modes, as published (grey: notes that are lacking)": ways["modes, as published"][0],
        "noise in the model": ways["noise in the model"][0],
    }
)
listen("denoised", ways["noise in the model"][0])

# %% [markdown]
# The model works online here: frame $t$ is restored from the noisy frames up to $t$ alone. What
# feeds its memory $h$ is each particle's own draw of the clean past, never the noise.
#
# The rate need not be exact. It is a number about the damage, not about music, and one can see what
# another guess costs.

# %%
guesses = (0.02, 0.05, 0.1) if SMOKE else (0.01, 0.02, 0.05, 0.1, 0.2)
found = [
    score(
        inference.denoise(model, data.Batch(noisy, tunes.mask), rate=r, num_samples=SAMPLES),
        tunes.obs,
    )
    for r in guesses
]
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
for name, values in zip(("precision", "recall", "F1"), zip(*found)):
    axis.plot(guesses, values, "o-", label=name)
axis.axvline(RATE, color="grey", lw=0.8, ls="--", label="true rate")
axis.set(xscale="log", xlabel="noise rate that the model assumes", ylabel="share of notes")
axis.set_xticks(guesses, [str(guess) for guess in guesses])
axis.minorticks_off()
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A gap
#
# Eight consecutive frames of each tune are hidden. `Batch.observed [B, T, 88]` says what was seen;
# it is another thing than `mask`, which says which frames exist at all. `inference.impute` has
# three methods:
#
# - `"mode"`: the mode of $q(z \mid x)$ and that of $p(x \mid z)$ in turns, as published;
# - `"gibbs"`: draws from $q$ and $p$ in turns, right as far as $q$ is;
# - `"resample"`: a conditional particle filter, whose draws are from $p(x_\text{missing} \mid
#   x_\text{observed})$ in the limit of many passes. For this model it is the only way in which
#   frames *after* the gap have a say.
#
# What was hidden is scored twice: by the notes, and in nats a key under the predicted
# probabilities.

# %%
LENGTH = 8
hidden = data.hide_steps(tunes, LENGTH, seed=1)
missing = ~hidden.observed
last = int((~hidden.observed[0].any(-1)).nonzero()[0]) - 1  # of the first tune, before the gap

filled = {
    method: inference.impute(
        *(model, hidden, method),
        num_chains=CHAINS,
        steps=PASSES if method == "resample" else None,
    )
    for method in ("mode", "gibbs", "resample")
}


def nats(chance, truth):
    """-log p of a key, probabilities kept a little away from 0 and 1."""
    chance = chance.clamp(1e-4, 1 - 1e-4)
    return -float(torch.where(truth > 0, chance, 1 - chance).log().mean())


print(f"{'hidden keys alone':22}{'precision':>10}{'recall':>8}{'F1':>8}{'nats a key':>12}")
truth = tunes.obs[missing]
guesses = {"rate of each key": often.expand_as(tunes.obs)}
for name, means in (guesses | {name: found.mean for name, found in filled.items()}).items():
    chance = means[missing]
    precision, recall, f1 = score((chance > 0.5).float(), truth)
    print(f"{name:22}{precision:10.3f}{recall:8.3f}{f1:8.3f}{nats(chance, truth):12.3f}")

# %% [markdown]
# Several answers may be right. `Imputation.samples [C, B, T, 88]` holds one sample per chain; their
# mean is the probability of each key. Here is the first tune with its gap, two samples, and the
# probabilities.

# %%
start = max(0, last - 20)
part = slice(start, start + LENGTH + 41)
lost = (~hidden.observed[0, part].any(-1)).nonzero()[[0, -1], 0].tolist()
draws = filled["resample"].samples[:, 0, part]
holes = tunes.obs[0, part] * hidden.observed[0, part]
draw(
    {
        "as it was": tunes.obs[0, part],
        "with a gap": holes,
        "one draw (red: not what was written; grey: lacking)": draws[0],
        "another draw": draws[1],
    },
    gap=lost,
)

# %%
mean = filled["resample"].mean[0, part]
keys = tunes.obs[0].any(0).nonzero()[:, 0]
low, high = int(keys.min()) - 4, int(keys.max()) + 5
extent = (0, len(mean) * FRAME, low + 20.5, high + 20.5)
figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
picture = axis.imshow(
    mean[:, low:high].T, origin="lower", aspect="auto", extent=extent, cmap="magma_r", vmin=0
)
axis.axvspan(lost[0] * FRAME, (lost[1] + 1) * FRAME, fill=False, ls="--", color="#00798c")
axis.set(xlabel="time (s)", ylabel="MIDI note", title="probability that a key sounds")
figure.colorbar(picture, ax=axis, label="probability")
plt.show()

# %%
listen("gap", holes)
listen("filled", draws[0])

# %% [markdown]
# ## What to take away
#
# - One trained model, two tasks it was never trained for: each is a posterior, under a likelihood
#   that says what happened to the data.
# - Without that likelihood (the published way), the recognition model takes damage for music.
# - A draw of a gap is *a* tune that could have been, not the one that was. Score probabilities, in
#   nats, when that is what you want to know.
#
# Your own MIDI files: `data.MidiFolder("my songs", step=0.25)` in place of `data.Polyphonic`. On
# the command line: `seqzoo study denoise nottingham/vosp` and
# `seqzoo study impute nottingham/vosp`.

# %%
print(f"{time.perf_counter() - started:.0f} s")
