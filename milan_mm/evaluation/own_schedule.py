"""Another length or rate of the trainings of an evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass

from milan_mm.errors import UserError
from milan_mm.evaluation.tasks import TASKS
from milan_mm.evaluation.tasks import trained as trained_tasks
from milan_mm.run.run_options import RunOptions


@dataclass(frozen=True)
class OwnSchedule:
    """Another length or rate than that of the recipes.

    Attributes:
        epochs, iters: Of recipes that count epochs, and of those that count updates.
        lr: For the total batch.
    """

    epochs: int | None = None
    iters: int | None = None
    lr: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.epochs, self.iters, self.lr))

    def check(self, tasks: Iterable[str], protocol: str) -> None:
        """Check that every option applies, and to every task that is trained.

        Raises:
            UserError: When it does not.
        """
        if not self:
            return
        trained = trained_tasks(tasks)
        if protocol == "short":
            raise UserError("--epochs, --iters and --lr need --protocol paper: 'short' has its own")
        if not trained:
            raise UserError("--epochs, --iters and --lr are for trainings: --tasks has none")
        if self.lr is not None and len(trained) > 1:
            raise UserError(
                f"--lr {self.lr:g} is for one task, and --tasks trains {', '.join(trained)}: their "
                "rates differ by orders of magnitude; evaluate one at a time"
            )
        if self.epochs is None and self.iters is None:
            return
        for unit, other in (("epochs", "iters"), ("iters", "epochs")):
            counting = [task for task in trained if TASKS[task].unit == unit]
            given, others = getattr(self, unit), getattr(self, other)
            if counting and given is None:
                raise UserError(
                    f"--{other} {others} would leave {', '.join(counting)} at full length, which "
                    f"counts --{unit}: add --{unit} N, or leave it out of --tasks"
                )
            if given is not None and not counting:
                raise UserError(
                    f"--{unit} {given} applies to none of {', '.join(trained)}: pass --{other} N"
                )

    def options_for(self, task: str) -> RunOptions:
        """Those of one training."""
        length = (
            dict(epochs=self.epochs) if TASKS[task].unit == "epochs" else dict(iters=self.iters)
        )
        return RunOptions(lr=self.lr, **length)  # type: ignore[arg-type]
