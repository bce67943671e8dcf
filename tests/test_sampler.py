"""The batches of an epoch: their composition, their fairness, and their determinism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multitasknet.errors import TrainingError
from multitasknet.training.batches import IdentitySampler, ShuffledSampler

COUNTS = st.lists(st.integers(1, 12), min_size=4, max_size=12)


def identities(counts: list[int]) -> np.ndarray:
    """Vehicles of the given numbers of images, in mixed order and with gaps in their ids."""
    ids = np.repeat(7 * np.arange(len(counts)) + 3, counts)
    return np.random.default_rng(0).permutation(ids)


@given(COUNTS, st.integers(2, 4), st.integers(2, 5), st.integers(0, 50), st.integers(1, 3))
def test_every_batch_has_p_vehicles_and_k_images_of_each(
    counts, vehicles, images, epoch, devices
) -> None:
    ids = identities(counts)
    sampler = IdentitySampler(ids, vehicles=vehicles, images=images, devices=devices)
    for device in range(devices):
        batches = sampler.epoch(epoch, device)
        assert batches.shape == (sampler.batches_per_epoch, vehicles * images)
        again = IdentitySampler(ids, vehicles=vehicles, images=images, devices=devices)
        np.testing.assert_array_equal(again.epoch(epoch, device), batches)
        for batch in batches:
            groups = ids[batch].reshape(vehicles, images)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == vehicles


@given(COUNTS, st.integers(2, 5), st.integers(0, 50))
def test_within_a_vehicle_no_image_is_used_twice_more_than_another(counts, images, epoch) -> None:
    ids = identities(counts)
    batches = IdentitySampler(ids, vehicles=3, images=images).epoch(epoch)
    uses = np.bincount(batches.reshape(-1), minlength=len(ids))
    for vehicle in set(ids):
        assert np.ptp(uses[ids == vehicle]) <= 1


@pytest.mark.parametrize("counts", [[8] * 8, [5, 7, 9, 3, 12, 6, 10, 4]])
def test_over_many_epochs_all_images_are_used_equally(counts) -> None:
    ids = identities(counts)
    sampler = IdentitySampler(ids, vehicles=4, images=4)
    epochs = 500
    uses = np.zeros(len(ids))
    for epoch in range(epochs):
        np.add.at(uses, sampler.epoch(epoch).reshape(-1), 1)
    expected = sampler.batches_per_epoch * 16 / len(ids)
    np.testing.assert_allclose(uses / epochs, expected, atol=0.2)


def test_a_vehicle_with_most_of_the_images_is_capped_not_repeated_in_a_batch() -> None:
    ids = np.repeat([1, 2, 3, 4], [100, 4, 4, 4])
    batches = IdentitySampler(ids, vehicles=2, images=4).epoch(0)
    assert len(batches) == 3
    assert all(len(set(ids[batch])) == 2 for batch in batches)


def test_another_seed_or_epoch_gives_other_batches() -> None:
    ids = identities([6] * 8)
    first, other = (IdentitySampler(ids, vehicles=4, images=2, seed=seed) for seed in (5, 6))
    assert not np.array_equal(first.epoch(3), first.epoch(4))
    assert not np.array_equal(first.epoch(3), other.epoch(3))


def test_devices_share_an_epoch_without_overlap() -> None:
    ids = identities([8] * 8)
    alone = IdentitySampler(ids, vehicles=4, images=2)
    shared = IdentitySampler(ids, vehicles=4, images=2, devices=2)
    parts = [shared.epoch(1, device) for device in range(2)]
    np.testing.assert_array_equal(np.stack(parts, 1).reshape(-1, 8), alone.epoch(1))


def test_too_few_vehicles_are_refused_with_both_numbers() -> None:
    with pytest.raises(TrainingError, match=r"takes 8 vehicles, but the data have 3"):
        IdentitySampler([1, 1, 2, 2, 3, 3], vehicles=8, images=4)


def test_shuffled_batches_use_every_image_once_and_the_same_for_an_epoch() -> None:
    samplers = [ShuffledSampler(23, 4, seed=3, devices=devices) for devices in (1, 2)]
    assert [sampler.batches_per_epoch for sampler in samplers] == [5, 2]
    for epoch in range(3):
        alone, shared = samplers[0].epoch(epoch), [samplers[1].epoch(epoch, one) for one in (0, 1)]
        assert (alone.shape, shared[0].shape, shared[1].shape) == ((5, 4), (2, 4), (2, 4))
        assert len(np.unique(alone)) == 20
        assert len(np.unique(shared)) == 16
        np.testing.assert_array_equal(samplers[0].epoch(epoch), alone)
        assert not np.array_equal(samplers[0].epoch(epoch + 1), alone)
    with pytest.raises(TrainingError, match=r"2 batches of 4 images .* the data have 7"):
        ShuffledSampler(7, 4, devices=2)
