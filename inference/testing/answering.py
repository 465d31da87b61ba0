"""Networks of units that answer a sequence."""

from __future__ import annotations

import unittest

import torch

from ...data import Batch
from ..contracts import AnswerModel, SequenceModel
from ..evaluate import importance_bound
from ..rules.target import TargetPropagation
from ..rules.through_time import StraightThrough
from ..unrolling import unroll
from .checks import same_average, shaped
from .models import ModelConformance


class AnsweringConformance(ModelConformance):
    """A network of units that answers a sequence: ``log_prob``, ``predict`` and
    ``sample_answers``.

    It inherits ``AnswerModel`` and ``SequenceModel``, whose Pyro pair is over batches with a
    target; of its ``rules`` ``TargetPropagation`` also asks for ``invert``. ``batch()`` needs a
    target.
    """

    rules = (TargetPropagation, StraightThrough)
    kinds = (AnswerModel, SequenceModel)
    needs = (
        ("log_prob", "batch, num_samples, seed -> log p(y | x) of every sequence"),
        ("predict", "batch, num_samples, seed -> mean answers"),
        ("sample_answers", "batch, num_samples, seed -> random answers"),
    )
    inverse = ("back.",)  #: how the names of the inverse's parameters begin

    def spared(self, rule):
        return () if isinstance(rule, TargetPropagation) else self.inverse

    def frames(self, net, batch):
        return batch.frames if net.at_every_step(batch) else len(batch)

    def verbs(self, net, target):
        return {
            "predict": net.predict,
            "sample_answers": net.sample_answers,
            "log_prob": lambda batch: net.log_prob(Batch(batch.obs, batch.mask, target)),
        }

    def findings(self, net, obs, mask=None, target=None):
        """Its states where units are their means; all that it says, where none is stochastic."""
        batch = Batch(obs, mask)
        with torch.no_grad():
            states = unroll(net, net.drive(batch.obs.transpose(0, 1)), lambda mean: mean)
        found = {"states": states[1:].transpose(0, 1)}
        if net.num_stochastic:
            return found
        score = {} if target is None else {"log_prob": net.log_prob(Batch(obs, mask, target))}
        return found | {"predict": net.predict(batch)} | score

    def draws(self, net, seed):
        obs = self._data().obs.to(next(net.parameters()).device)
        drawn = net.sample_answers(obs, num_samples=9, seed=seed).to(obs.dtype)
        mean = net.predict(obs, num_samples=2, seed=seed)
        return {"sample_answers": drawn, "predict": mean}

    def _padded(self, net, batch):
        obs, mask, target = super()._padded(net, batch)
        if net.at_every_step(batch):
            target = torch.cat((target, target[:, :3]), 1)
        return obs, mask, target

    def test_verbs_have_the_shapes_promised(self):
        net, batch = self._built(), self._data()
        score = net.log_prob(batch, num_samples=3)
        shaped(score, (len(batch),), "log_prob")
        mean = net.predict(batch.obs, num_samples=3)
        asked = batch.obs.shape[: 2 if net.at_every_step(batch) else 1]
        shaped(mean, (*asked, mean.shape[-1]), "predict")
        drawn = net.sample_answers(batch, num_samples=5)
        shaped(drawn, (5, *batch.target.shape), "sample_answers")
        assert drawn.dtype == batch.target.dtype, f"sample_answers is {drawn.dtype}"
        for verb, value in {"log_prob": score, "predict": mean, "sample_answers": drawn}.items():
            assert value.isfinite().all(), f"{verb} is not finite"
            assert not value.requires_grad, f"{verb} carries a graph: use torch.no_grad"
        shaped(importance_bound(net, batch, 2), (len(batch),), "importance_bound")

    def test_what_it_answers_it_can_score(self):
        net, batch = self._built(), self._data()
        for target in net.sample_answers(batch, num_samples=2):
            score = net.log_prob(Batch(batch.obs, target=target))
            assert score.isfinite().all(), "an answer is impossible"

    def test_an_answer_looks_at_past_and_present_alone(self):
        net, (obs, changed, cut) = self._built(), self._other_ends()
        before, after = (self.findings(net, each)["states"] for each in (obs, changed))
        self.close(before[:, :cut], after[:, :cut], "states before a change of frames")
        assert not torch.allclose(before[:, cut:], after[:, cut:]), "states do not see the frames"

    def test_the_mean_depends_on_the_seed_where_units_are_stochastic(self):
        net = self._built()
        first, other = (self.draws(net, seed)["predict"] for seed in (4, 5))
        same = torch.equal(first, other)
        assert same == (net.num_stochastic == 0), (
            f"of {net.num_stochastic} stochastic units, two seeds: same = {same}"
        )

    def test_padding_changes_no_bound(self):
        net, batch = self._built(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_padding_changes_no_distribution(self):
        """Averages of many paths, with and without it."""
        net, batch, many = self._built(), self._data(), 400
        if not net.num_stochastic:
            raise unittest.SkipTest("nothing is drawn")
        found, steps = [], batch.obs.shape[1]
        index = torch.arange(len(batch)).repeat(many)
        for obs, mask in ((batch.obs, batch.mask), self._padded(net, batch)[:2]):
            means = net.predict(Batch(obs[index], mask[index]), num_samples=1)
            means = means[:, :steps] if net.at_every_step(batch) else means
            found.append(means.unflatten(0, (many, -1)))
        same_average(*found, "padding changes what is drawn")
        assert found[0].var(0).max() > 0, "nothing is drawn, though units are stochastic"
