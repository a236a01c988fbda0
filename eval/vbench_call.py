"""Runs inside the environment of VBench, by its path: `python -I vbench_call.py REQUEST.json`.

It calls the official package through its Python interface, on any device, because its own command line needs CUDA. It
imports nothing of vidar.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

TEN_SECONDS = ("human_action", "temporal_style", "overall_consistency")  # clips of VBench-Long; all others have 2 s
MAPPING = {0.5: 0.5, 1.0: 1.0}  # of its fast part, whose weight is 0
LONG: dict[str, Any] = {  # the defaults of its command line, without its switch for development
    "sb_clip2clip_feat_extractor": "dino",
    "bg_clip2clip_feat_extractor": "clip",
    "w_inclip": 1.0,
    "w_clip2clip": 0.0,
    "use_semantic_splitting": False,
    "dev_flag": False,
    "static_filter_flag": False,
}


def main(request: dict[str, Any]) -> None:
    """Do what a request asks. Results are files in its folder `out`."""
    if "probe" in request:
        found = {name: problem(name) for name in request["probe"]}
        Path(request["out"]).write_text(json.dumps(found, indent=1))
        return
    os.listdir = videos_first(os.listdir)
    if request.get("keep_static"):
        return keep_static(request)
    mode, device = request["mode"], importlib.import_module("torch").device(request["device"])
    kind = {"long": ("vbench2_beta_long", "VBenchLong"), "long_custom": ("vbench2_beta_long", "VBenchLong")}
    module, name = kind.get(mode, ("vbench2_beta_i2v", "VBenchI2V") if mode == "i2v" else ("vbench", "VBench"))
    package = getattr(importlib.import_module(module), name)(device, request["info"], request["out"])
    options: dict[str, Any] = {"imaging_quality_preprocessing_mode": "longer"}
    if module == "vbench2_beta_long":
        options |= {"mode": "long_custom_input" if mode == "long_custom" else "long_vbench_standard"}
        options |= {**LONG, **long_files(Path(request["out"])), "num_of_samples_per_prompt": request["samples"]}
    elif mode == "custom":
        options |= {"mode": "custom_input", "prompt_list": request["prompts"]}
    elif mode == "i2v":
        options |= {"resolution": request["resolution"]}
    dimensions = [request["dimension"]]
    package.evaluate(request["videos"], request["name"], dimension_list=dimensions, local=True, **options)


def problem(module: str) -> str:
    """Why a module of the package cannot be imported, or ""."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""


def videos_first(listed: Any) -> Any:
    """`os.listdir` in a fixed order, videos first: the package takes their suffix from the first name."""

    def listing(*arguments: Any) -> list[Any]:
        return sorted(listed(*arguments), key=lambda name: (not str(name).endswith(".mp4"), name))

    return listing


def long_files(out: Path) -> dict[str, str]:
    """The settings of VBench-Long that its wheel lacks, written as files (JSON is YAML)."""
    names = importlib.import_module("vbench2_beta_long").VBenchLong(None, "", str(out)).build_full_dimension_list()
    content = {
        "clip_length_config": {name: 10 if name in TEN_SECONDS else 2 for name in names},
        "slow_fast_eval_config": {"fast_part": "weight 0"},
    }
    made: dict[str, str] = {}
    for key, value in content.items():
        file = out / f"{key}.yaml"
        file.write_text(json.dumps(value))
        made[key] = str(file.absolute())
    table = out / "mapping.yaml"
    table.write_text("".join(f"{key}: {value}\n" for key, value in MAPPING.items()))
    return made | {"sb_mapping_file_path": str(table), "bg_mapping_file_path": str(table)}


def keep_static(request: dict[str, Any]) -> None:
    """The official static filter: writes `filtered_videos` below `out`. Its own command line needs CUDA."""
    module: Any = importlib.import_module("vbench.cli.static_filter")
    module.DEVICE = request["device"]
    arguments = argparse.Namespace(
        model=f"{module.CACHE_DIR}/raft_model/models/raft-things.pth",
        videos_path=request["videos"],
        result_path=request["out"],
        store_name="filtered_static_video.json",
        filter_scope="temporal_flickering",
        small=False,
        mixed_precision=False,
        alternate_corr=False,
    )
    module.static_filter(arguments)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
