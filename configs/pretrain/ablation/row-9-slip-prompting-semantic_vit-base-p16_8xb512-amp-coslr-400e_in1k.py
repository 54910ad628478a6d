"""Table 4, row 9: target SLIP, prompting decoder, semantic sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 84.4.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-9-slip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

target_dims = 512

model = dict(
    head=dict(
        teacher=dict(
            type="milan_mm.TimmTeacher",
            model_name="vit_base_patch16_224",
            pretrained="data/weights/slip_base_100ep.pt",  # of the SLIP authors
            projection_dims=target_dims,
        )
    ),
)
