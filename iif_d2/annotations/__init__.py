"""LVIS and COCO annotation files: reading, checking and columns of what is in them."""
