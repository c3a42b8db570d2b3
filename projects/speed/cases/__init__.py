"""One step a file: `run(options)` yields the rows of the table."""

NAMES = ("topk", "masks", "evaluation", "counting", "tables", "loading", "method", "folding")
