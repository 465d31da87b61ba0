"""The root of all suites, and running one without pytest."""

from __future__ import annotations

import unittest

import torch
from torch import Tensor

from ..contracts import missing
from ..rng import RandomStream


def failures(suite: Conformance) -> dict[str, str]:
    """Runs the tests of a suite; the names of those that fail, and what was wrong.

    The caller's random state is left alone. A test that cannot run here (no GPU) does not fail.
    """
    found, device = {}, "cuda" if torch.cuda.is_available() else "cpu"
    for name in dir(suite):
        if not name.startswith("test_") or not callable(getattr(suite, name)):
            continue
        with RandomStream(device, name):
            suite.setup_method()
            try:
                getattr(suite, name)()
            except unittest.SkipTest:
                pass
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


class Conformance:
    """The root of all suites. Every test starts from the same random state.

    The first test looks for what the others ask of what is tested, ``needs``. Where something is
    missing it says so, and they are skipped.
    """

    kinds: tuple[type, ...] = ()  #: classes of inference.contracts that it must inherit
    needs: tuple[tuple[str, str], ...] = ()  #: what is asked for by name, and what it is for
    rtol, atol = 1e-5, 1e-5  #: how close numbers are that should be the same

    def build(self):
        """A new one of what is tested."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")

    def setup_method(self) -> None:
        torch.manual_seed(0)

    def lacking(self, subject) -> list[str]:
        """What it does not have of what the tests ask for, each with what it is for."""
        lacks = [
            f"the base class {kind.__name__}"
            for kind in self.kinds
            if not isinstance(subject, kind)
        ]
        for kind in self.kinds:
            if isinstance(subject, kind):
                lacks += [f"{name} (see {kind.__name__})" for name in missing(subject, kind)]
        return lacks + [f"{name} ({use})" for name, use in self.needs if not hasattr(subject, name)]

    def complaints(self) -> list[str]:
        """What is said of one that the tests cannot be run on."""
        subject = self.build()
        missing = self.lacking(subject)
        return [f"{type(subject).__name__} lacks {', '.join(missing)}"] if missing else []

    def test_it_has_what_the_tests_ask_for(self):
        complaints = self.complaints()
        assert not complaints, "; ".join(complaints)

    def _built(self):
        """A new one, of which everything can be asked; skips the test where it cannot."""
        subject = self.build()
        if self.lacking(subject):
            raise unittest.SkipTest("it lacks what the tests ask for")
        return subject

    def close(self, found: Tensor, expected: Tensor, what: str = "") -> None:
        """Fails where two tensors differ."""
        torch.testing.assert_close(
            found, expected, rtol=self.rtol, atol=self.atol, msg=lambda text: f"{what}: {text}"
        )
