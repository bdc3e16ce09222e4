"""300 simulated trading lives; a failure names its seed. `scripts/torture simulation` runs thousands."""

import pytest

SEEDS, PARTS = 300, 6


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_fails_when_the_books_end_as_the_venues_ledger(part):
    from testkit.simulation import run_seeds

    run_seeds(range(part, SEEDS, PARTS))


def test_a_seed_gives_the_same_life_again():
    from testkit.simulation import Simulation

    lives = [Simulation(7), Simulation(7)]
    for life in lives:
        life.run()
    assert lives[0].happened == lives[1].happened
    assert lives[0].disk.history == lives[1].disk.history
