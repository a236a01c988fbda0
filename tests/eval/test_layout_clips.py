"""Clips of a tiny world in the layouts, and folders of others: what is checked and what is computed."""

import json

import numpy as np
import pytest
import torch

from vidar.configs.catalog import find, find_world
from vidar.data.video import read_video, write_video
from vidar.eval.layout_clips import ExportRequest, export, import_layout
from vidar.eval.layouts import SCRIPTS
from vidar.eval.vbench_native import native_scores
from vidar.model.load import save
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny untrained world with the keys of doom and a start clip, and an inverse-dynamics model of its size."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("world")
    config = find_world(find("world_doom")(preset="tiny"))
    save(config.build(), folder / "model", torch.float32)
    start = np.random.default_rng(0).integers(0, 256, (4, config.height, config.width, 3), dtype=np.uint8)
    write_video(folder / "model" / "start.mp4", start, config.fps)
    groups = {
        "turning": KeyGroup(classes=(("TURN_LEFT",), ("TURN_RIGHT",))),
        "forward": KeyGroup(classes=(("MOVE_FORWARD",),)),
    }
    net = InverseDynamicsNetConfig(
        spec=config.spec, groups=groups, height=config.height, width=config.width, before=2, after=1
    ).build()
    with torch.no_grad():  # sees MOVE_FORWARD and TURN_LEFT in every frame
        net.out.weight.zero_()
        net.out.bias.copy_(torch.tensor([0.0, 1, 0, 0, 1]))
    net.save_pretrained(folder / "idm")
    return folder


SOME = ("forward", "forward_camera_l", "camera_l", "camera_r", "none")


def test_gameworld(world, tmp_path):
    out = tmp_path / "clips"
    ask = {"model": str(world / "model"), "layout": "gameworld", "out": str(out), "workers": 2}
    made = export(ExportRequest(**ask, actions=(*SOME[:3], "jump", "camera_up")))
    assert made["clips"] == made["made"] == 3 and made["left_out"] == ["jump", "camera_up"]
    files = ["0_forward.mp4", "21_forward_camera_l.mp4", "69_camera_l.mp4"]
    assert sorted(file.name for file in out.glob("*.mp4")) == files
    assert {len(read_video(out / name)[0]) for name in files} == {65}
    assert export(ExportRequest(**ask, actions=SOME[:3]))["made"] == 0
    found = import_layout(out, "gameworld", world / "idm")
    assert (found["clips"], found["good"], found["problems"]) == (3, 3, [])
    assert found["frames_read"] == 3 * 62  # of 65, two before and one after cannot be judged
    # "forward" and "camera_l" are commanded in two clips each; the reader always sees both
    assert found["keyboard"] == {"forward_back": 2 / 3, "mean": 2 / 3} and found["camera"] == 2 / 3
    each = [native_scores(*read_video(out / name)) for name in files]
    assert found["scores"] == {name: sum(one[name] for one in each) / 3 for name in each[0]}
    (out / files[0]).unlink()
    write_video(out / files[1], 255 - read_video(out / files[1])[0], 17.5, matrix=6)
    found = import_layout(out, "gameworld", world / "idm")
    assert found["by_kind"] == {"missing": 1, "changed": 1} and found["good"] == 1


@pytest.mark.parametrize(("layout", "side"), [("mind", "action.json"), ("wbench", "turns.json")])
def test_layouts_with_side_files(world, tmp_path, layout, side):
    """All actions that the world can play, in short clips."""
    out, said = tmp_path / "clips", []
    made = export(ExportRequest(model=str(world / "model"), layout=layout, out=str(out), frames=6))
    names = {"forward", "left", "right", "forward_left", "forward_right", "none"}
    names |= {f"{key}camera_{side}" for key in ("", "forward_", "left_", "right_") for side in "lr"}
    assert made["clips"] == 14 and set(made["left_out"]) == {one.name for one in SCRIPTS} - names
    sides = sorted(out.glob(f"*/{side}"))
    assert made["frames"] == 6 and len(sides) == 14 == len([*out.glob("*/*.mp4")])
    found = import_layout(out, layout, world / "idm")
    assert (found["good"], found["problems"], found["frames_read"]) == (14, [], 14 * 3)
    assert found["keyboard"]["forward_back"] == 5 / 14 and found["camera"] == 4 / 14
    sides[0].unlink()
    told = json.loads(sides[1].read_text())
    told.pop("total_time" if layout == "mind" else "turns")
    sides[1].write_text(json.dumps(told))
    sides[2].write_text("{")
    found = import_layout(out, layout, world / "idm", say=said.append)
    assert found["good"] == 11 and found["by_kind"] == {"wrong": 3} and len(said) == 3
    assert f"{side} is not readable" in said[0] and all(f"{side} lacks a field" in line for line in said[1:])


def test_a_folder_of_others(tmp_path):
    """Every wrong clip is named, and counts in no score."""
    still = np.full((65, 32, 32, 3), 100, np.uint8)
    write_video(tmp_path / "0_forward.mp4", still, 16)
    write_video(tmp_path / "1_back.mp4", still[:64], 16)
    (tmp_path / "2_left.mp4").write_bytes(b"damaged")
    found = import_layout(tmp_path, "gameworld")
    kinds = {one["file"]: (one["kind"], one["problem"]) for one in found["problems"]}
    assert found["by_kind"] == {"missing": 73, "wrong": 2} and kinds["jump"] == ("missing", "no clip of this action")
    assert kinds["1_back.mp4"] == ("wrong", "64 frames, the layout has 65") and kinds["2_left.mp4"][0] == "wrong"
    assert (found["clips"], found["good"]) == (3, 1) and found["scores"]["temporal_flickering"] == 1.0
    assert "keyboard" not in found and "give --idm" in found["unread"]
    write_video(tmp_path / "3_fly.mp4", still, 16)
    found = import_layout(tmp_path, "gameworld")
    assert "'3_fly' is not INDEX_ACTION" in next(one["problem"] for one in found["problems"] if "fly" in one["file"])


def test_wrong_usage(world, tmp_path):
    shapes = tmp_path / "shapes"
    save(find_world(find("world_shapes")(preset="tiny")).build(), shapes, torch.float32)
    ask = {"model": str(world / "model"), "layout": "gameworld", "out": str(tmp_path / "out")}
    write_video(tmp_path / "start.mp4", np.zeros((5, 32, 32, 3), np.uint8), 10)
    for change, problem in (
        ({"layout": "gameword"}, "has no 'gameword'; did you mean gameworld"),
        ({"actions": ("fly",)}, "--action has no 'fly'"),
        ({"actions": ("jump",)}, "are none of layout gameworld"),
        ({"frames": 64}, "--frames 64: clips of layout gameworld have 65"),
        ({"model": str(shapes)}, "ships no start clip; give one with --context"),
        ({"model": str(shapes), "context": str(tmp_path / "start.mp4")}, "are none of layout gameworld"),
    ):
        with pytest.raises(UsageError, match=problem):
            export(ExportRequest(**{**ask, **change}))
    with pytest.raises(UsageError, match="holds no clip .* of layout mind"):
        import_layout(tmp_path, "mind")
    assert not (tmp_path / "out").exists()
