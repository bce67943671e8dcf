"""The card: ours is the published one, and every broken one is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from multitasknet import CardError, load_card
from multitasknet.hub.card import default_card_path

PUBLISHED_SHA256 = "c3f784ae3bc2de07be2f7585b57abcfdaf7f12e70faafeae3f6f5bdf5744103e"
# Each a list of nine of the one before: 9 ** 29 in all.
ALIASES = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 30))


def test_our_card_states_what_the_hub_published() -> None:
    card = load_card(default_card_path())
    assert (card.name, card.uid) == ("MultiTaskNet", "mindspore/1.7/multitasknet_veri")
    assert (card.fields["fine-tunable"], card.fields["update-time"]) == ("True", "2022-06-22")
    assert card.metrics == {"top1acc": 75.57, "coloracc": 93.2, "typeacc": 91.5}
    assert card.asset.sha256 == PUBLISHED_SHA256
    assert str(card.asset.folder) == "mindspore/1.7"
    versions = [re.search(r"/r([\d.]+)/.*_v(\d+)_", url).groups() for url in card.asset.urls]
    assert ["".join(f"{minor}0".split(".")) for minor, _ in versions] == [v for _, v in versions]
    assert [minor for minor, _ in versions] == ["1.7", "1.3", "1.6", "1.8", "1.9", "1.10"]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("---\n", "", "'---'"),
        ("model-name: MultiTaskNet", "model-name", "YAML"),
        ("model-name: MultiTaskNet\n", "", "'model-name' is missing"),
        ("author: MindSpore team", "author: [a, b]", "'author' is a list"),
        ("fine-tunable: True", "fine-tunable: perhaps", "'fine-tunable' is 'perhaps'"),
        ("user-id: MindSpore", "user-id: ../up", "'user-id' is '../up'"),
        ("model-version: 1.7", "model-version: ..", "'model-version' is '..'"),
        ("file-format: ckpt", "file-format: mindir", "'asset' has no entry"),
        ("asset-sha256: ", "asset-sha256: x", "'asset 1: asset-sha256' is 'x"),
        ("<https://example.com/a.ckpt>", "file:///etc/passwd", "'asset 1: asset-link' is"),
        ("/a.ckpt>", "/..%2F..%2Fup.ckpt>", "no plain file name"),
        ("/a.ckpt>", "/>", "no plain file name"),
        ("/a.ckpt>", "/.bashrc>", "no plain file name"),
        ("/a.ckpt>", f"/{200 * 'a'}.ckpt>", "no plain file name"),
        ("asset:\n\n-\n", "asset:\n", "'asset' is no list"),
        ("summary: P", "summary: !!python/object/apply:os.getpid [1]\nx: P", "'summary' is a list"),
        ("summary: P", f"x0: &x0 []\n{ALIASES}summary: *x29\nrest: a", "'summary' is a list"),
        ("models/PAMTRI>", "models/PAMTRI#/.>", "the end of field 'repo-link' is '.'"),
        ("license:", "    mirrors: none\nlicense:", "'asset 1: mirrors' is 'none'"),
        ("license:", "    mirrors: [x]\nlicense:", "'asset 1: mirrors' is 'x'"),
    ],
)
def test_a_broken_card_is_refused_by_file_and_field(
    write_card: Callable[..., Path], before: str, after: str, named: str
) -> None:
    path = write_card("https://example.com/a.ckpt")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(CardError) as refused:
        load_card(path)
    assert str(path) in str(refused.value)
    assert named in str(refused.value)
