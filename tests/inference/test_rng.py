"""Private random streams: threads, nesting, errors and forks."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from seqzoo.inference import RandomStream, rng
from seqzoo.zoo import likelihoods, priors

from seqzoo import data, inference, zoo

M, K, B, T = 6, 2, 4, 7
THREADS = 8
FRAMES = (torch.arange(B * T * M) * 7 % 5 < 2).float().reshape(B, T, M)
COUNTS = 3 * FRAMES


def rvae():
    with RandomStream("cpu", "net"):
        return zoo.RVAE(M, K, likelihoods.Poisson(M), hidden=4)


def vrae():
    with RandomStream("cpu", "net"):
        prior = priors.GaussianProcess(K, "exponential", lengthscale=3.0)
        return zoo.VRAE(M, K, likelihoods.Bernoulli(M), hidden=4, prior=prior)


def trained(make, rule, frames, seed):
    """Weights after a short run."""
    net = make()
    fit = inference.fit
    validate = lambda net: float(inference.elbo(net, frames).mean())  # noqa: E731
    scored = {"validate": validate} if rule is inference.SequenceELBO else {}
    fit(rule(net), data.Batch(frames), epochs=2, batch_size=2, seed=seed, progress=False, **scored)
    return torch.cat([value.flatten() for value in net.state_dict().values()])


NET, PATHS = rvae(), vrae()
CALLS = {
    "predict_next": lambda seed: inference.predict_next(NET, COUNTS, 3, seed).samples,
    "sample": lambda seed: NET.sample(3, T, seed),
    "elbo": lambda seed: inference.elbo(PATHS, FRAMES, 3, seed),
    "denoise": lambda seed: inference.denoise(PATHS, FRAMES, 0.1, 4, seed, probabilities=True),
    "khat": lambda seed: inference.khat(PATHS, FRAMES, 30, seed=seed),
    "local": lambda seed: trained(rvae, inference.LocalELBO, COUNTS, seed),
    "sequence": lambda seed: trained(vrae, inference.SequenceELBO, FRAMES, seed),
}


@pytest.mark.parametrize("names", [["predict_next", "sample"], ["elbo"], list(CALLS)], ids=" ".join)
def test_threads_give_the_numbers_of_one(names):
    work = [(names[place % len(names)], place) for place in range(2 * THREADS - 2)]
    alone = [CALLS[name](seed) for name, seed in work]
    state, start = torch.get_rng_state(), threading.Barrier(THREADS)

    def call(name, seed):
        if seed < THREADS:
            start.wait()
        return CALLS[name](seed)

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda each: call(*each), work))
    for (name, seed), one, other in zip(work, alone, together):
        assert torch.equal(one, other), (name, seed)
    assert torch.equal(state, torch.get_rng_state())


def test_a_rule_without_a_stream_traces_alone():
    """Its random numbers are the caller's; the sites of its trace are its own."""

    def gradients(_):
        return float(inference.LocalELBO(rvae()).gradients(data.Batch(COUNTS))["loss"])

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(0 < loss < 100 for loss in pool.map(gradients, range(24)))


def test_a_stream_goes_on_where_it_stopped():
    stream, other, drawn = RandomStream("cpu", "a"), RandomStream("cpu", "b"), []
    for _ in range(2):
        with stream:
            drawn.append(torch.rand(2))
            with other:
                torch.rand(3)
            with stream:  # within itself it goes on, too
                drawn.append(torch.rand(2))
    with RandomStream("cpu", "a"):
        assert torch.equal(torch.cat(drawn), torch.rand(8))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_frees_the_stream(error):
    state = torch.get_rng_state()
    with pytest.raises(error), RandomStream("cpu", 1):
        _fail(error)
    assert torch.equal(state, torch.get_rng_state())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_draw).result(timeout=10) == _draw()


def _fail(error):
    torch.rand(1)
    raise error


def _draw(queue=None):
    with RandomStream("cpu", 5):
        found = float(torch.rand(()))
    return found if queue is None else queue.put(found)


@pytest.mark.skipif(not hasattr(rng.os, "fork"), reason="needs fork")
@pytest.mark.parametrize("within", [False, True])
def test_a_fork_never_finds_the_stream_taken(within):
    """Neither beside another thread's stream nor within one's own."""
    fork, inside, stop = multiprocessing.get_context("fork"), threading.Event(), threading.Event()

    def occupy():
        while not stop.is_set():
            with RandomStream("cpu", 2):
                inside.set()
                torch.rand(100)

    thread = threading.Thread(target=occupy)
    thread.start()
    inside.wait()
    try:
        for _ in range(5):
            queue = fork.SimpleQueue()
            child = fork.Process(target=_draw, args=(queue,))
            if within:
                with RandomStream("cpu", 3):
                    child.start()
            else:
                child.start()
            child.join(timeout=20)
            assert child.exitcode == 0
            assert queue.get() == pytest.approx(_draw())
    finally:
        stop.set()
        thread.join()
