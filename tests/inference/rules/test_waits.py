"""An update waits for no GPU: it reads no value back, and copies next to nothing there."""

import pytest
import torch
from seqzoo.data import Batch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqzoo import inference, zoo
from tests.second_device import There, second_device

# Operations that read a value back from the device, or whose shape depends on one.
READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2"}
B, T, M = 3, 7, 4
BITS = (torch.arange(B * T * M) * 7 % 5 < 2).float().reshape(B, T, M)
SHORT = torch.arange(T)[None] < torch.tensor([[T], [4], [T]])
SEEN = (torch.arange(B * T * M) * 11 % 7 > 0).reshape(B, T, M)
WHOLE, PADDED = Batch(BITS), Batch(BITS, SHORT)
GAPS = Batch(BITS, observed=SEEN & (torch.arange(T) != 3)[None, :, None])
ASKED = Batch(BITS, target=torch.tensor([1, 0, 2]))
EACH = Batch(BITS, SHORT, target=BITS)
ENDS = Batch(BITS, SHORT, target=torch.tensor([1, 0, 2]))
bits = zoo.likelihoods.Bernoulli(M)


class Waits(TorchDispatchMode):
    """Counts the operations of tensors there for which Python or the device has to wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        flat = [value for value in tree_leaves((args, kwargs)) if torch.is_tensor(value)]
        if any(isinstance(value, There) for value in flat):
            masks = [x for x in tree_leaves(args[1:]) if getattr(x, "dtype", None) == torch.bool]
            if name in READS or (name.startswith("index") and masks):
                self.found.append(name)
        if name in ("_to_copy", "copy_"):
            devices = {value.device.type for value in flat}
            devices |= {torch.device(kwargs["device"]).type} if kwargs.get("device") else set()
            if len(devices) > 1:
                self.found.append(name)
        return function(*args, **kwargs)


def rvae(**options):
    return zoo.RVAE(M, 2, bits, hidden=4, **options)


def sequence(objective):
    return lambda net: inference.SequenceELBO(net, objective=objective, num_samples=2)


def counts():
    return zoo.RVAE(M, 2, zoo.likelihoods.Poisson(M), hidden=4)


def vosp():
    return zoo.VOSP(M, 2, bits, hidden=4, width=4)


def srn(output=None, stochastic=0.5):
    return zoo.SRN(M, output or zoo.likelihoods.Categorical(3), 6, stochastic=stochastic)


LOCAL, CD = inference.LocalELBO, inference.ContrastiveDivergence
CASES = {
    "local": (LOCAL, counts, WHOLE, 0),
    "local, padded": (LOCAL, rvae, PADDED, 1),
    "local, gaps": (LOCAL, lambda: rvae(sees_missing=True), GAPS, 2),
    "local, weights": (
        lambda net: LOCAL(net, weights={"x": [0.1, 1.0, 0.5]}, drop_past=0.5, minibatch=8),
        *(lambda: rvae(predictor_hidden=4, predict_frame=True), WHOLE, 0),
    ),
    "local, iwae": (lambda net: LOCAL(net, bound="iwae", num_samples=3), rvae, WHOLE, 0),
    "online": (lambda net: LOCAL(net, window=1), lambda: zoo.TVAE(M, 2, bits, 4), WHOLE, 0),
    "BPTT": (inference.BPTT, rvae, WHOLE, 0),
    "BPTT, padded": (inference.BPTT, rvae, PADDED, 1),
    "CD": (CD, lambda: zoo.REFH(M, 5, bits), WHOLE, 0),
    "CD, annealed": (
        lambda net: CD(net, k=[1.0, 3.0, 0.5], random=0.3, drop_past=0.2),
        *(lambda: zoo.RTRBM(M, 5, bits), PADDED, 1),
    ),
    "elbo": (inference.SequenceELBO, lambda: zoo.VRAE(M, 2, bits, hidden=4), PADDED, 0),
    "elbo, RNN": (inference.SequenceELBO, lambda: zoo.RNN(M, bits, hidden=4), PADDED, 0),
    "importance": (sequence("importance"), vosp, WHOLE, 0),
    "frames": (sequence("frames"), vosp, PADDED, 0),
    "targets": (inference.TargetPropagation, srn, ASKED, 0),
    "targets, padded": (inference.TargetPropagation, srn, ENDS, 0),
    "targets, each step": (inference.TargetPropagation, lambda: srn(bits), EACH, 0),
    "straight-through": (inference.StraightThrough, srn, ENDS, 0),
    "output BPTT": (inference.OutputBPTT, lambda: srn(stochastic=0.0), ASKED, 0),
}  # a particle filter decides at every step whether to resample, and is not here


@pytest.mark.parametrize("name", CASES)
def test_an_update_waits_at_most_twice(name):
    make, build, batch, most = CASES[name]
    with second_device() as there:
        rule = make(build().to(there))
        batch = batch.to(there)
        with Waits() as control:
            bool(batch.mask[batch.mask].all().cpu())
        assert len(control.found) == 2  # what is looked for is found: a mask, a copy or a reading
        rule.done = 0.3
        with Waits() as seen:
            updates = sum(1 for _ in rule.updates(batch))
    assert updates == rule.count(batch)
    assert len(seen.found) <= most * updates, seen.found
