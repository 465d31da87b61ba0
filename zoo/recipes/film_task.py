"""What the tables of film share: the task, and the convolutional VAEs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from ...data.synthetic import Synthetic
from ...inference import LocalELBO, Recurrent, predict_next
from ..models.generation import Generates
from ..models.recurrent_vae import RecurrentVAE
from ..models.rvae import RVAE
from ..part import Part, part
from ..parts.guides import FilmGuide
from ..parts.likelihoods import Bernoulli
from ..parts.nets import ConvDecoder, ConvEncoder
from ..parts.spatial import SpatialDecoder, SpatialGuide, SpatialNet
from ..pictures import FILM, check_file, plot_film
from .task import Task, device_of, protocol_for

CHAINS = 8
GENERATED = 100  # frames of a sampled film
SEQUENCES = 10  # predicted at a time: a prediction is CHAINS times as large as its film


@dataclass(frozen=True)
class FilmTask(Task):
    """A task on film.

    Attributes:
        film: ``film(sequences=, steps=, seed=, split=, device=)`` makes some.
    """

    film: Callable[..., Synthetic] | None = None


def next_frame_task(name: str, film: Callable[..., Synthetic]) -> FilmTask:
    """Next-frame error: squared, per pixel, over all frames after the first.

    Arguments:
        name: what the film is, in a few words.
        film: see ``FilmTask``. A recipe travels between processes, so it is a function of a
            module, not of another function.
    """
    return FilmTask(
        metric=f"next-frame MSE ({name}), single chain",
        unit="per pixel",
        score=functools.partial(score, film),
        write_samples=write_samples,
        also=(f"mean of {CHAINS} chains",),
        film=film,
    )


def score(
    film: Callable[..., Synthetic],
    model: Recurrent,
    seed: int,
    split: str,
    sequences: int = 200,
    **protocol: Any,
) -> torch.Tensor:
    """Of a single chain (the mean over chains of its error), and of the chains' mean, ``[N, 2]``.

    Arguments:
        film: ``film(seed=, split=, device=)`` makes the film to predict.
        model, seed, split, sequences: the network, which film, and how much.
        protocol: further arguments of its ``sample_next``.

    Raises:
        ValueError: for a protocol that it does not have.
    """
    protocol = protocol_for(model.sample_next, model, 3, protocol, ["sequences"])
    device = device_of(model)
    data = film(sequences=sequences, seed=seed, split=split, device=device)
    errors = []
    for start in range(0, len(data), SEQUENCES):
        obs = data.rows(slice(start, start + SEQUENCES)).obs
        predicted = predict_next(model, obs, CHAINS, seed, protocol)
        single = (predicted.samples - obs)[:, :, 1:].square().mean((0, 2, 3))
        together = (predicted.mean - obs)[:, 1:].square().mean((1, 2))
        errors.append(torch.stack((single, together), 1))
    return torch.cat(errors)


def write_samples(model: Generates, path: Path, seed: int, direction: str | None = None) -> None:
    """Writes generated film: moving (.gif), as strips (.png), or as numbers (.npz)."""
    check_file(path, FILM)
    plot_film(model.sample(4, GENERATED, seed=seed, noise=False, direction=direction), path)


def film_vae(
    cls: type[RecurrentVAE],
    size: int,
    emission_dim: int,
    latent_dim: int,
    channels: list[int],
    **arguments: Any,
) -> Part:
    """A convolutional rVAE or TVAE of grey film.

    Arguments:
        cls: the class.
        size: pixels along one side.
        seen: latents that frames show; the others are for what a frame alone does not tell.
        latent_dim: all latents.
        channels: of the encoder's convolutions; the decoder has them backwards.
        arguments: further arguments of the class.
    """
    shape = {
        "obs_dim": size**2,
        "latent_dim": latent_dim,
        "emission_dim": emission_dim,
        "hidden": 256,
    }
    encoder = part(ConvEncoder, size=size, width=256, channels=channels)
    guide = part(FilmGuide, **shape, rate=None, encoder=encoder)  # no velocity is built in
    return part(
        cls,
        **shape,
        likelihood=part(Bernoulli, dim=size**2, grey=True),
        guide=guide,
        decoder=part(
            ConvDecoder, latent_dim=emission_dim, size=size, width=256, channels=channels[::-1]
        ),
        **arguments,
    )


def spatial_vae(grid: int, channels: int, width: int, strides: list[int]) -> Part:
    """An rVAE of grey film whose latent state is a map (see ``parts.spatial``).

    It begins with random convolutions of the frame and of u_{t-1}.

    Arguments:
        grid: places along one side of the map.
        channels: channels of the map.
        width: channels of the layers.
        strides: factors from the map to the pixels.
    """
    pixels, latents = (grid * prod(strides)) ** 2, channels * grid**2
    maps = {"grid": grid, "channels": channels, "width": width, "strides": strides}
    net = {"grid": grid, "width": 2 * width}
    return part(
        RVAE,
        obs_dim=pixels,
        latent_dim=latents,
        likelihood=part(Bernoulli, dim=pixels, grey=True),
        guide=part(SpatialGuide, **maps),
        decoder=part(SpatialDecoder, **maps),
        past_decoder=part(SpatialNet, inputs=channels, outputs=2 * channels, **net),
        past_scale=0.2,
        predictor=part(
            SpatialNet,
            inputs=2 * channels,
            outputs=2 * channels,
            layers=4,
            spreads=True,
            **net,
        ),
        predict_frame=True,
    )


def local_spatial(warmup: int, epochs: int, batch_size: int) -> dict[str, Any]:
    """How that learns: epochs on single frames, then epochs of the local rule."""
    weights = {"x": 0.05, "u": 0.02, "foreseen": 0.01, "foreseen_frame": 0.3}
    common = {"batch_size": batch_size, "clip": 50.0}
    return {
        "rule": part(LocalELBO, minibatch=1000, drop_past=0.05, weights=weights, captured=True),
        "fit": {"epochs": epochs, "lr": 2e-3, "schedule": "late", "average": 0.99, **common},
        "warmup": {
            "restarts": 1,
            "rule": {"drop_past": 1.0, "weights": {"x": weights["x"]}},
            "fit": {"epochs": warmup, "lr": 2e-3, "schedule": "constant", **common},
        },
        "quick": {"fit.epochs": max(1, epochs // 10), "warmup.fit.epochs": max(1, warmup // 10)},
    }


def local(warmup: int, epochs: int, weights: dict[str, float], batch_size: int) -> dict[str, Any]:
    """How those learn: epochs that teach what a frame alone says, then epochs of the local rule."""
    first = {"epochs": warmup, "lr": 2e-3, "schedule": "late", "average": 0.98}
    then = {"epochs": epochs, "lr": 1e-3, "schedule": "late-exponential", "average": 0.99}
    return {
        "rule": part(LocalELBO, minibatch=125, drop_past=0.1, weights=weights),
        "fit": {**then, "batch_size": batch_size},
        "warmup": {
            "restarts": 1,
            "rule": {"drop_past": 1.0, "weights": {"x": weights["x"]}, "minibatch": 250},
            "fit": {**first, "batch_size": batch_size},
        },
        "quick": {"fit.epochs": epochs // 4, "warmup.fit.epochs": warmup // 4},
    }
