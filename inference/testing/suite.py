"""The base class of all suites, and a function that runs a suite without pytest."""

from __future__ import annotations

import unittest
from typing import Any

import torch
from torch import Tensor

from ..contracts import missing
from ..rng import RandomStream


def failures(suite: Conformance) -> dict[str, str]:
    """Runs the tests of a suite, and returns the errors of those that fail, by name.

    The caller's random state is left alone. A test that cannot run here (no GPU) does not fail.
    """
    found, device = {}, "cuda" if torch.cuda.is_available() else "cpu"
    for name in dir(suite):
        test = getattr(suite, name)
        if not name.startswith("test_") or not callable(test):
            continue
        with RandomStream(device, name):
            suite.setup_method()
            try:
                test()
            except unittest.SkipTest:
                pass
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


class Conformance:
    """The base class of all suites. Every test starts from the same random state.

    The first test checks that ``build()`` returns an instance of ``kinds``, with all that these
    classes require and with all of ``needs``. Where anything is missing this test names it, and
    the others are skipped.
    """

    kinds: tuple[type, ...] = ()  #: base classes of inference.contracts that it must inherit
    needs: tuple[tuple[str, str], ...] = ()  #: further attributes, each with a short description
    rtol, atol = 1e-5, 1e-5  #: tolerances of numbers that should be equal

    def build(self) -> Any:
        """Returns a new instance of the class under test."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")

    def setup_method(self) -> None:
        """Sets the random state of a test."""
        torch.manual_seed(0)

    def missing(self, subject: Any) -> list[str]:
        """What the tests need and the subject does not have."""
        found = []
        for kind in self.kinds:
            if isinstance(subject, kind):
                found += [f"{name} (see {kind.__name__})" for name in missing(subject, kind)]
            else:
                found.append(f"the base class {kind.__name__}")
        return found + [f"{name} ({use})" for name, use in self.needs if not hasattr(subject, name)]

    def problems(self) -> list[str]:
        """Sentences about a subject that the tests cannot run on."""
        subject = self.build()
        missing = self.missing(subject)
        return [f"{type(subject).__name__} lacks {', '.join(missing)}"] if missing else []

    def test_it_has_what_the_tests_need(self) -> None:
        problems = self.problems()
        assert not problems, "; ".join(problems)

    def _built(self) -> Any:
        """A new subject; skips the test where the subject lacks anything."""
        subject = self.build()
        if self.missing(subject):
            raise unittest.SkipTest("it lacks what the tests need")
        return subject

    def close(self, found: Tensor, expected: Tensor, what: str = "") -> None:
        """Fails where two tensors differ."""
        torch.testing.assert_close(
            found, expected, rtol=self.rtol, atol=self.atol, msg=lambda text: f"{what}: {text}"
        )
