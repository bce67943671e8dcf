"""The pages of a training and of an adaptation."""

from __future__ import annotations

from pathlib import Path

from ..report.charts import line_chart
from ..report.page import write_page
from .history import History, shown


def write_training_report(path: Path, history: History, *, data: Path | str = "") -> Path:
    """Write ``report.html``, self-contained."""
    epochs = history.epochs
    evaluated = [(0, history.before), *((record.epoch, record.metrics) for record in epochs)]
    metrics = {
        name: [(epoch, metrics[name]) for epoch, metrics in evaluated if name in metrics]
        for name in shown(name for _, metrics in evaluated for name in metrics)
    }
    rates = {"rate": [(record.epoch, record.rate) for record in epochs]}
    return write_page(
        path,
        "training.html",
        title="Fine-tuning",
        history=history,
        data=str(data),
        metrics=list(metrics),
        losses=line_chart(history.losses, x_label="epoch", y_label="loss") if epochs else "",
        accuracy=line_chart(metrics, x_label="epoch", y_label="percent") if metrics else "",
        rates=line_chart(rates, x_label="epoch", y_label="learning rate") if epochs else "",
    )


def write_adaptation_report(path: Path, history: History) -> Path:
    """Write ``report.html`` of an adaptation, self-contained."""
    rounds = [record for record in history.epochs if record.losses]
    measured = shown(history.before)
    found = {
        name: [(record.epoch, record.metrics[name] * scale) for record in rounds]
        for name, scale in (("used", 1), ("silhouette", 100))
    }
    metrics = {
        name: [(record.epoch, record.metrics[name]) for record in history.epochs]
        for name in measured
    }
    return write_page(
        path,
        "adaptation.html",
        title="Adaptation",
        history=history,
        measured=measured,
        clusters=line_chart(found, x_label="round", y_label="percent") if rounds else "",
        accuracy=line_chart(metrics, x_label="round", y_label="percent") if metrics else "",
        losses=line_chart(history.losses, x_label="round", y_label="loss") if rounds else "",
    )
