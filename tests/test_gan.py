"""The networks of the latent GAN: where a moment lies, what is made of it, how it is learned."""

import numpy as np
import pytest
import torch

from woodshed.audio.gan import coordinates, networks, step
from woodshed.audio.gan.generate import make_latents

HALF = 8


@pytest.fixture(autouse=True)
def seeded():
    """The same networks whatever ran before: in one of ten a half hears a little of what is two halves away."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@pytest.fixture
def players():
    return step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)


def drawn(count=4, seed=0):
    return torch.randn(count, 8, 2 * HALF, generator=torch.Generator().manual_seed(seed))


# --- coordinates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", [0.3, 1.0, 2.0, 4.0])
def test_truncated_numbers_are_those_that_remain_of_normal_ones(truncation):
    found = coordinates.truncated_normal(40_000, seed=1, truncation=truncation).numpy()
    assert np.abs(found).max() <= truncation
    normal = np.random.default_rng(0).standard_normal(400_000)
    remaining = normal[np.abs(normal) <= truncation]
    levels = [5, 25, 50, 75, 95]
    assert np.percentile(found, levels) == pytest.approx(np.percentile(remaining, levels), abs=0.04)


def test_less_truncation_only_stretches_the_same_numbers():
    narrow, wide = (coordinates.truncated_normal(50, seed=3, truncation=limit) for limit in (0.5, 3.0))
    assert torch.equal(narrow.argsort(), wide.argsort())


def test_between_two_anchors_the_coordinates_change_and_stay_as_wide():
    anchors = torch.randn(3000, 3, 5)
    positions = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.75])
    found = coordinates.interpolated(anchors, positions)
    for at, position in enumerate(positions.tolist()):
        left, share = int(position), position % 1
        naive = (1 - share) * anchors[:, left] + share * anchors[:, (left + 1) % 3]
        torch.testing.assert_close(found[:, at], naive / (share**2 + (1 - share) ** 2) ** 0.5)
        assert found[:, at].std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("halves", [2, 4, 5, 9])
def test_a_loop_leads_back_to_its_beginning(halves):
    line = coordinates.piece(halves, HALF, seed=5, loop=True)[0, : coordinates.DEPTH]
    steps = torch.diff(line, dim=1).norm(dim=0)
    seam = (line[:, 0] - line[:, -1]).norm()
    assert seam <= steps.max() + 1e-5
    if halves > 4:
        assert steps.median() > 0
        assert (coordinates.piece(halves, HALF, seed=5)[0, :, 0] - line.mean()).norm() > seam


def test_a_window_has_one_style_and_neighbouring_halves_share_an_anchor_alone():
    found = coordinates.draw(500, 2, HALF, generator=torch.Generator().manual_seed(0))
    assert found.shape == (500, 2 * coordinates.DEPTH, 2 * HALF)
    style, line = found[:, coordinates.DEPTH :], found[:, : coordinates.DEPTH]
    assert torch.equal(style, style[..., :1].expand_as(style))
    assert style.std().item() == pytest.approx(coordinates.STYLE, rel=0.05)
    assert line.std().item() == pytest.approx(1, rel=0.05)
    alike = lambda one, other: torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()  # noqa: E731
    assert alike(line[..., HALF - 1], line[..., HALF]) > 0.95
    assert abs(alike(line[..., 0], line[..., -1])) < 0.05


def test_a_style_seed_fixes_the_style_alone():
    one, other = (coordinates.piece(2, HALF, seed=seed, style_seed=9) for seed in (1, 2))
    assert torch.equal(one[:, coordinates.DEPTH :], other[:, coordinates.DEPTH :])
    assert not torch.equal(one[:, : coordinates.DEPTH], other[:, : coordinates.DEPTH])
    assert not torch.equal(one[:, coordinates.DEPTH :], coordinates.piece(2, HALF, seed=1)[:, coordinates.DEPTH :])


def test_a_style_is_no_anchor():
    found = coordinates.piece(2, HALF, seed=5, style_seed=5)[0]
    first = coordinates.truncated_normal(1, 3, coordinates.DEPTH, seed=5, truncation=2.0)[0, 0]
    assert not torch.allclose(found[coordinates.DEPTH :, 0] / coordinates.STYLE, first)
    assert torch.equal(found, coordinates.piece(2, HALF, seed=5)[0])  # the style of take 5


@pytest.mark.parametrize("loop", [False, True])
def test_equal_letters_of_a_form_have_equal_coordinates(loop):
    line = coordinates.piece(12, HALF, seed=3, form="AABA", loop=loop)[0].unflatten(1, (4, 3 * HALF))
    first, again, other, last = line.unbind(1)
    inside = slice(0, 2 * HALF)  # the third half of a section leads to what follows
    assert torch.equal(first[:, inside], again[:, inside]) and torch.equal(first[:, inside], last[:, inside])
    assert not torch.isclose(first[: coordinates.DEPTH, inside], other[: coordinates.DEPTH, inside]).all(0).any()
    assert torch.equal(first, last) == loop  # then it leads to another A as well
    assert not torch.equal(first, other) and not torch.equal(again, first)
    plain = coordinates.piece(12, HALF, seed=3, loop=loop)
    assert torch.equal(coordinates.piece(12, HALF, seed=3, form="A", loop=loop), plain)
    assert torch.equal(coordinates.piece(12, HALF, seed=3, form="ABCD", loop=loop), plain)


def test_what_comes_back_is_varied_and_the_first_time_never():
    plain, varied, new = (coordinates.piece(12, HALF, seed=3, form="AABA", vary=vary) for vary in (0.0, 0.3, 1.0))
    sections = lambda line: line[0, : coordinates.DEPTH].unflatten(1, (4, 3 * HALF))[..., : 2 * HALF].unbind(1)  # noqa: E731
    for name, (before, after) in {"A": (0, 0), "B": (2, 2)}.items():
        assert torch.equal(sections(plain)[before], sections(varied)[after]), name
    far = [(sections(line)[0] - sections(line)[1]).norm() for line in (plain, varied, new)]
    assert far[0] == 0 < far[1] < 0.5 * far[2]
    assert sections(varied)[3].std().item() == pytest.approx(sections(plain)[3].std().item(), rel=0.1)


# --- networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [8, 16, 32, 128])
def test_the_generator_takes_any_number_of_halves_and_the_critic_its_window(half):
    network, critic = networks.Generator(6, 4, half), networks.Critic(6, 4, 2 * half)
    for halves in (1, 2, 5):
        where = torch.randn(2, 2 * coordinates.DEPTH, halves * half)
        made = network(where, torch.Generator().manual_seed(0))
        assert made.shape == (2, 6, halves * half)
    assert critic(torch.randn(3, 6, 2 * half)).shape == (3, len(critic.shares))
    assert critic.shares.sum().item() == pytest.approx(1)


def test_the_critic_judges_the_whole_and_every_stretch():
    critic = networks.Critic(8, 4, 64)
    assert len(critic.shares) == 32 + 16 + 8 + 1  # of 2, 4 and 8 frames, and the whole
    assert [part.sum().item() for part in critic.shares.split([32, 16, 8, 1])] == pytest.approx([0.25] * 4)
    latents = torch.randn(1, 8, 64)
    changed = latents.clone()
    changed[..., 40:42] += 1
    other = (critic(latents) != critic(changed))[0].tolist()
    near = [at for at in range(32) if other[at]]
    assert other[-1] and 20 in near and min(near) >= 18 and max(near) <= 22


def test_what_is_little_heard_is_small_in_the_networks():
    importance = np.array([1.0, 0.25, 0.04, 0.5, 0.5, 0.5, 0.5, 0.5])
    players = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0, importance=importance.tolist())
    where = coordinates.draw(2, 2, HALF, generator=torch.Generator().manual_seed(0))
    inside, played = (make(where, torch.Generator().manual_seed(0)) for make in (players.average, players.average.play))
    ratio = (inside / played).mean(dim=(0, 2)).detach().numpy()
    np.testing.assert_allclose(ratio, importance**step.POWER, rtol=1e-4)
    heard = []
    players.critic.register_forward_hook(lambda critic, inputs, judged: heard.append(inputs[0].detach()))
    real = drawn()
    step.update(players, real, rate=1e-4, seed=0)
    torch.testing.assert_close(heard[0], real * players.generator.scale)
    made = make_latents(players.average, 2, seed=0, style_seed=None, truncation=2.0, loop=False)
    inside = players.average(coordinates.piece(2, HALF, seed=0), torch.Generator().manual_seed(0))[0]
    np.testing.assert_allclose(made * importance**step.POWER, inside.detach().T.numpy(), rtol=1e-3, atol=1e-5)


def noisy(half):
    """A fresh generator whose noise is heard."""
    network = networks.Generator(8, 4, half)
    for name, weight in network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(weight)
    return network


def test_a_half_hears_its_neighbours_and_hardly_what_is_farther():
    network, half = noisy(32), 32
    where = torch.randn(1, 2 * coordinates.DEPTH, 5 * half)
    changed = where.clone()
    changed[..., 2 * half : 3 * half] += 1
    one, other = (network(some, torch.Generator().manual_seed(0)) for some in (where, changed))
    moved = (one - other).abs().amax(dim=1)[0].unflatten(0, (5, half))
    assert (moved[2] > 0).all()
    assert moved[1, -1] > 0 and moved[3, 0] > 0  # across the border
    assert moved[[0, 4]].max() < 0.1 * moved[2].mean()  # farther there is only what changes the spread of a half
    assert not torch.equal(one, network(where, torch.Generator().manual_seed(1)))  # noise


def test_each_half_has_its_own_spread():
    style = networks.Style(3, 8)
    x = torch.randn(2, 3, 24) * torch.tensor([1.0, 10.0, 100.0]).repeat_interleave(8)
    torch.nn.init.zeros_(style.scale.weight)
    torch.nn.init.ones_(style.scale.bias)
    spread = style(x, torch.zeros(2, 2 * coordinates.DEPTH, 24)).unflatten(2, (3, 8)).std(dim=3, correction=0)
    torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-3, atol=0)


def test_a_loop_goes_round():
    network, where = networks.Generator(8, 4, HALF), coordinates.piece(3, HALF, seed=1, loop=True)
    play = lambda line: network.play(line, torch.Generator(), loop=True)  # noqa: E731
    turned = play(where.roll(HALF, dims=2)).roll(-HALF, dims=2)  # wherever it begins it is the same circle
    far = lambda other: (play(where) - other).abs().max() / play(where).std()  # noqa: E731
    assert far(turned) < 0.02 and far(network.play(where, torch.Generator())) > 0.1
    rounds = noisy(HALF)(where.repeat(1, 1, 3), torch.Generator().manual_seed(1), 3).unflatten(2, (3, -1))
    middle = slice(HALF, 2 * HALF)  # far from both ends of the three rounds
    torch.testing.assert_close(rounds[:, :, 0, middle], rounds[:, :, 1, middle], rtol=0.02, atol=0.02)


def test_windows_to_judge_are_cut_anywhere_out_of_three_halves(monkeypatch):
    players, cuts = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0), set()
    counted = lambda where, draws: torch.arange(where.shape[2]).expand(1, 1, -1)  # noqa: E731
    monkeypatch.setattr(players.generator, "forward", counted)
    for seed in range(200):
        found = step.windows(players.generator, 1, torch.Generator().manual_seed(seed))[0, 0]
        assert (found.diff() == 1).all() and len(found) == 2 * HALF
        cuts.add(int(found[0]))
    assert cuts == {*range(HALF + 1)}


def test_the_shuffle_makes_pairs_of_frames_of_pairs_of_channels():
    x = torch.arange(2 * 6 * 5).reshape(2, 6, 5)
    found = networks.shuffled(x)
    for channel in range(3):
        for frame in range(10):
            assert torch.equal(found[:, channel, frame], x[:, 2 * channel + frame % 2, frame // 2])


def test_the_sizes_are_those_of_musika():
    sizes = [
        networks.parameters(network) / 1e6
        for network in (networks.Generator(128, 128, 128), networks.Critic(128, 128, 256))
    ]
    assert sizes == pytest.approx([15.5, 21.8], rel=0.03)  # 20.8; the rest is the look at full rate


# --- a step ------------------------------------------------------------------------------------------------------


def test_r1_is_the_mean_squared_slope(players):
    real = drawn()
    naive = []
    for one in real:
        one = one[None].clone().requires_grad_()
        (players.critic(one) @ players.critic.shares).sum().backward()
        naive.append(float(one.grad.square().sum()))
    real.requires_grad_()
    found = step.r1(players.critic(real) @ players.critic.shares, real)
    assert found.item() == pytest.approx(np.mean(naive), rel=1e-5)
    found.backward()  # through the slope, into the critic
    assert players.critic.start.weight.grad.abs().sum() > 0


def test_the_switch_fades_and_returns():
    assert step.switched(-1.0, gap=0.5) == pytest.approx(-0.9999)
    assert step.switched(-0.5, gap=0.8) == pytest.approx(-0.5001)
    assert step.switched(-0.5, gap=5.0) == pytest.approx(-0.5001)
    assert step.switched(-1.0, gap=2.0) == -1.0
    assert step.switched(-0.1, gap=-3.0) == -0.1  # R1 never ends


def test_the_average_follows_by_its_law():
    network, average = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = average.weight.detach().clone()
    for at in range(5):
        torch.nn.init.constant_(network.weight, at)
        step.follow(average, network, decay=0.9)
        expected = 0.9 * expected + 0.1 * at
    torch.testing.assert_close(average.weight.detach(), expected)
    assert [round(step.decay(at), 3) for at in (1, 90, 100_000)] == [0.182, 0.91, step.DECAY]


def test_a_step_is_a_function_of_its_seed_and_changes_all_three_networks():
    after = []
    for seed in (1, 1, 2):
        players = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)
        before = step.to_tensors(players)
        step.update(players, drawn(), rate=1e-3, seed=seed)
        after.append(step.to_tensors(players))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])
    assert any(not torch.equal(after[0][name], after[2][name]) for name in after[0])
    for name in ("generator", "critic", "average"):
        assert any(not torch.equal(before[key], after[0][key]) for key in before if key.startswith(name))


def test_the_critic_learns_to_tell_and_the_generator_follows(players):
    real = drawn(16) * torch.linspace(0, 2, 8)[:, None] + 3
    reports = [step.update(players, real + 0.1 * drawn(16, at), rate=2e-3, seed=at) for at in range(40)]
    assert max(one.gap for one in reports) > 0.5
    with torch.no_grad():
        made = players.average(coordinates.draw(16, 2, HALF, generator=torch.Generator()), torch.Generator())
    assert made.mean() > 0.3


def test_bfloat16_goes_the_same_way(players):
    other = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)
    exact = step.update(players, drawn(), rate=1e-4, seed=0)
    rough = step.update(other, drawn(), rate=1e-4, seed=0, half_precision=True)
    assert exact.hinge == pytest.approx(rough.hinge, abs=0.05)
    assert exact.r1 == pytest.approx(rough.r1, rel=0.2)
    assert all(weight.dtype == torch.float32 for weight in other.generator.parameters())
