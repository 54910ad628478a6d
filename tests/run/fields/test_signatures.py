"""Which arguments a class reads: its own, and those of bases that its `**kwargs` go to."""

from mmengine.hooks import CheckpointHook
from torch.optim import AdamW

from milan_mm.run.fields.signatures import arguments_of


class Base:
    def __init__(self, first: int, second: int = 0) -> None:
        self.first, self.second = first, second


class HandsOn(Base):
    def __init__(self, third: int, **kwargs: int) -> None:
        super().__init__(**kwargs)
        self.third = third


class ReadsItself(Base):
    def __init__(self, **kwargs: int) -> None:
        self.other = kwargs.pop("other", 0)
        super().__init__(**kwargs)


class Delegates(Base):
    def __init__(self, **kwargs: bool) -> None:
        super().__init__(1)
        function("one", **kwargs)


class Inherits(HandsOn):
    """Has no arguments of its own."""


def function(name: str, *, flag: bool = False) -> None:
    """A function."""


def test_arguments_handed_on_are_those_of_the_base():
    for cls in (HandsOn, Inherits):
        assert arguments_of(cls) == ({"first", "second", "third"}, False)


def test_arguments_handed_to_a_function_are_those_of_the_function():
    assert arguments_of(Delegates) == ({"name", "flag", "first", "second"}, False)


def test_a_class_that_reads_kwargs_itself_takes_any():
    assert arguments_of(ReadsItself) == ({"first", "second"}, True)


def test_functions_and_optimizers_have_arguments_too():
    assert arguments_of(function) == ({"name", "flag"}, False)
    names, is_open = arguments_of(AdamW)
    assert {"params", "lr", "betas", "weight_decay", "fused"} <= names and not is_open


def test_what_the_checkpoint_hook_would_hand_to_the_first_save_is_closed():
    names, is_open = arguments_of(CheckpointHook)
    assert not is_open and "interval" in names and "intervall" not in names
