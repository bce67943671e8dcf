"""Fine-tuning with a training loop of your own: the Hub's network and MindSpore's ``Model``.

    python examples/finetune.py --data ROOT [--weights card|synthetic|none|FILE] [--epochs 1]

ROOT is a data set that ``multitasknet check-data`` accepts. The heads of colour and type stay as in
the weights, with their names, unless ``--new-heads`` is given; that of the vehicles is new unless
the data have as many. What is written, ``tuned.ckpt`` and ``tuned.json``, is what
``create_network``, ``Predictor`` and ``export`` take. For sampler, augmentation, evaluation and
resuming there is ``multitasknet finetune``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn

import multitasknet


class Loss(nn.Cell):
    """The network with its loss: what MindSpore's ``Model`` trains."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.backbone = network
        self.loss = multitasknet.MultiTaskLoss()

    def construct(
        self, image: Tensor, pose: Tensor, identity: Tensor, color: Tensor, type: Tensor
    ) -> Tensor:
        total, _ = self.loss(self.backbone(image, pose), identity, color, type)
        return total


def create_network(
    weights: str | None, found: multitasknet.ClassMaps, *, new_heads: bool
) -> tuple[nn.Cell, multitasknet.ClassMaps]:
    """The network, and which raw id of the data each of its classes is."""
    counts = {"num_ids": len(found.vehicle_ids)}
    if new_heads:
        counts |= {"num_colors": len(found.color_ids), "num_types": len(found.type_ids)}
    network = multitasknet.create_network(weights=weights, **counts)
    if new_heads:
        names = {"color_names": found.color_names, "type_names": found.type_names}
        network.spec = replace(network.spec, **names)
    # Colours and types that the weights do not know count as unknown.
    return network, replace(network.spec.class_maps, vehicle_ids=found.vehicle_ids)


def finetune(options: argparse.Namespace) -> None:
    train = multitasknet.read_dataset(options.data, ["train"]).train
    weights = None if options.weights == "none" else options.weights
    found = multitasknet.ClassMaps.of(train.records)
    network, classes = create_network(weights, found, new_heads=options.new_heads)
    print(network.load_report or "fresh weights")
    network.spec = replace(network.spec, input_size=(options.size, options.size))
    batches = multitasknet.create_pipeline(
        train,
        network.spec,
        network.spec.input_size,
        batch_size=options.batch_size,
        order=np.random.default_rng(0).permutation(len(train)).tolist(),
        class_maps=classes,
        # A smaller last batch would be compiled again.
        drop_remainder=True,
    )
    trained = Loss(network)
    trained.set_train(True)
    optimizer = nn.Adam(trained.trainable_params(), learning_rate=3e-5)
    model = mindspore.train.Model(trained, optimizer=optimizer)
    batches = batches.project(["image", "pose", "identity", "color", "type"])
    model.train(options.epochs, batches, callbacks=[mindspore.train.LossMonitor()])
    print(multitasknet.save_weights(network, options.output, class_maps=classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("tuned.ckpt"))
    parser.add_argument("--weights", default="card", help="'card', 'synthetic', 'none' or a file")
    parser.add_argument("--new-heads", action="store_true", help="colours and types as in the data")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    finetune(parser.parse_args())


if __name__ == "__main__":
    main()
