"""PoseEstNet: names and shapes of the published file, and what else it is read from."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest

from multitasknet import PoseEstNet, create_network
from multitasknet.models.poseestnet.definition import NETWORK


@pytest.fixture(scope="module")
def network() -> PoseEstNet:
    return create_network("poseestnet", weights=None)


def test_without_last_layer_it_gives_the_features(network: PoseEstNet) -> None:
    headless = create_network("poseestnet", weights=None, include_top=False)
    x = np.ones((1, 3, 32, 64), np.float32)
    assert headless(mindspore.Tensor(x)).shape == (1, 32, 8, 16)
    assert network(mindspore.Tensor(x)).shape == (1, 36, 8, 16)
    assert len(network.trainable_params()) == 877
    assert len(headless.trainable_params()) == 876


def test_other_networks_with_a_conv1_and_a_layer1_are_not_taken_for_it() -> None:
    assert NETWORK.recognizes(["module.stage4.2.branches.3.0.conv1.weight"])
    others = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"]
    assert not NETWORK.recognizes(others)


@pytest.mark.parametrize(
    ("width", "keypoints", "problem"),
    [(48, 36, "width 48; expected 32"), (32, 17, "gives 17 keypoints; expected the 36")],
)
def test_another_hrnet_is_refused_by_what_it_is(width: int, keypoints: int, problem: str) -> None:
    shapes = {
        "stage2.0.branches.0.0.conv1.weight": (width, width, 3, 3),
        "final_layer.weight": (keypoints, width, 1, 1),
    }
    with pytest.raises(ValueError, match=problem):
        NETWORK.spec_from_shapes(shapes, "a.pth")


def test_options_it_does_not_have_are_named() -> None:
    with pytest.raises(TypeError, match="'num_ids'; poseestnet takes include_top"):
        create_network("poseestnet", weights=None, num_ids=4)
