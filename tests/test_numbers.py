"""Every number that a public function takes is checked: the whole public API, by its signatures.

A function, class or method that is exported is walked without a line here, as long as ``VALID``
knows what to give for its other arguments, by their names. The check comes before any work.
"""

import inspect
import types

import numpy as np
import pytest
import torch
from seqzoo.data.checks import check_layers, check_number, check_real
from seqzoo.zoo import likelihoods, parts
from torch import nn

from seqzoo import data, inference, zoo

M, K, H, B, T = 6, 2, 4, 3, 5
WHOLE = (1.5, 2.0, "x", float("nan"), True, -1, torch.tensor([1, 2]), np.array([2.0]))
REAL = ("x", float("nan"), float("inf"), True, torch.tensor([0.1, 0.2]))


# The public API ----------------------------------------------------------------------------------


def members(module):
    """Functions and classes that a module exports or, where it names none, defines."""
    for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
        value = getattr(module, name)
        home = getattr(value, "__module__", "")
        if isinstance(value, types.ModuleType) and value.__name__.startswith("seqzoo."):
            yield from members(value)
        elif not callable(value) or not home.startswith("seqzoo."):
            continue
        elif not (isinstance(value, type) and issubclass(value, Exception)) and (
            "__all__" in vars(module) or home == module.__name__
        ):
            yield value


def methods(cls):
    """Public methods of a class and of its bases in this project."""
    for name, value in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_") and value.__module__.startswith("seqzoo."):
            yield value


def numbers(function):
    """The parameters that are annotated ``int`` or ``float``: ``(name, kind, may be None)``."""
    for parameter in inspect.signature(function).parameters.values():
        words = set(str(parameter.annotation).split(" | "))
        for kind in ("int", "float"):
            if kind in words <= {kind, "None"}:
                yield parameter.name, kind, "None" in words


# Valid arguments ---------------------------------------------------------------------------------

frames = (torch.arange(B * T * M) * 7 % 5 < 2).float().reshape(B, T, M)
counts = zoo.RVAE(M, K, likelihoods.Poisson(M), hidden=H)
path = zoo.VRAE(M, K, likelihoods.Bernoulli(M), hidden=H)
srn = zoo.SRN(M, likelihoods.Categorical(3), hidden=H)
trbm = zoo.TRBM(M, H, likelihoods.Bernoulli(M))
#: What to give, by the name of the argument; by ``function.argument`` where it differs.
VALID = {
    "batch": data.Batch(frames, observed=frames > 0, target=torch.zeros(B, dtype=torch.long)),
    "obs": frames[0],
    "past": torch.zeros(T, H),
    "previous": torch.zeros(T, M),
    "likelihood": likelihoods.Bernoulli(M),
    "output": likelihoods.Categorical(3),
    "obs_dim": M,
    "latent_dim": K,
    "sizes": [M, H],
    "channels": [2],
    "strides": [2],
    "statistics": "mean+spread",
    "folder": "nowhere",
    "name": "jsb",
    "path": "nowhere.mid",
    "step": None,
    "per_beat": 4.0,
    "spectral_radius": 1.0,
    "coefficient": 0.5,
    "fraction": 0.1,
    "keep": 0.5,
    "keep_input": 0.5,
    "keep_hidden": 0.5,
    "stochastic": 0.5,
    "rate": 0.1,
    "size": 30,
    "value": torch.rand(20),
    "pits": torch.rand(50),
    "samples": torch.rand(9, 20),
    "position": torch.ones(1, 2),
    "rendering": "squared",
    "centre": torch.full((1, 1, 1, 2), 15.0),
    "images": torch.zeros(1, 1, 28, 28),
    "roll": torch.zeros(T, 88),
    "data": frames,
    "names": ["gru"],
    "train": frames,
    "validation": frames,
    "fit_model.name": "gru",
    "mask": torch.ones(B, T, dtype=torch.bool),
    "weight": torch.randn(H, H),
    "mean": 0.5,
    "seed": 0,
    "split": "test",
    "rule": inference.TargetPropagation(srn),
    "rule_a": inference.LocalELBO(counts),
    "rule_b": inference.BPTT(counts),
    "model": inference.simulator(path, data.Batch(frames)),
    "low": 0.0,
    "high": 1.0,
    "readout": nn.Linear(M, likelihoods.GaussianMixture(2, 3).natural_dim),
    "dim": 2,
    "natural": torch.zeros(B, M),
    "net": path,
    "Batch.obs": frames,
    "Loader.dataset": data.PPC(3, 4),
    "index": 0,
    "files": [],
    "kind": "class",
    "sequences": 3,
    "PianoRolls.sequences": [torch.zeros(T, 88)],
    "LocalELBO.net": counts,
    "BPTT.net": counts,
    "FoldedRule.net": counts,
    "EM.net": zoo.LGDS(1),
    "ContrastiveDivergence.net": trbm,
    "StraightThrough.net": srn,
    "TargetPropagation.net": srn,
    "predict_next.net": counts,
    "rollout.net": counts,
    "clamped_gibbs.net": trbm,
    "frame_pit.net": counts,
    "AlignmentCurve.rule_a": inference.LocalELBO,
    "AlignmentCurve.rule_b": inference.BPTT,
    "SpatialDecoder.channels": 2,
    "SpatialGuide.channels": 2,
    "Batch.window.start": 0,
    "conditions": ["left"] * B,
    "features": frames,
    "target": frames,
    "trials": [torch.ones(T, M)] * 3,
    "from_spikes.trials": [[0.0, 1.0]],
    "times": [[0.1, 0.2]],
    "time": [0.0, 1.0],
    "values": [[0.0], [1.0]],
}

INNER = "a step inside a verb, which checks the number"
NUMBERS = {"int": 3, "float": 0.5, "int | None": None, "float | None": None}
#: Their methods are those of PianoRolls and Recording, which need no file.
FILES = ("MidiFolder", "Polyphonic", "RecordedTrials")
#: Functions, methods and arguments that are left out, each for a reason.
LEFT_OUT = {
    "initial": INNER,
    "infer": INNER,
    "expect": INNER,
    "log_predictive": INNER,
    "forwards": INNER,
    "backwards": INNER,
    "random_frames": INNER,
    "propose": INNER,
    "frame_weights": INNER,
    "estimate_log_prob": INNER,
    "guess": INNER,
    "Path": "a base class, whose subclasses take their size from tensors",
    "GaussianPath": "priors.GaussianProcess checks its size",
    "Recipe": "a row of a table, which is part of the code",
    "measure": "a row of a table, which is part of the code",
    "Scores": "a result",
    "save": "its value is a result, which may be anything that a metric gives",
    "fit": "see tests/inference/training",
    "epochs": "checked by fit",
}


def arguments(function, given=()):
    """A value for each argument that has no default."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        own = f"{function.__qualname__.removesuffix('.__init__')}.{name}"
        kind = str(parameter.annotation)
        if own in VALID or (name in VALID and parameter.default is parameter.empty):
            found[name] = VALID.get(own, VALID.get(name))
        elif parameter.default is parameter.empty and name != "self" and name not in given:
            assert kind in NUMBERS, f"add an example of {own} to VALID"
            found[name] = NUMBERS[kind]
    return found


def cases():
    """Numbers of the public API by function: it, the class it is of, and the numbers.

    A number is its name, its kind, and whether it is optional.
    """
    seen = {}
    for public in (each for m in (data, inference, zoo, zoo.models, parts) for each in members(m)):
        abstract = inspect.isabstract(public) or ".contracts." in public.__module__
        if abstract or public.__name__ in LEFT_OUT:  # subclasses of what one writes are walked
            continue
        built = inspect.isclass(public) and public.__name__ not in FILES
        whole = [public, *methods(public)] if built else [public]
        for function in whole:
            qualified = f"{function.__module__}.{function.__qualname__}"
            if function.__name__ in LEFT_OUT or qualified in seen:
                continue
            found = [each for each in numbers(function) if each[0] not in LEFT_OUT]
            seen[qualified] = function, public if function is not public else None, found
    return {name.removeprefix("seqzoo."): case for name, case in seen.items() if case[2]}


CASES = cases()


@pytest.mark.parametrize("case", CASES)
def test_a_number_that_is_none_is_refused_by_name(case):
    function, owner, found = CASES[case]
    for name, kind, optional in found:
        given = arguments(function, (name,))
        if owner is not None:
            given["self"] = owner(**arguments(owner))
        for bad in (WHOLE if kind == "int" else REAL) + (() if optional else (None,)):
            with pytest.raises((ValueError, TypeError), match=name.replace("_", "[_ ]")):
                function(**{**given, name: bad})


# The checks themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [*WHOLE, None, np.bool_(1), torch.tensor(2), [2], 0], ids=repr)
def test_a_count_is_a_whole_number_from_one_on(value):
    with pytest.raises(ValueError, match="count"):
        check_number("count", value)


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1)])
def test_a_count_of_numpy_is_one_of_python(value):
    assert type(check_number("count", value, most=1)) is int


def test_numbers_of_numpy_give_what_those_of_python_give():
    two, batch = np.int64(2), data.PPC(np.int32(3), np.int64(4), np.uint8(1)).batch()
    assert torch.equal(batch.obs, data.PPC(3, 4, 1).obs)
    found = inference.elbo(path, frames, num_samples=two, seed=two)
    assert torch.equal(found, inference.elbo(path, frames, num_samples=2, seed=2))
    assert torch.equal(path.sample(two, two, two), path.sample(2, 2, 2))


@pytest.mark.parametrize("value", [*REAL, 0, 1.5, None, 1j], ids=repr)
def test_a_rate_is_finite_and_in_its_range(value):
    with pytest.raises(ValueError, match="rate"):
        check_real("rate", value, above=0, most=1)


@pytest.mark.parametrize("value", [[], [3], (3, 2.5), 3, "34", None, [3, True], torch.ones(2)])
def test_layers_are_a_list_of_sizes(value):
    with pytest.raises(ValueError, match="sizes"):
        check_layers("sizes", value, 2)


def test_a_stream_has_a_key_of_numbers_and_text():
    for bad in (1.5, True, None, torch.tensor(1)):
        with pytest.raises(ValueError, match="key"):
            data.generator("noise", bad)
