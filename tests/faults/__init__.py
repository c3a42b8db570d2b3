"""The long fault tests: `make faults`. Each module's `run()` gives its figures as lines."""
