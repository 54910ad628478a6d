"""The shapes scenes: same bytes per seed, honest masks and captions, readable files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from milan_mm.shapes.captions import (
    COLOURS,
    CONTEXT_LENGTH,
    SHAPES,
    VOCABULARY,
    encode_caption,
)
from milan_mm.shapes.files import write_shapes
from milan_mm.shapes.scenes import DENSE_CLASSES, SEMANTIC_CLASSES, render_scene

SCENES = [render_scene(seed) for seed in range(150)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    assert write_shapes(folder, 12, 8, 4, seed=3, progress=False)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_same_seed_gives_the_same_scene() -> None:
    first, second = render_scene(7), render_scene(7)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.caption == second.caption


def test_different_seeds_give_different_scenes() -> None:
    assert len({scene.image.tobytes() for scene in SCENES}) == len(SCENES)


def test_size_sets_the_image_side_and_scales_the_objects() -> None:
    scene = render_scene(1, size=192, num_objects=(3, 3))
    assert scene.image.shape == (192, 192, 3)
    assert scene.labels.shape == (192, 192)
    large = [max(obj.bbox[2:]) for obj in scene.objects if obj.size == "large"]
    assert all(side > 40 for side in large)


def test_masks_are_disjoint_and_agree_with_the_labels() -> None:
    for scene in SCENES:
        assert (np.sum([obj.mask for obj in scene.objects], axis=0) <= 1).all()
        for obj in scene.objects:
            label = 1 + SEMANTIC_CLASSES.index(obj.shape)
            assert (scene.labels[obj.mask] == label).all()
        background = scene.labels[~np.any([obj.mask for obj in scene.objects], axis=0)]
        assert set(np.unique(background)) <= {0, 1 + SEMANTIC_CLASSES.index(scene.stuff)}


def test_bbox_encloses_the_mask_exactly() -> None:
    for scene in SCENES[:30]:
        for obj in scene.objects:
            rows, cols = np.nonzero(obj.mask)
            x, y, width, height = obj.bbox
            assert (x, y) == (cols.min(), rows.min())
            assert (x + width, y + height) == (cols.max() + 1, rows.max() + 1)


def test_objects_cover_15_to_25_percent_on_average() -> None:
    share = np.mean([np.any([o.mask for o in s.objects], axis=0).mean() for s in SCENES])
    assert 0.15 < share < 0.25


def test_every_class_appears() -> None:
    assert {obj.shape for scene in SCENES for obj in scene.objects} == set(SHAPES)
    assert {obj.colour for scene in SCENES for obj in scene.objects} == set(COLOURS)
    assert set(np.unique([scene.labels for scene in SCENES])) == set(range(10))


def test_caption_names_every_object() -> None:
    for scene in SCENES:
        named = sorted(word for word in scene.caption.split() if word in SHAPES)
        assert named == sorted(obj.shape for obj in scene.objects)


def test_captions_use_the_closed_vocabulary_and_fit_the_context() -> None:
    for scene in SCENES:
        tokens = encode_caption(scene.caption)
        assert tokens.shape == (CONTEXT_LENGTH,)
        words = [VOCABULARY[token] for token in tokens[1 : tokens.argmax()]]
        assert " ".join(words) == scene.caption
        assert VOCABULARY[tokens.max()] == "<end>"


def test_unknown_caption_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="'hexagon' is not in the vocabulary"):
        encode_caption("a red hexagon")


def test_too_small_scene_is_an_error() -> None:
    with pytest.raises(ValueError, match="scene size 32 px is below 48 px"):
        render_scene(0, size=32)


def test_impossible_object_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not inside 1"):
        render_scene(0, num_objects=(0, 2))


def test_writing_twice_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "again", 12, 8, 4, seed=3, progress=False)
    assert _files(tmp_path / "again") == _files(root)


def test_coco_masks_match_the_ade_labels(root: Path) -> None:
    for part, folder, count in (("train", "training", 8), ("val", "validation", 4)):
        coco = COCO(str(root / f"coco/annotations/instances_{part}2017.json"))
        assert len(coco.getImgIds()) == count
        for index in coco.getImgIds():
            ade = root / "ade/ADEChallengeData2016/annotations" / folder
            labels = np.array(Image.open(ade / f"ADE_{part}_{index:08d}.png"))
            painted = np.zeros_like(labels)
            for annotation in coco.loadAnns(coco.getAnnIds(index)):
                mask = coco.annToMask(annotation).astype(bool)
                assert mask.sum() == annotation["area"]
                name = coco.cats[annotation["category_id"]]["name"]
                painted[mask] = 1 + DENSE_CLASSES.index(name)
            np.testing.assert_array_equal(painted, np.where(labels > 3, labels, 0))


def test_captions_point_at_the_imagenet_files(root: Path) -> None:
    for part, count in (("train", 12), ("val", 4)):
        rows = [
            line.split("\t") for line in (root / f"captions/{part}.tsv").read_text().splitlines()
        ]
        assert {root / name for name, _ in rows} == set(root.glob(f"imagenet/{part}/*/*.JPEG"))
        assert len(rows) == count


def test_splits_share_no_image(root: Path) -> None:
    train = {path.read_bytes() for path in (root / "coco/train2017").iterdir()}
    pretrain = {path.read_bytes() for path in root.glob("imagenet/train/*/*")}
    val = {path.read_bytes() for path in (root / "coco/val2017").iterdir()}
    assert not train & pretrain
    assert not val & (train | pretrain)


def test_finished_folder_is_reused(root: Path) -> None:
    before = (root / "meta.json").stat().st_mtime_ns
    assert not write_shapes(root, 12, 8, 4, seed=3, progress=False)
    assert (root / "meta.json").stat().st_mtime_ns == before


def test_folder_with_other_parameters_is_an_error(root: Path) -> None:
    with pytest.raises(FileExistsError, match="remove it to make it anew"):
        write_shapes(root, 13, 8, 4, seed=3, progress=False)


def test_scenes_can_be_sorted_by_the_colour_of_the_largest_object(tmp_path: Path) -> None:
    write_shapes(tmp_path / "colours", 12, 1, 4, seed=0, progress=False, classes="colour")
    found = {int(p.stem): p.parent.name for p in tmp_path.glob("colours/imagenet/train/*/*")}
    assert found == {i: SCENES[i].largest.colour for i in range(12)}


def test_folder_with_other_classes_is_an_error(root: Path) -> None:
    with pytest.raises(FileExistsError, match="'classes': 'colour'"):
        write_shapes(root, 12, 8, 4, seed=3, progress=False, classes="colour")


def test_unknown_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes 'size' is unknown: choose from"):
        write_shapes(tmp_path / "new", 2, 2, 2, progress=False, classes="size")


def test_foreign_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a shapes data set"):
        write_shapes(tmp_path, 2, 2, 2, progress=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_interrupted_run_leaves_no_finished_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("milan_mm.shapes.files._write_ade", stop)
        with pytest.raises(KeyboardInterrupt):
            write_shapes(tmp_path / "shapes", 2, 2, 2, progress=False)
    assert not (tmp_path / "shapes").exists()
    assert write_shapes(tmp_path / "shapes", 2, 2, 2, progress=False)
    assert json.loads((tmp_path / "shapes/meta.json").read_text())["num_val"] == 2
    assert not (tmp_path / "shapes.partial").exists()
