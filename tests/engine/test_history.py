from types import SimpleNamespace

from detectron2.utils.events import EventStorage

from iif_d2.engine.hooks import KEPT, BoundedHistory


def test_old_values_go_and_what_is_written_stays():
    hook, bounded, plain = BoundedHistory(), EventStorage(), EventStorage()
    hook.trainer = SimpleNamespace(storage=bounded)
    hook.before_train()
    for step in range(KEPT + 500):
        for storage in (bounded, plain):
            storage.iter = step
            storage.put_scalar("loss", step % 37)
    assert len(bounded.history("loss").values()) == KEPT
    assert bounded.history("loss").values() == plain.history("loss").values()[-KEPT:]
    assert bounded.latest_with_smoothing_hint(20) == plain.latest_with_smoothing_hint(20)
    assert bounded.history("loss").median(KEPT) == plain.history("loss").median(KEPT)
    assert bounded.history("loss").global_avg() == plain.history("loss").global_avg()


def test_a_trainer_has_it(tiny_cfg):
    from iif_d2.engine import LongTailTrainer

    trainer = LongTailTrainer(tiny_cfg("faster_rcnn_R_18_FPN_iif", "SOLVER.MAX_ITER", "1"))
    trainer.train()
    assert {h._max_length for h in trainer.storage.histories().values()} == {KEPT}
