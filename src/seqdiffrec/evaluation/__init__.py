"""How well a model ranks the item that a person took next: full ranking, HR, NDCG, MRR.

`ranking` turns scores into ranks, block by block; `metrics` turns ranks into figures. Neither knows a model: they see
a function from histories to scores.
"""

from seqdiffrec.evaluation.metrics import check_cutoff, cutoffs, hit_rate, mrr, ndcg, summarize
from seqdiffrec.evaluation.ranking import (
    Evaluation,
    Predict,
    Progress,
    Ranks,
    check_ranks_path,
    evaluate,
    rank_targets,
    report,
    write_ranks,
)

__all__ = [
    "Evaluation",
    "Predict",
    "Progress",
    "Ranks",
    "check_cutoff",
    "check_ranks_path",
    "cutoffs",
    "evaluate",
    "hit_rate",
    "mrr",
    "ndcg",
    "rank_targets",
    "report",
    "summarize",
    "write_ranks",
]
