"""A config written for GPUs runs on the machine at hand."""

import pytest
import torch
from mmengine.config import Config

from milan_mm.run import machine
from milan_mm.run.machine import check_precision, fit_to_machine
from milan_mm.run.processes import check_gloo, world_size


def _config() -> Config:
    norm = dict(type="SyncBN", requires_grad=True)
    return Config(
        dict(
            model=dict(head=dict(norm_cfg=norm), heads=[dict(norm_cfg=norm)]),
            env_cfg=dict(dist_cfg=dict(backend="nccl")),
            find_unused_parameters=True,
        )
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_sync_bn_becomes_bn_where_there_is_no_gpu():
    cfg = _config()
    assert fit_to_machine(cfg, "none") == ["no GPU: 2 SyncBN setting(s) replaced by BN"]
    assert cfg.model.head.norm_cfg == dict(type="BN", requires_grad=True)
    assert cfg.model.heads[0].norm_cfg.type == "BN"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_left_to_cpus_that_multiply_in_it(monkeypatch: pytest.MonkeyPatch, fast: bool):
    monkeypatch.setattr(machine, "has_fast_bfloat16", lambda: fast)
    cfg = Config(
        dict(
            model={},
            optim_wrapper=dict(
                type="milan_mm.BFloat16OptimWrapper", modules=["backbone"], clip_grad=None
            ),
        )
    )
    before = cfg.optim_wrapper.to_dict()
    notes = fit_to_machine(cfg, "none")
    expected = before if fast else dict(type="OptimWrapper", clip_grad=None)
    assert cfg.optim_wrapper == expected
    assert any("float32 instead" in note for note in notes) == (not fast)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("kind", ["OptimWrapper", "mmengine.OptimWrapper"])
def test_a_recipe_of_bfloat16_may_be_trained_in_float32(kind: str):
    cfg = Config(dict(model={}, optim_wrapper=dict(type=kind, modules=["backbone"])))
    (note,) = fit_to_machine(cfg, "none")
    assert cfg.optim_wrapper == dict(type=kind)
    assert "OptimWrapper takes the whole model" in note


@pytest.mark.usefixtures("no_gpu")
def test_float16_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="float16, which needs a GPU"):
        check_precision(Config(dict(optim_wrapper=dict(type="mmengine.AmpOptimWrapper"))))


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_without_bfloat16_is_told_of_float16(
    monkeypatch: pytest.MonkeyPatch, supported: bool
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "V100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    cfg = Config(dict(model={}, optim_wrapper=dict(type="milan_mm.BFloat16OptimWrapper")))
    notes = fit_to_machine(cfg, "none")
    assert [note.startswith("V100 has no units for bfloat16") for note in notes] == (
        [] if supported else [True]
    )


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_cpu_processes_use_gloo_and_keep_the_ddp_setting(launcher: str):
    cfg = _config()
    fit_to_machine(cfg, launcher)
    assert cfg.env_cfg.dist_cfg.backend == "gloo"
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True


@pytest.mark.usefixtures("no_gpu")
def test_mpi_without_gpus_is_refused_with_the_alternative():
    with pytest.raises(ValueError, match=r"--launcher mpi needs GPUs.*dist_train\.sh"):
        fit_to_machine(_config(), "mpi")


def test_gpus_keep_the_config(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    cfg = _config()
    assert fit_to_machine(cfg, "pytorch") == []
    assert cfg.env_cfg.dist_cfg.backend == "nccl"
    assert cfg.model.head.norm_cfg.type == "SyncBN"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"3 processes on a machine with 2 GPU"):
        fit_to_machine(cfg, "pytorch")


def test_a_launcher_without_its_environment_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is not set"):
        world_size("pytorch")
    assert world_size("none") == 1


def test_workers_end_with_their_process_unless_the_config_starts_them_its_own_way():
    own = dict(type="mine")
    cfg = Config(
        dict(
            model={},
            randomness=dict(seed=3),
            train_dataloader=dict(batch_size=2),
            val_dataloader=dict(worker_init_fn=own),
        )
    )
    fit_to_machine(cfg, "none")
    assert cfg.train_dataloader.worker_init_fn == dict(type="milan_mm.init_worker", seed=3)
    assert cfg.val_dataloader.worker_init_fn == own


@pytest.mark.parametrize("address", ["127.0.1.1", OSError("unknown name")])
def test_machines_that_would_look_for_each_other_at_home_are_refused(
    monkeypatch: pytest.MonkeyPatch, address: str | OSError
):
    def look_up(_: str) -> str:
        if isinstance(address, OSError):
            raise address
        return address

    monkeypatch.setattr("socket.gethostbyname", look_up)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="set GLOO_SOCKET_IFNAME to the network interface"):
        check_gloo()
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    check_gloo()
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # one machine
    check_gloo()
