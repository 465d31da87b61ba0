"""How much of a loose bound is the guide's: another guide for the same decoder, which is kept."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch

from ...data import Polyphonic
from ...inference import SequenceELBO, fit
from .. import store
from ..models.vrae import VRAE
from ..parts.memory import Reader
from ..parts.path_guides import Diagonal, MarkovChain, StepGuide
from ..recipes.music import CHUNK
from ..recipes.music_task import music_task

HIDDEN = 200  # units of the new encoder in each direction
SEQUENCES = 20  # of a minibatch
GUIDES: dict[str, type[StepGuide]] = {"diagonal": Diagonal, "Gaussian chain": MarkovChain}


class Refitted(NamedTuple):
    """The ELBO of a model on test data, as nats per frame of the negative log-likelihood.

    Arguments:
        guide: the guide.
        updates: updates of the guide; 0 for the model as it is.
        bound: nats per frame.
    """

    guide: str
    updates: int
    bound: float


def refit_guide(name: str, updates: int = 600, seed: int = 0) -> list[Refitted]:
    """Trains guides for the prior and the decoder of a VRAE on the exact ELBO.

    Each guide reads a GRU in either direction. The diagonal one has the family of the published
    guide; the other lets z_t depend on z_{t-1}.

    Arguments:
        name: a VRAE of music, such as ``jsb/vrae-published``.
        updates: number of updates of each guide, rounded to whole epochs.
        seed: seed of the guides, of the order of the data and of the samples.

    Returns:
        The bound of the model as it is, then with each guide.

    Raises:
        ValueError: for another kind of model.
    """
    net = store.load(name)
    if not isinstance(net, VRAE):
        raise ValueError(f"{name} is not a VRAE: name a model such as jsb/vrae-published")
    data = store.card_of(net)["configuration"]["data"]["name"]
    task = music_task(data, "ELBO")
    found = [Refitted("as trained", 0, task.measure(net, seed, "test").figures[0].item())]
    train = Polyphonic(data, "train", chunk=CHUNK, recut=True)
    an_epoch = -(-len(train) // SEQUENCES)
    for title, guide in GUIDES.items():
        torch.manual_seed(seed)
        encoder = Reader(net.obs_dim, HIDDEN, "both", skip=True)
        other = VRAE(
            net.obs_dim,
            net.latent_dim,
            copy.deepcopy(net.likelihood),
            prior=copy.deepcopy(net.prior),
            encoder=encoder,
            guide=guide(encoder.features_dim, net.latent_dim),
            decoder=copy.deepcopy(net.decoder),
            decoder_input=net.decoder_input,
        )
        fitted = fit(
            SequenceELBO(other),
            train,
            epochs=max(1, round(updates / an_epoch)),
            lr={"": 3e-3, "decoder.": 0.0},
            schedule="late",
            batch_size=SEQUENCES,
            clip=5.0,
            seed=seed,
            progress=False,
        )
        bound = task.measure(fitted.net.eval(), seed, "test").figures[0].item()
        found.append(Refitted(title, len(fitted.history) * an_epoch, bound))
    return found
