"""Tests of networks that answer a sequence."""

from __future__ import annotations

import dataclasses
import unittest
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ..contracts import AnswerModel, SequenceModel
from ..evaluate import importance_bound
from ..layers import Layer, fill_grad
from ..rules.rule import LearningRule
from ..rules.target import TargetPropagation
from ..rules.through_time import StraightThrough
from ..unrolling import unroll
from .checks import check_gradients, lacking, refuses, same_average, shaped
from .models import ModelConformance


class AnsweringConformance(ModelConformance):
    """A network that answers a sequence: ``log_prob``, ``predict`` and ``sample_answers``.

    It inherits ``AnswerModel`` and ``SequenceModel``, with a Pyro pair over batches with a target.
    ``TargetPropagation``, one of its ``rules``, also needs ``invert``. ``batch()`` has a target.
    """

    rules = (TargetPropagation, StraightThrough)
    kinds = (AnswerModel, SequenceModel)
    needs = (
        ("log_prob", "batch, num_samples, seed -> log p(y | x) of every sequence"),
        ("predict", "batch, num_samples, seed -> mean answers"),
        ("sample_answers", "batch, num_samples, seed -> random answers"),
    )
    inverse = ("back.",)  #: prefixes of the names of the inverse's parameters

    def untrained(self, rule: LearningRule) -> tuple[str, ...]:
        return () if isinstance(rule, TargetPropagation) else self.inverse

    def frames(self, net: Any, batch: Batch) -> int:
        return batch.frames if net.at_every_step(batch) else len(batch)

    def methods(self, net: Any) -> dict[str, Callable[[BatchLike], Any]]:
        return {name: getattr(net, name) for name in ("predict", "sample_answers", "log_prob")}

    def outputs(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        """The states at the units' means; all outputs where no unit is stochastic."""
        with torch.no_grad():
            drive = net.drive(net.prepare(batch).obs.transpose(0, 1))
            states = unroll(net, drive, lambda mean: mean)
        found = {"states": states[1:].transpose(0, 1)}
        if net.num_stochastic:
            return found
        return found | {"predict": net.predict(batch), "log_prob": net.log_prob(batch)}

    def samples(self, net: Any, seed: int) -> dict[str, Tensor]:
        obs = self._data().obs.to(next(net.parameters()).device)
        answers = net.sample_answers(obs, num_samples=9, seed=seed).to(obs.dtype)
        mean = net.predict(obs, num_samples=2, seed=seed)
        return {"sample_answers": answers, "predict": mean}

    def _padded(self, net: Any, batch: Batch) -> Batch:
        padded = super()._padded(net, batch)
        if batch.target is None or not net.at_every_step(batch):
            return padded
        target = torch.cat((batch.target, batch.target[:, :3]), 1)
        return dataclasses.replace(padded, target=target)

    def test_outputs_have_the_documented_shapes(self) -> None:
        net, batch = self._built(), self._data()
        target = batch.target
        assert target is not None, "batch() must have a target"
        score = net.log_prob(batch, num_samples=3)
        shaped(score, (len(batch),), "log_prob")
        mean = net.predict(batch.obs, num_samples=3)
        asked = batch.obs.shape[: 2 if net.at_every_step(batch) else 1]
        shaped(mean, (*asked, mean.shape[-1]), "predict")
        answers = net.sample_answers(batch, num_samples=5)
        shaped(answers, (5, *target.shape), "sample_answers")
        assert answers.dtype == target.dtype, f"sample_answers is {answers.dtype}"
        for name, value in {"log_prob": score, "predict": mean, "sample_answers": answers}.items():
            assert value.isfinite().all(), f"{name} is not finite"
            assert not value.requires_grad, f"{name} carries a graph: use torch.no_grad"
        shaped(importance_bound(net, batch, 2), (len(batch),), "importance_bound")

    def test_layers_are_taught_as_by_autograd(self) -> None:
        """Values and gradients of ``mean_layer`` and ``inverse_layer``, where they are written."""
        net = self._built()
        pairs = [(net.mean_layer(), net.mean)]
        if TargetPropagation in self.rules:
            pairs += [(net.inverse_layer(), net.invert)]
        if all(type(layer) is Layer for layer, _ in pairs):
            raise unittest.SkipTest("autograd teaches them")
        rest = net.rest()
        drive, past = rest.new_empty(2, 1, 3, len(rest)), rest.new_empty(2, 4, 3, len(rest))
        for layer, function in pairs:
            drive, past, slope = (torch.randn_like(part) for part in (drive, past, past))
            found = []
            for each in (layer, Layer(function)):
                net.zero_grad(set_to_none=True)
                with torch.no_grad():
                    value, pull = each.teach(drive, past)
                    self.close(each(drive, past), value, "a layer's value, taught or not,")
                    by_drive = pull(slope.clone())
                fill_grad(each.parameters, each.slopes)
                grads = [part.grad for part in net.parameters() if part.grad is not None]
                found.append((value, by_drive, *grads))
            for one, other in zip(*found, strict=True):
                self.close(one, other, "a layer's gradient, and that of autograd")

    def test_missing_inputs_are_read_as_missing_or_refused(self) -> None:
        """At a step of whose input nothing was seen no answer is asked."""
        net, batch = self._built(), self._data()
        data = lacking(batch)
        if not net.takes_missing:
            refuses(lambda: net.log_prob(data), "missing", "missing values")
            return
        expected, target = net.log_prob(data), data.target
        assert expected.isfinite().all(), "log_prob of missing values is not finite"
        assert not torch.allclose(expected, net.log_prob(batch)), "missing values have no influence"
        assert target is not None, "batch() must have a target"
        if net.at_every_step(batch):
            target = target.clone()
            target[~data.observed_frames] = target.roll(1, 0)[~data.observed_frames]
            found = net.log_prob(dataclasses.replace(data, target=target))
            self.close(found, expected, "answers where nothing was seen count")
        for rule_of in self.rules:
            rule = self._rule(rule_of)
            check_gradients(rule, data, self.frames(rule.net, data), self.untrained(rule))

    def test_sampled_answers_have_a_probability(self) -> None:
        net, batch = self._built(), self._data()
        for target in net.sample_answers(batch, num_samples=2):
            score = net.log_prob(Batch(batch.obs, target=target))
            assert score.isfinite().all(), "a sampled answer is impossible"

    def test_states_depend_on_past_and_present_only(self) -> None:
        net, (batch, changed, cut) = self._built(), self._other_ends()
        before, after = (self.outputs(net, each)["states"] for each in (batch, changed))
        self.close(before[:, :cut], after[:, :cut], "states before a change of frames")
        same = torch.allclose(before[:, cut:], after[:, cut:])
        assert not same, "states do not depend on the frames"

    def test_the_mean_depends_on_the_seed_where_units_are_stochastic(self) -> None:
        net = self._built()
        first, other = (self.samples(net, seed)["predict"] for seed in (4, 5))
        same = torch.equal(first, other)
        number = net.num_stochastic
        assert same == (number == 0), f"{number} stochastic units, equal for two seeds: {same}"

    def test_padding_changes_no_bound(self) -> None:
        net, batch = self._built(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_padding_changes_no_distribution(self) -> None:
        """Compares averages over many paths, with and without padding."""
        net, batch, many = self._built(), self._data(), 400
        if not net.num_stochastic:
            raise unittest.SkipTest("no unit is stochastic")
        found, steps = [], batch.obs.shape[1]
        index = torch.arange(len(batch)).repeat(many)
        for data in (batch, self._padded(net, batch)):
            means = net.predict(data.rows(index), num_samples=1)
            means = means[:, :steps] if net.at_every_step(batch) else means
            found.append(means.unflatten(0, (many, -1)))
        same_average(found[0], found[1], "padding changes the distribution of answers")
        assert found[0].var(0).max() > 0, "answers do not vary, though units are stochastic"
