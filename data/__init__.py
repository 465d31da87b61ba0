"""Data sets, batches and masks. Knows nothing of models."""

from . import balls, fetch, midi, moving_mnist, musical_keys, one_to_many, polyphonic, ppc
from .balls import BouncingBalls
from .batch import Batch, BatchLike, as_batch, check_sequences, collate
from .dataset import Dataset
from .dynamics import ChaoticRNN, Lorenz
from .files import DataError
from .loader import Loader
from .midi import MidiFolder, read_midi, write_midi
from .moving_mnist import MovingMNIST
from .musical_keys import MusicalKey, estimate_key, transpose_to
from .one_to_many import OneToMany
from .polyphonic import PianoRolls, Polyphonic, add_notes, hide_steps
from .ppc import PPC
from .recordings.files import read_recording
from .recordings.recording import Recording
from .recordings.trials import RecordedTrials
from .rng import generator

__all__ = [
    "PPC",
    "Batch",
    "BatchLike",
    "BouncingBalls",
    "ChaoticRNN",
    "DataError",
    "Dataset",
    "Loader",
    "Lorenz",
    "MidiFolder",
    "MovingMNIST",
    "MusicalKey",
    "OneToMany",
    "PianoRolls",
    "Polyphonic",
    "RecordedTrials",
    "Recording",
    "add_notes",
    "as_batch",
    "balls",
    "check_sequences",
    "collate",
    "estimate_key",
    "fetch",
    "generator",
    "hide_steps",
    "midi",
    "moving_mnist",
    "musical_keys",
    "one_to_many",
    "polyphonic",
    "ppc",
    "read_midi",
    "read_recording",
    "transpose_to",
    "write_midi",
]
