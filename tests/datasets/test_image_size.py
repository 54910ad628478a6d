"""The head of an image file gives the size that the reader gives, however the photo is turned."""

import numpy as np
import pytest
from PIL import Image

from milan_mm.datasets.coco.images import wrong_size
from milan_mm.datasets.image_size import read_header
from milan_mm.datasets.loading import LoadImage, decode
from milan_mm.errors import UserError

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_the_size_is_that_of_the_decoded_image(tmp_path, ending, orientation):
    path = tmp_path / f"a.{ending}"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif(orientation))
    header = read_header(path)
    height, width = decode(path.read_bytes()).shape[:2]
    assert (header.width, header.height) == (width, height)
    assert header.turned == (5 <= orientation <= 8)


def test_a_turn_that_only_xmp_states_is_not_applied_to_a_jpeg(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", xmp=XMP)
    header = read_header(tmp_path / "a.jpg")
    assert decode((tmp_path / "a.jpg").read_bytes()).shape[:2] == (header.height, header.width)


def test_a_file_that_is_no_image_has_no_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert read_header(tmp_path / "a.jpg") is read_header(tmp_path / "gone.jpg") is None


@pytest.mark.parametrize(
    ("orientation", "stated", "message"),
    [
        (1, (32, 24), ""),
        (6, (24, 32), ""),
        (6, (32, 24), "has 24x32 pixels, not 32x24 as annotated: it is stored as 32x24 and shown"),
        (1, (24, 32), "has 32x24 pixels, not 24x32 as annotated: take the images that were"),
        (1, (64, 48), "has 32x24 pixels, not 64x48 as annotated: take the images that were anno"),
    ],
)
def test_a_size_that_differs_is_explained(tmp_path, orientation, stated, message):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif(orientation))
    found = wrong_size(tmp_path / "a.jpg", dict(width=stated[0], height=stated[1]))
    assert found.startswith(message) and bool(found) == bool(message)


def test_an_image_of_another_size_than_annotated_is_no_sample(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 24)).save(path)
    stated = dict(img_path=str(path), width=32, height=24)
    load = LoadImage()
    assert load.transform(stated)["img"].shape == (24, 32, 3)
    with pytest.raises(
        UserError, match=r"a\.png' .*it has 32x24 pixels, and is annotated as 24x32"
    ):
        load.transform(stated | dict(width=24, height=32))
    load.num_images.values.fill_(1000)  # as in training
    assert load.transform(stated | dict(width=24, height=32)) is None
