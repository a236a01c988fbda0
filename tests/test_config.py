import pytest

from vidar.config import MOVED, Config, from_dict, load_file, override, resolve, to_dict, to_yaml
from vidar.configs import own
from vidar.orders.frame import FrameOrderConfig
from vidar.types import UsageError


class OuterConfig(Config):
    order: FrameOrderConfig = FrameOrderConfig()
    rate: float = 0.5
    names: tuple[str, ...] = ()


def a_recipe(preset: str = "demo", rate: float = 0.5) -> OuterConfig:
    return OuterConfig(rate=rate)


def test_yaml_round_trip(tmp_path):
    config = FrameOrderConfig(window=7, sinks=2)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert load_file(file) == config and from_dict(to_dict(config)) == config


def test_unknown_key_names_the_nearest():
    with pytest.raises(UsageError, match="FrameOrderConfig has no 'windw'; did you mean window"):
        FrameOrderConfig(windw=3)
    with pytest.raises(UsageError, match="did you mean rate"):
        resolve(a_recipe, ["rat=3"])
    with pytest.raises(UsageError, match="did you mean sinks"):
        resolve(a_recipe, ["order.sink=3"])


def test_assignments():
    config = resolve(a_recipe, ["rate=0.25", "order.window=4", "order.sinks=1"])
    assert (config.rate, config.order.window, config.order.sinks) == (0.25, 4, 1)
    with pytest.raises(UsageError, match="is not a config and has no field"):
        override(config, "rate.x", 1)
    with pytest.raises(UsageError, match="not an assignment"):
        resolve(a_recipe, ["rate"])


@pytest.mark.parametrize("kind", ["os.path.join", "vidar.config.to_yaml", "vidar.nothing.XConfig", "builtins.dict"])
def test_only_configs_of_vidar_are_loaded(kind):
    with pytest.raises(UsageError, match="refused|not a vidar config"):
        from_dict({"type": kind})


def test_a_saved_config_that_has_moved_since_is_found_by_its_old_name(tmp_path):
    config = own.tokenizer_own()
    text = to_yaml(config)
    assert text.startswith("type: vidar.train.config.TrainConfig\n")
    file = tmp_path / "c.yaml"
    file.write_text(text.replace("vidar.train.config.TrainConfig", "vidar.train.fit.TrainConfig"))
    assert load_file(file) == config
    assert "vidar.train.fit.TrainConfig" in MOVED


@pytest.mark.parametrize(
    "text",
    ["[", "[" * 100_000, "a: &a [*a]", "type: " + "9" * 5000, "a: 2024-13-45", "{", "- 1\n-", "\x00", "type: [", "{}"],
)
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file_that_is_no_config_is_named_with_the_remedy(tmp_path, text, suffix):
    file = tmp_path / f"c{suffix}"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"c{suffix}: .*") as error:
        load_file(file, "fetch it again")
    assert str(error.value).endswith("fetch it again") and "\n" not in str(error.value)
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(UsageError, match=f"c{suffix}: no such config file"):
        load_file(file)


@pytest.mark.parametrize("line", ["self: 1", "sinks: 1e999", "sinks: [[[]]]", "sinks: {type: 3}", "1: 2"])
def test_a_field_that_cannot_be_is_one_line(tmp_path, line):
    file = tmp_path / "c.yaml"
    file.write_text(f"type: vidar.orders.frame.FrameOrderConfig\n{line}\n")
    with pytest.raises(UsageError, match=r"c\.yaml: ") as error:
        load_file(file)
    assert "\n" not in str(error.value)


def test_wrong_value_is_one_line(tmp_path):
    with pytest.raises(UsageError) as error:
        FrameOrderConfig(window="wide")
    assert "window" in str(error.value) and "\n" not in str(error.value)
    for text in ("]", "just text", "a: 1"):
        file = tmp_path / "bad.yaml"
        file.write_text(text)
        with pytest.raises(UsageError) as error:
            load_file(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_configs_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        FrameOrderConfig().window = 3
