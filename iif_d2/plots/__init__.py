"""Pictures: of frequencies, of sweeps and comparisons, and of detections."""
