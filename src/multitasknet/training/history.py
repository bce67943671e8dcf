"""What every epoch of a training came to, kept as JSON and shown as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..files import reading, replacing

HISTORY, REPORT = "history.json", "report.html"
START_AGAIN = "give the output folder of an earlier run, or start again in another folder"
_SHOWN = ("mAP", "Rank-1", "color", "type")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, or one round of an adaptation."""

    epoch: int  # 1 for the first; round 0 of an adaptation sets statistics alone
    losses: Mapping[str, float]  # means over the epoch: ``total`` and the unweighted parts
    rate: float = 0.0  # of learning, of the last step
    skipped: int = 0  # steps without an update, because a gradient overflowed
    seconds: float = 0.0  # of the training alone; of a round, of all of it
    images_per_second: float = 0.0  # of this process's training
    metrics: Mapping[str, float] = field(default_factory=dict)  # empty without a validation


@dataclass(frozen=True)
class History:
    """A training's settings, the hash of its data, its metrics before the first step, its epochs.

    Which weights are the best ``metric`` decides: its highest value, or its lowest.
    """

    settings: Mapping[str, Any]
    data: str = ""
    before: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[EpochRecord, ...] = ()
    metric: str = "mAP"
    higher_is_better: bool = True

    @property
    def best(self) -> EpochRecord | None:
        """The best epoch by the metric, the first of equals; without metrics the last one.

        None if no epoch is better than the weights before the first step.
        """
        evaluated = [record for record in self.epochs if self.metric in record.metrics]
        if not evaluated:
            return None if not self.epochs or self.metric in self.before else self.epochs[-1]
        sign = 1 if self.higher_is_better else -1
        best = max(evaluated, key=lambda record: sign * record.metrics[self.metric])
        start = self.before.get(self.metric)
        beats = start is None or sign * best.metrics[self.metric] > sign * start
        return best if beats else None

    @property
    def best_metrics(self) -> Mapping[str, float]:
        """The metrics of the best weights, be they an epoch's or those before the first step."""
        return self.before if self.best is None else self.best.metrics

    def check_same(
        self,
        asked: Mapping[str, Any],
        output: Path,
        *,
        data: str | None = None,
        free: Sequence[str] = (),
    ) -> None:
        """TrainingError unless the training in ``output`` began with these settings and this data.

        Settings in ``free`` may differ; ``data`` is a hash.
        """
        remedy = "give what was given then, or start again in another folder"
        for name, value in asked.items():
            found = self.settings.get(name)
            if name not in free and found != value:
                raise TrainingError(
                    f"{output}: {name} is {value!r}, but the training there has {found!r}; {remedy}"
                )
        if data not in (None, self.data):
            raise TrainingError(
                f"{output}: the labels or pictures given now are not those that the training "
                f"there began with; {remedy}"
            )

    def write(self, folder: Path, *, unit: str = "epoch", epochs: int, data: Path) -> None:
        """Write ``report.html`` and ``history.json``, each whole or not at all.

        Records are epochs or rounds, as ``unit`` has it, and ``epochs`` how many there are to be.
        """
        from ..report.page import write_page

        measured = shown(self.before)
        more = dict.fromkeys(name for record in self.epochs for name in record.metrics)
        evaluated = [(0, self.before), *((one.epoch, one.metrics) for one in self.epochs)]
        trained = [one for one in self.epochs if one.losses]
        losses = [(one.epoch, one.losses) for one in trained]
        write_page(
            folder / REPORT,
            "training.html",
            title="Training",
            history=self,
            unit=unit,
            epochs=epochs,
            data=str(data),
            columns=[name for name in more if name not in self.before] + measured,
            losses=_chart(losses, trained[0].losses if trained else (), unit, "loss"),
            accuracy=_chart(evaluated, measured, unit, "percent"),
        )
        with replacing(folder / HISTORY) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def _chart(
    points: Sequence[tuple[int, Mapping[str, float]]], names: Iterable[str], unit: str, label: str
) -> Any:
    """A line for each of some values, over epochs or rounds; empty without values."""
    from ..report.charts import line_chart

    lines = {name: [(at, one[name]) for at, one in points if name in one] for name in names}
    return line_chart(lines, x_label=unit, y_label=label) if lines else ""


def shown(metrics: Iterable[str]) -> list[str]:
    """Which of these metrics to print and draw: of an embedding network's a few, else all."""
    found = list(dict.fromkeys(metrics))
    return [name for name in _SHOWN if name in found] or found


def read_history(path: Path) -> History:
    """Raises TrainingError if the file is missing or damaged."""
    with reading(path, TrainingError, "the history cannot be read", START_AGAIN):
        values = json.loads(path.read_text(encoding="utf-8"))
        epochs = tuple(EpochRecord(**record) for record in values.pop("epochs"))
        return History(**values, epochs=epochs)
