"""The learning rate against values worked out by hand."""

from __future__ import annotations

import pytest

from multitasknet.training.schedule import Schedule


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 1e-3 x (0.01 + 0.99 x epoch / 2) up to epoch 2.
        (Schedule(1e-3, 10, "constant", warmup=2), {0: 1e-5, 1: 5.05e-4, 2: 1e-3, 9.9: 1e-3}),
        # PAMTRI's: a tenth at 30 and again at 60.
        (
            Schedule(3e-4, 90, "steps", milestones=(30, 60)),
            {0: 3e-4, 29.99: 3e-4, 30: 3e-5, 59.99: 3e-5, 60: 3e-6, 89: 3e-6},
        ),
        # Half way down the cosine lies the mean of rate and floor.
        (Schedule(1.0, 8, "cosine", floor=0.0), {0: 1.0, 2: 0.8535534, 4: 0.5, 6: 0.1464466}),
        (Schedule(2.0, 6, "cosine", warmup=2, floor=0.1), {1: 1.01, 2: 2.0, 4: 1.1, 6: 0.2}),
    ],
)
def test_the_rate_is_as_worked_out_by_hand(schedule, expected) -> None:
    for epoch, rate in expected.items():
        assert schedule.at(epoch) == pytest.approx(rate, rel=1e-6)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'linear'; expected one of cosine, steps, constant"):
        Schedule(1e-3, 10, "linear")
