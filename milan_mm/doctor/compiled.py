"""Every package with compiled code, by a call whose answer is known.

A package that imports may still fail at its first call: built for another numpy, for another
processor, or half overwritten by another package.
"""

import io
from collections.abc import Callable
from importlib import metadata

from milan_mm.doctor.fault import Fault, blame, import_quietly
from milan_mm.doctor.remedies import force


def check_compiled() -> str:
    """Call them all, as far as they are installed.

    Raises:
        Fault: Naming the first that fails.
    """
    called = []
    for distribution, call in CALLS.items():
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue  # optional, or in another package's line
        with blame(f"{distribution} does not work", force(distribution)):
            right = call()
        if not right:
            raise Fault(f"{distribution} gives wrong answers", force(distribution))
        called.append(distribution)
    return f"{len(called)} packages with compiled code give the known answers"


def _numpy() -> bool:
    np = import_quietly("numpy")
    return (np.eye(3) @ np.arange(3.0)).tolist() == [0, 1, 2]


def _torch() -> bool:
    torch = import_quietly("torch")
    images, weights = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    return torch.nn.functional.conv2d(images, weights).unique().tolist() == [4]


def _torchvision() -> bool:
    torch = import_quietly("torch")
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    nms = import_quietly("torchvision.ops").nms
    return nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


def _pillow() -> bool:
    image = import_quietly("PIL.Image")
    for kind in ("PNG", "JPEG"):
        image.new("RGB", (8, 8), (200, 0, 0)).save(file := io.BytesIO(), kind)
        with image.open(file) as read:
            if abs(read.convert("RGB").getpixel((4, 4))[0] - 200) > 4:
                return False
    return True


def _opencv() -> bool:
    cv2, np = import_quietly("cv2"), import_quietly("numpy")
    image = np.full((8, 8, 3), 7, np.uint8)
    done, data = cv2.imencode(".png", image)
    return bool(done) and (cv2.imdecode(data, cv2.IMREAD_COLOR) == image).all()


def _simplejpeg() -> bool:
    simplejpeg, np = import_quietly("simplejpeg"), import_quietly("numpy")
    data = simplejpeg.encode_jpeg(np.full((16, 16, 3), 100, np.uint8))
    return abs(int(simplejpeg.decode_jpeg(data)[8, 8, 0]) - 100) < 5


def _pycocotools() -> bool:
    mask, np = import_quietly("pycocotools.mask"), import_quietly("numpy")
    square = np.asfortranarray(np.ones((3, 3), np.uint8))
    return int(mask.area(mask.encode(square))) == 9


def _faster_coco_eval() -> bool:
    import_quietly("faster_coco_eval.faster_eval_api_cpp")
    mask, np = import_quietly("faster_coco_eval.core.mask"), import_quietly("numpy")
    square = np.asfortranarray(np.ones((3, 3), np.uint8))
    return int(mask.area(mask.encode(square))) == 9


def _safetensors() -> bool:
    torch, library = import_quietly("torch"), import_quietly("safetensors.torch")
    return library.load(library.save({"a": torch.arange(3)}))["a"].tolist() == [0, 1, 2]


def _scipy() -> bool:
    assignment = import_quietly("scipy.optimize").linear_sum_assignment
    return [int(i) for i in assignment([[1, 0], [0, 1]])[1]] == [1, 0]


def _matplotlib() -> bool:
    figure = import_quietly("matplotlib.figure").Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, "a")
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue().startswith(b"\x89PNG")


def _pyyaml() -> bool:
    return import_quietly("yaml").safe_load("a: [1]") == {"a": [1]}


def _regex() -> bool:  # of open_clip's tokenizer
    return import_quietly("regex").findall(r"\p{L}+", "a 1 b") == ["a", "b"]


def _shapely() -> bool:
    return import_quietly("shapely.geometry").box(0, 0, 2, 3).area == 6


def _scikit_learn() -> bool:
    neighbours = import_quietly("sklearn.neighbors").NearestNeighbors(n_neighbors=1)
    return neighbours.fit([[0.0], [5.0]]).kneighbors([[4.0]])[1].tolist() == [[1]]


def _onnxruntime() -> bool:
    return "CPUExecutionProvider" in import_quietly("onnxruntime").get_available_providers()


# mmcv has a check of its own. numba and scikit-image serve mmdet's `Corrupt` alone.
CALLS: dict[str, Callable[[], bool]] = {
    "numpy": _numpy,
    "torch": _torch,
    "torchvision": _torchvision,
    "pillow": _pillow,
    "opencv-python-headless": _opencv,
    "simplejpeg": _simplejpeg,
    "pycocotools": _pycocotools,
    "faster-coco-eval": _faster_coco_eval,
    "safetensors": _safetensors,
    "scipy": _scipy,
    "matplotlib": _matplotlib,
    "pyyaml": _pyyaml,
    "regex": _regex,
    "shapely": _shapely,
    "scikit-learn": _scikit_learn,
    "onnxruntime": _onnxruntime,
}
