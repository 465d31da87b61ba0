"""Fixtures every test gets: one thread, a fixed seed, and a check on torch's global switches."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def sober():
    """Seeds everything, and fails a test that leaves torch's or Pyro's global state changed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pyro.clear_param_store()
    before = _globals()
    yield
    assert _globals() == before, "the test changed a global switch of torch or Pyro"
    assert not list(pyro.get_param_store().keys()), "something was written to Pyro's param store"


def _globals():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.distributions.Distribution._validate_args,
        pyro.poutine.runtime._PYRO_STACK == [],
    )
