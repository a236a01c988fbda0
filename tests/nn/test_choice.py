"""Which form of attention computes a case: rules where bits are promised, else the answer that the machine keeps."""

from dataclasses import replace

import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.eval import doctor
from vidar.nn import auto, choice
from vidar.nn.ahead import digest
from vidar.nn.attention import ExplicitConfig, SDPAConfig, planned
from vidar.nn.auto import AutoAttentionConfig
from vidar.nn.case import ENOUGH, Case
from vidar.nn.choice import LEAST, SLICES, choose, forms, measure, rule, trial
from vidar.nn.precision import has_tiles
from vidar.nn.product import ProductConfig
from vidar.nn.runs import Group, groups
from vidar.nn.slices import SlicesConfig
from vidar.nn.static import StaticBackbone
from vidar.orders.frame import frame_order

PLAY = Case("cpu", torch.bfloat16, 1, 6, 144, 1296, 64, masked=True, ring=True)


def frames(units=12, past=7):
    order, grid = frame_order(4, 5, units, past=past)
    return compile_layout(twin(range(units)), order, [grid])


def training(units=12, batch=6, dtype=torch.float32):
    runs = tuple(groups(frames(units).views["main"]))
    return Case("cpu", dtype, batch, 2, 40 * units, 40 * units, 128, True, ring=False, backward=True, groups=runs)


@pytest.fixture
def kept(monkeypatch):
    """What was asked of the machine, which answers with the last form it could take."""
    asked = []

    def measured(case, threads):
        asked.append(case)
        return forms(case)[-1]

    monkeypatch.setattr(choice, "_measured", measured)
    monkeypatch.setattr(choice, "has_tiles", lambda: False)
    return asked


RULED = {
    "play in float32": replace(PLAY, dtype=torch.float32),
    "a small call": replace(PLAY, slots=2, keys=1290),
    "many small rows of play": replace(PLAY, batch=64, slots=20, keys=140),
    "float64": replace(PLAY, dtype=torch.float64),
    "a small training": training(2, 1),
    "a GPU": replace(PLAY, device="cuda"),
}


@pytest.mark.parametrize("name", RULED)
def test_what_the_machine_is_not_asked(name, kept):
    assert choose(RULED[name]) == rule(RULED[name]) and not kept


def test_play_with_amx_is_torchs_own(kept, monkeypatch):
    assert choose(PLAY) == "product" and kept
    kept.clear()
    monkeypatch.setattr(choice, "has_tiles", lambda: True)
    assert choose(PLAY) == "sdpa" and not kept
    assert choose(replace(PLAY, ring=False)) == "product" and kept  # no ring: no play


def test_a_row_of_play_is_computed_alike_beside_however_many_others(kept):
    for batch in (1, 3, 16):
        choose(replace(PLAY, batch=batch))
    assert len(set(kept)) == 1


@pytest.mark.parametrize(
    ("can", "tiles"),
    [
        ({"amx_tile": True, "amx_bf16": True, "avx512_bf16": True}, True),
        ({"avx512_bf16": True}, False),
        ({"amx_tile": True, "avx512_bf16": True}, False),
        ({}, False),
    ],
)
def test_amx_is_not_avx512(monkeypatch, can, tiles):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert has_tiles() == tiles


def test_training_in_few_slots_is_by_slices_but_with_amx(monkeypatch):
    few, many = training(12, dtype=torch.bfloat16), training(16, dtype=torch.bfloat16)
    for tiles, form in ((False, SLICES), (True, "sdpa")):
        monkeypatch.setattr(choice, "has_tiles", lambda tiles=tiles: tiles)
        assert rule(few) == form and rule(many) == SLICES
        assert rule(replace(few, dtype=torch.float32)) == SLICES and rule(replace(many, backward=False)) == "sdpa"
    scattered = tuple(Group((n, n + 1), ((0, n + 1),)) for n in range(480))
    assert rule(replace(few, groups=scattered)) == "sdpa" and rule(replace(few, groups=None)) == "sdpa"


def test_what_may_win():
    assert forms(PLAY) == ["sdpa", "product"]
    assert forms(training()) == ["sdpa", "product", SLICES]
    assert forms(training(dtype=torch.bfloat16)) == ["sdpa", "product", "wide", SLICES]
    assert forms(replace(training(), groups=(Group((0, 480), ((0, 480),)),))) == ["sdpa", "product"]


CASES = {
    "play": replace(PLAY, slots=24, keys=40),
    "play, nothing hidden": replace(PLAY, slots=24, keys=40, masked=False),
    "training": replace(training(4, 1), dtype=torch.float64),
    "training, thinned": replace(training(4, 1)._thinned(3), dtype=torch.float64),
    "who is blind": replace(training(4, 1), groups=(Group((0, 160), ()),)),
    "rows that differ": replace(training(4, 1), groups=None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_forms_that_are_timed_compute_one_thing(name):
    """So a form cannot win by doing less: the results and gradients are those of SDPA, in float64."""
    case = replace(CASES[name], dtype=torch.float64)
    with torch.set_grad_enabled(case.backward):
        run = trial(case)
        expected = run("sdpa")
        assert len(expected) == (4 if case.backward else 1) and expected[0].shape[1] == case.slots
        for form in set(forms(case)) - {"sdpa", "wide"}:
            if form == SLICES and name == "who is blind":
                assert not run(form)[0].any()  # the others see everything there, and are zeroed afterwards
                continue
            for got, want in zip(run(form), expected, strict=True):
                assert (got - want).abs().max() <= 1e-12


def test_measuring_leaves_torchs_generator_and_modes_alone():
    state = torch.get_rng_state()
    with torch.inference_mode():
        found = measure(replace(CASES["training"], dtype=torch.float32), ["sdpa", SLICES])
        assert torch.is_inference_mode_enabled()
    assert set(found) == {"sdpa", SLICES} and min(found.values()) > 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("case", [training(12, 40), replace(PLAY, batch=64, heads=32, slots=4096, keys=4096)])
@pytest.mark.parametrize("threads", [1, 4])
def test_what_is_timed_is_a_part_that_is_enough(case, threads):
    part = case.enough(threads)
    assert ENOUGH / 4 < part.work <= ENOUGH and part.enough(threads) == part
    assert part.batch * part.heads >= threads
    assert (part.keys, part.width, part.dtype, part.backward) == (case.keys, case.width, case.dtype, case.backward)
    assert training(12, 1).enough(threads) == training(12, 1)


def test_a_thinned_case_keeps_whole_groups():
    case = training(12, 1)
    part = case._thinned(5)
    assert [group.keys for group in part.groups] == [group.keys for group in case.groups[2::5]]
    assert [group.slots for group in part.groups] == [(20 * n, 20 * n + 20) for n in range(part.slots // 20)]
    one = replace(case, groups=(Group((0, 480), ((0, 480),)),))._thinned(5)
    assert one.slots == 96 and one.groups == (Group((0, 96), ((0, 480),)),)


def test_cases_that_may_differ_in_their_form_have_names_of_their_own():
    changes = {"device": "mps", "dtype": torch.float16, "batch": 7, "heads": 7, "slots": 7, "keys": 7, "width": 7}
    changes |= {"ring": True, "backward": False, "groups": (Group((0, 480), ((0, 20),)),)}
    case = training()
    names = [str(case), *(str(replace(case, **{name: value})) for name, value in changes.items())]
    names += [str(replace(case, groups=None)), str(replace(case, groups=None, masked=False))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["sdpa", "product", SLICES])
def test_the_form_that_is_chosen_computes(name, monkeypatch):
    """Out and gradients are exact, and come from that form."""
    view, used = frames(4, 2).views["main"], []
    made = {"sdpa": "SDPA", "product": "SliceAttention", SLICES: "SliceAttention"}
    monkeypatch.setattr(auto, "choose", lambda case: used.append(case) or name)
    q, k, v = (torch.randn(2, 160, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out, exact = (planned(c, view, q.device, True)(q, k, v) for c in (AutoAttentionConfig(), ExplicitConfig()))
    nodes = [out.grad_fn]
    names = set()
    while nodes:
        node = nodes.pop()
        names.add(type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    assert any(made[name] in found or "ScaledDotProduct" in found and name == "sdpa" for found in names), names
    assert (out - exact).abs().max() <= 1e-12
    weight = torch.randn_like(out)
    for got, want in zip(*(torch.autograd.grad((x * weight).sum(), (q, k, v)) for x in (out, exact)), strict=True):
        assert (got - want).abs().max() <= 1e-12
    assert len(used) == 1 and used[0].groups and used[0].backward and not used[0].ring and used[0].masked


def test_an_explicit_config_is_never_asked(monkeypatch):
    view = frames(4, 2).views["main"]
    monkeypatch.setattr(choice, "choose", None)
    monkeypatch.setattr(auto, "choose", None)
    q, k, v = (torch.randn(2, 160, 2, 8, dtype=torch.float64) for _ in range(3))
    for config in (SDPAConfig(), SlicesConfig(), ProductConfig(), ExplicitConfig()):
        planned(config, view, q.device, False)(q, k, v)
        config.dense(PLAY)


def made(attention):
    torch.manual_seed(0)
    config = world_doom(preset="tiny").method.world
    net = config.net.replace(backbone=config.net.backbone.replace(attention=attention))
    world = config.replace(net=net).build().to(dtype=torch.float64)
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return world


def played(world, functions):
    def build(module, example):
        functions.append((module, example))
        return module

    streams = world.rollout(1)
    backbone = StaticBackbone(world.net.backbone, build)
    streams.model = lambda inputs, layout, cond=None, state=None: backbone(
        inputs, layout, world.net.condition(cond, layout), state
    ).float()
    rest = torch.from_numpy(world.config.actions.noop()).expand(1, -1)
    return torch.stack([streams.frame(rest) for _ in range(5)])


def test_the_compiled_path_takes_the_form_that_is_chosen(monkeypatch):
    """Its functions hold it, are named after it, and their frames are those of the other forms."""
    asked, functions = [], {name: [] for name in ("sdpa", "product", "explicit")}
    monkeypatch.setattr(auto, "choose", lambda case: asked.append(case) or "product")
    forms = {"sdpa": SDPAConfig(), "product": AutoAttentionConfig(), "explicit": ExplicitConfig()}
    frames = {name: played(made(form), functions[name]) for name, form in forms.items()}
    for name in forms:
        assert torch.isfinite(frames[name]).all() and frames[name].std() > 0
        assert (frames[name] - frames["explicit"]).abs().max() <= 1e-6
        assert {module.extra_repr() for module, _ in functions[name]} == {f"main: {name}"}
    config = made(SDPAConfig()).config.net.backbone
    slots = {case.slots for case in asked}
    assert all(case.ring and case.masked and not case.backward for case in asked) and len(slots) == 2
    assert {(case.heads, case.width, case.dtype) for case in asked} == {
        (config.heads, config.head_width, torch.float64)
    }
    names = {name: digest(*functions[name][0]) for name in forms}
    assert len(set(names.values())) == 3


def test_doctor_says_what_is_chosen(kept):
    assert doctor.attention() == {"train": SLICES, "play": choose(replace(PLAY, dtype=doctor.fast_dtype()))}
    assert kept[0].groups == tuple(groups(frames().views["main"]))


def test_one_row_more_is_worth_asking():
    """The edge of what is too small to be asked about."""
    assert RULED["a small call"].work < LEAST <= replace(RULED["a small call"], slots=46).work
