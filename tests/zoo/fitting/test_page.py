"""The script behind the figures of docs/it_does_not_learn.md."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "it_does_not_learn.py"
spec = importlib.util.spec_from_file_location("page", SCRIPT)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)


@pytest.mark.parametrize("kind", page.MODELS)
def test_expected_values_are_the_limit_of_the_table(kind):
    changes = {"updates": 1, "model.hidden": 4}
    rows = page.scores(kind, 3, ["gru"], changes, trials=14, neurons=9)
    found = {row["model"]: row for row in rows}
    column = list(rows[0])[1]  # next bin
    others = [row[column] for name, row in found.items() if name != "true rates"]
    assert max(others) < found["true rates"][column]


def test_calcium_is_expected_given_the_bin_before():
    rates = np.full((4000, 3), [0.05, 0.2, 1.0])
    traces, expected = page.calcium(rates, np.random.default_rng(0))
    residual = traces - expected
    np.testing.assert_allclose(residual.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(residual.var(0), rates[0] + 0.3**2, rtol=0.15)
