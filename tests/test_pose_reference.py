"""The references that judge the pose network, against what is published of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pose_reference as ref
import pytest

MANIFEST = Path(__file__).parent / "poseestnet_manifest.json"
PICTURES = 1060
STATISTICS = (".moving_mean", ".moving_variance")


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (256, 256, 3)).astype(np.uint8)


def one_peak(x: int, y: int, *, value: float = 1, **beside: float) -> np.ndarray:
    """36 maps, each with a peak at (x, y) and values to its left, right, up or down."""
    maps = np.zeros((36, 64, 64))
    maps[:, y, x] = value
    places = {"left": (y, x - 1), "right": (y, x + 1), "up": (y - 1, x), "down": (y + 1, x)}
    for name, level in beside.items():
        row, column = places[name]
        maps[:, row, column] = level
    return maps


# The square and the warp


def test_a_wide_picture_fills_80_percent_of_the_input_in_the_middle() -> None:
    corners = np.array([(0, 0), (300, 0), (300, 100), (150, 50)])
    wanted = [(25.6, 128 - 102.4 / 3), (230.4, 128 - 102.4 / 3), (230.4, 128 + 102.4 / 3)]
    assert np.allclose(ref.to_input(corners, 300, 100), [*wanted, (128, 128)])


def test_a_tall_picture_has_its_height_as_measure() -> None:
    assert np.allclose(ref.to_input(np.array([0, 0]), 100, 300), (128 - 102.4 / 3, 25.6))
    assert ref.to_image(np.array([32, 64]), 100, 300).tolist() == [50, 150 + 187.5]


def test_a_quarter_turn_takes_right_to_up() -> None:
    points = np.array([(210, 100), (100, 210)])  # right of and below the centre by 110 of side 250
    arm = 110 * 256 / 250
    turned = ref.to_input(points, 200, 200, t=90)
    assert np.allclose(turned, [(128, 128 - arm), (128 + arm, 128)])


def test_f_above_1_shows_the_picture_smaller() -> None:
    assert np.allclose(ref.to_input(np.array([200.0, 50]), 200, 100, f=1.25)[0] - 128, 81.92)


def test_both_directions_agree(rng: np.random.Generator) -> None:
    points = rng.uniform(-50, 300, (20, 2))
    there = ref.to_input(points, 231, 170, f=0.8, t=37, cx=114.5)
    assert np.allclose(ref.from_input(there, 231, 170, f=0.8, t=37, cx=114.5), points)


def test_the_warp_at_one_pixel_a_pixel_copies(picture: np.ndarray) -> None:
    assert np.allclose(ref.warp(picture, f=0.8), picture)  # 256 * 1.25 * 0.8 = 256
    turned = ref.warp(picture, f=0.8, t=90)
    assert np.allclose(turned[1:], picture[:, :0:-1].transpose(1, 0, 2))
    assert not turned[0].any()  # it would come from column 256


def test_the_border_is_mixed_with_0() -> None:
    column = ref.warp(np.full((4, 4, 3), 200, np.uint8))[128]
    assert np.allclose(column[0], 100)  # half a pixel outside
    assert np.allclose(column[20], 200 * (0.5 + 20 / 51.2))
    assert np.allclose(column[26:179], 200)
    assert np.allclose(ref.warp(np.full((4, 40, 3), 200, np.uint8))[0], 0)


def test_mirroring_mirrors_the_input_but_for_a_column(picture: np.ndarray) -> None:
    picture = picture[:150, :201]
    visible = np.arange(36) < 10
    joints = np.stack((np.arange(36.0), 2 * np.arange(36.0)), -1)
    flipped, moved, seen, cx = ref.mirror(picture, joints, visible)
    assert np.allclose(ref.warp(flipped, cx=cx)[:, 1:], ref.warp(picture)[:, :0:-1])
    assert moved[0].tolist() == [201 - 1 - 18, 36] and moved[18].tolist() == [200, 0]
    assert np.flatnonzero(seen).tolist() == list(range(18, 28))
    before, after = ref.to_input(joints, 201, 150), ref.to_input(moved, 201, 150, cx=cx)
    assert np.allclose(after[18:, 0], 256 - before[:18, 0])


def test_normalisation_is_per_colour() -> None:
    image = np.array([[[255, 0, 127.5]]])
    wanted = (1 - 0.485) / 0.229, -0.456 / 0.224, (0.5 - 0.406) / 0.225
    assert np.allclose(ref.normalise(image)[:, 0, 0], wanted)


# Targets and loss


def target(x: float, y: float, visible: int = 1) -> tuple[np.ndarray, float]:
    maps, weights = ref.targets(np.full((36, 2), (x, y)), np.full(36, visible))
    return maps[7], weights[7]


def test_the_window_is_13_by_13_and_symmetric() -> None:
    window, weight = target(4 * 30, 4 * 20)
    assert weight == 1 and np.count_nonzero(window) == 13 * 13
    assert window[20, 30] == 1 and window[20, 32] == window[18, 30] == math.exp(-0.5)
    assert window[14, 24] == math.exp(-72 / 8) and window[20, 37] == 0


@pytest.mark.parametrize(("x", "cell"), [(121.9, 30), (122, 31), (125.9, 31)])
def test_the_peak_is_at_the_nearest_cell(x: float, cell: int) -> None:
    assert target(x, 80)[0].argmax() == 20 * 64 + cell


@pytest.mark.parametrize(
    ("x", "columns", "weight"),
    [(0, 7, 1), (-5, 7, 1), (-28, 1, 1), (-32, 0, 0), (4 * 69, 1, 1), (4 * 70, 0, 0)],
)
def test_the_window_is_clipped(x: float, columns: int, weight: int) -> None:
    window, got = target(x, 128)
    assert got == weight
    assert np.count_nonzero(window) == 13 * columns


def test_an_invisible_joint_has_no_map() -> None:
    window, weight = target(128, 128, visible=0)
    assert weight == 0 and not window.any()


def test_the_losses_differ_by_36_to_the_4th() -> None:
    wanted, weights = np.zeros((2, 36, 64, 64)), np.ones((2, 36))
    maps = np.full_like(wanted, 3)
    assert ref.nvlabs_loss(maps, wanted, weights) == pytest.approx(4.5)
    assert ref.zoo_loss(maps, wanted, weights) == pytest.approx(4.5 * 1_679_616)
    weights[0, :9] = 0  # a quarter of the joints in one image of two
    assert ref.nvlabs_loss(maps, wanted, weights) == pytest.approx(4.5 * 7 / 8)


# Decoding


def test_a_target_decodes_to_its_cell() -> None:
    maps, _ = ref.targets(np.full((36, 2), (100, 60)), np.ones(36))
    points, confidences = ref.decode(maps)
    assert (points == (25, 15)).all() and (confidences == 1).all()


def test_the_offset_goes_to_the_higher_neighbour() -> None:
    points, _ = ref.decode(one_peak(20, 30, left=0.2, right=0.1, down=0.3))
    assert (points == (19.75, 30.25)).all()


@pytest.mark.parametrize(("x", "offset"), [(1, 0), (2, 0.25), (62, 0.25), (63, 0)])
def test_there_is_no_offset_at_the_rim(x: int, offset: float) -> None:
    beside = {"right": 0.5} if x < 63 else {"left": 0.5}
    points, _ = ref.decode(one_peak(x, 30, **beside))
    assert (points == (x + offset, 30)).all()
    # One axis at the rim keeps the other from moving too.
    upright, _ = ref.decode(one_peak(30, x, right=0.5))
    assert (upright == (30 + offset, x)).all()


def test_confidence_is_the_unclipped_peak() -> None:
    assert (ref.decode(one_peak(9, 9, value=1.125))[1] == 1.125).all()


def test_without_a_positive_value_the_cell_is_the_first() -> None:
    maps = np.full((36, 64, 64), -2.0)
    maps[:, 40, 40] = -0.5
    maps[3, 40, 40] = 0
    points, confidences = ref.decode(maps)
    assert not points.any()
    assert confidences[3] == 0 and (confidences[4:] == -0.5).all()


def test_cells_go_back_to_the_picture(rng: np.random.Generator) -> None:
    points = rng.uniform(0, 200, (36, 2))
    cells = ref.to_input(points, 300, 200) / 4
    assert np.allclose(ref.to_image(cells, 300, 200), points)
    assert ref.to_image(np.zeros(2), 300, 200).tolist() == [-37.5, -87.5]


def test_the_flip_test_averages_over_maps_mirrored_swapped_and_shifted() -> None:
    mirrored = np.zeros((36, 64, 64))
    mirrored[20, 5, 63 - 10] = 0.8  # joint 2 at column 10 once mirrored back, 11 once shifted
    mirrored[1, 7, 63] = 0.4  # joint 19 at column 0, kept there and in column 1
    wanted = np.zeros((36, 64, 64))
    wanted[2, 5, 11], wanted[19, 7, :2] = 0.4, 0.2
    assert (ref.flip_average(np.zeros_like(mirrored), mirrored) == wanted).all()
    assert (ref.flip_average(np.ones_like(mirrored), mirrored) == wanted + 0.5).all()


# The metric


def figures(
    offset: float, *, pictures: int = PICTURES, confidence: float = 1, joint: Any = slice(None)
) -> dict[str, float]:
    """Where some joints lie too far to the right and the others true, in every second picture."""
    joints = np.zeros((pictures, 36, 2))
    visible = np.zeros((pictures, 36))
    visible[::2] = 1
    points = joints.copy()
    points[1::2] = 99  # not seen: counts for nothing
    points[::2, joint, 0] += offset
    return ref.published_metric(points, np.full((pictures, 36), confidence), joints, visible)


@pytest.mark.parametrize(("name", "threshold"), [("Mean", 4.07), ("Mean@0.1", 0.895)])
def test_the_published_thresholds_at_1060_pictures(name: str, threshold: float) -> None:
    rounding = 0.0005 if threshold < 1 else 0.005
    assert figures(threshold - rounding)[name] == 100
    assert figures(threshold + rounding)[name] == 0


def test_the_threshold_grows_with_the_number_of_pictures() -> None:
    assert figures(1.01 * 0.125 * 20, pictures=400)["Mean"] == 0
    assert figures(0.99 * 0.125 * 20, pictures=400)["Mean"] == 100


def test_the_error_includes_the_confidence() -> None:
    assert figures(4, confidence=1.5)["Mean"] == 100  # sqrt(16.25) = 4.03
    assert figures(4, confidence=0.2)["Mean"] == 0  # sqrt(16.64) = 4.08
    assert figures(0, confidence=0.1)["Mean@0.1"] == 0


def test_groups_are_means_over_joints_of_both_sides() -> None:
    got = figures(50, joint=[0, 19, 11, 20, 33])
    wanted = {"Wheel": 2 / 4, "Fender": 15 / 16, "Back": 3 / 4, "Front": 1, "Mean": 31 / 36}
    wanted |= {"WindshieldBack": 1, "WindshieldFront": 3 / 4, "Mean@0.1": 31 / 36}
    assert got == pytest.approx({name: 100 * share for name, share in wanted.items()})
    assert list(got) == [*ref.GROUPS, "Mean", "Mean@0.1"]
    assert sorted(j for group in ref.GROUPS.values() for j in group) == list(range(18))


def test_the_mean_is_pooled_but_a_group_is_not() -> None:
    joints, visible = np.zeros((4, 36, 2)), np.ones((4, 36))
    visible[1:, 0] = 0
    points = joints.copy()
    points[0, 0] = 50  # the one sight of joint 0
    got = ref.published_metric(points, np.ones((4, 36)), joints, visible)
    assert got["Wheel"] == 75
    assert got["Mean"] == pytest.approx(100 * 140 / 141)


# Files for MultiTaskNet


def test_heatmap_bytes_are_clipped_and_truncated() -> None:
    values = np.array([-0.5, 0, 0.5, 0.999, 1, 1.12])
    assert ref.heatmap_bytes(values).tolist() == [0, 0, 127, 254, 255, 255]


def test_surfaces_are_mirror_images_or_span_both_sides() -> None:
    left, right, across = ref.QUADS[:3], ref.QUADS[3:6], ref.QUADS[6:]
    assert [{joint + 18 for joint in quad} for quad in left] == [set(quad) for quad in right]
    assert list(across) == [(a, a + 1, a + 19, a + 18) for a in range(10, 17)]


BOX = np.array([(16, 16), (48, 16), (48, 48), (16, 48)], float)


def segments_of(corners: np.ndarray) -> np.ndarray:
    """All surfaces at 64x64 where quad 9 (13, 14, 32, 31) has these corners, the others none."""
    points = np.zeros((36, 2))
    points[list(ref.QUADS[9])] = corners
    return ref.segment_bytes(points, 64, 64)


@pytest.mark.parametrize("corners", [BOX, BOX[::-1], BOX + 0.4, BOX - 0.4])
def test_a_convex_quad_is_filled_with_its_outline(corners: np.ndarray) -> None:
    wanted = np.zeros((13, 64, 64))
    wanted[9, 16:49, 16:49] = 255
    # Quads that share an edge with it have their other two corners in one point.
    assert (segments_of(corners) == wanted).all()


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param(BOX[[0, 2, 1, 3]], id="crossed"),
        pytest.param([(16, 16), (48, 16), (24, 24), (16, 48)], id="concave"),
        pytest.param([(16, 16), (32, 16), (48, 16), (16, 48)], id="straight angle"),
        pytest.param([(16, 16), (32, 15.6), (48, 16), (16, 48)], id="straight once rounded"),
        pytest.param([(16, 16), (16, 16), (48, 48), (16, 48)], id="two corners in one"),
        pytest.param(np.zeros((4, 2)), id="a point"),
    ],
)
def test_any_other_quad_is_black(corners: np.ndarray) -> None:
    assert not segments_of(np.array(corners, float)).any()


def test_segments_are_drawn_at_full_size_then_resized() -> None:
    points = np.zeros((36, 2))
    points[list(ref.QUADS[9])] = BOX * (4, 2) + (0, 0.2)
    got = ref.segment_bytes(points, 256, 128)[9]
    assert (got[17:48, 17:48] == 255).all()
    # Columns 62 and 65..66 of 256 lie around cells 15 and 16: bilinear, no area average.
    assert got[32, 15] == 0 and got[32, 16] == 255 and got[32, 48] == 0
    assert got[15, 32] == 0 and got[48, 32] == 128 and got[49, 32] == 0


# The network


@pytest.fixture(scope="module")
def manifest() -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads(MANIFEST.read_text())["parameters"]}


def test_the_manifest_has_the_published_counts(manifest: dict[str, tuple[int, ...]]) -> None:
    sizes = {name: math.prod(shape) for name, shape in manifest.items()}
    trainable = {name: size for name, size in sizes.items() if not name.endswith(STATISTICS)}
    assert (len(sizes), sum(sizes.values())) == (1461, 28_591_040)
    assert (len(trainable), sum(trainable.values())) == (877, 28_536_704)
    assert sum(name.endswith(".gamma") for name in sizes) == 292
    assert sum(len(shape) == 4 for shape in manifest.values()) == 293


@pytest.fixture(scope="module")
def hrnet() -> ModuleType:
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    import torch_hrnet

    return torch_hrnet


@pytest.fixture(scope="module")
def network(hrnet: ModuleType) -> Any:
    return hrnet.PoseHighResolutionNet()


def test_the_torch_network_has_36_parameters_more(network: Any) -> None:
    assert sum(value.numel() for value in network.parameters()) == 28_536_740
    assert network.final_layer.bias.numel() == 36
    assert len(network.state_dict()) == 1754


def test_names_map_onto_the_manifest(
    network: Any, hrnet: ModuleType, manifest: dict[str, tuple[int, ...]]
) -> None:
    arrays = hrnet.published_names(network.state_dict())
    assert arrays.pop("final_layer.bias").shape == (36,)
    assert {name: value.shape for name, value in arrays.items()} == manifest


@pytest.mark.parametrize(
    ("nvlabs", "zoo"),
    [
        ("bn1.running_var", "bn1.moving_variance"),
        ("layer1.0.downsample.0.weight", "layer1.0.downSample.0.weight"),
        ("layer1.0.downsample.1.weight", "layer1.0.downSample.1.gamma"),
        ("transition1.1.0.0.weight", "transition1.1.0.0.weight"),
        ("transition2.2.0.0.weight", "transition2.0.0.0.weight"),
        ("transition3.3.0.1.bias", "transition3.0.0.1.beta"),
        ("stage3.2.fuse_layers.2.0.1.1.running_mean", "stage3.2.fuse_layers.2.0.1.1.moving_mean"),
        ("stage4.2.fuse_layers.0.3.0.weight", "stage4.2.fuse_layers.0.3.0.weight"),
    ],
)
def test_a_renamed_array_keeps_its_values(
    network: Any, hrnet: ModuleType, nvlabs: str, zoo: str
) -> None:
    state = network.state_dict()
    assert np.array_equal(hrnet.published_names(state)[zoo], state[nvlabs].numpy())


def test_maps_are_a_quarter_of_the_input_and_of_sane_size(network: Any) -> None:
    import torch

    multiplications = 0

    def count(layer: Any, _: Any, output: Any) -> None:
        nonlocal multiplications
        multiplications += output.shape[-2:].numel() * layer.weight.numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        maps = network(torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    assert maps.shape == (1, 36, 16, 16)
    assert 1 < maps.std() < 20
    # All of it is convolution, so 256x256 takes 16 times as many.
    assert len(hooks) == 293
    assert round(16 * multiplications / 1e9, 2) == 10.20


@pytest.mark.parametrize(("nested", "head"), [(False, "incre_modules."), (True, "head.0.")])
def test_an_imagenet_file_shares_all_but_the_final_layer(
    network: Any, hrnet: ModuleType, nested: bool, head: str
) -> None:
    own = network.state_dict()
    state = hrnet.imagenet_state(network, nested=nested)
    assert own.keys() - state.keys() == {"final_layer.weight", "final_layer.bias"}
    assert all(state[name].equal(own[name]) for name in own.keys() & state.keys())
    assert state[f"{head}3.0.conv3.weight"].shape == (1024, 256, 1, 1)
    assert "stage4.2.fuse_layers.3.0.2.0.weight" in state
    assert ("final_layer.0.weight" in state) is not nested
