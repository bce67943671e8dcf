"""The ranking's metrics, under the name that the first release gave them."""

from .ranking.metrics import RankingResult, evaluate_embeddings, evaluate_ranking

__all__ = ["RankingResult", "evaluate_embeddings", "evaluate_ranking"]
