"""One step a file: `run(options)` yields the rows of the table."""

NAMES = (
    "topk", "masks", "heads", "evaluation", "fixed", "counting", "tables", "loading", "ranks",
    "method", "folding",
)  # fmt: skip
