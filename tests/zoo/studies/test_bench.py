"""Benchmarks, and their commands."""

import functools
import re
from types import SimpleNamespace

import pyro
import pytest
import torch
from seqzoo.data import PPC, Batch
from seqzoo.inference import kernels
from seqzoo.zoo import LGDS, RVAE, VRAE
from seqzoo.zoo.parts.likelihoods import Bernoulli, Poisson
from seqzoo.zoo.studies import bench, deep_markov, peers, roofline

from seqzoo import inference


def test_the_benchmark_times_both_rules_on_equal_networks(monkeypatch):
    timed = []

    def note(work, repeats, device):
        rule, data = work.args
        timed.append((type(rule).__name__, rule.net, rule.num_samples, data))
        return 0.001 * len(timed)

    monkeypatch.setattr(bench, "_time", note)
    found = list(bench.target(3, [2, 4], 6, 5, 1, "cpu"))
    assert [(row.units, row.steps) for row in found] == [
        (units, steps) for steps in (2, 4) for units in ("half stochastic, M=5", "deterministic")
    ]
    assert [row.targets for row in found] == pytest.approx([1, 3, 5, 7])
    assert [row.through_time for row in found] == pytest.approx([2, 4, 6, 8])
    for (one, net, paths, data), (other, second, _, same) in zip(timed[::2], timed[1::2]):
        assert (one, other, paths) == ("TargetPropagation", "StraightThrough", 5)
        assert same is data
        assert len(data) == 3
        assert net.units.dim == 6
        weights = second.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert [net.num_stochastic for _, net, _, _ in timed] == [3, 3, 0, 0] * 2


def test_bench_target_prints_a_ratio(seqzoo):
    words = ["--steps", 2, "--steps", 3, "--batch", 2, "--units", 4, "--num-samples", 2]
    code, out, error = seqzoo("bench", "target", *words, "--repeats", 1)
    assert (code, error) == (0, "")
    lines = out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["2", "2", "3", "3"]
    for line in lines:
        targets, through_time, ratio = line.replace("x", " ").split()[-3:]
        assert float(targets) > 0
        assert float(ratio) == pytest.approx(float(targets) / float(through_time), rel=0.2)


def test_bench_target_says_that_a_device_is_missing(refused):
    assert "warp" in refused("bench", "target", "--device", "warp")


def test_every_rule_costs_time_and_one_of_them_has_a_fold(monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 0.0)
    times = bench._times(20, 2, 2, "cpu")
    assert times.keys() == bench.RULES.keys()
    assert min(seconds for seconds, _ in times.values()) > 0
    assert [name for name, (_, fold) in times.items() if fold is not None] == [bench.LOCAL]


@pytest.mark.parametrize("rule", bench.RULES)
def test_an_update_adds_to_the_memory_in_use(rule):
    added, peak = bench._memory(bench.Case(rule, 2, 20), "cpu")
    assert 0 <= added < min(1000, peak)


def test_bench_local_prints_every_rule_against_bptt(seqzoo, in_process, monkeypatch):
    seconds = {rule: n * 1e-3 for n, rule in enumerate(bench.RULES, 1)}
    times = {rule: (s, 0.8 * s if rule == bench.LOCAL else None) for rule, s in seconds.items()}
    monkeypatch.setattr(bench, "_times", lambda *_: times)
    monkeypatch.setattr(bench, "_memory", lambda case, _: (2e3 * seconds[case.rule], 100))
    code, out, _ = seqzoo("bench", "local", "--steps", 20, "--steps", 25, "--batches", 2)
    assert code == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.endswith("x")]
    expected = [
        [str(steps), "2", rule, f"{n}.0", f"{2 * n}.0", "100", f"{1 / n:.2f}x", f"{1 / n:.2f}x"]
        + ["1.25x"] * (rule == bench.LOCAL)
        for steps in (20, 25)
        for n, rule in enumerate(bench.RULES, 1)
    ]
    assert rows == expected


# Peers -------------------------------------------------------------------------------------------


def test_peers_are_timed_where_they_are_installed(monkeypatch):
    """Filter and EM of the system that ours began with, and of the same values."""
    asked, called = [], []
    other = SimpleNamespace(
        filter=lambda: called.append("filter"), iterate=lambda: called.append("iterate")
    )
    monkeypatch.setattr(peers.Dynamax, "of", lambda *given: asked.append(given) or other)
    net, batch = LGDS(2, 3), Batch(torch.randn(2, 9, 3))
    found = list(peers.linear("small", net, batch, 2))
    assert [each.task for each in found] == ["Kalman filter, small", "EM, small"]
    assert all(min(each.ours, each.torch, each.theirs) > 0 for each in found)
    assert called == ["filter"] * 3 + ["iterate"] * 3  # once to compile
    assert torch.equal(asked[0][1], batch.obs.double())
    monkeypatch.setattr(peers, "kernel", lambda: None)
    monkeypatch.setattr(peers.Dynamax, "of", lambda *_: None)
    for each in peers.linear("small", net, batch, 1):
        assert each.ours == each.torch
        assert each.theirs is None


def test_bench_peers_prints_ratios(monkeypatch, seqzoo):
    some = [
        peers.Beside("EM", 2.0, 4.0, "dynamax", 5.0),
        peers.Beside("step", 2.0, None, "x", None),
    ]
    monkeypatch.setattr(peers, "peers", lambda repeats: some)
    code, out, _ = seqzoo("bench", "peers")
    assert code == 0
    assert re.search(r"EM +2\.0 +4\.0 +dynamax +5\.0 +2\.50x\n", out)
    assert re.search(r"step +2\.0 +x +not installed\n", out)


def test_a_deep_markov_model_has_the_density_of_its_paper():
    """With a gate that is shut the next state is Gaussian about the state before."""
    torch.manual_seed(0)
    net = deep_markov.DeepMarkovModel(3, 2, 4, 4, 5)
    batch = Batch((torch.rand(2, 3, 3) < 0.5).float())
    with torch.no_grad():
        net.gate[2].bias.fill_(-1e3)
        drawn = pyro.poutine.trace(net.guide).get_trace(batch)
        trace = pyro.poutine.trace(pyro.poutine.replay(net.model, drawn)).get_trace(batch)
        states = torch.stack([trace.nodes[f"z_{t}"]["value"] for t in range(3)], 1)
        before = torch.cat((net.first.expand(2, 1, 2), states[:, :-1]), 1)
        sd = torch.nn.functional.softplus(net.spread(net.proposed(before)))
        frames = torch.distributions.Bernoulli(logits=net.emission(states))
        steps = torch.distributions.Normal(before, sd).log_prob(states)
        expected = steps.sum() + frames.log_prob(batch.obs).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    later = Batch(torch.cat((1 - batch.obs[:, :1], batch.obs[:, 1:]), 1))
    with pyro.poutine.replay(trace=drawn), torch.no_grad():
        other = pyro.poutine.trace(net.guide).get_trace(later)
    for t, same in enumerate((False, True, True)):  # it reads the frames from t on
        one, two = (each.nodes[f"z_{t}"]["fn"].mean for each in (drawn, other))
        assert torch.allclose(one, two) == same
    metrics = deep_markov.TraceELBO(net).gradients(batch)
    assert metrics["loss"].isfinite()
    assert all(part.grad is not None for part in net.parameters())
    beside = peers.deep(batch, net, VRAE(3, 2, Bernoulli(3), hidden=4), 1)
    assert min(beside.ours, beside.theirs) > 0


# The roofline ------------------------------------------------------------------------------------


def test_products_are_counted_whether_a_kernel_runs_them_or_not(monkeypatch):
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert roofline.flops(functools.partial(torch.mm, a, b)) == 2 * 3 * 4 * 5
    assert roofline.flops(lambda: torch.zeros(3, 5).addmm_(a, b)) == 2 * 3 * 4 * 5
    net, batch = RVAE(15, 2, Poisson(15), hidden=8), PPC(3, 20, seed=0).batch()
    past, loader = net.initial(3), kernels.load
    with torch.no_grad():
        step = functools.partial(inference.sweep, net, batch, past)
        found = roofline.flops(step)
        assert kernels.load is loader
        monkeypatch.setattr(kernels, "load", lambda name: None)
        assert roofline.flops(step) == found
        frames = roofline.flops(lambda: net.encode(batch.obs))
        one = roofline.flops(lambda: net.step(net.encode(batch.obs[:, 0]), past)) - frames / 20
        assert found == frames + 20 * one


def test_every_rule_is_measured_against_its_products(monkeypatch, seqzoo):
    every = list(roofline.updates(3))
    named = {update.rule for update in every}
    rules = {
        name
        for name in inference.__all__
        if isinstance(getattr(inference, name), type)
        and issubclass(getattr(inference, name), inference.LearningRule)
    }
    assert named == rules - {"LearningRule", "FoldedRule", "ClosedForm", "Average"}
    some = [update for update in every if update.rule in ("LocalELBO", "EM")]
    monkeypatch.setattr(roofline, "updates", lambda steps: some)
    code, out, _ = seqzoo("bench", "roofline", "--steps", 3, "--repeats", 1)
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.endswith("x")]
    assert [line[0] for line in lines] == ["LocalELBO", "EM"]
    for line in lines:
        products, update, ratio = (float(word.rstrip("x")) for word in line[-3:])
        assert products >= 0
        assert ratio > 1
        assert update > 0
