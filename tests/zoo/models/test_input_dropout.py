"""Values hidden in training: the guide is told, the sweep and the fold read the same frames."""

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference.evaluate import negative_elbo
from seqzoo.inference.sweep import sweep
from seqzoo.zoo.parts.likelihoods import Poisson
from seqzoo.zoo.parts.missing import hide_values
from torch import nn

from seqzoo import inference, zoo

B, T, M, K = 4, 7, 3, 2


def counts():
    obs = torch.poisson(3 * torch.rand(B, T, M))
    mask = torch.arange(T) < torch.tensor([T, 5, T, 6])[:, None]
    return Batch(obs, mask, inputs=torch.randn(B, T, 1))


@pytest.mark.parametrize("rule", [inference.LocalELBO, inference.BPTT])
@pytest.mark.parametrize("sees_missing", [True, False])
@pytest.mark.parametrize("dropout", [0.4, 0.95])
def test_the_fold_reads_the_frames_that_the_sweep_read(rule, sees_missing, dropout):
    net = zoo.RVAE(
        M, K, Poisson(M), 6, sees_missing=sees_missing, input_dropout=dropout, input_dim=1
    )
    batch = counts()
    found = rule(net)
    fold, _ = found._fold(batch, net.initial(B))
    assert fold.observed is None, "the likelihood is of all values"
    hidden = 1 - fold.shown.double().mean()
    assert abs(float(hidden) - dropout) < 0.2
    swept = sweep(net, batch, net.initial(B), shown=spread(fold.shown, batch.mask)).statistics
    read = net.belief(fold._replace(features=None, present=None))
    statistics = torch.cat((read.mean, read.stddev), -1)
    after = (fold.shown.any(-1) | (fold.past != 0).any(-1)).flatten()
    torch.testing.assert_close(statistics[after], swept[:, 1:][batch.mask][after])
    torch.testing.assert_close(fold.past, swept[:, :-1][batch.mask], rtol=1e-6, atol=1e-6)


def spread(values, mask):
    whole = torch.zeros(*mask.shape, M, dtype=torch.bool)
    whole[mask] = values
    return whole


def test_a_hidden_value_is_scored_and_changes_no_belief():
    net, batch = zoo.RVAE(M, K, Poisson(M), 6, sees_missing=True, input_dropout=0.5), counts()
    fold, _ = inference.LocalELBO(net)._fold(batch, net.initial(B))
    other = fold._replace(obs=torch.where(fold.shown, fold.obs, fold.obs + 1))
    assert torch.equal(net.belief(fold).mean, net.belief(other).mean)
    torch.manual_seed(0)
    before = negative_elbo(net.model, net.guide, fold)
    torch.manual_seed(0)
    assert not torch.allclose(before, negative_elbo(net.model, net.guide, other))


def test_nothing_is_hidden_in_evaluation():
    net, batch = zoo.TVAE(M, K, Poisson(M), 6, input_dropout=0.5), counts()
    assert net.shown(batch) is not None
    assert net.eval().shown(batch) is None
    plain = zoo.TVAE(M, K, Poisson(M), 6).eval()
    plain.load_state_dict(net.state_dict())
    losses = []
    for each in (net, plain):
        torch.manual_seed(0)
        losses.append(inference.LocalELBO(each).gradients(batch)["loss"])
    assert torch.equal(*losses)


@pytest.mark.parametrize("inputs", [0, 2])
def test_a_hidden_value_is_marked_as_not_seen(inputs):
    hide = nn.Dropout(0.5)
    values = torch.rand(50, 4) + 1
    seen = torch.ones(50, 4)
    seen[:, 0] = 0
    beside = torch.rand(50, inputs)
    frames = torch.cat((values * seen, seen, beside), -1)
    shown = hide_values(hide, frames, 4, sees_missing=True)
    kept = shown[:, 4:8].bool()
    assert 0.3 < kept[:, 1:].double().mean() < 0.7
    assert torch.equal(shown[:, :4], values.where(kept, torch.zeros(()))), "not scaled"
    assert torch.equal(shown[:, 8:], beside)
    assert not kept[:, 0].any()
    untold = hide_values(hide, torch.cat((values, beside), -1), 4, sees_missing=False)
    kept = untold[:, :4] != 0
    assert torch.equal(untold[:, :4][kept], 2 * values[kept])
    assert torch.equal(untold[:, 4:], beside)
    assert torch.equal(hide_values(hide.eval(), frames, 4, sees_missing=True), frames)
