"""Features on the disk: the right numbers, computed once, mapped, and whole after any accident."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from milan_mm.errors import UserError
from milan_mm.evaluation.encoders import load_frozen_encoder
from milan_mm.evaluation.features import extract_features, read_image_folder
from milan_mm.evaluation.frozen import extraction, store_writer
from milan_mm.evaluation.frozen import store as store_module
from milan_mm.evaluation.frozen.extraction import Preparation, extract_folder
from milan_mm.evaluation.frozen.spec import FeatureSpec, Needs
from milan_mm.evaluation.frozen.store import Store, find_store
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state, tiny_vit

PREPARATION = Preparation(32, num_workers=0, batch_size=2)
NUM_IMAGES, BLOCKS, WIDTH = 7, (1, 2), 48
SPEC = FeatureSpec(
    *("a.pth", "0a" * 32, "e", "d", NUM_IMAGES, "val", 32, 0.875, "imagenet"),
    needs=Needs(BLOCKS, ("cls_token", "avg")),
    width=WIDTH,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three and four noisy images of two classes."""
    rng = np.random.default_rng(0)
    for name, count in (("cat", 3), ("dog", 4)):
        (tmp_path / "val" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"val/{name}/{i}.png")
    return tmp_path


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return read_encoder(save_state(tiny_vit().state_dict(), tmp_path), num_heads=4)


@pytest.fixture
def extract(
    images: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Store]:
    """Extracts the features of two blocks, in parts of three images."""
    monkeypatch.setattr(store_module, "_PART_BYTES", 3 * len(BLOCKS) * WIDTH * 4)

    def run(
        blocks=(-2, -1), poolings=("avg", "cls_token"), encoder=encoder, **preparation
    ) -> Store:
        prepared = replace(PREPARATION, **preparation)
        (store,) = extract_folder(
            encoder, images, ["val"], blocks, poolings, prepared, tmp_path / "out"
        )
        return store

    return run


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that went through an encoder."""
    sizes: list[int] = []
    original = extraction.pooled

    def counted(vit, imgs, *rest):
        sizes.append(len(imgs))
        return original(vit, imgs, *rest)

    monkeypatch.setattr(extraction, "pooled", counted)
    return sizes


def test_features_are_those_of_each_block_after_the_final_norm(extract, images, encoder):
    store = extract()
    vit, _ = load_frozen_encoder(encoder)
    dataset = read_image_folder(images, "val", 32, 0.875)
    known = extract_features(dict(vit=vit), dataset, ("cls_token", "avg"), num_workers=0)
    for pooling in ("cls_token", "avg"):
        found = store.read(pooling)
        assert found.features.shape == (NUM_IMAGES, len(BLOCKS), WIDTH)
        torch.testing.assert_close(F.normalize(found.last, dim=1), known["vit", pooling])
        assert torch.equal(load_file(store.file(pooling))["features"], found.features)
    (imgs,) = extraction.normalised_batches(dataset, "imagenet", NUM_IMAGES, 0)
    expected = vit.ln1(vit.tokens_after(imgs, (1,))[1])[:, 0]
    torch.testing.assert_close(store.read("cls_token").of_blocks((1,)).last, expected)


def test_labels_and_names_are_those_of_the_images(extract):
    found = extract().read("avg")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (found.classes, found.names[3]) == (("cat", "dog"), "dog/0.png")


def test_reading_maps_the_file_and_does_not_copy_it(extract):
    found = extract().read("avg")
    maps = Path("/proc/self/maps").read_text().splitlines()
    address = found.features.data_ptr()
    (line,) = [
        line
        for line in maps
        if int(line.split("-")[0], 16) <= address < int(line.split()[0].split("-")[1], 16)
    ]
    assert line.endswith("avg.safetensors")


def test_what_is_there_is_not_computed_again(extract, computed):
    first = extract()
    assert sum(computed) == NUM_IMAGES
    assert extract().folder == first.folder
    assert extract(blocks=(-1,), poolings=("avg",)).folder == first.folder  # is part of it
    assert sum(computed) == NUM_IMAGES
    extract(dtype="float16")
    assert sum(computed) == 2 * NUM_IMAGES


def test_an_interrupted_extraction_goes_on_after_its_last_whole_part(
    extract, computed, monkeypatch
):
    whole = extract(crop_pct=1.0)
    computed.clear()
    batches = extraction.normalised_batches

    def interrupted(*arguments) -> Iterator[torch.Tensor]:
        for i, imgs in enumerate(batches(*arguments)):
            if i == 2:  # after four images: one part and a third
                raise KeyboardInterrupt
            yield imgs

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(extraction, "normalised_batches", interrupted)
        extract()
    with pytest.raises(UserError, match="no features yet of 4 of 7 images: the same command"):
        (folder,) = {p.parent for p in whole.folder.parent.glob("*/manifest.json")} - {whole.folder}
        Store.open(folder).read("avg")
    computed.clear()
    store = extract()
    assert sum(computed) == 4 and store.is_complete
    (store.folder / "manifest.json").unlink()
    again = extract()
    assert torch.equal(again.read("avg").features, store.read("avg").features)


def test_a_copy_of_the_weights_file_goes_on_where_the_original_was(extract, encoder, computed):
    store = extract()
    store.parts[0] = None  # as an interrupted process leaves it, or one that writes at this moment
    store.save()
    computed.clear()
    copied = Path(encoder.source).with_name("copy.pth")
    copied.write_bytes(Path(encoder.source).read_bytes())
    assert extract(encoder=replace(encoder, source=str(copied))).folder == store.folder
    assert sum(computed) == 3


def test_only_a_damaged_part_is_computed_again(extract, computed, capsys):
    store = extract()
    before = store.read("avg").features.clone()
    content = bytearray(store.file("avg").read_bytes())
    content[-1] ^= 1  # of the last part, which has one image
    store.file("avg").write_bytes(content)
    computed.clear()
    again = extract()
    assert computed == [1]
    assert "1 of 3 parts of" in capsys.readouterr().err
    assert torch.equal(again.read("avg").features, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_sha256", "0b" * 32),
        ("encoder_hash", "f"),
        ("data_hash", "e"),
        ("num_images", 8),
        ("split", "train"),
        ("img_size", 64),
        ("crop_pct", 1.0),
        ("stats", "clip"),
        ("width", 64),
        ("precision", "bfloat16"),
        ("dtype", "float16"),
        ("package", "0"),
        ("needs", Needs((0, 1), ("avg",))),
    ],
)
def test_features_are_reused_only_if_every_field_agrees(tmp_path, name, value):
    store = Store(tmp_path / SPEC.folder, SPEC, [{}])
    store.folder.mkdir()
    store.save()
    assert find_store(tmp_path, replace(SPEC, weights="copy.pth", needs=Needs((2,), ("avg",))))
    other = replace(SPEC, **{name: value})
    assert find_store(tmp_path, other) is None
    assert other.folder != SPEC.folder


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1, "spec": {}, "parts": []}', "[]"])
def test_a_foreign_or_damaged_manifest_is_one_line(tmp_path, content):
    with pytest.raises(FileNotFoundError, match=r"not a folder of features, .*tools/extract\.py"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="is damaged, or of another version of milan_mm: remove"):
        Store.open(tmp_path)
    assert find_store(tmp_path.parent, SPEC) is None


def test_a_disk_that_is_too_small_is_said_before_any_image_is_read(extract, computed, monkeypatch):
    monkeypatch.setattr(store_writer, "free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match=r"features need 0\.0 MiB, .* free: .*--dtype float16,"):
        extract()
    assert not computed


@pytest.mark.parametrize(
    ("scale", "dtype", "message"),
    [(1e6, "float16", "exceed 65504, the largest number"), (float("nan"), "float32", "not finite")],
)
def test_features_that_are_no_numbers_name_the_image(extract, encoder, scale, dtype, message):
    encoder.state_dict["ln1.bias"] += scale
    with pytest.raises(UserError, match=rf"cat/0\.png.*{message}"):
        extract(dtype=dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(blocks=(3,)), "--blocks 3: .* has blocks 0 to 2; -1 is the last"),
        (dict(blocks=(-4,)), "--blocks -1: .* has blocks 0 to 2"),
        (dict(img_size=30), "--img-size 30: patches of 8 pixels do not divide it"),
    ],
)
def test_wrong_settings_are_refused(extract, computed, options, message):
    with pytest.raises(UserError, match=message):
        extract(**options)
    assert not computed


def test_a_class_token_that_is_not_there_is_refused(images, tmp_path):
    file = save_state(tiny_vit(with_cls_token=False).state_dict(), tmp_path, "dense.pth")
    arguments = read_encoder(file, num_heads=4), images, ["val"], [-1]
    with pytest.raises(UserError, match=r"dense\.pth has no class token: .* --pooling avg"):
        list(extract_folder(*arguments, ["cls_token"], PREPARATION, tmp_path / "out"))
    (store,) = extract_folder(*arguments, None, PREPARATION, tmp_path / "out")
    assert store.spec.needs.poolings == ("avg",)
