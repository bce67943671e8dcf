"""The field's data sets in their exact layouts, drawn small, and the files they are made of."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def xml(root: Path, name: str, items: str, *, encoding: str = "utf-8", declared: str = "") -> None:
    head = f'<?xml version="1.0" encoding="{declared or encoding}"?>\n'
    text = f'{head}<Images note="\u8f66">\n{items}</Images>'
    (root / f"{name}_label.xml").write_bytes(text.encode(encoding))


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def vehicleid(root: Path) -> Path:
    """Vehicles 11 and 12 to train on; 21, 22 to test on, 23 as well in the larger set."""
    names = {"0001": 11, "0002": 12, "0003": 21, "0004": 21, "0005": 22, "0006": 22, "0007": 23}
    pictures(root / "image", *(f"{name}.jpg" for name in names))
    rows = [f"{name} {vehicle}" for name, vehicle in names.items()]
    lists = root / "train_test_split"
    write(lists / "train_list.txt", *rows[:2])
    write(lists / "test_list_800.txt", *rows[2:6])
    write(lists / "test_list_1600.txt", *rows[2:])
    write(root / "attribute" / "color_attr.txt", "11 5", "21 0", "22 1")
    write(root / "attribute" / "model_attr.txt", "11 200", "12 3", "21 200")
    return root


def veriwild(root: Path) -> Path:
    names = [f"0000{vehicle}/00{vehicle}{image}" for vehicle in (1, 2, 3) for image in (1, 2)]
    for name in names:
        pictures((root / "images" / name).parent, f"{name[-4:]}.jpg")
    lists = root / "train_test_split"
    write(lists / "train_list.txt", *names[:2])
    for size, last in ((3000, 4), (5000, 6)):
        write(lists / f"test_{size}_query.txt", *names[2:last:2])
        write(lists / f"test_{size}.txt", *names[3:last:2])
    rows = (f"{name};{n};2018-03-11 07:59:02;Audi A4;SUV;grey" for n, name in enumerate(names))
    write(lists / "vehicle_info.txt", "id/image;Camera ID;Time;Model;Type;Color", *rows)
    return root


def vric(root: Path) -> Path:
    for one, row in (("train", "a.jpg 1 3"), ("probe", "a.jpg 2 4"), ("gallery", "b.jpg 2 5")):
        pictures(root / f"{one}_images", row[:5])
        write(root / f"vric_{one}.txt", row)
    return root


def cityflow(root: Path) -> Path:
    for split in ("train", "query", "test"):
        names = [f"00000{n}.jpg" for n in (1, 2, 3)]
        pictures(root / f"image_{split}", *names)
        write(root / f"name_{split}.txt", *names)
        items = (f'<Item imageName="{name}" vehicleID="0095" cameraID="c00{n}" />'
                 for n, name in enumerate(names, start=1))  # fmt: skip
        xml(root, split, "\n".join(items), encoding="gb18030", declared="gb2312")
    for split in ("train", "test"):
        write(root / f"{split}_track.txt", "000001.jpg 000003.jpg ", "000002.jpg ")
    return root
