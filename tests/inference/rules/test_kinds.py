"""Rules and the networks, data and precision that they take; each error is one sentence."""

import numpy as np
import pytest
import torch
from seqzoo.data import Batch
from seqzoo.zoo import likelihoods
from torch import nn

from seqzoo import inference, zoo

B, T, M, K, H = 3, 6, 4, 2, 5
MASK = torch.arange(T) < torch.tensor([4, 6, 2])[:, None]
gaussian = likelihoods.Gaussian(M)


@pytest.fixture
def batch():
    return Batch(torch.randn(B, T, M), MASK)


# Rules and networks -----------------------------------------------------------------------------

UNTRAINABLE = {
    "BPTT, VRAE": (inference.BPTT, "VRAE", "a FrameModel .*, and VRAE is a SequenceModel:"),
    "BPTT, VOSP": (inference.BPTT, "VOSP", "a FrameModel .*, and VOSP is a SequenceModel:"),
    "BPTT, SRN": (inference.BPTT, "SRN", "a FrameModel .*, and SRN is an AnswerModel:"),
    "local, REFH": (inference.LocalELBO, "REFH", "a FrameModel .*, and REFH is an EnergyModel:"),
    "folded, LGDS": (inference.FoldedRule, "LGDS", "a Recurrent network, and LGDS is a Linear"),
    "contrastive, RVAE": (
        *(inference.ContrastiveDivergence, "RVAE"),
        r"an EnergyModel \(REFH, TRBM, RTRBM\), and RVAE is a FrameModel:",
    ),
    "sequence, RVAE": (inference.SequenceELBO, "RVAE", "and RVAE is a FrameModel:"),
    "sequence, REFH": (inference.SequenceELBO, "REFH", "and REFH is an EnergyModel:"),
    "sequence, LGDS": (
        *(inference.SequenceELBO, "LGDS"),
        "networks with trainable parameters, and LGDS has none:",
    ),
    "EM, RVAE": (inference.EM, "RVAE", r"a LinearSystem \(LGDS\), and RVAE is a FrameModel:"),
    "average, SRN": (inference.Average, "SRN", "a buffer mean .*, and SRN has none:"),
    "targets, RVAE": (inference.TargetPropagation, "RVAE", "and RVAE is a FrameModel:"),
    "straight, VRAE": (inference.StraightThrough, "VRAE", "and VRAE is a SequenceModel:"),
    "plain, LGDS": (inference.OutputBPTT, "LGDS", "an AnswerModel .*, and LGDS is a Linear"),
}
TRAINERS = {
    "VRAE": "SequenceELBO",
    "VOSP": "SequenceELBO",
    "SRN": "StraightThrough",
    "REFH": "ContrastiveDivergence",
    "LGDS": "EM",
    "RVAE": "LocalELBO",
}
NETWORKS = {
    "VRAE": lambda: zoo.VRAE(M, K, gaussian, H),
    "VOSP": lambda: zoo.VOSP(M, K, gaussian, H, width=5),
    "RNN": lambda: zoo.RNN(M, gaussian, H),
    "SRN": lambda: zoo.SRN(M, zoo.likelihoods.Categorical(3), H),
    "REFH": lambda: zoo.REFH(M, H, gaussian),
    "LGDS": lambda: zoo.LGDS(2),
    "RVAE": lambda: zoo.RVAE(M, K, gaussian, H),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_a_rule_names_what_a_network_lacks_and_who_trains_it(case):
    rule_of, name, sentence = UNTRAINABLE[case]
    expected = f"^{rule_of.__name__} trains .*{sentence}.* {TRAINERS[name]} trains it$"
    with pytest.raises(ValueError, match=expected):
        rule_of(NETWORKS[name]())


@pytest.mark.parametrize("name", TRAINERS)
def test_who_is_named_trains_it(name):
    getattr(inference, TRAINERS[name])(NETWORKS[name]())


def test_a_network_of_no_kind_is_told_which_one_to_inherit():
    with pytest.raises(
        ValueError, match=r"Linear inherits none of the kinds .*: see SequenceModel$"
    ):
        inference.SequenceELBO(nn.Linear(2, 2))


def test_names_decide_nothing():
    """A user's helpers may be called as methods of another kind are."""

    class Helpful(zoo.RVAE):
        def read(self, batch):
            return self.prepare(batch)

        def prepare(self, batch):
            return batch

        def measure(self, obs):
            return obs

        framewise = causal = at_every_step = True

    net, batch = Helpful(M, K, gaussian, H), Batch(torch.randn(B, T, M))
    inference.LocalELBO(net).gradients(batch)
    assert inference.loo(net, batch, num_samples=30, unit="frame").elpd.shape == (B, T)
    with pytest.raises(ValueError, match="Helpful is a FrameModel: LocalELBO trains it"):
        inference.SequenceELBO(net)


class Clamped(inference.EnergyModel):
    """A harmonium's protocol, without what options alone need."""

    check = encode = step = initial = free_energy = gibbs = random_frames = lambda self: None


def test_contrastive_divergence_asks_for_sampled_hidden_units_only_if_it_samples_them():
    inference.ContrastiveDivergence(Clamped())
    with pytest.raises(ValueError, match=r"and Clamped has no sample_hidden$"):
        inference.ContrastiveDivergence(Clamped(), sample_past=True)


# Precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "LGDS"])
def test_observations_of_another_precision_are_refused(name):
    net, obs = NETWORKS[name](), torch.randn(2, 5, M)
    said = r"obs are float64, .* weights are float32: use obs\.float\(\), or net\.double\(\)"
    with pytest.raises(ValueError, match=said):
        net.check(obs.double())
    with pytest.raises(ValueError, match=r"obs are float16, .*: use obs\.float\(\)$"):
        net.check(obs.half())
    net.double().check(obs.double())
    with pytest.raises(ValueError, match=r"obs are float32, .* float64: use obs\.double\(\)"):
        net.check(obs)


def test_a_network_may_have_parameters_of_several_kinds():
    net = NETWORKS["VRAE"]()
    net.prior.double()
    assert next(net.parameters()).dtype != next(net.decoder.parameters()).dtype
    net.check(torch.randn(2, 5, M))


def test_a_rule_refuses_another_precision_before_anything_is_touched():
    for rule_of, name in ((inference.LocalELBO, "RVAE"), (inference.SequenceELBO, "VRAE")):
        with pytest.raises(ValueError, match="obs are float64"):
            rule_of(NETWORKS[name]()).gradients(Batch(torch.randn(2, 5, M).double()))


# Rules and data ---------------------------------------------------------------------------------


class Telling(inference.LearningRule):
    """Returns what it was told to."""

    def __init__(self, net, metrics):
        super().__init__(net)
        self.metrics = metrics

    def gradients(self, batch):
        for part in self.net.parameters():
            part.grad = torch.zeros_like(part)
        return self.metrics


def told(metrics, data=None):
    data = Batch(torch.zeros(B, T, M)) if data is None else data
    return inference.fit(Telling(nn.Linear(M, M), metrics), data, epochs=1, progress=False)


GOOD = {"loss": torch.tensor(1.0), "frames": torch.tensor(12.0)}


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"loss": GOOD["loss"]}, r"Telling must return .*'frames'.*got \['loss'\]"),
        ({"frames": GOOD["frames"]}, "Telling must return .*'loss'"),
        (torch.tensor(1.0), "Telling must return a dictionary .* got Tensor"),
        ({"loss": 1.0, "frames": GOOD["frames"]}, "its loss is a float"),
        (None, "Telling must return a dictionary .* got NoneType"),
    ],
)
def test_what_a_rule_must_return(metrics, complaint):
    with pytest.raises(ValueError, match=complaint):
        told(metrics)
    assert told(GOOD).history[0]["loss"] == 1


def test_a_rule_that_makes_no_update(batch):
    class Idle(inference.LearningRule):
        def updates(self, batch):
            return iter(())

    with pytest.raises(ValueError, match=r"Idle must return .* no update in epoch 0"):
        inference.fit(Idle(nn.Linear(M, M)), batch, epochs=1, progress=False)


@pytest.mark.parametrize(
    "data", [[torch.zeros(T, M)] * B, torch.zeros(B, T, M), np.zeros((B, T, M))], ids=type
)
def test_sequences_in_any_form_are_trained_on(data):
    assert told(GOOD, data).history == told(GOOD).history


@pytest.mark.parametrize("data", ["ppc", 3, {"obs": torch.zeros(B, T, M)}], ids=type)
def test_data_that_are_none_get_one_sentence(data):
    for rule in (Telling(nn.Linear(M, M), GOOD), inference.EM(zoo.LGDS(1))):
        with pytest.raises(ValueError, match=r"expected a Batch, a tensor .*, got \w+$"):
            inference.fit(rule, data, progress=False)
