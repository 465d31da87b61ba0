"""Models, rules and verbs where the data are: on a second device they give what they give here."""

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference.testing.checks import tensors
from seqzoo.zoo import decoders, likelihoods, memory, path_guides, priors
from seqzoo.zoo.models import vrae

from seqzoo import inference, zoo
from tests import test_conformance as conformance
from tests.second_device import THERE, second_device

M, B, T = 3, 2, 4
BITS = (torch.arange(B * T * M) * 7 % 5 < 2).float().reshape(B, T, M)
bits = likelihoods.Bernoulli(M)
MUSIC = {
    "VRAE": lambda: zoo.VRAE(M, 2, bits, hidden=4),
    "VRAE, Markov": lambda: zoo.VRAE(
        M, 2, bits, hidden=4, prior=priors.AR1(2), guide=path_guides.MarkovChain(4, 2)
    ),
    "VRAE, bidirectional": lambda: zoo.VRAE(
        *(M, 2, bits),
        prior=priors.GaussianProcess(2),
        encoder=memory.Reader(M, 4, "both"),
        guide=path_guides.Diagonal(8, 2),
        decoder=decoders.BidirectionalDecoder(2, M, 4),
    ),
    "VOSP": lambda: zoo.VOSP(M, 2, bits, hidden=4, width=4),
    "VOSP-NADE": lambda: zoo.VOSP(M, 2, likelihoods.NADE(M, 3), hidden=4, width=4),
    "RNN": lambda: zoo.RNN(M, bits, memory=memory.Memory(M, 4, "tanh", layers=2)),
    "RNN-NADE": lambda: zoo.RNN(M, likelihoods.NADE(M, 3), hidden=4),
}
SUITES = (
    (conformance.TestFilters, conformance.MODELS),
    (conformance.TestSequenceModels, conformance.SEQUENCE_MODELS),
    (conformance.TestModelsOfTraces, conformance.MODELS_OF_TRACES),
    (conformance.TestAnsweringModels, conformance.ANSWERING_MODELS),
)
MODELS = {
    **{f"music, {name}": (make, None) for name, make in MUSIC.items()},
    **{name: (make, suite) for suite, makers in SUITES for name, make in makers.items()},
}


def music(net, batch):
    """Everything that one does with a model of music."""
    found = {
        "importance": inference.importance_bound(net, batch, 4),
        "sample": net.sample(2, 4, seed=1),
    }
    if net.framewise:
        found["frames"] = inference.frame_bound(net, batch, 4)
    if net.causal:
        found["particles"] = inference.particle_bound(net, batch, 4)
    if isinstance(net, inference.Recurrent):
        found["predict"] = inference.predict_next(net, batch, 2).mean
        found["rollout"] = inference.rollout(net, batch, 2, 2).mean
        found["pit"] = inference.frame_pit(net, batch, 3)
    if isinstance(net, inference.LatentPathModel):
        found["reconstruct"] = net.reconstruct(batch)
        found["denoise"] = inference.denoise(net, batch, 0.1, 4, probabilities=True)
        hidden = Batch(batch.obs, observed=batch.obs.cumsum(1).to(batch.obs) < 2)
        for method in ("mode", "resample"):
            found[method] = inference.impute(net, hidden, method, 1, 2, 2).mean
        simulator = inference.simulator(net, batch)
        found |= {f"sbc {k}": v for k, v in inference.sbc(simulator, 1, 3).pits.items()}
    return found


def everything(net, batch, suite):
    """All values for a batch, by name."""
    found = music(net, batch) if suite is None else {}
    if suite is not None:
        for name, method in suite.methods(net).items():
            found |= tensors(name, method(batch))
        found |= suite.samples(net, seed=1)
    whole = isinstance(net, inference.SequenceModel)
    if whole:
        found["elbo"] = inference.elbo(net, batch, 2)
    if (whole or isinstance(net, inference.FrameModel)) and not isinstance(net, zoo.LGDS):
        unit = "sequence" if whole else "frame"
        found["khat"] = inference.khat(net, batch, 30, unit)
        found["loo"] = inference.loo(net, batch, 30, unit).elpd
    if isinstance(net, inference.GibbsModel):
        past = inference.run_filter(net, batch)[:, 0]
        reads = getattr(net, "input_dim", 0) > 0
        known = batch.inputs[:, 0] if reads else None
        found["chains"] = inference.clamped_gibbs(net, past, 2, 2, 1, 2, inputs=known)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_second_device_changes_nothing(name):
    """Whether the data are there, too, or still here; results are where the network is."""
    make, suite = MODELS[name]
    suite = suite and suite()
    torch.manual_seed(0)
    if suite is not None:
        suite.name = name
    net, batch = make().eval(), Batch(BITS) if suite is None else suite.batch()
    expected = everything(net, batch, suite)
    filters = isinstance(net, inference.Recurrent)
    start = inference.run_filter(net, batch) if filters else None
    with second_device():
        net.to(THERE)
        check(everything(net, batch.to(THERE), suite), expected, expected)
        if isinstance(net, inference.SequenceModel):
            check({"elbo": inference.elbo(net, batch, 2)}, expected, ["elbo"])
        else:
            check({"": inference.run_filter(net, batch)}, {"": start}, [""])


def check(found, expected, names):
    """Fails unless the values are there, and what they are here."""
    assert found.keys() == set(names)
    for part, value in found.items():
        diagnosed = part in ("khat", "loo") or part.startswith("sbc")
        assert diagnosed or value.device.type == THERE, part
        torch.testing.assert_close(
            value.cpu(), expected[part], rtol=1e-4, atol=1e-5, equal_nan=True, msg=part
        )


RULES = conformance.RULES | conformance.ANSWERING_RULES


@pytest.mark.parametrize("name", RULES)
def test_a_rule_follows_its_network(name):
    """Its gradients are those of here; data that are not there are refused by name."""
    kind = conformance.TestAnsweringRules if name in conformance.ANSWERING_RULES else None
    suite = (kind or conformance.TestRules)()
    suite.name, found = name, []
    batch = suite.batch()
    for there in (False, True):
        torch.manual_seed(3)
        rule = suite.build()
        with second_device():
            data = batch
            if there:
                rule.net.to(THERE)
                data = batch.to(THERE)
                with pytest.raises(ValueError, match=r"obs are on cpu.* on meta.*\.to\('meta'\)"):
                    rule.gradients(batch)
            with inference.RandomStream("cpu", 1):
                rule.gradients(data)
            grads = {key: p.grad for key, p in rule.net.named_parameters() if p.grad is not None}
            found.append({key: value.cpu().clone() for key, value in grads.items()})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-5, msg=key)


# Recordings -------------------------------------------------------------------------------------

random = torch.Generator().manual_seed(0)
COUNTS = torch.poisson(1.5 * torch.rand(B, 3, M, generator=random), generator=random)
GAPS = Batch(
    COUNTS,
    observed=torch.rand(COUNTS.shape, generator=random) < 0.8,
    inputs=torch.randn(B, 3, 1, generator=random),
)
counts = likelihoods.Poisson(M)
VERBS = {
    "LGDS": lambda: zoo.LGDS(2, M, noise="full", input_dim=1),
    "PoissonLGDS": lambda: zoo.PoissonLGDS(2, M, input_dim=1),
    "RVAE": lambda: zoo.RVAE(M, 2, counts, hidden=4),
    "REFH": lambda: zoo.REFH(M, 4, counts, scale=0.3),
    "VRAE": lambda: zoo.VRAE(M, 2, counts, hidden=4),
    "VOSP": lambda: zoo.VOSP(M, 2, counts, hidden=4, width=4),
    "RNN": lambda: zoo.RNN(M, counts, hidden=4),
}


def verbs(net):
    """All verbs of a recording that has gaps, by name."""
    found = {}
    for given in net.latents_given:
        states = inference.latents(net, GAPS, given, num_samples=2)
        found |= {f"{name} given {given}": torch.tensor(states[name].values) for name in states}
    found["rates"] = torch.tensor(inference.rates(net, GAPS, num_samples=2).values)
    found["cosmooth"] = torch.tensor(inference.score(net, GAPS, "cosmooth", num_samples=2))
    if "past" in net.rates_given:
        found["next"] = torch.tensor(inference.score(net, GAPS, num_samples=2))
        found["predict_next"] = inference.predict_next(net, GAPS, 2).mean
    if not isinstance(net, zoo.REFH):
        found["bound"] = inference.predictive_bound(net, GAPS, 2)
    return found


# EM of counts filters and smooths them below; the verbs themselves are those of the LGDS.
@pytest.mark.parametrize("name", [name for name in VERBS if name != "PoissonLGDS"])
def test_verbs_say_there_what_they_say_here(name, monkeypatch):
    for module in (inference.path_filter, vrae):
        monkeypatch.setattr(module, "PARTICLES", 3)
    net = VERBS[name]().eval()
    expected = verbs(net)
    with second_device():
        net.to(THERE)
        found = verbs(net)
        for part in ("predict_next", "bound"):
            assert part not in found or found[part].device.type == THERE, part
        found = {part: value.cpu() for part, value in found.items()}
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        torch.testing.assert_close(
            found[part], value, rtol=1e-4, atol=1e-5, equal_nan=True, msg=part
        )


@pytest.mark.parametrize("name", ["LGDS", "PoissonLGDS"])
def test_em_learns_there_what_it_learns_here(name):
    found = []
    for there in (False, True):
        torch.manual_seed(0)
        with second_device():
            net, batch = VERBS[name](), GAPS
            if there:
                net, batch = net.to(THERE), GAPS.to(THERE)
            history = inference.EM(net, restarts=2, iterations=1).learn(batch)
            assert {part.is_meta for part in net.buffers()} == {there}
            parts = [part.cpu().clone() for part in (*net.buffers(), net.filter(batch).mean)]
            found.append([torch.tensor(history).double(), *parts])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*predicts no better")
@pytest.mark.parametrize("name", ["lgds", "rvae"])
def test_a_model_is_fitted_there(name):
    found = []
    for device in ("cpu", THERE):
        with second_device():
            fitted = zoo.fit_model(
                *(name, COUNTS, GAPS),
                latent_dim=2,
                updates=2,
                changes={"rule.iterations": 2} if name == "lgds" else {"model.hidden": 4},
                device=device,
                progress=False,
            )
            state = fitted.net.state_dict()
            assert {value.device.type for value in state.values()} == {device}
            state = {key: value.cpu().clone() for key, value in state.items()}
            found.append({**state, "validation": torch.tensor(fitted.validation)})
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_parts_of_a_batch_are_together():
    with second_device():
        there = BITS.to(THERE)
        with pytest.raises(
            ValueError, match=r"mask is on cpu, obs are on meta.*mask\.to\('meta'\)"
        ):
            Batch(there, torch.ones(B, T, dtype=torch.bool))
        with pytest.raises(ValueError, match="observed is on cpu"):
            Batch(there, observed=BITS > 0)


def test_the_second_device_refuses_what_a_gpu_refuses():
    with second_device():
        there = BITS.to(THERE)
        assert torch.tensor([1.0, 2.0], device=THERE).cpu().tolist() == [1.0, 2.0]
        for wrong in (
            lambda: there + BITS,
            lambda: torch.cat((there, BITS)),
            lambda: BITS[there > 0],
        ):
            with pytest.raises(RuntimeError):
                wrong()
