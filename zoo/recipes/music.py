"""Polyphonic music, a table a data set: Bayer & Osendorfer (2014), Table 1.

The sets are transposed to C major and C minor, so that their models expect music in C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...data import Polyphonic
from ...inference import SequenceELBO
from ..models.rnn import RNN
from ..models.vosp import VOSP
from ..models.vrae import VRAE
from ..part import Part, part
from ..parts.decoders import CausalDecoder
from ..parts.fast_frames import FastDropoutEmission, FastDropoutEncoder
from ..parts.fast_memory import (
    FastDropoutDecoder,
    FastDropoutMemory,
    FastDropoutReader,
    FastDropoutReadout,
)
from ..parts.likelihoods import NADE, Bernoulli
from ..parts.memory import DeepTransition, Memory, Reader
from ..parts.nets import MLP
from ..parts.path_guides import Autoregressive, Diagonal
from ..parts.priors import GaussianProcess
from .music_task import music_task
from .recipe import Recipe

SOURCE = "Bayer & Osendorfer (2014), Table 1"
KEYS, LATENTS, CHUNK = 88, 32, 100
DATA = ("jsb", "nottingham", "piano-midi", "musedata")
PUBLISHED = {
    "vrae-published": {"piano-midi": 4.00, "nottingham": 2.00, "jsb": 5.53},
    "vosp-published": {"piano-midi": 6.08, "nottingham": 2.63, "jsb": 6.21},
    "fd-rnn": {"piano-midi": 7.39, "nottingham": 3.09, "jsb": 8.01},
    "rnn": {"piano-midi": 7.58, "nottingham": 3.43, "jsb": 8.58},
    "rnn-nade": {"piano-midi": 7.05, "nottingham": 2.31, "jsb": 5.19},
    "deep-rnn": {"nottingham": 2.95, "jsb": 7.92},
}
NOTES = {  # of a row on all sets, or on one
    "vrae": "the published figures are of another objective, see the row as published. Trained by "
    "the ELBO, then by a mean of the ELBO and a bound of four particles.",
    "vrae-published": "its published objective is no bound and compares with no other column; the "
    "exact ELBO of the same networks stands beside it.",
    "vrae-gp": "a Matern 3/2 kernel, whose length scale and variance are learned: it becomes "
    "almost white noise, under which a diagonal guide has no floor.",
    "vrae-nade": "the settings of the row VRAE, which were chosen for independent keys.",
    "vosp": "the guide is over increments, so that frames share no noise, and the decoder sees "
    "increments.",
    "vosp-published": "its published objective is no bound and compares with no other column; the "
    "exact ELBO of the same networks stands beside it.",
    "rnn": "tanh units, a linear readout.",
    "nottingham/rnn": "tanh units; a linear readout of them and of the last frame.",
    "jsb/fd-rnn": "the readout has a hidden layer, and reads the last frame as well.",
    "gru": "the VOSP's memory, layers, dropout and budget, without its latent state.",
    "rnn-nade": "the memory, layers, dropout and budget of the VOSP with NADE keys, without its "
    "latent state.",
}
# Rows whose weights come with the package: together they must stay small.
LATENT = ("vrae", "vosp")
SHIPPED = {
    "jsb": (*LATENT, "vrae-published", "vosp-nade", "rnn-nade"),
    "nottingham": (*LATENT, "rnn-nade"),
    "piano-midi": LATENT,
    "musedata": LATENT,
}
# Epochs from one look at the validation data to the next.
EVERY = {"jsb": 8, "nottingham": 3, "piano-midi": 2, "musedata": 2}
# Particles of the bound that the tables show; longer data get fewer.
PARTICLES = {"jsb": 500, "nottingham": 200, "piano-midi": 500, "musedata": 100}
BERNOULLI = part(Bernoulli, dim=KEYS)
NADE_KEYS = part(NADE, dim=KEYS, hidden=150)
PROCESS = part(GaussianProcess, dim=LATENTS, kernel="matern32", lengthscale=1.0, learn=True)
HIDDEN = 200  # units of the memory of VOSPs
MEMORY = part(Memory, inputs=KEYS, hidden=HIDDEN, skip=True)


def row(
    data: str, name: str, title: str, figures: tuple[str, ...], model: Part, **rest: Any
) -> Recipe:
    """One row of one table."""
    rest = {"rule": part(SequenceELBO), **rest}
    published = PUBLISHED.get(name, {}).get(data)
    return Recipe(
        f"{data}/{name}",
        title,
        task=music_task(data, *figures),
        model=model,
        data=part(Polyphonic, name=data, chunk=CHUNK, recut=True),
        published=published,
        source=SOURCE,
        validate=True,
        ships=name in SHIPPED[data],
        note=NOTES.get(f"{data}/{name}", NOTES.get(name, "")),
        **rest,
    )


def budget(data: str, epochs: int, **how: Any) -> dict[str, Any]:
    """A training budget."""
    common = {"lr": 3e-3, "schedule": "late", "average": 0.995, "clip": 5.0, "batch_size": 20}
    fit = {"epochs": epochs, "validate_every": EVERY[data], **common, **how}
    return {"fit": fit, "quick": {"fit.epochs": max(1, epochs // 5)}}


# Models with a latent path -----------------------------------------------------------------------

# The ELBO alone: epochs, schedule, fraction of them that anneals the KL weight. Then particles
# beside it: epochs, learning rate, their weight. Dropout; whether the decoder has a drift.
VRAES = {
    "jsb": ((60, "constant", 1.0), (40, 2.5e-3, 0.7), 0.1, True),
    "nottingham": ((18, "constant", 1.0), (9, 2.5e-3, 0.35), 0.05, True),
    "piano-midi": ((22, "late", 0.5), (6, 1.5e-3, 0.5), 0.1, False),
    "musedata": ((11, "late", 0.5), (3, 1.5e-3, 0.5), 0.1, False),
}


def vrae(data: str, nade: bool = False) -> Recipe:
    """Trained by the ELBO, and then by a bound of four particles beside it."""
    likelihood = NADE_KEYS if nade else BERNOULLI
    outputs = likelihood.build().natural_dim
    (alone, schedule, annealed), (together, lr, fraction), dropout, drift = VRAES[data]
    weights = {"particles": fraction, "elbo": round(1 - fraction, 2)}
    encoder = part(Reader, inputs=KEYS, hidden=120, skip=True)
    decoder = part(CausalDecoder, dim=LATENTS, natural_dim=outputs, hidden=200, dropout=dropout)
    decoder = decoder if drift else decoder.set(["drift"], False)
    guide = part(Autoregressive, features_dim=120 + KEYS, dim=LATENTS, memory_dim=200)
    net = part(
        VRAE,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=likelihood,
        encoder=encoder,
        decoder=decoder,
        guide=guide,
        input_dropout=dropout,
        obs_mean=0.05,
    )
    plan = budget(data, together, lr=lr, schedule="linear")
    first = {**plan["fit"], "epochs": alone, "lr": 5e-3, "schedule": schedule}
    del first["validate_every"]
    return row(
        data,
        "vrae-nade" if nade else "vrae",
        "VRAE, NADE keys" if nade else "VRAE",
        ("ELBO", "IW-50", f"SMC-{PARTICLES[data]}"),
        net,
        rule=part(SequenceELBO, objective=weights, num_samples=4),
        fit=plan["fit"],
        warmup={
            "restarts": 1,
            "rule": {"objective": "elbo", "num_samples": 1, "kl_weight": [0.05, 1.0, annealed]},
            "fit": first,
        },
        quick={**plan["quick"], "warmup.fit.epochs": max(1, alone // 5)},
    )


NO_BOUND = "published objective (no bound)"


UNITS = 200  # of the networks with fast dropout
START = {"spectral_radius": 1.1, "incoming": 25, "input_scale": 0.1}
# Epochs of the rows as published, until validation stops falling.
AS_PUBLISHED = {
    "jsb": {"vrae": 60, "vosp": 48},
    "nottingham": {"vrae": 10, "vosp": 8},
    "piano-midi": {"vrae": 15, "vosp": 20},
    "musedata": {"vrae": 6, "vosp": 6},
}
# Table 2 of the source, with 200 units, and momentum and decay of 0.9. The scale of the recurrent
# weights is left out: it has no effect once their radius is set.
TABLE_2 = {
    "spectral_radius": [1.0, 1.05, 1.1, 1.2],
    "incoming": [15, 25, 35, 50, None],
    "input_scale": [0.316, 0.1, 0.0316, 0.01],  # roots of the variances 0.1 to 0.0001
}


def published(data: str, exact: bool = False, process: bool = False) -> Recipe:
    """The VRAE as published: fast dropout both ways, a diagonal guide, and what the text says.

    With ``exact`` it is trained by the exact ELBO in place of what the text says; with ``process``
    so too, under a Gaussian process in place of the Wiener process.
    """
    net = part(
        VRAE,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=BERNOULLI,
        encoder=part(FastDropoutReader, inputs=KEYS, units=UNITS, **START),
        decoder=part(FastDropoutDecoder, dim=LATENTS, natural_dim=KEYS, units=UNITS, **START),
        guide=part(Diagonal, features_dim=4 * UNITS, dim=LATENTS),
        decoder_input="path",
    )
    if process:
        title, net = "VRAE as published, exact ELBO, GP prior", net.set(["prior"], PROCESS)
        return as_published(data, "vrae-gp", title, ("ELBO", "IW-50"), net, "elbo")
    if exact:
        title = "VRAE as published, exact ELBO"
        return as_published(data, "vrae-diagonal", title, ("ELBO",), net, "elbo")
    title = "VRAE as published"
    return as_published(data, "vrae-published", title, (NO_BOUND, "ELBO"), net)


def as_published(
    data: str,
    name: str,
    title: str,
    figures: tuple[str, ...],
    model: Part,
    objective: str = "marginal-increments",
) -> Recipe:
    """A row with the optimizer of the paper; its objective is what the text says."""
    family = name.partition("-")[0]
    epochs = AS_PUBLISHED[data][family]
    how = {"lr": 1e-3, "optimizer": "rmsprop-nesterov", "clip": 225.0, "average": None}
    recurrent = {"vrae": ("encoder", "decoder"), "vosp": ("memory",)}[family]
    starts = {f"model.{net}.{key}": TABLE_2[key] for net in recurrent for key in TABLE_2}
    return row(
        data,
        name,
        title,
        figures,
        model,
        rule=part(SequenceELBO, objective=objective),
        search={"fit.lr": [5e-3, 1e-3], **starts},
        **budget(data, epochs, **how),
    )


def published_vosp(data: str) -> Recipe:
    """The VOSP as published: fast dropout, a diagonal guide, and the objective of the text.

    The rates of what recognises are learned. The memory is part of it, and of p as well. Its input
    weights begin small: on JSB the objective on validation data rises with their scale.
    """
    start = {**START, "input_scale": 0.01}
    net = part(
        VOSP,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=BERNOULLI,
        memory=part(FastDropoutMemory, inputs=KEYS, units=UNITS, learn_rates=True, **start),
        guide=part(Diagonal, features_dim=2 * UNITS, dim=LATENTS),
        encoder=part(FastDropoutEncoder, units=UNITS, inputs=KEYS, width=UNITS),
        emission=part(
            FastDropoutEmission, units=UNITS, latent_dim=LATENTS, natural_dim=KEYS, width=UNITS
        ),
        width=2 * UNITS,
        decoder_input="path",
    )
    return as_published(data, "vosp-published", "VOSP as published", (NO_BOUND, "ELBO"), net)


# Epochs, sequences a batch and learning rate; annealing of the KL weight; dropout of h and of the
# input; width of the layers.
VOSPS = {
    "jsb": ((110, 10, 5e-3), [0.3, 1.0, 0.4], (0.65, 0.3), 300),
    "nottingham": ((36, 20, 3e-3), [0.15, 1.0, 0.65], (0.3, 0.1), 200),
    "piano-midi": ((24, 20, 3e-3), [0.15, 1.0, 0.65], (0.5, 0.2), 200),
    "musedata": ((14, 20, 3e-3), [0.15, 1.0, 0.5], (0.3, 0.1), 200),
}


def vosp(data: str, nade: bool = False) -> Recipe:
    (epochs, batch_size, lr), annealing, (dropout, input_dropout), width = VOSPS[data]
    net = part(
        VOSP,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=NADE_KEYS if nade else BERNOULLI,
        memory=MEMORY,
        width=width,
        input_dropout=input_dropout,
        dropout=dropout,
        obs_mean=0.05,
    )
    return row(
        data,
        "vosp-nade" if nade else "vosp",
        "VOSP, NADE keys" if nade else "VOSP",
        ("ELBO", f"IW-{PARTICLES[data]} a frame"),
        net,
        rule=part(SequenceELBO, kl_weight=annealing),
        **budget(data, epochs, batch_size=batch_size, lr=lr),
    )


# Models of one step ahead, with an exact likelihood ----------------------------------------------


CONSTANT, LINEAR = {"schedule": "constant"}, {"schedule": "linear"}
CALM = {"clip": 1.0, "average": 0.998}
# The plan of training; dropout of the input and of h. First the number of tanh units, and whether
# the readout reads the last frame as well.
PLAIN = {
    "jsb": (400, False, {"epochs": 40, "batch_size": 4, **CALM, **CONSTANT}, (0.0, 0.6)),
    "nottingham": (300, True, {"epochs": 24, "batch_size": 10, "lr": 2.5e-3, **CALM}, (0.05, 0.2)),
    "piano-midi": (200, False, {"epochs": 22, "batch_size": 10}, (0.1, 0.3)),
    "musedata": (200, False, {"epochs": 8, "batch_size": 10, "lr": 4e-3}, (0.1, 0.2)),
}
# Likewise; last, dropout of the readout.
DEEP = {
    "jsb": ({"epochs": 90, "batch_size": 16, "lr": 4e-3, **LINEAR}, (0.3, 0.5), 0.5),
    "nottingham": ({"epochs": 26, "batch_size": 10, "lr": 2e-3, **LINEAR}, (0.05, 0.1), 0.1),
    "piano-midi": ({"epochs": 22, "batch_size": 10}, (0.1, 0.3), 0.3),
    "musedata": ({"epochs": 8, "batch_size": 10, "lr": 2e-3, **LINEAR}, (0.1, 0.2), 0.2),
}
# The plan; the fractions that are kept; units of a hidden layer of the readout, which then reads
# the last frame as well.
FAST = {
    "jsb": ({"epochs": 60, "batch_size": 16, "lr": 5e-3}, (0.7, 0.5, 0.5), 200),
    "nottingham": ({"epochs": 24, "batch_size": 10, "lr": 4e-3}, (0.95, 0.9, 0.9), None),
    "piano-midi": ({"epochs": 20, "batch_size": 10, "lr": 4e-3}, (0.9, 0.7, 0.6), None),
    "musedata": ({"epochs": 8, "batch_size": 10, "lr": 4e-3}, (0.9, 0.8, 0.8), None),
}


def exact(
    data: str,
    name: str,
    title: str,
    plan: Mapping[str, Any],
    drops: Sequence[float],
    **parts: Any,
) -> Recipe:
    """A one-step predictor; ``plan`` has the arguments of ``budget``."""
    input_dropout, dropout = drops
    common = {"likelihood": BERNOULLI, "obs_mean": 0.05}
    drop = {"input_dropout": input_dropout, "dropout": dropout}
    net = part(RNN, obs_dim=KEYS, **{**common, **drop, **parts})
    return row(data, name, title, ("exact NLL",), net, **budget(data, **plan))


def baselines(data: str) -> list[Recipe]:
    return [
        plain(data),
        without_latent(data, "gru", "RNN with GRU units", BERNOULLI),
        fast_dropout(data),
        deep(data),
        without_latent(data, "rnn-nade", "RNN-NADE", NADE_KEYS),
    ]


def plain(data: str) -> Recipe:
    """Tanh units and a linear readout."""
    units, beside, plan, drops = PLAIN[data]
    memory = part(Memory, inputs=KEYS, hidden=units, cell="tanh")
    memory = memory.set(["skip"], True) if beside else memory
    return exact(data, "rnn", "RNN", plan, drops, memory=memory)


def fast_dropout(data: str) -> Recipe:
    """Fast dropout of the input, of the units and of the readout."""
    plan, (keep_input, keep_hidden, keep), width = FAST[data]
    memory = part(
        FastDropoutMemory, inputs=KEYS, units=200, keep_input=keep_input, keep_hidden=keep_hidden
    )
    start = {"units": 200, "natural_dim": KEYS, "keep": keep, "bias": -3.0}
    readout = part(FastDropoutReadout, **start)
    if width is not None:
        memory = memory.set(["skip"], True)
        readout = part(FastDropoutEmission, latent_dim=KEYS, width=width, **start)
    parts = {"memory": memory, "readout": readout, "obs_mean": None}
    return exact(data, "fd-rnn", "fast-dropout RNN", plan, (0.0, 0.0), **parts)


def deep(data: str) -> Recipe:
    """A deep transition and a deep readout."""
    plan, drops, last = DEEP[data]
    memory = part(DeepTransition, inputs=KEYS, hidden=200, width=200)
    readout = part(MLP, sizes=[200, 200, KEYS], dropout=last)
    return exact(data, "deep-rnn", "deep RNN", plan, drops, memory=memory, readout=readout)


def without_latent(data: str, name: str, title: str, likelihood: Part) -> Recipe:
    """The VOSP's memory, layers, dropout and budget, without its latent state."""
    (epochs, batch_size, lr), _, (dropout, input_dropout), width = VOSPS[data]
    outputs = likelihood.build().natural_dim
    return exact(
        data,
        name,
        title,
        {"epochs": epochs, "batch_size": batch_size, "lr": lr},
        (input_dropout, dropout),
        likelihood=likelihood,
        memory=MEMORY,
        readout=part(MLP, sizes=[HIDDEN + KEYS, width, outputs]),
    )


def once(data: str) -> list[Recipe]:
    """Comparisons that are made on one set."""
    return [published(data, exact=True), published(data, process=True), vrae(data, nade=True)]


RECIPES = [
    recipe
    for data in DATA
    for recipe in (
        vrae(data),
        published(data),
        *(once(data) if data == "jsb" else []),
        vosp(data),
        vosp(data, nade=True),
        published_vosp(data),
        *baselines(data),
    )
]
