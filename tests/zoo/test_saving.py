"""Saving models: an example of every exported class, and what cannot be saved says why."""

import copy
import json
import pickle
import sys

import pytest
import torch
from pyro.contrib.gp import kernels
from safetensors.torch import save_file
from seqzoo.zoo import decoders, guides, likelihoods, nets, parts, path_guides, priors, store
from seqzoo.zoo.part import Described, Part, describe, part
from seqzoo.zoo.parts import (
    fast_dropout,
    fast_frames,
    fast_memory,
    initialisers,
    memory,
    readouts,
    spatial,
)
from seqzoo.zoo.parts.units import HybridUnits
from seqzoo.zoo.recipes.population import PopulationReadout
from seqzoo.zoo.registry import PARTS, exported, read
from torch import nn

from seqzoo import data, inference, zoo

M, K, H, B, T = 6, 2, 4, 3, 5


# One example of every class: how it is built, and a value that it computes ---------------------


def frames(units=M):
    """Binary frames, ``[B, T, M]``, the same in every process."""
    return (torch.arange(B * T * units) * 7 % 5 < 2).float().reshape(B, T, units)


def reconstruct(net):
    return net.reconstruct(frames(net.obs_dim if hasattr(net, "obs_dim") else M))


def bound(net):
    return inference.elbo(net, data.Batch(frames()))


def generate(net):
    return net.sample(2, T, seed=1)


def vrae(**parts):
    return zoo.VRAE(M, K, likelihoods.Bernoulli(M), hidden=H, **parts)


def rnn(**parts):
    return zoo.RNN(M, likelihoods.Bernoulli(M), hidden=H, **parts)


def film(cls, guide, decoder, **arguments):
    return cls(16, K, likelihoods.Bernoulli(16, grey=True), H, guide=guide, decoder=decoder)


def conv_rvae():
    encoder = nets.ConvEncoder(4, H, channels=(2,))
    guide = guides.FilmGuide(16, K, H, rate=1.0, encoder=encoder)
    return film(zoo.RVAE, guide, nets.ConvDecoder(K, 4, H, channels=[2]))


def spatial_rvae():
    guide = spatial.SpatialGuide(2, 1, 3, strides=(2,))
    return zoo.RVAE(
        16,
        4,
        likelihood=likelihoods.Bernoulli(16),
        guide=guide,
        decoder=spatial.SpatialDecoder(2, 1, 3, strides=[2]),
        past_decoder=spatial.SpatialNet(2, 1, 2, 3),
    )


EXAMPLES = {
    "RVAE": (
        lambda: zoo.RVAE(
            *(M, K, likelihoods.Poisson(M)),
            guide=guides.GaussianGuide(M, K, H, nonlinearity="tanh"),
            decoder=nets.MLP([K, H, M], "tanh"),
            past_scale=[0.1, 0.2, 1.0, 1.0],
        ),
        reconstruct,
    ),
    "RVAE of film": (conv_rvae, reconstruct),
    "RVAE on a map": (spatial_rvae, reconstruct),
    "TVAE": (lambda: zoo.TVAE(M, K, likelihoods.Gaussian(M), hidden=H), reconstruct),
    "Harmonium": (lambda: zoo.Harmonium(M, H, likelihoods.Bernoulli(M)), reconstruct),
    "REFH": (lambda: zoo.REFH(M, H, likelihoods.Poisson(M), scale=0.1), generate),
    "TRBM": (lambda: zoo.TRBM(M, hidden_dim=H, likelihood=likelihoods.Bernoulli(M)), generate),
    "RTRBM": (
        lambda: zoo.RTRBM(M, H, likelihoods.Bernoulli(M), obs_mean=0.2, visible_past=True),
        generate,
    ),
    "LGDS": (lambda: zoo.LGDS(2, readout=readouts.Readout(variance=0.5)), generate),
    "LGDS, learned": (lambda: zoo.LGDS(K, M, noise="full", min_noise=0.01), generate),
    "LGDS with inputs": (
        lambda: zoo.LGDS(K, M, input_dim=1),
        lambda net: net.filter(data.Batch(frames(), inputs=frames(1))).mean,
    ),
    "PoissonLGDS": (lambda: zoo.PoissonLGDS(K, M), reconstruct),
    "LGDS of spikes": (lambda: zoo.LGDS(2, readout=PopulationReadout()), generate),
    "Order0": (zoo.models.Order0, reconstruct),
    "MeanFrame": (lambda: zoo.models.MeanFrame(M), reconstruct),
    "RNN": (lambda: rnn(memory=memory.Memory(M, H, "lstm", layers=2, skip=True)), bound),
    "deep RNN": (lambda: rnn(memory=memory.DeepTransition(M, H, width=3)), bound),
    "fast-dropout RNN": (
        lambda: rnn(
            memory=fast_memory.FastDropoutMemory(M, H),
            readout=fast_memory.FastDropoutReadout(H, M),
        ),
        bound,
    ),
    "RNN-NADE": (lambda: zoo.RNN(M, likelihoods.NADE(M, hidden=3), hidden=H), bound),
    "VRAE, white noise": (
        lambda: vrae(
            prior=priors.WhiteNoise(K, scale=0.5),
            guide=path_guides.Diagonal(2 * H, K),
            encoder=memory.Reader(M, H, "both"),
        ),
        bound,
    ),
    "VRAE, AR(1)": (
        lambda: vrae(
            prior=priors.AR1(K, 0.8, learn=True),
            guide=path_guides.Increments(H, K),
            decoder=decoders.BidirectionalDecoder(K, M, H),
        ),
        bound,
    ),
    "VRAE, Wiener": (
        lambda: vrae(
            prior=priors.WienerProcess(K),
            guide=path_guides.Autoregressive(H, K, memory_dim=H, hidden=H),
            decoder=decoders.CausalDecoder(K, M, H, width=H),
        ),
        bound,
    ),
    "VRAE, Gaussian process": (
        lambda: vrae(
            prior=priors.GaussianProcess(K, "matern32", lengthscale=3.0),
            guide=path_guides.MarkovChain(H, K),
        ),
        bound,
    ),
    "VRAE as published": (
        lambda: vrae(
            guide=path_guides.Diagonal(4 * H, K),
            encoder=fast_memory.FastDropoutReader(M, H),
            decoder=fast_memory.FastDropoutDecoder(K, M, H),
        ),
        bound,
    ),
    "RNN of traces": (
        lambda: zoo.RNN(
            M, likelihoods.LearnedGaussian(M, [0.5] * M, [0.1] * M), hidden=H, private=True
        ),
        bound,
    ),
    "VOSP": (lambda: zoo.VOSP(M, K, likelihoods.Bernoulli(M), H, width=H), bound),
    "VOSP as published": (
        lambda: zoo.VOSP(
            *(M, K, likelihoods.Bernoulli(M)),
            memory=fast_memory.FastDropoutMemory(M, H, learn_rates=True),
            guide=path_guides.Diagonal(2 * H, K),
            encoder=fast_frames.FastDropoutEncoder(H, M, H),
            emission=fast_frames.FastDropoutEmission(H, K, M, H),
            width=2 * H,
            decoder_input="path",
        ),
        bound,
    ),
    "SRN": (
        lambda: zoo.SRN(
            M, likelihoods.Categorical(3), H, 0.5, "sigmoid", "linear", False, initialisers.Latch()
        ),
        lambda net: net.predict(frames()),
    ),
    "SRN of numbers": (
        lambda: zoo.SRN(M, likelihoods.GaussianMixture(2, components=2), hidden=H),
        lambda net: net.predict(frames()),
    ),
    "MDRNN": (
        lambda: zoo.MDRNN(M, components=2, hidden=H, spread=(0.0, 4.0)),
        lambda net: net.predict(frames()),
    ),
    "orthogonal MDRNN": (
        lambda: zoo.MDRNN(M, 1, 2, H, 0.0, "tanh", None, False, initialisers.Orthogonal(gain=0.9)),
        lambda net: net.predict(frames()),
    ),
    "units": (lambda: HybridUnits(H, 0.5, "tanh"), lambda net: net.mean(frames(H))),
    "keep": (lambda: fast_dropout.Keep(0.8, learn=True), lambda net: net()[None]),
    "fast-dropout layer": (
        lambda: fast_dropout.FastDropoutLinear(M, H, learn=True),
        lambda net: net(frames()).variance,
    ),
    "fast-dropout net": (
        lambda: fast_dropout.FastDropoutMLP([M, H, 2], nonlinearity="relu"),
        lambda net: net(frames()).variance,
    ),
    "fast-dropout layer through time": (
        lambda: fast_dropout.FastDropoutRNN(M, H, spectral_radius=1.1, bidirectional=True),
        lambda net: net(frames()).mean,
    ),
}
BASES = {"ExponentialFamily"}  # of which there is nothing to build


def built(name):
    """An example, with weights of its own."""
    torch.manual_seed(len(name))
    net = EXAMPLES[name][0]()
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return net.eval()


def value_of(name, net):
    torch.manual_seed(0)
    return EXAMPLES[name][1](net).detach().contiguous()


def reload(folder):
    """What another process does: it loads every model and keeps what it computes."""
    torch.set_num_threads(1)  # as the tests: sums of several threads round otherwise
    found = {}
    for number, name in enumerate(EXAMPLES):
        net = zoo.load(folder / str(number))
        assert not net.training
        found[name] = value_of(name, net)
    save_file(found, folder / "found.safetensors")


def test_every_exported_class_is_described():
    found = [cls for name in parts.__all__ for cls in exported(getattr(parts, name))]
    modules = [cls for cls in [*found, *exported(zoo.models)] if issubclass(cls, nn.Module)]
    assert all(issubclass(cls, Described) for cls in modules)


def test_every_exported_class_has_an_example():
    shown = {each.name for name in EXAMPLES for each in describe(built(name)).parts()}
    exported = {name for name, cls in PARTS.items() if cls.__module__.startswith("seqzoo.")}
    exported -= {"tensor", "SpringFilter", *BASES}
    assert exported <= shown, f"add an example of {exported - shown} to EXAMPLES"


# Arguments ---------------------------------------------------------------------------------------


class Scaled(priors.WienerProcess):
    """A prior of a user's, of a base class that keeps its arguments."""

    def __init__(self, *args, factor=1.0, **rest):
        super().__init__(*args, **rest)
        self.factor = factor


class Plain(nn.Module):
    """One that keeps them itself, and inherits nothing of the zoo."""

    def __init__(self, dim, weights=(1, 2)):
        super().__init__()
        self.dim, self.weights = dim, weights
        self.inner = priors.WienerProcess(dim)

    def forward(self, mask):
        return self.inner(mask)


class Forgetful(Plain):
    def __init__(self, dim, secret=0):
        super().__init__(dim)


class Careful(Described, nn.Module):
    def __init__(self, dim, secret=0):
        super().__init__()
        self.dim, self.inner = dim, priors.WienerProcess(dim)

    def forward(self, mask):
        return self.inner(mask)


class Holder(Described, nn.Module):
    def __init__(self, value=None, *, more=None):
        super().__init__()


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -0.5, "text", [1, [2, None]], {"a": {"b": 1.5}}),
        *((1, 2), torch.tensor([1.5, 2.0]), torch.tensor(3), {"a": [likelihoods.Poisson(3)]}),
    ],
    ids=str,
)
def test_arguments_survive_json(value):
    there = describe(Holder(value, more=[value]))
    again = read(json.loads(json.dumps(there.to_json())), [Holder])
    assert again.to_json() == there.to_json()
    assert describe(again.build()).to_json() == there.to_json()


def test_a_tensor_keeps_its_values_and_its_dtype():
    value = torch.rand(3, dtype=torch.float64)
    kept = describe(Holder(value)).arguments["value"].build()
    assert torch.equal(kept, value)
    assert kept.dtype == value.dtype


@pytest.mark.parametrize(
    "value",
    [lambda x: x, torch.zeros(10**4), {3: 1}, {"part": 1}, Plain, nn.Linear(2, 2), torch.float32],
    ids=["lambda", "large tensor", "dict", "part", "class", "of torch", "dtype"],
)
def test_what_is_no_data_is_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(zoo.ModelError, match=r"Holder cannot be saved: Holder\.value is "):
        zoo.save(tmp_path / "model", Holder(value))
    assert not (tmp_path / "model").exists()


def test_a_list_that_changes_later_changes_no_description():
    sizes = [2, 3]
    net = nets.MLP(sizes)
    sizes.append(4)
    assert describe(net) == part(nets.MLP, sizes=[2, 3])


def test_positional_arguments_have_names():
    assert describe(Scaled(3, 0.5, factor=2.0)) == part(Scaled, dim=3, scale=0.5, factor=2.0)


def test_nothing_else_of_a_module_changes():
    net, spare = vrae(), likelihoods.Poisson(3)
    assert "_part" not in repr(net)
    assert repr(spare) == "Poisson(3)"
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.state_dict().keys() == net.state_dict().keys()
        assert describe(twin) == describe(net)
    unpicklable = zoo.SRN(1, likelihoods.Categorical(2), H, *(0.0, "tanh", None, False, _begin))
    pickle.dumps(unpicklable)


def _begin(net):
    """An initialiser that is a function."""


# A user's own classes --------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [Scaled(K, factor=2.0), Plain(K, [3]), Careful(K, secret=1)])
def test_a_class_of_a_user_is_handed_over(prior, tmp_path):
    net = vrae(prior=prior).eval()
    zoo.save(tmp_path, net)
    with pytest.raises(zoo.ModelError, match=f"unknown part '{type(prior).__name__}'.*classes="):
        zoo.load(tmp_path)
    again = zoo.load(tmp_path, classes=[type(prior)])
    assert type(again.prior) is type(prior)
    assert describe(again) == describe(net)
    torch.manual_seed(0)
    value = bound(net)
    torch.manual_seed(0)
    assert torch.equal(bound(again), value)


def test_a_class_that_keeps_no_arguments_says_so(tmp_path):
    with pytest.raises(zoo.ModelError, match=r"set self\.secret = secret in it, or .*Described"):
        zoo.save(tmp_path, vrae(prior=Forgetful(K)))


def test_a_kernel_of_pyro_is_handed_over(tmp_path):
    prior = priors.GaussianProcess(K, kernels.RBF(1, lengthscale=torch.tensor(4.0)))
    zoo.save(tmp_path, vrae(prior=prior))
    again = zoo.load(tmp_path, classes=[kernels.RBF])
    assert float(again.prior.kernel.lengthscale) == pytest.approx(4.0)


def test_a_class_with_a_name_of_ours_is_refused(tmp_path):
    other = type("AR1", (priors.AR1,), {})
    with pytest.raises(zoo.ModelError, match="another class called AR1"):
        zoo.save(tmp_path, vrae(prior=other(K)))


def test_a_class_of_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    zoo.save(tmp_path / "model", vrae(prior=Careful(K)))
    package = tmp_path / "site"
    (package / "mine-1.0.dist-info").mkdir(parents=True)
    (package / "mine-1.0.dist-info" / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    points = "[seqzoo.parts]\nCareful = seqzoo_mine:Careful\n"
    (package / "mine-1.0.dist-info" / "entry_points.txt").write_text(points)
    (package / "seqzoo_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(package)
    assert zoo.load(tmp_path / "model").prior.__module__ == "seqzoo_mine"


MINE = """
from torch import nn
from seqzoo import zoo


class Careful(zoo.Described, nn.Module):
    def __init__(self, dim, secret=0):
        super().__init__()
        self.dim, self.inner = dim, zoo.priors.WienerProcess(dim)
"""


def test_a_card_imports_no_module(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    zoo.save(tmp_path / "model", vrae())
    path = tmp_path / "model" / store.CARD
    for name in ("evil", "evil.AR1", "os.system", "Polyphonic"):
        card = json.loads(path.read_text())
        card["configuration"]["model"]["prior"] = {"part": name, "name": "jsb"}
        path.write_text(json.dumps(card))
        with pytest.raises(zoo.ModelError, match=f"unknown part '{name}'"):
            zoo.load(tmp_path / "model")
    assert "evil" not in sys.modules


# Folders -----------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(zoo.ModelError, match=r"holds something else|is a file"):
            zoo.save(place, vrae())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_replaces_an_earlier_one(tmp_path):
    zoo.save(tmp_path, rnn())
    zoo.save(tmp_path, vrae(), title="slow", metric="ELBO", unit="nats", value=3.0)
    net = zoo.load(tmp_path)
    assert isinstance(net, zoo.VRAE)
    assert (net.card["title"], net.card["metric"], net.card["value"]) == ("slow", "ELBO", 3.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.CARD, store.WEIGHTS]


def test_the_data_of_a_model_are_described(tmp_path):
    zoo.save(tmp_path, zoo.LGDS(1), data=data.PPC(2, 3, seed=4))
    found = zoo.load(tmp_path).card["configuration"]["data"]
    assert (found["part"], found["sequences"], found["steps"]) == ("PPC", 2, 3)


def test_a_network_in_float64_stays_one(tmp_path):
    net = rnn().double()
    zoo.save(tmp_path, net)
    again = zoo.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), net.parameters()))
    assert {value.dtype for value in again.parameters()} == {torch.float64}


def test_saving_leaves_the_random_state_alone(tmp_path):
    net, before = vrae(), torch.get_rng_state()
    zoo.save(tmp_path, net)
    assert torch.equal(torch.get_rng_state(), before)


class Pair(Described, nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other


def test_a_part_that_stands_in_two_places_is_refused(tmp_path):
    shared = priors.AR1(K)
    with pytest.raises(zoo.ModelError, match=r"one\.log_scale is not as its arguments build it"):
        zoo.save(tmp_path / "model", Pair(shared, shared))
    assert not (tmp_path / "model").exists()
    zoo.save(tmp_path / "model", Pair(priors.AR1(K), priors.AR1(K)))


def test_a_part_exchanged_later_is_refused(tmp_path):
    net = vrae(prior=priors.WienerProcess(K))
    net.prior = priors.AR1(K)
    with pytest.raises(zoo.ModelError, match="prior is not as its arguments build it"):
        zoo.save(tmp_path / "model", net)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(zoo.ModelError, match="Linear cannot be saved"):
        zoo.save(tmp_path / "model", nn.Linear(2, 2))


def test_a_part_cannot_have_an_argument_that_its_class_does_not_take():
    with pytest.raises(ValueError, match="AR1 has no argument 'size': it has dim, coefficient"):
        Part(priors.AR1, {"size": 3})
