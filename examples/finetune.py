"""Fine-tuning with a training loop of your own: the Hub's network and MindSpore's ``Model``.

    python examples/finetune.py ROOT

ROOT is a data set that ``multitasknet data`` accepts. For sampler, augmentation, evaluation and
resuming there is ``multitasknet finetune``.
"""

import sys

import mindspore
import numpy as np

import hub_conf
from multitasknet.data.layouts import read_dataset
from multitasknet.data.pipeline import create_pipeline
from multitasknet.training.losses import cross_entropy
from multitasknet.vehicle.attributes import ClassMaps


def main(root: str, weights: str | None = "card", epochs: int = 1) -> None:
    train = read_dataset(root, ["train"]).train
    classes = ClassMaps.of(train.records)

    network = hub_conf.create_network(weights=weights, num_ids=len(classes.vehicle_ids))
    optimizer = mindspore.nn.Adam(network.trainable_params(), learning_rate=3e-5)
    model = mindspore.train.Model(IdentityLoss(network), optimizer=optimizer)
    batches = create_pipeline(
        train,
        network.spec.variant,
        network.spec.input_size,
        batch_size=8,
        order=np.random.default_rng(0).permutation(len(train)).tolist(),
        class_maps=classes,
    )
    batches = batches.project(["image", "pose", "identity"])
    model.train(epochs, batches, callbacks=[mindspore.train.LossMonitor()])
    mindspore.save_checkpoint(network, "tuned.ckpt")


class IdentityLoss(mindspore.nn.Cell):
    def __init__(self, network: mindspore.nn.Cell) -> None:
        # Parameters keep the names of the published checkpoint.
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image, pose, identity):
        return cross_entropy(self.network(image, pose)[0], identity)


if __name__ == "__main__":
    main(*sys.argv[1:])
