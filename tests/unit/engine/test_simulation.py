"""300 simulated trading lives; a failure names its seed. `scripts/torture simulation` runs thousands."""

import pytest

SEEDS, PARTS, ON_SQLITE = 300, 6, 12


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_fails_when_the_books_end_as_the_venues_ledger(part):
    from testkit.simulation import Simulation

    for seed in range(part, SEEDS - ON_SQLITE, PARTS):
        Simulation(seed).run()


@pytest.mark.parametrize("seed", range(SEEDS - ON_SQLITE, SEEDS))
def test_the_same_holds_on_the_real_journal(seed, tmp_path):
    from testkit.simulation import Simulation

    Simulation(seed, folder=tmp_path).run()


def test_a_seed_gives_the_same_life_again():
    from testkit.simulation import Simulation

    lives = [Simulation(7), Simulation(7)]
    for life in lives:
        life.run()
    assert lives[0].happened == lives[1].happened
    assert lives[0].disk.history == lives[1].disk.history
