"""k-NN accuracy of the encoder while it is pretrained: what a loss does not show."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, all_gather_object, all_reduce, get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import Subset

from milan_mm.datasets.folders import spread
from milan_mm.engine.sharding import gather_weights
from milan_mm.engine.undisturbed import undisturbed
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.registry import HOOKS
from milan_mm.run.errors import one_line
from milan_mm.weights.statistics import stats_text

if TYPE_CHECKING:
    from mmpretrain.datasets import CustomDataset

_TIMES = 20  # in a run, where no interval is given
_BEST = "knn_best"  # in mmengine's message hub, which checkpoints keep: [top-1 in %, epoch]
_FEATURE = "cls_token"  # every pretraining of `MILAN` has one
_TITLES = dict(train="training", val="validation")


@HOOKS.register_module()
class KnnHook(Hook):
    """Measures k-NN accuracy on labelled images before the training and after some epochs.

    The numbers are those of tools/knn.py on the checkpoint of the epoch. The training is not
    changed by it. Each process encodes its share of the images. Logged are `knn/top1`, `knn/top5`
    (in %, the latter from 5 classes on) and `knn/seconds`, at the iterations done so far.

    The first measurement reads every image, so what fails ends the run before it starts; later on,
    a measurement that fails is left out with a warning: none is worth a training.

    Args:
        data: Folder with train/CLASS/* and val/CLASS/*.
        interval: Epochs between two measurements; None makes about 20. The last epoch has one.
        limit: Most images of each split, spread evenly over it; None takes all.
        batch_size: Images that a process encodes at a time.
        num_workers: Processes that read images; None takes as many as the training has.

    Raises:
        MissingFileError, UserError: For images that cannot be used, before the training.
    """

    def __init__(
        self,
        data: str,
        interval: int | None = None,
        limit: int | None = None,
        batch_size: int = 64,
        num_workers: int | None = None,
    ) -> None:
        self.data = data
        self.interval = interval
        self.limit = limit
        self.batch_size = batch_size
        self.num_workers = num_workers

    def before_train(self, runner: Runner) -> None:
        """Look at the images, and measure what the training starts from; not in a resumed run."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError(
                f"KnnHook measures after epochs, the loop is {type(runner.train_loop).__name__}: "
                "use EpochBasedTrainLoop"
            )
        self.interval = self.interval or max(runner.max_epochs // _TIMES, 1)
        self._read(runner)
        if not runner.iter:
            self._log(runner, self._measure(runner), 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure when it is time; a failure of one process is that of all."""
        epoch = runner.epoch + 1
        if epoch % self.interval and epoch != runner.max_epochs:
            return
        try:
            self._log(runner, self._measure(runner), epoch)
        except Exception as error:
            is_defect = not isinstance(error, UserError)
            text = f"k-NN after epoch {epoch} is left out: {one_line(error)}"
            runner.logger.warning(text, exc_info=is_defect)

    def _read(self, runner: Runner) -> None:
        from milan_mm.evaluation.features import photo_notes
        from milan_mm.evaluation.knn import KnnSettings, read_images, val_labels

        for note in photo_notes(self.data):
            runner.logger.warning(f"--knn-data: {note}")
        self.settings, encoder = KnnSettings(), self._encoder(runner)
        size = encoder.grid_size[0] * encoder.patch_size
        train, val = read_images(self.data, size, self.settings)
        self.splits = dict(train=train, val=val)
        self.labels = dict(train=torch.as_tensor(train.get_gt_labels()), val=val_labels(train, val))
        self.chosen = {
            name: torch.tensor(spread(range(len(split)), min(len(split), self.limit or len(split))))
            for name, split in self.splits.items()
        }
        if self.settings.k > len(self.chosen["train"]):
            raise UserError(
                f"--knn-limit {self.limit} leaves {len(self.chosen['train'])} training images, and "
                f"{self.settings.k} neighbours vote: raise it"
            )

    def _measure(self, runner: Runner) -> dict[str, float]:
        """Accuracies in % and seconds.

        Raises:
            UserError: On all processes, when one could not read an image; what else fails on one
                is raised there, and told by this on the others.
        """
        started = time.monotonic()
        rank, world_size = get_dist_info()
        gather_weights(runner.model)
        encoder = self._encoder(runner)

        def encode() -> dict[str, Tensor]:
            with undisturbed(_plain(runner)):
                parts = (self._features(runner, encoder, n, rank, world_size) for n in self.splits)
                return dict(zip(self.splits, parts, strict=True))

        found = _together(encode)
        train = _gathered(found["train"], len(self.chosen["train"]), world_size)
        device, classes = next(encoder.parameters()).device, len(self.splits["train"].CLASSES)
        predicted = _together(lambda: self._predict(train.to(device), found["val"].to(device)))
        labels = self.labels["val"][self.chosen["val"][rank::world_size]]
        is_hit = predicted == labels[:, None]
        hits = torch.stack([is_hit[:, :1].any(1).sum(), is_hit.any(1).sum()]).double()
        all_reduce(hits)
        top1, top5 = (100 * hits / len(self.chosen["val"])).tolist()
        values = {"knn/top1": top1} | ({"knn/top5": top5} if classes >= 5 else {})
        return values | {"knn/seconds": time.monotonic() - started}

    def _predict(self, train: Tensor, val: Tensor) -> Tensor:
        from milan_mm.evaluation.voting import knn_predict

        return knn_predict(
            train,
            self.labels["train"][self.chosen["train"]].to(train.device),
            val,
            len(self.splits["train"].CLASSES),
            k=self.settings.k,
            temperature=self.settings.temperature,
        ).cpu()

    def _features(
        self, runner: Runner, encoder: PlainViT, name: str, rank: int, world_size: int
    ) -> Tensor:
        """(N, D) of this process's share of a split's images."""
        from milan_mm.evaluation.features import extract_features

        split: CustomDataset = self.splits[name]
        share = Subset(split, self.chosen[name][rank::world_size].tolist())
        workers = runner.train_dataloader.num_workers
        (features,) = extract_features(
            dict(encoder=_AllTokens(encoder)),
            share,
            (_FEATURE,),
            stats=self._stats(runner),
            batch_size=self.batch_size,
            num_workers=workers if self.num_workers is None else self.num_workers,
            title=f"k-NN, {_TITLES[name]} images",
            quiet=rank > 0 or not sys.stderr.isatty(),
        ).values()
        return features

    def _stats(self, runner: Runner) -> str:
        preprocessor = _plain(runner).data_preprocessor
        mean, std = ((v.flatten() / 255).tolist() for v in (preprocessor.mean, preprocessor.std))
        return stats_text(mean, std)

    def _encoder(self, runner: Runner) -> PlainViT:
        return _plain(runner).backbone

    def _log(self, runner: Runner, values: dict[str, float], epoch: int) -> None:
        runner.visualizer.add_scalars(values | dict(epoch=epoch, iter=runner.iter), runner.iter)
        best, when = runner.message_hub.get_info(_BEST, [-1.0, 0])
        if values["knn/top1"] > best:
            best, when = values["knn/top1"], epoch
            runner.message_hub.update_info(_BEST, [best, when])
        classes = len(self.splits["train"].CLASSES)
        images = " and ".join(
            f"{len(self.chosen[name]):,} of {len(split):,} {_TITLES[name]}"
            for name, split in self.splits.items()
        )
        top5 = f", top-5 {values['knn/top5']:.2f} %" if "knn/top5" in values else ""
        runner.logger.info(
            f"k-NN {_when(epoch)}: top-1 {values['knn/top1']:.2f} %{top5} (chance "
            f"{100 / classes:.2f} %), best so far {best:.2f} % {_when(when)}; {images} images of "
            f"{classes} classes, {values['knn/seconds']:.1f} s"
        )


class _AllTokens(nn.Module):
    """An encoder that returns all tokens, whatever its pretraining asks it for.

    Args:
        encoder: Kept out of the module tree, so that nobody trains or moves it by way of this.
    """

    def __init__(self, encoder: PlainViT) -> None:
        super().__init__()
        self._encoder = (encoder,)
        self.embed_dims, self.num_prefix_tokens = encoder.embed_dims, encoder.num_prefix_tokens

    def forward(self, imgs: Tensor) -> tuple[Tensor]:
        (encoder,) = self._encoder
        last = encoder.num_layers - 1
        return (encoder.ln1(encoder.tokens_after(imgs, [last])[last]),)


def _when(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "before the training"


def _plain(runner: Runner) -> Any:
    return unwrapped(runner.model)


def _together(step: Callable[[], Any]) -> Any:
    """What a step returns; if it fails on one process, all raise, who would wait for it else."""
    result, failure = None, None
    try:
        result = step()
    except Exception as error:
        failure = error
    texts = all_gather_object(failure and (one_line(failure) or repr(failure)))
    if failure:
        raise failure
    if elsewhere := next(filter(None, texts), None):
        raise UserError(elsewhere)
    return result


def _gathered(share: Tensor, total: int, world_size: int) -> Tensor:
    """(N, D) of all processes, of which each has every `world_size`-th row."""
    if world_size == 1:
        return share
    rows = -(-total // world_size)
    parts = all_gather(F.pad(share, (0, 0, 0, rows - len(share))))
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]
