"""Table 1 of paper 002: polyphonic music, by every model of the table; a table a data set."""

from __future__ import annotations

from ...data import Polyphonic
from ...inference import SequenceELBO
from ..decoders import CausalDecoder
from ..fast_memory import (
    FastDropoutDecoder,
    FastDropoutMemory,
    FastDropoutReader,
    FastDropoutReadout,
)
from ..likelihoods import Bernoulli
from ..memory import DeepTransition, Memory, Reader
from ..nade import NADE
from ..nets import MLP
from ..path_guides import Autoregressive, Diagonal
from ..rnn import RNN
from ..vosp import VOSP
from ..vrae import VRAE
from .part import Part, part
from .piano import music_task
from .recipe import Recipe

SOURCE = "Bayer & Osendorfer (2014), Table 1"
KEYS, LATENTS, CHUNK = 88, 32, 100
DATA = ("jsb", "nottingham", "piano-midi", "musedata")
PUBLISHED = {
    "vrae-published": {"piano-midi": 4.00, "nottingham": 2.00, "jsb": 5.53},
    "vosp": {"piano-midi": 6.08, "nottingham": 2.63, "jsb": 6.21},
    "fd-rnn": {"piano-midi": 7.39, "nottingham": 3.09, "jsb": 8.01},
    "rnn": {"piano-midi": 7.58, "nottingham": 3.43, "jsb": 8.58},
    "rnn-nade": {"piano-midi": 7.05, "nottingham": 2.31, "jsb": 5.19},
    "deep-rnn": {"nottingham": 2.95, "jsb": 7.92},
}
# Passes over the training data, and epochs from one look at the validation data to the next.
EPOCHS = {"jsb": 100, "nottingham": 28, "piano-midi": 24, "musedata": 16}
EVERY = {"jsb": 10, "nottingham": 3, "piano-midi": 3, "musedata": 2}
BERNOULLI = part(Bernoulli, dim=KEYS)


def row(data: str, name: str, title: str, figures: tuple[str, ...], model: Part, **rest) -> Recipe:
    """One row of one table."""
    rest = {"rule": part(SequenceELBO), **rest}
    return Recipe(
        f"{data}/{name}",
        title,
        task=music_task(data, *figures),
        model=model,
        data=part(Polyphonic, name=data, chunk=CHUNK, recut=True),
        published=PUBLISHED.get(name, {}).get(data),
        source=SOURCE,
        validate=True,
        **rest,
    )


def budget(data: str, times: float = 1.0, **how) -> dict:
    """A training budget: ``times`` the data set's epochs."""
    epochs = max(1, round(times * EPOCHS[data]))
    common = {"lr": 3e-3, "schedule": "late", "average": 0.99, "clip": 5.0, "batch_size": 20}
    fit = {"epochs": epochs, "validate_every": EVERY[data], **common, **how}
    return {"fit": fit, "quick": {"fit.epochs": max(1, epochs // 5)}}


# Models with a latent path -----------------------------------------------------------------------


def vrae(data: str) -> Recipe:
    encoder = part(Reader, inputs=KEYS, hidden=120, skip=True)
    decoder = part(CausalDecoder, dim=LATENTS, natural_dim=KEYS, hidden=200, dropout=0.1)
    guide = part(Autoregressive, features_dim=120 + KEYS, dim=LATENTS, memory_dim=200)
    net = part(
        VRAE,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=BERNOULLI,
        encoder=encoder,
        decoder=decoder,
        guide=guide,
        input_dropout=0.1,
        obs_mean=0.05,
    )
    plan = budget(data, 0.4, lr=2.5e-3, schedule="linear", average=0.995)
    first = {**plan["fit"], "epochs": round(0.6 * EPOCHS[data]), "lr": 5e-3, "schedule": "constant"}
    del first["validate_every"]
    return row(
        data,
        "vrae",
        "VRAE",
        ("ELBO", "IW-50", "SMC-500"),
        net,
        rule=part(SequenceELBO, objective={"particles": 0.7, "elbo": 0.3}, particles=4),
        fit=plan["fit"],
        warmup={
            "restarts": 1,
            "rule": {"objective": "elbo", "particles": 1, "kl_weight": [0.05, 1.0, 1.0]},
            "fit": first,
        },
        quick={**plan["quick"], "warmup.fit.epochs": max(1, first["epochs"] // 5)},
    )


def published(data: str) -> Recipe:
    """The model as published: fast dropout both ways, a diagonal guide, and what the text says."""
    units = 200
    start = {"spectral_radius": 1.1, "incoming": 25, "input_scale": 0.1}
    net = part(
        VRAE,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=BERNOULLI,
        encoder=part(FastDropoutReader, inputs=KEYS, units=units, **start),
        decoder=part(FastDropoutDecoder, dim=LATENTS, natural_dim=KEYS, units=units, **start),
        guide=part(Diagonal, features_dim=4 * units, dim=LATENTS),
        sees="path",
    )
    plan = budget(
        data, 0.6, lr=1e-3, optimiser="rmsprop-nesterov", clip=225.0, average=None, schedule="late"
    )
    return row(
        data,
        "vrae-published",
        "VRAE as published",
        ("published objective (no bound)", "ELBO"),
        net,
        rule=part(SequenceELBO, objective="marginal-increments"),
        **plan,
    )


def vosp(data: str, emission: str = "bernoulli") -> Recipe:
    nade = emission == "nade"
    net = part(
        VOSP,
        obs_dim=KEYS,
        latent_dim=LATENTS,
        likelihood=part(NADE, dim=KEYS, hidden=150) if nade else BERNOULLI,
        memory=part(Memory, inputs=KEYS, hidden=160, skip=True),
        width=300,
        input_dropout=0.2,
        dropout=0.4,
        obs_mean=0.05,
    )
    return row(
        data,
        "vosp-nade" if nade else "vosp",
        "VOSP, NADE keys" if nade else "VOSP",
        ("ELBO", "IW-500 a frame"),
        net,
        rule=part(SequenceELBO, kl_weight=[0.05, 1.0, 0.6]),
        **budget(data),
    )


# Models of one step ahead, with an exact likelihood ----------------------------------------------


def exact(data: str, name: str, title: str, times: float = 0.5, fit=None, **parts) -> Recipe:
    net = part(RNN, obs_dim=KEYS, **{"likelihood": BERNOULLI, "obs_mean": 0.05, **parts})
    return row(data, name, title, ("exact NLL",), net, **budget(data, times, **(fit or {})))


def baselines(data: str) -> list[Recipe]:
    drop = {"input_dropout": 0.2, "dropout": 0.4}
    deep = part(DeepTransition, inputs=KEYS, hidden=200, width=200)
    readout = part(MLP, sizes=[200, 200, KEYS], dropout=0.3)
    fast = part(FastDropoutMemory, inputs=KEYS, units=200, keep_input=0.9, keep_hidden=0.9)
    fast_readout = part(FastDropoutReadout, units=200, natural_dim=KEYS, keep=0.5)
    gru = part(Memory, inputs=KEYS, hidden=160, skip=True)
    plain = part(Memory, inputs=KEYS, hidden=200, cell="tanh")
    return [
        exact(data, "rnn", "RNN", memory=plain, **drop),
        exact(data, "fd-rnn", "fast-dropout RNN", memory=fast, readout=fast_readout, obs_mean=None),
        exact(data, "deep-rnn", "deep RNN", memory=deep, readout=readout, **drop),
        exact(
            data,
            "rnn-nade",
            "RNN-NADE",
            likelihood=part(NADE, dim=KEYS, hidden=150),
            memory=gru,
            input_dropout=0.2,
            dropout=0.5,
        ),
    ]


RECIPES = [
    recipe
    for data in DATA
    for recipe in (
        vrae(data),
        published(data),
        vosp(data),
        vosp(data, "nade"),
        *baselines(data),
    )
]
