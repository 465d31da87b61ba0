"""Tests of learning rules."""

from __future__ import annotations

import torch

from ...data import Batch
from ..rules.rule import LearningRule
from ..training.loop import fit
from .checks import check_gradients, copied, ragged
from .suite import Conformance


class RuleConformance(Conformance):
    """A learning rule: ``build()`` returns one with its network, ``batch()`` its data."""

    needs = (
        ("net", "the network that it trains"),
        ("gradients", "batch -> metrics, and .grad of the parameters"),
        ("updates", "batch -> the metrics of each update"),
        ("count", "batch -> the number of updates"),
    )
    untrained: tuple[str, ...] = ()  #: prefixes of the names of parameters that it does not train

    def batch(self) -> Batch:
        """Some sequences, unpadded."""
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def frames(self, rule: LearningRule, batch: Batch) -> int:
        """The number that the rule reports as ``frames``: the real frames by default."""
        return batch.frames

    def test_it_sets_gradients_and_reports_its_loss(self) -> None:
        batch = self.batch()
        for data in (batch, ragged(batch)):
            rule = self._built()
            check_gradients(rule, data, self.frames(rule, data), self.untrained)

    def test_the_same_seed_gives_the_same_gradients(self) -> None:
        """Gradients are set, not added to those of the previous call."""
        rule, batch, found = self._built(), self.batch(), []
        for _ in range(2):
            torch.manual_seed(3)
            metrics = rule.gradients(batch)
            gradients = {
                name: part.grad.clone()
                for name, part in rule.net.named_parameters()
                if part.grad is not None
            }
            found.append(metrics | gradients)
        assert set(found[0]) == set(found[1]), "not the same metrics and gradients"
        for name, value in found[0].items():
            self.close(found[1][name], value, name)

    def test_the_network_and_the_data_are_left_as_they_were(self) -> None:
        rule, batch = self._built(), self.batch()
        before = {name: value.clone() for name, value in rule.net.state_dict().items()}
        data, modes = copied(batch), [part.training for part in rule.net.modules()]
        rule.gradients(batch)
        for name, value in rule.net.state_dict().items():
            assert torch.equal(value, before[name]), f"the rule changed {name}"
        assert modes == [part.training for part in rule.net.modules()], (
            "the rule changed the training mode"
        )
        for name, value in copied(batch).items():
            assert torch.equal(value, data[name]), f"the rule changed {name} of the batch"

    def test_count_is_the_number_of_updates(self) -> None:
        rule, batch = self._built(), self.batch()
        made, said = sum(1 for _ in rule.updates(batch)), rule.count(batch)
        assert made == said, f"{made} updates, but count returns {said}"

    def test_fit_runs_it(self) -> None:
        rule = self._built()
        before = {name: part.clone() for name, part in rule.net.named_parameters()}
        fitted = fit(rule, self.batch(), epochs=2, lr=1e-2, device="cpu", progress=False)
        assert len(fitted.history) == 2, "an epoch is missing"
        for name, part in rule.net.named_parameters():
            moves = part.requires_grad and not name.startswith(self.untrained)
            moved = not torch.equal(part, before[name])
            assert moved == moves, f"{name} has {'' if moved else 'not '}changed"
