"""Tiny recipes, short data and figures that tests of the zoo share."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo.data import polyphonic
from seqzoo.zoo.pictures import answers
from seqzoo.zoo.recipes import (
    windows,
)
from seqzoo.zoo.studies import horizon

LENGTHS = {"train": (112, 105), "validation": (121,), "test": (103, 30, 104)}
SMALL = {"model.hidden": 4, "fit.epochs": 1, "fit.batch_size": 10, "fit.validate_every": 1}
PNG = b"\x89PNG\r\n\x1a\n"


def _tiny(recipe, sequences=20):
    """A recipe of the one-to-many tasks that trains and scores in no time."""
    recipe = recipe.override({**SMALL, "data.sequences": 20})
    few = functools.partial(recipe.task.score, sequences=sequences)
    task = dataclasses.replace(recipe.task, score=few)
    return dataclasses.replace(recipe, task=task, quick={"fit.epochs": 1})


def _numbered(lengths, first=0):
    """Rolls in which every frame spells its own number, in ones and zeros."""
    digits = 2 ** torch.arange(12)
    frames = (torch.arange(first, first + sum(lengths))[:, None] & digits) > 0
    rolls = torch.zeros(sum(lengths), 88, dtype=torch.uint8)
    rolls[:, 30:42] = frames
    return list(rolls.split(lengths))


def _numbers(frames):
    """What frames spell, ``[..., 88] -> [...]``."""
    return (frames[..., 30:42].long() * 2 ** torch.arange(12)).sum(-1)


FIRST = {"train": 0, "validation": 1000, "test": 2000}


@pytest.fixture
def few(monkeypatch):
    """Published music becomes a few short rolls, and generated music short."""
    made = lambda _, split: _numbered(LENGTHS[split], FIRST[split])  # noqa: E731
    monkeypatch.setattr(polyphonic, "fetch", lambda file: file)
    monkeypatch.setattr(polyphonic, "read_mat", made)
    monkeypatch.setattr(windows, "GENERATED", 6)


def _seen(path):
    """A picture's pixels, ``[rows, columns, 3]``, which must show something."""
    assert path.read_bytes().startswith(PNG)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 300
    assert 0.01 < (pixels != 255).any(-1).mean() < 0.9
    return pixels


@pytest.fixture
def drawn(monkeypatch):
    """Figures that would have been saved."""
    figures = []
    for module in (answers, horizon):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def _lines(axis):
    """Points of all lines that a panel has, and their labels."""
    return [(np.asarray(line.get_xydata()), line.get_label()) for line in axis.get_lines()]


@pytest.fixture(scope="session")
def tiny():
    """Makes a recipe of the one-to-many tasks that trains and scores in no time."""
    return _tiny


@pytest.fixture(scope="session")
def seen():
    """Reads a picture's pixels, ``[rows, columns, 3]``, which must show something."""
    return _seen


@pytest.fixture(scope="session")
def numbers():
    """Reads what frames of ``few`` spell, ``[..., 88] -> [...]``."""
    return _numbers


@pytest.fixture(scope="session")
def numbered():
    """Makes rolls in which every frame spells its own number."""
    return _numbered


@pytest.fixture(scope="session")
def lines():
    """Reads the points of all lines that a panel has, and their labels."""
    return _lines
