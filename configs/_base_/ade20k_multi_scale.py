"""ADE20K tested at six scales, each also flipped: the protocol of SETR, BEiT and those after them.

The short side is 512 px times the scale, at least the crop, and the long side follows without a
limit. mmsegmentation 1.x's own `tta_pipeline` is another protocol: it scales the original image,
whatever its size, and has no minimum.
"""

short_side = 512

multi_scale_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(
                    type="mmseg.ResizeShortestEdge",
                    scale=max(short_side, round(short_side * scale)),
                    max_size=10**9,  # no limit
                )
                for scale in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type="mmseg.RandomFlip", prob=0.0), dict(type="mmseg.RandomFlip", prob=1.0)],
            [dict(type="milan_mm.LoadLabels", num_classes=150)],
            [dict(type="mmseg.PackSegInputs")],
        ],
    ),
]
