"""The model card of a packaged model: what it is, what it finds, how to use it."""

from __future__ import annotations

import yaml

from ..engine.detector import Detector
from ..errors import ConfigError
from ..evaluation.results import Results, results_table
from ..groups import group_sizes


def model_card(name: str, detector: Detector, license: str, results: Results | None = None) -> str:
    """Markdown, with the header that the Hugging Face Hub reads.

    Args:
        name: of the model, its heading.
        license: the Hub's word for one, such as "apache-2.0".
        results: of its evaluation; see `save_results`.

    Raises:
        ConfigError: a `.py` config built the model.
    """
    cfg = detector.cfg
    if cfg is None:
        raise ConfigError("a model of a .py config is not packaged: such a config is code")
    masks = cfg.MODEL.MASK_ON
    method = cfg.MODEL.LONG_TAIL.METHOD if _has_method(detector) else ""
    header = {
        "license": license,
        "library_name": "iif_d2",
        "pipeline_tag": "image-segmentation" if masks else "object-detection",
        "tags": ["detectron2", "long-tail", *([method.lower()] if method else [])],
    }
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False).strip(),
            "---",
            "",
            f"# {name}",
            "",
            f"Finds {'boxes and masks' if masks else 'boxes'} of {len(detector.class_names)} "
            f"classes{f'; method {method}' if method else ''} "
            f"(Detectron2's {cfg.MODEL.META_ARCHITECTURE}; the config is `config.yaml`).",
            "",
            "## Use",
            "",
            "```python",
            "import iif_d2",
            "",
            f'model = iif_d2.load("{name}")  # this folder',
            'found = model("picture.jpg", confidence=0.5)',
            "found.to_pandas(), found.to_supervision(), found.to_coco()",
            "```",
            "",
            f"or `iif-d2 predict picture.jpg --weights {name} --output drawn`.",
            "",
            "## Results",
            "",
            *_results(results, name),
            "",
            "## Training data",
            "",
            _training(detector),
            "",
        ]
    )


def _has_method(detector: Detector) -> bool:
    from ..checkpoint.checkpointer import method_records

    return bool(method_records(detector.model))


def _results(results: Results | None, name: str) -> list[str]:
    if not results:
        return [
            f"Not evaluated yet: `iif-d2 eval --config-file {name}/config.yaml MODEL.WEIGHTS "
            f"{name}/model.safetensors DATASETS.TEST \"('my_val',)\"`."
        ]
    return [
        "In percent; APr, APc and APf are the AP of the classes that were rare, common and "
        "frequent in training.",
        "",
        results_table(results),
    ]


def _training(detector: Detector) -> str:
    counts = detector.frequency
    if counts is None:
        return "How often each class occurs there is not known."
    return (
        f"{counts.num_images:,} images; {group_sizes(detector.groups)} classes, of "
        f"{counts.image_count.min():,} to {counts.image_count.max():,} images. "
        f"`class_frequency.json` has the counts of each class."
    )
