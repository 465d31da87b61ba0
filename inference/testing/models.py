"""What every model must do, whatever its kind."""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Callable

import pyro
import torch
from torch import Tensor, nn

from ...data import Batch
from ..evaluate import log_weights, prepare_whole
from ..rng import RandomStream
from ..rules.rule import LearningRule
from ..training.loop import fit
from .checks import check_gradients, ragged, refuses, same_average, shaped, tensors
from .suite import Conformance


class ModelConformance(Conformance):
    """What every model must do. Inherit one of the three kinds."""

    rules: tuple[Callable[[nn.Module], LearningRule], ...] = ()  #: rules that train it
    factorisation = "p("  #: what its ``repr`` must show
    constant: tuple[str, ...] = ("filter.variance",)  #: what may be the same whatever the data
    epochs, lr, clip = 25, 0.03, 5.0  #: how ``fit`` is to train it
    gain = 0.05  #: share of the loss that this training must take off

    # To be overridden ---------------------------------------------------------------------------

    def batch(self) -> Batch:
        """At least 3 sequences, not alike, of at least 6 steps; no padding; a target if needed."""
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def verbs(self, net: nn.Module, target: Tensor | None) -> dict[str, Callable]:
        """The verbs of the model, each called with a ``Batch``."""
        raise NotImplementedError

    def findings(self, net, obs, mask=None, target=None) -> dict[str, Tensor]:
        """What it says of data without drawing a random number, ``[B, ...]`` each."""
        found = {}
        for name, verb in self.verbs(net, target).items():
            found |= tensors(name, verb(Batch(obs, mask)))
        return found

    def draws(self, net: nn.Module, seed: int) -> dict[str, Tensor]:
        """What it draws with a seed."""
        raise NotImplementedError

    def spared(self, rule: LearningRule) -> tuple[str, ...]:
        """How the names of parameters begin that a rule has no use for."""
        return ()

    def frames(self, net: nn.Module, batch: Batch) -> int:
        """What a rule counts in a batch."""
        return batch.frames

    def misfit(self, rule: LearningRule, batch: Batch) -> float:
        """What training must lower: the rule's loss, averaged over some draws."""
        torch.manual_seed(0)
        return sum(float(rule.gradients(batch)["loss"]) for _ in range(3)) / 3

    def bad_observations(self, obs: Tensor) -> dict[str, tuple[Tensor, str]]:
        """Observations that it must refuse, each with a pattern that the message must hold."""
        hole = obs.clone()
        hole[1, 2] = torch.nan
        width = obs.shape[-1]
        return {
            "no axis of time": (obs[:, 0], "time|shape"),
            "whole numbers": (obs.long(), "float"),
            "a value too many": (torch.cat((obs, obs[..., :1]), -1), str(width)),
            "a value too few": (obs[..., 1:], f"{width}|empty"),
            "a frame that is NaN": (hole, "NaN|finite"),
            "no sequence": (obs[:0], "empty"),
        }

    def complaints(self):
        """Of what it lacks, and of rules that refuse it."""
        found = super().complaints()
        for rule_of in self.rules:
            try:
                rule_of(self.build())
            except ValueError as error:
                found.append(str(error))
        return found

    # The tests ----------------------------------------------------------------------------------

    def test_what_it_says_is_finite_and_has_no_graph(self):
        net, batch = self._built(), self._data()
        for verb, value in self.findings(net, batch.obs, None, batch.target).items():
            assert len(value) == len(batch), f"{verb} has {len(value)} rows for {len(batch)}"
            assert value.isfinite().all(), f"{verb} is not finite"
            assert not value.requires_grad, f"{verb} carries a graph: use torch.no_grad"

    def test_padding_changes_nothing(self):
        net, batch = self._built(), self._data()
        alone = self.findings(net, batch.obs, None, batch.target)
        for verb, value in self.findings(net, *self._padded(net, batch)).items():
            expected = alone[verb]
            found = value if value.shape == expected.shape else value[:, : batch.obs.shape[1]]
            self.close(found, expected, verb)

    def test_sequences_do_not_mix(self):
        net, batch = self._built(), self._data()
        for mask in (None, ragged(batch).mask):
            whole = self.findings(net, batch.obs, mask, batch.target)
            others = batch.obs.roll(1, 0)
            others[1] = batch.obs[1]
            changed = self.findings(net, others, mask, batch.target)
            row = (None if part is None else part[1:2] for part in (batch.obs, mask, batch.target))
            for verb, value in self.findings(net, *row).items():
                self.close(whole[verb][1:2], value, f"{verb} of a sequence on its own")
                self.close(changed[verb][1:2], value, f"{verb} in other company")
                same = torch.allclose(changed[verb], whole[verb]) and verb not in self.constant
                assert not same, f"{verb} does not depend on the data: are the sequences alike?"

    def test_in_training_it_says_what_it_says_in_use(self):
        net, batch = self._built(), self._data()
        found = []
        for mode in (False, True):
            net.train(mode)
            said = self.findings(net, batch.obs, None, batch.target)
            found.append(said | self.draws(net, seed=1))
        for verb, value in found[1].items():
            self.close(value, found[0][verb], verb)

    def test_saved_and_loaded_it_is_the_same(self):
        from safetensors.torch import load, save

        net, other, batch = self._built(), self._built(), self._data()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

        def asked(each):
            return self.findings(each, batch.obs, None, batch.target)

        before, expected = asked(other), asked(net)
        other.load_state_dict(load(save({k: v.contiguous() for k, v in net.state_dict().items()})))
        for verb, value in asked(other).items():
            assert torch.equal(value, expected[verb]), f"{verb} is not what it was"
            learns = list(net.parameters()) and verb not in self.constant
            same = learns and torch.equal(before[verb], value)
            assert not same, f"{verb} does not depend on the parameters"
        drawn = self.draws(net, seed=1)
        for verb, value in self.draws(other, seed=1).items():
            assert torch.equal(value, drawn[verb]), f"{verb} does not draw what it drew"

    def test_seeds_reproduce_draws(self):
        net = self._built()
        first = self.draws(net, seed=4)
        torch.manual_seed(1)  # the caller's own numbers do not matter
        again, other = self.draws(net, seed=4), self.draws(net, seed=5)
        for verb, value in first.items():
            assert value.isfinite().all(), f"{verb} is not finite"
            assert torch.equal(value, again[verb]), f"{verb} with the same seed is not the same"
        same = all(torch.equal(value, other[verb]) for verb, value in first.items())
        assert not same, "another seed draws the same"

    def test_the_callers_random_state_is_left_alone(self):
        net, batch = self._built(), self._data()
        state = torch.get_rng_state()
        self.findings(net, batch.obs, None, batch.target)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a verb that draws nothing took the caller's random numbers"
        self.draws(net, seed=4)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a verb with a seed took the caller's random numbers: see RandomStream"

    def test_gradients_reach_every_parameter(self):
        net, batch = self._built(), self._data()
        trainable = any(parameter.requires_grad for parameter in net.parameters())
        assert trainable == bool(self.rules), "say in `rules` what trains its parameters"
        before = list(pyro.get_param_store().keys())
        for rule_of, data in itertools.product(self.rules, (batch, ragged(batch))):
            rule = self._ruled(rule_of)
            check_gradients(rule, data, self.frames(rule.net, data), self.spared(rule))
        stored = list(pyro.get_param_store().keys())
        assert stored == before, "pyro.param is not trained by rules: use nn.Parameter or PyroParam"

    def test_training_lowers_the_loss(self):
        for rule_of in self.rules:
            rule, batch = self._ruled(rule_of), self._data()
            before = self.misfit(rule, batch)
            how = {"epochs": self.epochs, "lr": self.lr, "clip": self.clip}
            fit(rule, batch, device="cpu", progress=False, **how)
            after = self.misfit(rule, batch)
            less = before - after > self.gain * abs(before)
            assert less, f"{rule}: from {before:.4g} to {after:.4g} in {how}"

    def test_the_representation_shows_the_factorisation(self):
        shown = repr(self._built())
        assert self.factorisation in shown, f"no {self.factorisation!r} in {shown}: see extra_repr"

    def test_bad_observations_get_a_clear_sentence(self):
        net, batch = self._built(), self._data()
        for what, (bad, pattern) in self.bad_observations(batch.obs).items():
            for name, verb in self.verbs(net, batch.target).items():
                refuses(lambda: verb(Batch(bad)), pattern, f"{name}, {what}")  # noqa: B023

    def test_a_sequence_without_a_real_frame_is_refused(self):
        net, batch = self._built(), self._data()
        obs, mask, target = self._padded(net, batch)
        mask[1] = False
        for name, verb in self.verbs(net, target).items():
            refuses(lambda: verb(Batch(obs, mask)), "sequence 1", f"{name}, all masked")  # noqa: B023

    def test_it_works_where_it_is_put(self):
        if not torch.cuda.is_available():
            raise unittest.SkipTest("needs a GPU")
        net, batch, masks = self._built(), self._data(), (None, ragged(self._data()).mask)
        before = [self.findings(net, batch.obs, mask, batch.target) for mask in masks]
        net, moved = net.to("cuda"), batch.to("cuda")
        for mask, expected in zip(masks, before):
            data = moved.obs, None if mask is None else mask.to("cuda")
            for verb, value in self.findings(net, *data, moved.target).items():
                # cuDNN's recurrent nets multiply with ten bits of mantissa
                torch.testing.assert_close(value.cpu(), expected[verb], rtol=1e-2, atol=1e-3)
            found = self.draws(net, seed=4)
            for name, verb in self.verbs(net, moved.target).items():
                found |= tensors(name, verb(Batch(*data)))
            for verb, value in found.items():
                assert value.device.type == "cuda", f"{verb} is not where the data are"
        for rule_of, data in itertools.product(self.rules, (moved, ragged(moved))):
            loss = self._ruled(rule_of, net).gradients(data)["loss"]
            assert loss.isfinite(), "the loss is not finite"

    def _ruled(self, rule_of: Callable, net: nn.Module | None = None) -> LearningRule:
        """A rule of a network, a new one if left out; skips the test where it is refused."""
        net = self._built() if net is None else net
        try:
            return rule_of(net)
        except ValueError as error:  # the first test says so
            raise unittest.SkipTest(str(error)) from error

    def _data(self) -> Batch:
        with RandomStream("cpu", "batch"):  # the same whenever asked
            batch = self.batch()
        enough = len(batch) >= 3 and batch.obs.shape[1] >= 6 and bool(batch.mask.all())
        assert enough, "batch() must give at least 3 sequences of at least 6 steps, unpadded"
        return batch

    @torch.no_grad()
    def _same_bounds(self, net: nn.Module, batch: Batch, many: int) -> None:
        """Fails where the Pyro pair counts padding, on average over draws from the guide."""
        obs, mask, target = self._padded(net, batch)
        padded = Batch(obs, mask, target=target)
        found = (
            log_weights(net.model, net.guide, prepare_whole(net, x), many) for x in (batch, padded)
        )
        same_average(*found, "padding changes the bound: see the `mask` of Pyro's distributions")

    def _other_ends(self) -> tuple[Tensor, Tensor, int]:
        """Observations, the same with all ends like that of the first, and where they begin."""
        obs = self._data().obs
        changed, cut = obs.clone(), obs.shape[1] - 3
        changed[:, cut:] = obs[:1, cut:]
        return obs, changed, cut

    def _padded(self, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Observations with three frames of NaN behind them, their mask, and the target."""
        rows, steps, *frame = batch.obs.shape
        obs = torch.cat((batch.obs, batch.obs.new_full((rows, 3, *frame), torch.nan)), 1)
        return obs, (torch.arange(steps + 3) < steps).repeat(rows, 1), batch.target


class GeneratingConformance(ModelConformance):
    """What a model must do that draws sequences with ``sample(sequences, steps, seed)``."""

    needs = (("sample", "sequences, steps, seed -> frames that it draws"),)

    def draws(self, net, seed):
        return {"sample": net.sample(sequences=2, steps=6, seed=seed)}

    def test_what_it_generates_are_sequences_that_it_can_read(self):
        net, batch = self._built(), self._data()
        drawn = self.draws(net, seed=4)["sample"]
        shaped(drawn, (2, 6, *batch.obs.shape[2:]), "sample")
        assert drawn.dtype == batch.obs.dtype, f"sample is {drawn.dtype}"
        for verb, value in self.findings(net, drawn).items():
            assert value.isfinite().all(), f"{verb} of a sample is not finite"

    def _looks_back(self, net: nn.Module, verb: str) -> None:
        """Fails where what a verb says of a step depends on frames after it, or on none."""
        obs, changed, cut = self._other_ends()
        before, after = (tensors(verb, getattr(net, verb)(each)) for each in (obs, changed))
        for name, value in before.items():
            self.close(after[name][:, :cut], value[:, :cut], f"{name} before a change of frames")
            same = torch.allclose(after[name][:, cut:], value[:, cut:])
            assert not same or name in self.constant, f"{name} does not see the frames"
