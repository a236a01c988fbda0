"""Clips that are seen as a world dreamed them: what is seen, what is true, and which clips are kept."""

from pathlib import Path

import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.data.annotations import ShapeCaptionConfig
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.model.load import load, save
from vidar.rng import Rng
from vidar.train.dreamed import DreamedClips, DreamedClipsConfig
from vidar.types import UsageError, VidarError

COUNT, KNOWN, FRAMES = 4, 5, 6
ALL = 1e9  # an error below which every clip is kept


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(data, world): 3 episodes of 16 frames of shapes, and a world of random weights that does something."""
    data, folder = tmp_path_factory.mktemp("shapes"), tmp_path_factory.mktemp("world")
    record(ShapesConfig(frames=16), None, data, episodes=3)
    torch.manual_seed(0)
    world = world_shapes(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save(world, folder)
    return str(data), str(folder)


def config(folders: tuple[str, str], **changes: object) -> DreamedClipsConfig:
    data, world = folders
    given = {"path": data, "tokenizer": f"{world}/tokenizer", "world": world, "clip_frames": COUNT, "batch": 8}
    patch = load(world).config.patch
    sizes = {"patch": patch, "dreams": 5, "known": KNOWN, "frames": FRAMES, "aligned": ALL}
    return DreamedClipsConfig(**(given | sizes | changes))


@pytest.fixture(scope="module")
def clips(folders: tuple[str, str]) -> DreamedClips:
    """All clips are dreams."""
    return config(folders, share=1.0).build()


def test_what_is_seen_is_the_worlds_own_dream_and_the_targets_are_recorded(clips, folders) -> None:
    """Each dream rolled out alone, with the noise of its number."""
    world, real = load(folders[1]), COUNT - 1
    for d in range(2):
        places = clips._places()[d]
        codes, actions = clips.codes[places][None].float(), clips.actions[places][None]
        ahead = iter(actions[:, KNOWN:].unbind(1))
        made = torch.stack(list(world.codes(codes[:, :KNOWN], ahead, actions[:, :KNOWN], [Rng(0, d)])), 1)[0]
        assert torch.equal(clips.seen[d, :real], clips.codes[places[KNOWN - real : KNOWN]])
        torch.testing.assert_close(clips.seen[d, real:].float(), made, atol=0.05, rtol=0.05)  # bf16
    batch = clips.batch(3)
    for row, name in enumerate(batch.names):
        dream, begin = (int(part) for part in name.removeprefix("dream ").split("@"))
        span = slice(begin, begin + COUNT)
        assert torch.equal(batch.seen[row], clips.seen[dream, span])
        assert torch.equal(batch.codes[row], clips.codes[clips.places[dream, span]])
        assert torch.equal(batch.actions[row], clips.actions[clips.places[dream, span]])
        assert 1 <= begin <= FRAMES - 1  # the first clips of a dream would see real frames only


def test_dreams_stay_inside_their_episode(clips) -> None:
    """Places are neighbouring frames of one episode of 16."""
    places = clips._places()
    assert (places.diff(dim=1) == 1).all() and (places[:, 0] // 16 == places[:, -1] // 16).all()


def test_a_share_of_the_clips_is_dreamed_and_the_others_are_as_ever(folders) -> None:
    """Four deviations of a binomial share; a batch is a function of its index."""
    mixed, plain = config(folders, share=0.25), config(folders, share=0.0)
    made, plain = mixed.build(), plain.build()
    batches = [made.batch(index) for index in range(50)]
    dreamed = [name.startswith("dream") for batch in batches for name in batch.names]
    assert abs(sum(dreamed) / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    for index, batch in enumerate(batches[:10]):
        before, again = plain.batch(index), made.batch(index)
        assert again.names == batch.names and torch.equal(again.seen, batch.seen)
        for row, name in enumerate(batch.names):
            if not name.startswith("dream"):
                assert torch.equal(batch.codes[row], before.codes[row]) and torch.equal(
                    batch.seen[row], before.codes[row]
                )


def test_clips_that_have_left_the_recording_are_left_out(clips, folders) -> None:
    """Those that stay are the ones whose mean error over what is seen is below the limit."""
    errors = clips._errors()
    means = {(d, b): float(errors[d, b : b + COUNT - 1].mean()) for d, b in clips.kept.tolist()}
    limit = sorted(means.values())[len(means) // 2]
    some = config(folders, share=1.0, aligned=limit * 1.0001).build()
    assert {tuple(pair) for pair in some.kept.tolist()} == {pair for pair, mean in means.items() if mean <= limit}
    with pytest.raises(VidarError, match="no dream of it stays with its recording"):
        config(folders, aligned=1e-9).build()


def test_what_does_not_fit_is_refused(folders, tmp_path: Path) -> None:
    """In one line, before anything is dreamed."""
    with pytest.raises(UsageError, match=r"no episode has 22 frames \(data.known \+ data.frames\)"):
        config(folders, known=16).build()
    with pytest.raises(UsageError, match="dreams with data.annotation are not supported"):
        config(folders, annotation=ShapeCaptionConfig()).build()
    torch.manual_seed(1)
    save(world_shapes(preset="tiny").method.world.build(), tmp_path)
    with pytest.raises(UsageError, match="its tokenizer is not data.tokenizer"):
        config(folders, tokenizer=f"{tmp_path}/tokenizer").build()
