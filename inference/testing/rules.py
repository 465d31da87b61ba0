"""Learning rules."""

from __future__ import annotations

import torch

from ...data import Batch
from ..rules.rule import LearningRule
from ..training.loop import fit
from .checks import check_gradients, copied, ragged
from .suite import Conformance


class RuleConformance(Conformance):
    """A learning rule: ``build()`` gives one that holds its network, ``batch()`` its data."""

    needs = (
        ("net", "the network that it trains"),
        ("gradients", "batch -> metrics, and .grad of the parameters"),
        ("updates", "batch -> metrics, once for every update"),
        ("count", "batch -> how many updates"),
    )
    unused: tuple[str, ...] = ()  #: how the names of parameters begin that it has no use for

    def batch(self) -> Batch:
        """Some sequences, unpadded."""
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def frames(self, rule: LearningRule, batch: Batch) -> int:
        """What the rule counts in a batch: its real frames, unless overridden."""
        return batch.frames

    def test_it_fills_gradients_and_tells_its_loss(self):
        batch = self.batch()
        for data in (batch, ragged(batch)):
            rule = self._built()
            check_gradients(rule, data, self.frames(rule, data), self.unused)

    def test_the_same_seed_gives_the_same_gradients(self):
        """And gradients are set, not added to those of the call before."""
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

    def test_the_network_and_the_data_are_left_as_they_were(self):
        rule, batch = self._built(), self.batch()
        before = {name: value.clone() for name, value in rule.net.state_dict().items()}
        data, modes = copied(batch), [part.training for part in rule.net.modules()]
        rule.gradients(batch)
        for name, value in rule.net.state_dict().items():
            assert torch.equal(value, before[name]), f"the rule has changed {name}"
        assert modes == [part.training for part in rule.net.modules()], "training mode has changed"
        for name, value in copied(batch).items():
            assert torch.equal(value, data[name]), f"the rule has changed {name} of the batch"

    def test_updates_are_as_many_as_it_counts(self):
        rule, batch = self._built(), self.batch()
        made, said = sum(1 for _ in rule.updates(batch)), rule.count(batch)
        assert made == said, f"{made} updates, where count says {said}"

    def test_fit_runs_it(self):
        rule = self._built()
        before = {name: part.clone() for name, part in rule.net.named_parameters()}
        fitted = fit(rule, self.batch(), epochs=2, lr=1e-2, device="cpu", progress=False)
        assert len(fitted.history) == 2, "an epoch is missing"
        for name, part in rule.net.named_parameters():
            moves = part.requires_grad and not name.startswith(self.unused)
            moved = not torch.equal(part, before[name])
            assert moved == moves, f"{name} has {'' if moved else 'not '}changed"
