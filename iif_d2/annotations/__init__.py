"""LVIS and COCO annotation json: one reader and validator, `reading`; `columns` is what it keeps.

`read_labels` reads which image holds which class, for counting; `read_annotations` the rest too, of
which dataset dicts and ground truth are views.
"""
