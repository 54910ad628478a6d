"""The benchmark of frozen features runs, and its arithmetic is that of the formulas."""

from benchmarks import frozen


def test_it_prints_a_row_for_each_size_and_what_imagenet_takes(capsys):
    frozen.main(["--scale", "0.01"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["200", "10", "192"],
        ["400", "10", "192"],
        ["200", "100", "192"],
        ["200", "10", "384"],
    ]
    assert "3.7 GiB in float32, 1.8 GiB in float16" in lines[-3]
    assert "98 TFLOP in one pass" in lines[-2]
