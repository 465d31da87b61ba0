"""float64: models in double precision, and data sets under another default dtype."""

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.zoo import likelihoods
from seqzoo.zoo.models.generation import Generates

from seqzoo import data, inference, zoo
from tests import test_conformance as conformance
from tests.zoo.test_saving import EXAMPLES, built

GENERATING = [
    name
    for name in EXAMPLES
    if isinstance(built(name), Generates) and not getattr(built(name), "input_dim", 0)
]
SUITES = {
    name: (suite, makers)
    for suite, makers in (
        (conformance.TestFilters, conformance.MODELS),
        (conformance.TestSequenceModels, conformance.SEQUENCE_MODELS),
        (conformance.TestAnsweringModels, conformance.ANSWERING_MODELS),
    )
    for name in makers
}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", GENERATING)
def test_a_model_in_double_precision_generates(name):
    net = built(name).double()
    linear = isinstance(net, inference.LinearSystem)  # float64 in any case
    expected = torch.float32 if linear else torch.float64
    for direction in net.directions:
        for noise in (True, False):
            film = net.sample(2, 3, seed=1, direction=direction, noise=noise)
            assert film.dtype == expected
            assert film.isfinite().all()


@pytest.mark.parametrize("name", SUITES)
def test_a_model_in_double_precision_computes_what_it_did(name):
    """Every output for a batch, and every prediction, in float64."""
    suite = SUITES[name][0]()
    suite.name = name
    torch.manual_seed(0)
    net, batch = suite.build(), suite.batch()
    before = suite.outputs(net, batch)
    batch = batch.to(torch.float64)
    suite.batch = lambda: batch
    for part, value in suite.outputs(net.double(), batch).items():
        linear = isinstance(net, inference.LinearSystem)
        assert value.dtype == torch.float64 or linear, part
        torch.testing.assert_close(value.float(), before[part].float(), rtol=2e-3, atol=2e-4)
    for part, value in suite.samples(net, seed=1).items():
        assert value.dtype in (torch.float64, torch.long) or linear, part
    if isinstance(net, inference.GibbsModel):
        known = torch.ones(2, net.input_dim).double() if getattr(net, "input_dim", 0) else None
        chains = inference.clamped_gibbs(net, net.initial(2) + 0.1, 2, 2, 1, 2, inputs=known)
        assert chains.dtype == torch.float64
    options = {"method": "gibbs", "steps": 2} if isinstance(net, zoo.RVAE) else {}
    if isinstance(net, inference.Recurrent) and getattr(net, "decoder_input", "") != "path":
        assert inference.predict_next(net, batch, 2, options=options).mean.dtype == torch.float64


SETS = {
    "PPC": lambda: data.PPC(3, 6),
    "balls": lambda: data.BouncingBalls(2, 4, size=6),
    "classes": lambda: data.OneToMany("class", 3, 4),
    "numbers": lambda: data.OneToMany("regression", 3, 4),
    "rolls": lambda: data.PianoRolls([torch.eye(88)[:9], torch.eye(88)[:5]]),
    "windows": lambda: data.PianoRolls([torch.eye(88)[:9]], window=3),
    "answers": lambda: data.PianoRolls([torch.eye(88)[:9]], window=3, every_step=True),
}
grey = likelihoods.Bernoulli
RULES = {
    "PPC": lambda: inference.LocalELBO(zoo.RVAE(15, 2, likelihoods.Poisson(15), hidden=4)),
    "balls": lambda: inference.BPTT(zoo.TVAE(36, 2, grey(36, grey=True), hidden=4)),
    "classes": lambda: inference.TargetPropagation(zoo.SRN(1, likelihoods.Categorical(10), 4, 0.5)),
    "numbers": lambda: inference.StraightThrough(zoo.MDRNN(1, hidden=4, stochastic=0.5)),
    "rolls": lambda: inference.SequenceELBO(zoo.VRAE(88, 2, grey(88), hidden=4)),
    "windows": lambda: inference.OutputBPTT(zoo.SRN(88, grey(88), hidden=4)),
    "answers": lambda: inference.OutputBPTT(zoo.SRN(88, grey(88), hidden=4, every_step=True)),
}


@pytest.mark.parametrize("name", SETS)
def test_data_sets_have_the_default_dtype(name, double):
    """The same data, to rounding, which models of that dtype learn from."""
    fine = SETS[name]().batch()
    torch.set_default_dtype(torch.float32)
    coarse = SETS[name]().batch()
    torch.set_default_dtype(torch.float64)
    for part in ("obs", "target", "state"):
        value, other = getattr(fine, part), getattr(coarse, part)
        if value is not None:
            assert value.dtype == (torch.float64 if other.is_floating_point() else other.dtype)
            torch.testing.assert_close(value.to(other), other, rtol=1e-4, atol=1e-5)
    rule = RULES[name]()
    inference.fit(rule, SETS[name](), epochs=1, progress=False)
    assert all(value.dtype == torch.float64 for value in rule.net.parameters())


def test_the_advice_on_precision_can_be_followed(double):
    torch.set_default_dtype(torch.float32)
    net = zoo.RVAE(15, 2, likelihoods.Poisson(15), hidden=4).double()
    wrong = data.PPC(3, 6)
    with pytest.raises(ValueError, match=r"obs\.double\(\).*set_default_dtype"):
        inference.fit(inference.LocalELBO(net), wrong, epochs=1, progress=False)
    batch = wrong.batch().to(torch.float64)
    assert batch.obs.dtype == batch.state.dtype == torch.float64
    inference.fit(inference.LocalELBO(net), batch, epochs=1, progress=False)
    with pytest.raises(ValueError, match="floating"):
        batch.to(torch.long)
    assert isinstance(batch.to("cpu"), Batch)
