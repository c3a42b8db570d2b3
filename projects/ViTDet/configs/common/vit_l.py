"""What ViT-L has otherwise than ViT-B."""

from functools import partial

from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate


def make_large(model, optimizer, train) -> None:
    """Turn the ViT-B recipe into that of ViT-L, in place."""
    model.backbone.net.update(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.4,
        window_block_indexes=[block for block in range(24) if block % 6 != 5],
    )
    optimizer.params.lr_factor_func = partial(
        get_vit_lr_decay_rate, num_layers=24, lr_decay_rate=0.8
    )
    train.init_checkpoint = train.init_checkpoint.replace("vit_base", "vit_large")
