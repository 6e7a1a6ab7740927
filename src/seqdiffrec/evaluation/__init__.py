"""How well a model ranks the item that a person took next, for whom, what its lists are like, and its probabilities.

`ranking` turns scores into ranks, block by block; `metrics` turns ranks into figures, `segments` into those of some of
the users; `lists` looks at lists against the `background` of what people took before, `frames` does for frames of ids;
`calibration` and `temperature` check and mend probabilities. None knows a model: they see a function from histories to
scores.
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
