"""The page of a training: its curves, epochs and settings."""

from __future__ import annotations

from pathlib import Path

from ..report.charts import line_chart
from ..report.page import write_page
from .history import History, shown


def write_training_report(path: Path, history: History, *, data: Path | str = "") -> Path:
    """Write ``report.html``, self-contained."""
    epochs = history.epochs
    losses = {
        name: [(record.epoch, record.losses[name]) for record in epochs]
        for name in (epochs[0].losses if epochs else ())
    }
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
        losses=line_chart(losses, x_label="epoch", y_label="loss") if losses else "",
        accuracy=line_chart(metrics, x_label="epoch", y_label="percent") if metrics else "",
        rates=line_chart(rates, x_label="epoch", y_label="learning rate") if epochs else "",
    )
