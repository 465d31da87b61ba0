"""The curve of two rules' alignment along training: what it says, and what it leaves alone."""

import math

import pytest
import torch
from seqzoo.data import PPC, Batch, OneToMany
from seqzoo.inference import BPTT, AlignmentCurve, LocalELBO, OutputBPTT, TargetPropagation
from seqzoo.zoo.parts.likelihoods import Categorical, Poisson

from seqzoo import inference, zoo

QUIET = {"progress": False, "device": "cpu"}
HELD_OUT = PPC(3, 8, split="validation").batch()
ASKED = OneToMany("class", 20, 4, split="validation").batch()


def rvae():
    torch.manual_seed(0)
    return zoo.RVAE(obs_dim=15, latent_dim=2, likelihood=Poisson(15), hidden=6)


def srn(stochastic=0.0):
    torch.manual_seed(0)
    return zoo.SRN(1, Categorical(10), hidden=6, stochastic=stochastic)


def local(net):
    return LocalELBO(net, chunk=HELD_OUT.frames)


def train(net, validate, **how):
    how = {"epochs": 4, "lr": 0.01, "batch_size": 2, "clip": 1.0, "seed": 3, **QUIET, **how}
    return inference.fit(LocalELBO(net, drop_past=0.2), PPC(4, 8), validate=validate, **how)


def loss(net):
    """A score that draws random numbers, as an estimate of a bound does."""
    missed = net.reconstruct(HELD_OUT.obs) - HELD_OUT.obs
    return float(missed.detach().square().mean() + 0.1 * torch.randn(()))


@pytest.mark.parametrize("how", [{}, {"average": 0.9}, {"validate_every": 3}])
def test_training_goes_on_with_the_same_bits(how):
    """Also with a score that draws random numbers, and where averaged weights are validated."""
    plain, followed = rvae(), rvae()
    curve = AlignmentCurve(local, BPTT, HELD_OUT, loss)
    state = torch.get_rng_state()
    one, two = train(plain, loss, **how), train(followed, curve, **how)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.history == two.history
    assert one.best == two.best
    weights = followed.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert {len(found) for found in curve.cosines.values()} == {2 if "validate_every" in how else 4}


def test_gradients_and_random_state_are_put_back():
    net = rvae()
    local(net).gradients(HELD_OUT)
    first = next(net.parameters())
    first.grad = None  # one that a rule does not teach
    kept = {
        name: (p.grad, p.grad if p.grad is None else p.grad.clone())
        for name, p in net.named_parameters()
    }
    state, mode = torch.get_rng_state(), net.training
    AlignmentCurve(lambda net: LocalELBO(rattled(net)), BPTT, HELD_OUT)(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training == mode
    for name, parameter in net.named_parameters():
        before, value = kept[name]
        assert parameter.grad is before, name
        assert value is None or torch.equal(parameter.grad, value)


def rattled(net):
    """The network, after what makes a rule drew a random number."""
    torch.randn(3)
    return net


def test_a_curve_is_the_alignment_at_each_validation():
    net = rvae()
    curve = AlignmentCurve(local, BPTT, HELD_OUT, seed=5)
    seen = []

    def look(subject):
        seen.append(inference.alignment(local(subject), BPTT(subject), HELD_OUT, 5))
        return curve(subject)

    done = train(net, look)
    assert {name: [one[name] for one in seen] for name in seen[0]} == curve.cosines
    assert done.best["epoch"] == 3  # without a score the last network is the one that is kept
    ends = inference.alignment(local(net), BPTT(net), HELD_OUT, 5)
    assert ends["all"] == curve.cosines["all"][-1]
    assert len({*curve.cosines["all"]}) == 4


def test_a_score_chooses_the_network_that_is_kept():
    scores = iter([3.0, 1.0, 2.0, 4.0])
    done = train(rvae(), AlignmentCurve(local, BPTT, HELD_OUT, lambda net: next(scores)))
    assert (done.best["epoch"], done.best["validation"]) == (1, 1.0)


def test_a_rule_is_aligned_with_itself_all_along():
    net = srn(stochastic=0.5)
    curve = AlignmentCurve(TargetPropagation, TargetPropagation, ASKED)
    curve(net)
    how = {"epochs": 3, "lr": 0.01, "batch_size": 10, **QUIET}
    inference.fit(TargetPropagation(net), OneToMany("class", 30, 4), validate=curve, **how)
    assert curve.cosines.keys() == {*dict(net.named_parameters()), "all"}
    for name, found in curve.cosines.items():
        assert found == pytest.approx([1.0] * 4, abs=1e-6), name
    assert all(found == pytest.approx([1.0] * 4, abs=1e-6) for found in curve.modules.values())


def test_modules_join_the_gradients_of_their_parameters():
    net = rvae()
    curve = AlignmentCurve(local, BPTT, HELD_OUT)
    curve(net)
    assert curve.modules.keys() == {name.partition(".")[0] for name in curve.cosines} - {"all"}
    assert curve.modules["decoder"][0] == pytest.approx(1, abs=1e-6)
    gradients = []
    for rule in (local(net), BPTT(net)):
        with inference.RandomStream("cpu", "alignment", 0):
            rule.gradients(HELD_OUT)
        parts = [p.grad.flatten() for n, p in net.named_parameters() if n.startswith("recognition")]
        gradients.append(torch.cat(parts).double())
    a, b = gradients
    assert curve.modules["recognition"][0] == pytest.approx(float(a @ b / (a.norm() * b.norm())))
    assert curve.modules["recognition"][0] < 0.9999


def test_what_one_rule_alone_teaches_has_no_cosine():
    net = srn()
    curve = AlignmentCurve(TargetPropagation, OutputBPTT, ASKED)
    curve(net)
    assert math.isnan(curve.modules["back"][0])
    assert curve.modules["readout"][0] == pytest.approx(1, abs=1e-6)


def test_rules_must_hold_the_network_they_are_made_for():
    net, other = rvae(), rvae()
    for makers in ((lambda _: LocalELBO(other), BPTT), (BPTT, lambda _: LocalELBO(other))):
        curve = AlignmentCurve(*makers, HELD_OUT)
        with pytest.raises(ValueError, match="a rule holds another network than the one"):
            curve(net)
        assert curve.cosines == {}
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_curve_takes_what_makes_rules():
    with pytest.raises(ValueError, match=r"functions from a network to a rule.*: got LocalELBO"):
        AlignmentCurve(LocalELBO(rvae()), BPTT, HELD_OUT)


def test_a_batch_without_a_frame_is_refused():
    mask = torch.arange(8) < torch.tensor([3, 2])[:, None]
    ended = Batch(HELD_OUT.obs[:2], mask).window(4, 8)
    with pytest.raises(ValueError, match="no real frame"):
        AlignmentCurve(local, BPTT, ended)


# What a rule teaches on a batch, all its updates together -----------------------------------------


def test_windows_of_one_frame_are_the_local_rule():
    """Truncated at every step, BPTT is local: exactly so, where both draw their noise alike."""
    net = rvae()
    online = BPTT(net, window=1, num_samples=20)
    found = inference.alignment(LocalELBO(net, window=1, num_samples=20), online, HELD_OUT)
    assert list(found.values()) == pytest.approx([1.0] * len(found), abs=1e-6)
    whole = LocalELBO(net, num_samples=20)
    assert inference.alignment(whole, online, HELD_OUT)["all"] > 0.995  # its noise is another
    assert inference.alignment(BPTT(net, num_samples=20), online, HELD_OUT)["all"] < 0.995
    curve = AlignmentCurve(local, lambda net: BPTT(net, window=1), HELD_OUT)
    curve(net)
    expected = inference.alignment(local(net), BPTT(net, window=1), HELD_OUT)
    assert curve.cosines["all"] == [expected["all"]]


class Uneven(inference.LearningRule):
    """Two updates of one frame and of three, each the gradient of a sum over units."""

    def updates(self, batch):
        for unit, frames in ((0, 1.0), (1, 3.0)):
            self.net.zero_grad(set_to_none=True)
            self.net.weight[:, unit].sum().backward()
            yield {"frames": torch.tensor(frames)}


class Even(Uneven):
    def updates(self, batch):
        self.net.zero_grad(set_to_none=True)
        self.net.weight[:, 0].sum().backward()
        yield {"frames": torch.tensor(1.0)}


def test_updates_weigh_as_much_as_their_frames():
    net = torch.nn.Linear(2, 1)
    found = inference.alignment(Uneven(net), Even(net), HELD_OUT)
    assert found["weight"] == pytest.approx(0.25 / math.hypot(0.25, 0.75))
    assert math.isnan(found["bias"])
    assert net.weight.grad is None


# Errors -------------------------------------------------------------------------------------------


def breaks(net):
    raise KeyError("my rule")


def test_an_error_says_which_of_the_rules_it_was():
    net = rvae()
    with pytest.raises(ValueError, match=r"^rule_b of the curve \(TargetPropagation\): ") as found:
        AlignmentCurve(LocalELBO, TargetPropagation, HELD_OUT)(net)
    assert isinstance(found.value.__cause__, ValueError)
    with pytest.raises(ValueError, match=r"^rule_a of the curve \(LocalELBO\): .*\(1, 3, 4\)"):
        AlignmentCurve(LocalELBO, BPTT, Batch(torch.zeros(1, 3, 4)))(net)
    with pytest.raises(KeyError) as found:
        AlignmentCurve(LocalELBO, breaks, HELD_OUT)(net)
    assert found.value.__notes__ == ["in rule_b of the curve (breaks)"]


def test_what_makes_no_rule_gets_a_clear_sentence():
    net = rvae()
    with pytest.raises(ValueError, match=r"rule_a of the curve \(<lambda>\): .* got RVAE"):
        AlignmentCurve(lambda net: net, BPTT, HELD_OUT)(net)
    with pytest.raises(ValueError, match="expected a LearningRule, such as BPTT, got RVAE"):
        inference.alignment(BPTT(net), net, HELD_OUT)
    with pytest.raises(ValueError, match="got the data set PPC"):
        AlignmentCurve(LocalELBO, BPTT, PPC(2, 5))
    with pytest.raises(ValueError, match=r"expected a Batch, .*got str"):
        inference.alignment(LocalELBO(net), BPTT(net), "frames")
    with pytest.raises(ValueError, match="StraightThrough has no targets"):
        inference.target_alignment(inference.StraightThrough(srn()), ASKED)
