"""Graphs of an encoder serve another batch and another image size than their example."""

import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch

from milan_mm.encoder.export.graphs import Graph, load_graph, serves_any_size, write_graph
from tests.encoder.kinds import KINDS, OWN, encoder_of, images_of

SIZES = ((1, 4, 4), (3, 6, 5))
ANY_SIZE = [kind for kind in (*KINDS, *OWN) if kind != "beit"]


def compare(run, encoder, sizes=SIZES) -> None:
    for size in sizes:
        images = images_of(encoder, *size)
        with torch.no_grad():
            expected, found = Graph(encoder)(images), run(images)
        for ours, theirs in zip(expected, found, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ANY_SIZE)
def test_a_trace_serves_any_batch_and_any_size(kind: str, tmp_path: Path):
    encoder = encoder_of(kind, tmp_path)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # each is something settled
        traced = torch.jit.trace(Graph(encoder), images_of(encoder, 2, 4, 4), check_trace=False)
    assert "Device = prim::Constant" not in str(traced.inlined_graph)  # it runs on any
    compare(traced, encoder)


@pytest.mark.parametrize("kind", ["dinov2", "no class token"])
def test_an_encoder_itself_can_be_traced(kind: str, tmp_path: Path):
    encoder = encoder_of(kind, tmp_path)
    with torch.no_grad():
        traced = torch.jit.trace(encoder, images_of(encoder, 2, 4, 4), check_trace=False)
    images = images_of(encoder, 3, 5, 6)
    torch.testing.assert_close(traced(images)[3], encoder(images).feature_map, rtol=0, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("to", "name"), [("torch-export", "graph.pt2"), ("onnx", "graph.onnx")])
def test_a_file_serves_any_batch_and_any_size(to: str, name: str, tmp_path: Path):
    encoder = encoder_of("all in one block", tmp_path)
    write_graph(encoder, to, tmp_path / name)
    compare(load_graph(to, tmp_path / name), encoder)


def test_more_than_an_onnx_file_holds_is_refused_before_it_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("milan_mm.encoder.export.graphs.ONNX_BYTES", 1000)
    with pytest.raises(ValueError, match="take --to torch-export or torchscript"):
        write_graph(encoder_of("all in one block", tmp_path), "onnx", tmp_path / "graph.onnx")


def test_with_relative_position_bias_the_batch_is_free_and_the_size_is_its_own(tmp_path: Path):
    encoder = encoder_of("beit", tmp_path)
    assert not serves_any_size(encoder)
    for to, name in (("torchscript", "graph.pt"), ("torch-export", "graph.pt2")):
        write_graph(encoder, to, tmp_path / name)
        run = load_graph(to, tmp_path / name)
        compare(run, encoder, sizes=((1, 4, 4), (5, 4, 4)))
        with pytest.raises(Exception, match=r"."):
            run(images_of(encoder, 1, 6, 6))
    compare(Graph(encoder), encoder)  # and nothing of a graph is left in the encoder


@pytest.mark.long
def test_a_compiled_encoder_is_one_graph_for_all_sizes(tmp_path: Path):
    encoder = encoder_of("all in one block", tmp_path)
    graph = torch.compile(Graph(encoder), fullgraph=True, dynamic=True, backend="eager")
    compare(graph, encoder, sizes=((2, 4, 5), (3, 6, 5)))


def test_free_axes_of_an_onnx_file_have_readable_names(tmp_path: Path):
    encoder = encoder_of("dinov2", tmp_path)
    write_graph(encoder, "onnx", tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    width = encoder.embed_dims
    assert {
        value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())
    } == {
        "images": ["batch", 3, "height", "width"],
        "cls_token": ["batch", width],
        "registers": ["batch", encoder.num_registers, width],
        "patch_tokens": ["batch", "tokens", width],
        "feature_map": ["batch", width, "rows", "columns"],
    }
