"""Data sets and measures of values: on a second device they give what they give here.

Functions of values that take two of them move the second to the device of the first: true states
and counts are often on the CPU, predictions where the network is.
"""

import inspect

import pytest
import torch
from seqzoo.data import Batch, Dataset

from seqzoo import data, inference
from tests.test_second_device import check, values_of

ROLLS = [torch.eye(12, 88)[:length].flip(1) for length in (12, 9, 7, 10, 8, 11, 6, 12, 5, 12)]


def midi(folder, device):
    for number, roll in enumerate(ROLLS):
        data.write_midi(folder / f"{number}.mid", roll, step=0.5)
    return data.MidiFolder(folder, step=0.5, split="train", device=device)


def recorded(folder, device):
    data.Recording([torch.eye(6, 3) for _ in range(8)], bin=0.1).save(folder / "trials.npz")
    return data.RecordedTrials(str(folder / "trials.npz"))


def recording(folder, device):
    return data.Recording([torch.eye(6, 3) for _ in range(8)], bin=0.1)


DATA_SETS = {
    "PPC": lambda folder, device: data.PPC(3, 4, device=device),
    "BouncingBalls": lambda folder, device: data.BouncingBalls(3, 4, device=device),
    "ChaoticRNN": lambda folder, device: data.ChaoticRNN(3, 4, device=device),
    "Lorenz": lambda folder, device: data.Lorenz(3, 4, device=device),
    "OneToMany": lambda folder, device: data.OneToMany("class", 3, 4, device=device),
    "PianoRolls": lambda folder, device: data.PianoRolls(
        ROLLS, chunk=5, device=device, split="train"
    ),
    "MovingMNIST": lambda folder, device: data.MovingMNIST(3, 4, device=device),
    "Polyphonic": lambda folder, device: data.Polyphonic("jsb", "test", chunk=20, device=device),
    "MidiFolder": midi,
    "RecordedTrials": recorded,
    "Recording": recording,
}
ON_THE_CPU = ("RecordedTrials", "Recording")  # their batches are moved: they take no device


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_is_the_same_there(name, second, tmp_path, request):
    if name in ("MovingMNIST", "Polyphonic"):
        request.getfixturevalue("published")

    def batches(device):
        made = DATA_SETS[name](tmp_path, device)
        found = {
            "rows": made.rows(slice(0, 2)),
            "listed": made.rows(torch.tensor([1, 0], device=device)),
            "fresh": made.fresh(1).rows(slice(0, 2)),
            "subset": made.subset(2).rows(slice(0, 2)),
            "loaded": next(iter(data.Loader(made, batch_size=2, seed=1).epoch(0))),
        }
        if name not in ON_THE_CPU:
            found["held out"] = made.held_out(1)
        return {
            f"{part} {key}": value.to(device) if name in ON_THE_CPU else value
            for part, batch in found.items()
            for key, value in vars(batch).items()
            if torch.is_tensor(value)
        }

    expected = batches("cpu")
    with second() as there:
        check(batches(there), expected, there)


# Measures ----------------------------------------------------------------------------------------

random = torch.Generator().manual_seed(0)
COUNTS = torch.poisson(torch.full((4, 5, 3), 2.0), generator=random)
RATES = 0.5 + torch.rand(4, 5, 3, generator=random)
SIDES = ["left", "right", "left", "right"]
MASK = torch.ones(4, 5, dtype=torch.bool)
PITS = torch.rand(200, generator=random)
SYSTEM = inference.LinearGaussian(
    0.9 * torch.eye(2), torch.eye(2), torch.ones(3, 2), torch.zeros(2), torch.eye(2)
)


def simulated(x):
    """Calibration of the simulator of a system that is where ``x`` is."""
    system = SYSTEM.map(lambda part: part.to(x.device))
    return inference.sbc(inference.linear_gaussian_simulator(system, x + 1), 1, 3).pits


def filtered(filter_of):
    def verb(x):
        return filter_of(SYSTEM.map(lambda part: part.to(x.device)), x, torch.ones_like(x))

    return verb


#: Functions of values, by their names: each is given rates, and takes counts of the CPU beside.
MEASURES = {
    "bits_per_spike": lambda x: inference.bits_per_spike(x, COUNTS),
    "bits_per_neuron": lambda x: inference.bits_per_neuron(x, COUNTS),
    "gaussian_smooth": lambda x: inference.gaussian_smooth(x, Batch(COUNTS), 1.0),
    "psth": lambda x: inference.psth(x, Batch(COUNTS), SIDES, 1.0),
    "psth_r_squared": lambda x: inference.psth_r_squared(
        {"left": x[0]}, inference.psth(COUNTS, COUNTS, SIDES)
    ),
    "psth_correlation": lambda x: inference.psth_correlation(
        {"left": x[0]}, inference.psth(COUNTS, COUNTS, SIDES)
    ),
    "r_squared": lambda x: inference.r_squared(x, COUNTS, MASK),
    "fit_decoder": lambda x: inference.fit_decoder(x, COUNTS, MASK, (0.1, 1.0))(RATES),
    "pit": lambda x: inference.pit(x, torch.stack((COUNTS, RATES))),
    "coverage": lambda x: inference.coverage(PITS.to(x.device)),
    "calibration_error": lambda x: inference.calibration_error(PITS.to(x.device)),
    "uniformity": lambda x: inference.uniformity(PITS.to(x.device)),
    "convergence": inference.convergence,
    "linear_gaussian_simulator": simulated,
    "kalman_filter": filtered(inference.kalman_filter),
    "kalman_smoother": filtered(inference.kalman_smoother),
    "ppc": lambda x: data.ppc.position_mse(x[..., 0], COUNTS[..., 0], MASK),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_says_there_what_it_says_here(name, second):
    verb = {name: MEASURES[name]}
    expected = values_of(verb, RATES)
    assert expected
    with second() as there:
        check(values_of(verb, RATES.to(there)), expected)


def test_every_data_set_is_covered():
    classes = [getattr(data, name) for name in data.__all__]
    sets = {c.__name__ for c in classes if inspect.isclass(c) and issubclass(c, Dataset)}
    assert set(DATA_SETS) == sets - {"Dataset"}
