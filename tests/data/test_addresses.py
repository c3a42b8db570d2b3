"""Nothing is asked of the network, and nothing is written, for what an annotation file names."""

import http.server
import json
import threading

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from iif_d2 import register_long_tail_instances
from iif_d2.data import (
    LongTailDatasetMapper,
    detection_dicts,
    load_instances,
    shared_dicts,
)
from iif_d2.errors import DataError
from iif_d2.evaluation.detect import read_picture
from iif_d2.report.runs import Run

from ..conftest import make_dataset


@pytest.fixture(scope="module")
def server():
    """(its address, the paths that were asked for)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", asked
    made.shutdown()


@pytest.fixture
def dataset_of_addresses(tmp_path, server):
    """A COCO json whose images are addresses, registered by both packages' functions."""
    path, _ = make_dataset(tmp_path, num_images=2, lvis=False)
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"{server[0]}/../../outside/{image['id']}.png"
    path.write_text(json.dumps(content))
    register_long_tail_instances("addresses_ours", str(path), "")
    register_coco_instances("addresses_theirs", {}, str(path), "")
    yield path
    for name in ("addresses_ours", "addresses_theirs"):
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def test_images_are_not_fetched(dataset_of_addresses, server, tiny_cfg):
    with pytest.raises(DataError, match=r"images\[0\].file_name \(id 1\) is http.*an address"):
        detection_dicts("addresses_ours")
    for record in DatasetCatalog.get("addresses_theirs"):
        for train in (True, False):
            with pytest.raises(DataError, match="file_name of image .* is http.*an address"):
                LongTailDatasetMapper(tiny_cfg(), train)(record)
        with pytest.raises(DataError, match="picture .* is http.*an address"):
            read_picture(record["file_name"])
    assert not server[1]


def test_a_lazy_config_with_detectron2s_mapper_fetches_nothing(dataset_of_addresses, server):
    """Its loader asks for dicts by `shared_dicts`; their images would go to the network."""
    with pytest.raises(DataError, match="file_name of image 1 is http.*an address"):
        shared_dicts("addresses_theirs", filter_empty=False)
    DatasetCatalog.register("addresses_by_hand", lambda: [{"file_name": f"{server[0]}/a.png"}])
    try:  # a user's own Python says what it wants
        assert len(shared_dicts("addresses_by_hand", filter_empty=False)) == 1
    finally:
        DatasetCatalog.remove("addresses_by_hand")
    assert not server[1]


def test_under_a_root_an_address_is_refused_too(dataset_of_addresses, tmp_path):
    with pytest.raises(DataError, match="an address"):
        load_instances(str(dataset_of_addresses), str(tmp_path))


def test_an_lvis_address_is_only_where_the_image_was(dataset):
    """`coco_url` is an address in every LVIS json: its last two parts are the path."""
    path, root = dataset
    assert load_instances(str(path), str(root))[0]["file_name"].startswith(f"{root}/train2017/")


@pytest.mark.parametrize("key", ["sem_seg_file_name", "pan_seg_file_name"])
def test_segmentations_are_not_fetched(dataset_name, tiny_cfg, server, key):
    record = {**DatasetCatalog.get(dataset_name)[0], key: f"{server[0]}/a.png"}
    with pytest.raises(DataError, match=f"{key} of image 1 is http"):
        LongTailDatasetMapper(tiny_cfg(), True)(record)
    assert not server[1]


def test_weights_that_a_runs_config_names_are_not_fetched(tmp_path, server):
    (tmp_path / "config.yaml").write_text(f"MODEL: {{DEVICE: cpu, WEIGHTS: '{server[0]}/m.pth'}}")
    with pytest.raises(DataError, match=r"config.yaml: MODEL.WEIGHTS is http.*an address"):
        Run(str(tmp_path))
    assert not server[1]
