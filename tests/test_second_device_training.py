"""Rules where the data are: on a second device they learn what they learn here."""

import inspect

import pytest
import torch
from seqzoo.data import Batch

from seqzoo import inference, zoo
from tests import test_conformance as conformance
from tests.test_second_device import COUNTS, GAPS, RECORDED

RULES = conformance.RULES | conformance.ANSWERING_RULES
CLOSED = {
    "LGDS": lambda: inference.EM(RECORDED["LGDS"](), restarts=2, iterations=1),
    "PoissonLGDS": lambda: inference.EM(RECORDED["PoissonLGDS"](), restarts=2, iterations=1),
    "MeanFrame": lambda: inference.Average(zoo.models.MeanFrame(COUNTS.shape[2])),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_follows_its_network(name, second):
    """Its gradients are those of here; data that are not there are refused by name."""
    kind = conformance.TestAnsweringRules if name in conformance.ANSWERING_RULES else None
    suite = (kind or conformance.TestRules)()
    suite.name, found = name, []
    batch = suite.batch()
    with second() as there:
        for device in ("cpu", there):
            torch.manual_seed(3)
            rule = suite.build()
            rule.net.to(device)
            if device != "cpu":
                named = next(rule.net.parameters()).device
                message = rf"obs are on cpu.* on {named}.*\.to\('{named}'\)"
                with pytest.raises(ValueError, match=message):
                    rule.gradients(batch)
            with inference.RandomStream(device, 1):
                rule.gradients(batch.to(device))
            grads = {key: p.grad for key, p in rule.net.named_parameters() if p.grad is not None}
            found.append({key: value.cpu().clone() for key, value in grads.items()})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", CLOSED)
def test_a_rule_in_closed_form_learns_there_what_it_learns_here(name, second):
    found = []
    with second() as there:
        for device in ("cpu", there):
            torch.manual_seed(0)
            rule, batch = CLOSED[name](), GAPS.to(device)
            net = rule.net.to(device)
            history = rule.learn(batch)
            assert {part.device.type for part in net.buffers()} == {device}
            parts = [part.cpu().clone() for part in net.buffers()]
            if name != "MeanFrame":
                parts.append(net.filter(batch).mean.cpu())
            found.append([torch.tensor(history).double(), *parts])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:.*predicts no better")
@pytest.mark.parametrize("name", ["lgds", "rvae"])
def test_a_model_is_fitted_there(name, second):
    found = []
    with second() as there:
        for device in ("cpu", there):
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
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_run_that_was_stopped_goes_on_there(device, tmp_path):
    found = []
    for name, parts in (("whole", [2]), ("stopped", [1, 2])):
        for epochs in parts:
            torch.manual_seed(0)
            net = RECORDED["RVAE"]()
            inference.fit(
                inference.LocalELBO(net),
                Batch(COUNTS),
                epochs=epochs,
                device=device,
                checkpoint=tmp_path / name,
                resume=epochs > 1,
                changed=["epochs"] if epochs > parts[0] else (),
                progress=False,
            )
        assert net.device.type == device
        found.append(list(net.parameters()))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_every_rule_is_covered():
    classes = [getattr(inference, name) for name in inference.__all__]
    rules = {
        each.__name__
        for each in classes
        if inspect.isclass(each) and issubclass(each, inference.LearningRule)
    }
    found = {type(make()).__name__ for make in (RULES | CLOSED).values()}
    assert found == rules - {"LearningRule", "FoldedRule", "ClosedForm"}  # one inherits those
