"""Figures that need minutes of training: the quick budgets come close to the table."""

import pytest
from seqzoo.zoo.recipes import find
from seqzoo.zoo.runs.run import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("ppc/kf1", 6.2e-4),
        ("ppc/kf2", 1.8e-4),
        ("ppc/trbm", 7.0e-4),
        ("ppc/refh", 4.0e-4),
        ("ppc/tvae", 8.0e-4),
        ("ppc/rvae", 5.6e-4),
    ],
)
def test_a_quick_run_comes_close(name, most, tmp_path):
    recipe = find(name)
    card = run(recipe.quickened(), seed=4, out=tmp_path, progress=False)
    assert recipe.limit * 0.9 < card["value"] < most


def test_the_order_of_the_table_is_the_papers():
    """One seed, full budgets are `reproduce`'s business: here the shipped models, fresh data."""
    from seqzoo.zoo.recipes.ppc import score

    from seqzoo import zoo

    def figure(name):
        return float(score(zoo.load(f"ppc/{name}"), 11, "test").mean())

    first_order = min(figure(name) for name in ("kf1", "trbm", "tvae"))
    second_order = max(figure(name) for name in ("kf2", "refh", "rtrbm", "rvae"))
    assert second_order < 0.8 * first_order
