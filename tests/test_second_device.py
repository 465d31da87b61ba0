"""Models, parts and verbs where the data are: on a second device they give what they give here.

The second device is a stand-in made of CPU tensors and, on a machine with a GPU, the GPU. Every
exported model and part is there, in the example that ``tests/zoo/test_saving.py`` has of it, and
so is every verb of ``inference`` but for those that ``ELSEWHERE`` names, with the reason. Rules
and data sets are in ``tests/test_second_device_training.py`` and ``.._data.py``.
"""

import inspect

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference.linear import sites
from seqzoo.inference.testing.checks import tensors
from seqzoo.zoo import decoders, likelihoods, memory, path_guides, priors
from seqzoo.zoo.models import vrae
from torch import nn

from seqzoo import inference, zoo
from tests import test_conformance as conformance
from tests.second_device import CPUDraws
from tests.zoo import test_saving as saving

M, B, T = 3, 2, 3
BITS = (torch.arange(B * T * M) * 7 % 5 < 2).float().reshape(B, T, M)
random = torch.Generator().manual_seed(0)
COUNTS = torch.poisson(1.5 * torch.rand(B, 3, M, generator=random), generator=random)
GAPS = Batch(
    COUNTS,
    observed=torch.rand(COUNTS.shape, generator=random) < 0.8,
    inputs=torch.randn(B, 3, 1, generator=random),
)
bits, counts = likelihoods.Bernoulli(M), likelihoods.Poisson(M)
#: Verbs that give values on the CPU, wherever the network is.
HERE = ("khat", "smoothed_bound", "loo", "sbc", "to_arviz", "latents", "rates", "score")
HERE += ("alignment", "target_alignment", "forward_prediction")


@pytest.fixture(autouse=True)
def few(one_step, monkeypatch):
    """Two steps to a posterior of counts: they are the same here and there, converged or not."""
    monkeypatch.setattr(sites, "STEPS", 2)


def check(found, expected, where=None):
    """Fails unless values are those of here and, where a device is named, are there."""
    assert found.keys() == expected.keys()
    exact = where != "cuda"  # whose sums run in another order
    for part, value in found.items():
        here = where is None or part.split()[0] in HERE
        assert here or value.device.type == where, part
        torch.testing.assert_close(
            value.cpu(),
            expected[part],
            rtol=1e-4 if exact else 2e-3,
            atol=1e-5 if exact else 1e-3,
            equal_nan=True,
            msg=lambda text, part=part: f"{part}: {text}",
        )


def values_of(verbs, batch):
    """The values of verbs as tensors, by name."""
    found = {}
    for name, verb in verbs.items():
        _add(found, name, verb(batch))
    return found


def _add(found, name, value):
    if torch.is_tensor(value):
        found[name] = value.detach()
    elif isinstance(value, float):
        found[name] = torch.tensor(value)
    elif isinstance(value, torch.distributions.Distribution):
        _add(found, name, value.mean)
    elif isinstance(value, dict):
        for key, part in value.items():
            _add(found, f"{name} {key}", part)
    elif hasattr(value, "_asdict"):
        _add(found, name, value._asdict())
    elif hasattr(value, "data_vars"):
        _add(found, name, dict(value.data_vars))
    elif hasattr(value, "values"):
        found[name] = torch.as_tensor(value.values)


# Models and parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", saving.EXAMPLES)
def test_every_exported_class_computes_there_what_it_computes_here(name, second, monkeypatch):
    net = saving.built(name)
    expected = saving.value_of(name, net)
    with second() as there:
        net.to(there)
        if not hasattr(net, "dtype"):  # a part: a model's verbs move the data themselves
            frames = saving.frames
            monkeypatch.setattr(saving, "frames", lambda units=saving.M: frames(units).to(there))
        check({name: saving.value_of(name, net)}, {name: expected}, there)


def test_a_network_is_saved_from_there(second, tmp_path):
    net = RECORDED["RVAE"]()
    expected = {key: value.clone() for key, value in net.state_dict().items()}
    with second() as there:
        zoo.save(tmp_path / "model", net.to(there))
    found = zoo.load(tmp_path / "model").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


SUITES = (
    (conformance.TestFilters, conformance.MODELS),
    (conformance.TestSequenceModels, conformance.SEQUENCE_MODELS),
    (conformance.TestLinearModels, conformance.LINEAR_MODELS),
    (conformance.TestModelsOfTraces, conformance.MODELS_OF_TRACES),
    (conformance.TestAnsweringModels, conformance.ANSWERING_MODELS),
)


def verbs_of(net):
    """Verbs that suit any network of a kind, by their exported names."""
    found = {}
    frame, whole = (isinstance(net, k) for k in (inference.FrameModel, inference.SequenceModel))
    unit = "sequence" if whole else "frame"
    if isinstance(net, inference.Recurrent):
        found["run_filter"] = lambda x: inference.run_filter(net, x)
    if (frame or whole) and not isinstance(net, zoo.LGDS):
        found["khat"] = lambda x: inference.khat(net, x, 30, unit)
    if whole:
        found["elbo"] = lambda x: inference.elbo(net, x, 2)
    return found


#: A network of each class and suite, the first of them: every part has a test of its own above.
EACH = {
    (suite, type(make())): (name, suite)
    for suite, makers in SUITES
    for name, make in reversed(makers.items())
}


@pytest.mark.parametrize(("name", "suite"), EACH.values())
def test_models_say_there_what_they_say_here(name, suite, second):
    """Results are where the network is; a network of each kind is also given data that are here."""
    suite = suite()
    suite.name = name
    torch.manual_seed(0)
    net, batch = suite.build().eval(), suite.batch()

    def everything(batch):
        found = values_of(verbs_of(net), batch) | suite.samples(net, seed=1)
        for part, method in suite.methods(net).items():
            found |= tensors(part, method(batch))
        return found

    expected = everything(batch)
    with second() as there:
        net.to(there)
        check(everything(batch.to(there)), expected, there)
        if name in MOVED:
            found = values_of(verbs_of(net), batch)
            check(found, {part: expected[part] for part in found}, there)


# Verbs -------------------------------------------------------------------------------------------

PATHS = {
    "VRAE": lambda: zoo.VRAE(
        M, 2, bits, hidden=4, prior=priors.AR1(2), guide=path_guides.MarkovChain(4, 2)
    ),
    "VRAE, bidirectional": lambda: zoo.VRAE(
        *(M, 2, bits),
        prior=priors.GaussianProcess(2),
        encoder=memory.Reader(M, 4, "both"),
        guide=path_guides.Diagonal(8, 2),
        decoder=decoders.BidirectionalDecoder(2, M, 4),
    ),
    "VOSP": lambda: zoo.VOSP(M, 2, likelihoods.NADE(M, 3), hidden=4, width=4),
    "RNN": lambda: zoo.RNN(M, bits, memory=memory.Memory(M, 4, "tanh", layers=2)),
    "REFH": lambda: zoo.REFH(M, 4, bits, scale=0.3),
    "RVAE": lambda: zoo.RVAE(M, 2, bits, hidden=4),
    "SRN": lambda: zoo.SRN(M, likelihoods.Categorical(2), hidden=4),
}
#: Networks that have every verb between them: to move data that are still here is a verb's task.
MOVED = ("VRAE", "VOSP", "RVAE", "REFH", "SRN")


def verbs_of_paths(net):
    """Verbs of sequences that are seen whole, by their exported names."""
    found = {}
    if isinstance(net, zoo.SRN):
        rule = inference.TargetPropagation(net)
        found["target_alignment"] = lambda x: inference.target_alignment(rule, x)
        return found
    if isinstance(net, inference.SequenceModel):
        found["importance_bound"] = lambda x: inference.importance_bound(net, x, 4)
        found["loo"] = lambda x: inference.loo(net, x, 30, "sequence")
        found["to_arviz"] = lambda x: _groups(inference.to_arviz(net, x, 3))
        if net.framewise:
            found["frame_bound"] = lambda x: inference.frame_bound(net, x, 4)
        if net.causal:
            found["particle_bound"] = lambda x: inference.particle_bound(net, x, 4)
    if isinstance(net, inference.Recurrent):
        found["predict_next"] = lambda x: inference.predict_next(net, x, 2)
        found["rollout"] = lambda x: inference.rollout(net, x, 2, 2)
    if isinstance(net, inference.Recurrent) and not isinstance(net, inference.EnergyModel):
        found["frame_pit"] = lambda x: inference.frame_pit(net, x, 3)
    if isinstance(net, inference.EnergyModel):
        found["annealed_likelihood"] = lambda x: inference.annealed_likelihood(net, x, 2, 3)
    if isinstance(net, inference.GibbsModel):
        past = net.initial(2)
        found["clamped_gibbs"] = lambda x: inference.clamped_gibbs(net, past, 2, 2, 1, 2)
    if isinstance(net, inference.FrameModel):
        rules = inference.LocalELBO(net), inference.BPTT(net)
        curve = inference.AlignmentCurve(inference.LocalELBO, inference.BPTT, BITS)
        found["alignment"] = lambda x: inference.alignment(*rules, x)
        found["AlignmentCurve"] = lambda x: torch.tensor(curve(net), device=net.device)
        found["smoothed_bound"] = lambda x: inference.smoothed_bound(net, x, 30)
        found["sweep"] = lambda x: inference.sweep(
            net, x.to(net.device), net.initial(len(x)), torch.zeros_like
        )
    if isinstance(net, inference.LatentPathModel):
        found["denoise"] = lambda x: inference.denoise(net, x, 0.1, 4, probabilities=True)
        for how in ("mode", "resample"):
            found[f"impute {how}"] = lambda x, how=how: inference.impute(net, _cut(x), how, 1, 2, 2)
        found["simulator"] = found["sbc"] = lambda x: (
            inference.sbc(inference.simulator(net, x), 1, 3).pits
        )
    return found


def _cut(batch):
    """A batch that lacks the ends of its channels."""
    return Batch(batch.obs, observed=batch.obs.cumsum(1).to(batch.obs) < 2)


def _groups(tree):
    """The groups of an ArviZ object, by name."""
    names = tree.groups() if callable(tree.groups) else tree.groups  # ArviZ 0.x, and 1.x
    return {name.strip("/"): tree[name.strip("/")] for name in names if name != "/"}


@pytest.mark.parametrize("name", PATHS)
def test_verbs_of_paths_say_there_what_they_say_here(name, second):
    torch.manual_seed(0)
    net = PATHS[name]().eval()
    batch = Batch(BITS, target=torch.tensor([0, 1])) if name == "SRN" else Batch(BITS)
    expected = values_of(verbs_of_paths(net), batch)
    with second() as there:
        net.to(there)
        if name not in ("VRAE", "VOSP"):  # of their verbs nearly all run here for other networks
            check(values_of(verbs_of_paths(net), batch.to(there)), expected, there)
        if name in MOVED:
            check(values_of(verbs_of_paths(net), batch), expected, there)


RECORDED = {
    "LGDS": lambda: zoo.LGDS(2, M, noise="full", input_dim=1),
    "PoissonLGDS": lambda: zoo.PoissonLGDS(2, M, input_dim=1),
    "RVAE": lambda: zoo.RVAE(M, 2, counts, hidden=4),
    "REFH": lambda: zoo.REFH(M, 4, counts, scale=0.3),
    "VRAE": lambda: zoo.VRAE(M, 2, counts, hidden=4),
    "VOSP": lambda: zoo.VOSP(M, 2, counts, hidden=4, width=4),
    "RNN": lambda: zoo.RNN(M, counts, hidden=4),
}


def verbs_of_recordings(net):
    """Verbs of a recording that has gaps, by their exported names."""
    found = {
        f"latents {given}": lambda x, given=given: inference.latents(net, x, given, num_samples=2)
        for given in net.latents_given
    }
    found["rates"] = lambda x: inference.rates(net, x, num_samples=2)
    found["score cosmooth"] = lambda x: inference.score(net, x, "cosmooth", num_samples=2)
    if "past" in net.rates_given:
        found["score next"] = lambda x: inference.score(net, x, num_samples=2)
        found["predict_next"] = lambda x: inference.predict_next(net, x, 2)
        found["forward_prediction"] = lambda x: inference.forward_prediction(
            net, x, 2, "r2", num_samples=2
        )
    if not isinstance(net, zoo.REFH):
        found["predictive_bound"] = lambda x: inference.predictive_bound(net, x, 2)
    return found


# EM of counts filters and smooths them; the verbs themselves are those of the LGDS.
@pytest.mark.parametrize("name", [name for name in RECORDED if name != "PoissonLGDS"])
def test_verbs_of_recordings_say_there_what_they_say_here(name, second, monkeypatch):
    for module in (inference.path_filter, vrae):
        monkeypatch.setattr(module, "PARTICLES", 3)
    torch.manual_seed(0)
    net = RECORDED[name]().eval()
    expected = values_of(verbs_of_recordings(net), GAPS)
    with second() as there:
        net.to(there)
        check(values_of(verbs_of_recordings(net), GAPS), expected, there)


# Everything is covered ---------------------------------------------------------------------------

DATA = "tests/test_second_device_data.py"
ELSEWHERE = {
    "fit": "tests/test_second_device_training.py",
    **dict.fromkeys(("kalman_filter", "kalman_smoother", "linear_gaussian_simulator"), DATA),
    **dict.fromkeys(("bits_per_neuron", "bits_per_spike", "fit_decoder", "r_squared"), DATA),
    **dict.fromkeys(("gaussian_smooth", "psth", "psth_correlation", "psth_r_squared"), DATA),
    **dict.fromkeys(("calibration_error", "convergence", "coverage", "pit", "uniformity"), DATA),
    "good_khat": "it takes and gives a number",
    "save_arviz": "it writes a file of what to_arviz gives",
}


def test_every_verb_is_covered():
    exported = {
        name
        for name in inference.__all__
        if inspect.isfunction(getattr(inference, name)) or name == "AlignmentCurve"
    }
    of_paths = {
        name: {verb.split()[0] for verb in verbs_of_paths(make())} for name, make in PATHS.items()
    }
    covered = set().union(*of_paths.values())
    assert covered == set().union(*(of_paths[name] for name in MOVED))
    for make in RECORDED.values():
        covered |= {name.split()[0] for name in verbs_of_recordings(make())}
    covered |= set(verbs_of(PATHS["VRAE"]())) | set(verbs_of(PATHS["RVAE"]()))
    assert covered <= exported
    assert exported - covered == set(ELSEWHERE)


def test_every_model_is_covered():
    """Examples of tests/zoo/test_saving.py; a test there fails where a class has none."""
    built = {type(saving.built(name)).__name__ for name in saving.EXAMPLES}
    assert set(zoo.models.__all__) <= built


# The second device -------------------------------------------------------------------------------


def test_parts_of_a_batch_are_together(second):
    with second() as device:
        there = BITS.to(device)
        named = there.device
        with pytest.raises(
            ValueError, match=rf"mask is on cpu, obs are on {named}.*mask\.to\('{named}'\)"
        ):
            Batch(there, torch.ones(B, T, dtype=torch.bool))
        with pytest.raises(ValueError, match="observed is on cpu"):
            Batch(there, observed=BITS > 0)


def test_the_second_device_refuses_what_a_gpu_refuses(second):
    with second() as device:
        there = BITS.to(device)
        assert torch.tensor([1.0, 2.0], device=device).cpu().tolist() == [1.0, 2.0]
        for wrong in (
            lambda: there + BITS,
            lambda: torch.cat((there, BITS)),
            lambda: BITS[there > 0],
        ):
            with pytest.raises(RuntimeError):
                wrong()


def test_random_numbers_of_the_second_device_are_those_of_the_cpu(second):
    """Whether they fill a new tensor or one that is there, and with a generator of their own."""

    def drawn(device):
        torch.manual_seed(3)
        place = torch.zeros(4, device=device)
        half = place + 0.5
        own = torch.Generator(device).manual_seed(1)
        nn.init.normal_(place[1:])
        return [
            place,
            torch.rand(3, device=device),
            torch.randn_like(half),
            torch.bernoulli(half),
            torch.poisson(half, generator=own),
            torch.randperm(5, device=device),
            torch.multinomial(half, 3),
        ]

    expected = drawn("cpu")
    with second() as there:
        for value, wanted in zip(drawn(there), expected):
            assert value.device.type == there
            assert torch.equal(value.cpu(), wanted)
    with CPUDraws("cpu") as draws:  # the mode of the GPU, which this machine may lack
        for value, wanted in zip(drawn("cpu"), expected):
            assert torch.equal(value, wanted)
    assert draws.calls == len(expected)
