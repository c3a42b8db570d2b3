"""What a person looks at: drawings, tables, and the commands of `python -m iif_d2`."""
