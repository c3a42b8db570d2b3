"""Data sets: registration, the metadata hooks that count classes, loading, and the embedded set.

Without Detectron2 there is only `data.frequency`, which counts files.
"""

try:
    import detectron2  # noqa: F401
except ImportError:
    pass
else:
    import detectron2.data.datasets  # noqa: F401  registers LVIS and COCO

    from .builtin import datasets_root, register_builtin
    from .copy_paste import CopyPaste
    from .detection import detection_dicts
    from .dicts import DatasetDicts
    from .frequency import (
        class_count,
        config_frequency,
        deferred_frequency,
        known_frequency,
        with_dimension,
    )
    from .instances import load_instances
    from .mapper import LongTailDatasetMapper
    from .mini_lvis import make_mini_lvis
    from .registration import (
        LongTailMetadata,
        attach_class_frequency,
        register_long_tail_instances,
        require_registered,
    )
    from .sampling import (
        NamedBatches,
        TrainingBatches,
        config_repeat_factors,
        repeat_factors,
    )
    from .sharing import dicts_kept, load_once, shared_dicts, training_dicts
    from .workers import prepare_workers

    __all__ = [
        "CopyPaste",
        "DatasetDicts",
        "LongTailDatasetMapper",
        "LongTailMetadata",
        "NamedBatches",
        "TrainingBatches",
        "attach_class_frequency",
        "class_count",
        "config_frequency",
        "config_repeat_factors",
        "datasets_root",
        "deferred_frequency",
        "detection_dicts",
        "dicts_kept",
        "known_frequency",
        "load_instances",
        "load_once",
        "make_mini_lvis",
        "prepare_workers",
        "register_long_tail_instances",
        "repeat_factors",
        "require_registered",
        "shared_dicts",
        "training_dicts",
        "with_dimension",
    ]

    register_builtin()
