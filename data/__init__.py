"""Data sets, batches and masks. Knows nothing of models."""

from . import balls, fetch, midi, moving_mnist, one_to_many, polyphonic, ppc
from .ball_tracker import measure_balls, track_balls
from .balls import BouncingBalls
from .batch import Batch, Dataset, Loader, check_sequences, collate, generator
from .digit_tracker import measure_digits, track_digits
from .fetch import DataError
from .midi import MidiFolder, read_midi, write_midi
from .motion import Motion
from .moving_mnist import MovingMNIST
from .one_to_many import OneToMany
from .polyphonic import PianoRolls, Polyphonic, add_notes, hide_steps
from .ppc import PPC

__all__ = [
    "PPC",
    "Batch",
    "BouncingBalls",
    "DataError",
    "Dataset",
    "Loader",
    "MidiFolder",
    "Motion",
    "MovingMNIST",
    "OneToMany",
    "PianoRolls",
    "Polyphonic",
    "add_notes",
    "balls",
    "check_sequences",
    "collate",
    "fetch",
    "generator",
    "hide_steps",
    "measure_balls",
    "measure_digits",
    "midi",
    "moving_mnist",
    "one_to_many",
    "polyphonic",
    "ppc",
    "read_midi",
    "track_balls",
    "track_digits",
    "write_midi",
]
