"""What a training is said to need: against the committed measurements, and that it moves as it should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from studio.estimates import (
    Pace,
    Situation,
    case_of,
    changes,
    duration_of,
    fitting,
    gigabytes,
    memory,
    training_cost,
    ways,
    work,
)
from studio.method_configs import METHOD_CONFIGS, EsdConfig
from studio.method_times import AT_ONCE, is_counted, method_cost, method_time
from studio.settings import Settings
from studio.shapes import calibration, shape_of, table_shape
from studio.training_configs import DuoConfig

NAMES = list(calibration()["shapes"])
CASES = calibration()["measured"]
GB = 1e9


def situation(name: str = "sd1", device: str = "cpu", **changes: object) -> Situation:
    return Situation(table_shape(name), device, **changes)  # type: ignore[arg-type]


def peak(config: DuoConfig, where: Situation) -> float:
    return memory(config, where).peak


def config_of(**values: object) -> DuoConfig:
    return DuoConfig.model_validate({"batch_size": 4, "sample_every": 0, **values})


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_estimate_is_within_the_stated_error_of_every_measurement(number: int) -> None:
    case = CASES[number]
    estimate = memory(*case_of(case, calibration()["shapes"]))
    assert estimate.error is not None
    assert estimate.error <= 0.2, "an estimate this far off helps nobody"
    assert estimate.peak == pytest.approx(case["peak"], rel=estimate.error)
    assert f"± {estimate.error:.0%}" in estimate.basis


def test_the_growth_over_the_resting_process_is_followed_too() -> None:
    """Weights make most of a large model's memory: what a step adds must be right as well, in the middle."""
    off = []
    for case in CASES:
        config, where = case_of(case, calibration()["shapes"])
        if config.park_in_a_file:
            continue
        added = case["peak"] - case["before"]
        off.append(abs(peak(config, where) - case["before"] - added) / added)
    assert sorted(off)[len(off) // 2] < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_more_pairs_and_more_pixels_need_more(name: str) -> None:
    for checkpointing in (False, True):
        peaks = [
            peak(config_of(batch_size=n, gradient_checkpointing=checkpointing), situation(name)) for n in (1, 2, 4)
        ]
        assert peaks == sorted(set(peaks))
        sides = [
            replace(situation(name), shape=replace(table_shape(name), resolution=side))
            for side in (64, 256, 384, 512, 640, 1024, 1536)
        ]
        for measure in (peak, work):
            grown = [measure(config_of(gradient_checkpointing=checkpointing), where) for where in sides]
            assert grown == sorted(set(grown))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", NAMES)
def test_each_switch_lowers_what_is_needed(name: str, device: str) -> None:
    where, plain = situation(name, device), config_of(noise_bank=64, batch_size=16)
    before = peak(plain, where)
    switches = [{"gradient_checkpointing": True}, {"micro_batch_size": 1}]
    switches += [{"park_in_a_file": True}, {"noise_bank": 0}] if device == "cpu" else []
    for switch in switches:
        assert peak(plain.model_copy(update=switch), where) < before, switch
    half = replace(where, dtype="bfloat16")
    assert peak(plain, half) < before or where.half
    more = [config_of(layers=layers) for layers in ("self-attention", "attention", "attention+ff", "all")]
    assert [peak(one, where) for one in more] == sorted(peak(one, where) for one in more)
    assert peak(config_of(rank=64), where) >= peak(config_of(), where)


def test_pictures_and_loading_count_where_they_need_most() -> None:
    small = config_of(batch_size=1, gradient_checkpointing=True, park_in_a_file=True)
    large = situation("sd3")
    assert memory(small, large).phase == "training"
    drawn = memory(small.model_copy(update={"sample_every": 50}), large)
    assert drawn.phase == "drawing sample pictures"
    assert drawn.peak > peak(small, large)
    shape = replace(table_shape("flux"), resolution=256)
    flux = memory(small, Situation(shape, "cuda"))
    assert flux.phase == "loading the checkpoint", "T5 is on the GPU before it is parked"
    assert flux.peak > 2 * sum(table_shape("flux").weights.values())


def test_processes_share_the_batch_but_on_a_cpu_the_memory_too() -> None:
    config = config_of(batch_size=8)
    assert peak(config, situation(device="cuda", processes=2)) < peak(config, situation(device="cuda"))
    assert peak(config, situation(processes=2)) > peak(config, situation())
    assert work(config, situation(processes=2)) == work(config, situation()) / 2


def test_what_was_not_measured_is_said() -> None:
    on_gpu = memory(config_of(), situation(device="cuda"))
    assert on_gpu.error is None
    assert "not measured on a GPU: the error is unknown there" in on_gpu.basis
    for name in ("sd2", "flux"):
        counted = memory(config_of(), Situation(table_shape(name), "cpu"))
        assert counted.error is None
        assert "was counted and not measured: the error is unknown there" in counted.basis
    other = Situation(replace(table_shape("sd1"), exact=False), "cpu")
    assert memory(config_of(), other).error is None
    assert "scaled from another network of its family, error unknown" in memory(config_of(), other).basis


# -- what fits


def test_the_cheapest_switches_that_fit_are_found() -> None:
    where, config = situation("sd1", "cuda"), config_of(batch_size=8)
    assert fitting(config, where, 1000 * GB) == config
    order = [peak(way, where) for way in ways(config, where)]
    for room in (24 * GB, 12 * GB, min(order)):
        way = fitting(config, where, room)
        assert way is not None
        assert peak(way, where) <= room
        assert set(changes(config, way)) <= {"micro_batch_size", "gradient_checkpointing", "noise_bank"}
    first = fitting(config, where, order[1])
    assert first is not None
    assert not first.gradient_checkpointing, "smaller parts cost less time than computing twice"
    assert fitting(config, where, min(order) - 1) is None


def test_a_shared_base_needs_its_share_of_each_device() -> None:
    small, where = config_of(gradient_checkpointing=True), situation("flux", "cuda", processes=4)
    whole, part = memory(small, where), memory(small.model_copy(update={"shard_base": True}), where)
    weights = table_shape("flux").weights["denoiser"]
    assert part.parts["weights"] == pytest.approx(2 * (weights / 4 + table_shape("flux").gathered))
    assert part.parts["weights"] < 0.4 * whole.parts["weights"]
    assert part.peak < whole.peak - weights, "it is never on the device as a whole, half a number a parameter"
    assert (part.error, "not measured" in part.basis) == (None, True)


def test_processes_keep_their_share(settings: Settings) -> None:
    for way in ways(config_of(batch_size=8), situation("sd1", "cuda", processes=4)):
        assert way.micro_batch_size in (0, 1)
        assert way.batch_size == 8


# -- time


def test_time_is_by_an_earlier_training_or_by_operations_or_unknown() -> None:
    config, where = config_of(steps=100), situation()
    assert duration_of(config, where, [Pace(training_cost(config, where), 50.0)]).seconds == pytest.approx(50.0)
    twice = duration_of(config_of(steps=200), where, [Pace(training_cost(config, where), 50.0)])
    assert (twice.seconds, twice.source) == (pytest.approx(100.0), "earlier")
    counted = duration_of(config, where, [], matmul=1e11)
    assert counted.source == "flops"
    assert counted.seconds is not None
    assert duration_of(config, where, [], matmul=2e11).seconds == pytest.approx(counted.seconds / 2)
    assert duration_of(config, situation(device="cuda"), [], None).seconds is None
    banked = config_of(steps=1000, noise_bank=4)
    assert work(banked, where) < work(config_of(steps=1000), where)
    drawing = duration_of(config_of(steps=100, sample_every=10), where, [], matmul=1e11)
    assert drawing.seconds is not None
    assert drawing.seconds > counted.seconds


def test_measured_steps_took_what_their_operations_say() -> None:
    fit = calibration()["fit"]
    for case in CASES:
        config, where = case_of(case, calibration()["shapes"])
        estimate = duration_of(config, where, [], matmul=case["rate"])
        assert estimate.seconds is not None
        assert case["seconds"] / (1 + fit["time_error"]) <= estimate.seconds * 1.001
        assert estimate.seconds <= case["seconds"] * (1 + fit["time_error"]) * 1.001


# -- shapes


def test_the_embedded_checkpoint_is_in_the_table(settings: Settings) -> None:
    shape = shape_of("toybox", settings.toybox)
    assert shape is not None
    assert (shape.name, shape.exact, shape.resolution) == ("toybox", True, 64)
    assert shape.weights["denoiser"] == table_shape("toybox").weights["denoiser"]


def test_another_network_of_a_family_is_scaled(tiny_folder: Path) -> None:
    shape = shape_of(str(tiny_folder), tiny_folder)
    assert shape is not None
    assert not shape.exact
    assert shape.resolution == 64
    assert 0 < shape.weights["denoiser"] < table_shape("sd1").weights["denoiser"] / 50
    assert shape.activations["kept"][0] < table_shape(shape.name).activations["kept"][0]


def test_configurations_alone_name_the_published_shapes(tmp_path: Path) -> None:
    for name, folder in (("sd1", "v1"), ("sd2", "v2"), ("sdxl", "xl_base"), ("sd3", "sd3")):
        shape = shape_of(str(Settings.toybox.parents[1] / "configs" / folder), tmp_path)
        assert shape is not None
        assert (shape.name, shape.exact) == (name, True)
    sd35 = shape_of(str(Settings.toybox.parents[1] / "configs" / "sd35_large"), tmp_path)
    assert sd35 is not None
    assert not sd35.exact


def test_a_hub_name_is_known_or_not(tmp_path: Path) -> None:
    known = shape_of("black-forest-labs/FLUX.1-dev", tmp_path)
    assert known is not None
    assert known.name == "flux"
    assert known.large
    assert shape_of("somebody/something", tmp_path) is None
    assert shape_of(str(tmp_path / "gone"), tmp_path) is None


@pytest.mark.parametrize(
    ("tensors", "name"),
    [
        (["cond_stage_model.transformer.a"], "sd1"),
        (["cond_stage_model.model.a"], "sd2"),
        (["conditioner.embedders.1.model.a"], "sdxl"),
        ([f"model.diffusion_model.joint_blocks.{n}.a" for n in range(24)], "sd3"),
        (["something.else"], None),
    ],
)
def test_one_file_is_told_by_its_header(tmp_path: Path, tensors: list[str], name: str | None) -> None:
    header = json.dumps({key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for key in tensors}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    shape = shape_of(str(file), tmp_path)
    assert (shape.name if shape else None) == name


def test_sizes_are_read_easily() -> None:
    assert [gigabytes(count) for count in (0.5e9, 7.94e9, 21.3e9)] == ["0.5 GB", "7.9 GB", "21 GB"]


# -- other methods


@pytest.mark.parametrize("number", range(len(calibration()["methods"])))
def test_the_time_of_a_method_is_within_the_stated_error_of_what_was_measured(number: int) -> None:
    row = calibration()["methods"][number]
    config = METHOD_CONFIGS[row["method"]].model_validate({**row["values"], "sample_every": 0})
    assert is_counted(config)
    found = method_time(config, situation(row["shape"], dtype="float32"), (), row["rate"])
    assert found.error == calibration()["fit"]["time_error"]
    assert found.seconds == pytest.approx(row["seconds"], rel=found.error)


def test_an_earlier_training_by_the_method_sets_its_pace() -> None:
    short, long = EsdConfig(steps=100, sample_every=0), EsdConfig(steps=300, sample_every=0)
    where = situation("sd1", "cuda")
    assert method_time(long, where, ()).seconds is None, "nothing is known of a GPU before"
    found = method_time(long, where, [Pace(method_cost(short, where), 10.0)])
    assert found.source == "earlier"
    assert found.seconds == pytest.approx(10 * method_cost(long, where) / method_cost(short, where))
    assert 10 < found.seconds < 30


def test_as_many_are_sampled_at_once_as_the_bundle_does() -> None:
    from models.bundle import PICTURE_BATCH

    assert AT_ONCE == PICTURE_BATCH
