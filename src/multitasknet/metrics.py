"""The ranking's metrics, under the name that the first release gave them."""

from .ranking.metrics import RankingError, RankingResult, evaluate_embeddings, evaluate_ranking

__all__ = ["RankingError", "RankingResult", "evaluate_embeddings", "evaluate_ranking"]
