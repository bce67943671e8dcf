"""Fine-tuning with a training loop of your own: the Hub's network and MindSpore's ``Model``.

    python examples/finetune.py --data ROOT [--weights card|none|FILE] [--epochs 1]

ROOT is a data set that ``multitasknet data`` accepts. For sampler, augmentation, evaluation and
resuming there is ``multitasknet finetune``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn

import multitasknet


class TrainedNetwork(nn.Cell):
    """The network with its loss: what MindSpore's ``Model`` trains."""

    def __init__(self, network: nn.Cell) -> None:
        # Parameters keep the names of the published checkpoint.
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = multitasknet.MultiTaskLoss()

    def construct(
        self, image: Tensor, pose: Tensor, identity: Tensor, color: Tensor, type: Tensor
    ) -> Tensor:
        total, _ = self.loss(self.network(image, pose), identity, color, type)
        return total


def finetune(
    data: Path, output: Path, *, weights: str | None, epochs: int, batch_size: int, size: int
) -> None:
    train = multitasknet.read_dataset(data, ["train"]).train
    classes = multitasknet.ClassMaps.of(train.records)
    network = multitasknet.create_network(
        weights=weights,
        num_ids=len(classes.vehicle_ids),
        num_colors=len(classes.color_ids),
        num_types=len(classes.type_ids),
    )
    print(network.load_report or "fresh weights")
    batches = multitasknet.create_pipeline(
        train,
        network.spec,
        (size, size),
        batch_size=batch_size,
        order=np.random.default_rng(0).permutation(len(train)).tolist(),
        class_maps=classes,
        # A smaller last batch would be compiled anew.
        drop_remainder=True,
    )
    network.set_train(True)
    optimizer = nn.Adam(network.trainable_params(), learning_rate=3e-5)
    model = mindspore.train.Model(TrainedNetwork(network), optimizer=optimizer)
    batches = batches.project(["image", "pose", "identity", "color", "type"])
    model.train(epochs, batches, callbacks=[mindspore.train.LossMonitor()])
    mindspore.save_checkpoint(network, str(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("tuned.ckpt"))
    parser.add_argument("--weights", default="card", help="'card', 'none' or a file")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    weights = None if options.weights == "none" else options.weights
    finetune(
        options.data,
        options.output,
        weights=weights,
        epochs=options.epochs,
        batch_size=options.batch_size,
        size=options.size,
    )


if __name__ == "__main__":
    main()
