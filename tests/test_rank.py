"""Takes are ranked by how like the musician's own music they are, whatever order they come in, and no two alike."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from folders import real, tune
from hypothesis import given, settings
from strategies import scores
from toys import TINY

from woodshed.cli import main
from woodshed.errors import FileError, InputError, RunError
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.music.chords import pitched
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.playing import rank as ranking
from woodshed.symbolic.playing.critic import Classifier, Critic, make_critic, open_critic, unlearned
from woodshed.symbolic.playing.excerpts import windows
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.rank import distances, overlap, rank, roll
from woodshed.symbolic.playing.takes import Take
from woodshed.symbolic.run import open_run


@pytest.fixture(scope="module")
def pop(tmp_path_factory):
    """A tiny run of six real songs, its critic without a classifier, and excerpts of the songs held out."""
    folder = tmp_path_factory.mktemp("pop")
    source = real(folder / "midi", "pop909/00*/*.mid", 6)
    corpus = prepare(source, folder / "corpus", tokenizer="remi", fractions="0.6,0.1,0.3")
    made = train(corpus, folder / "run", **TINY | {"max_steps": 1, "max_seq_len": 512})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("woodshed.symbolic.playing.critic.FEWEST", 99)
        critic = make_critic(made, corpus)
    held = []
    for score in windows(corpus.scores("test"), corpus.tokenizer, 8):
        if len(score.notes) > 40 and all(overlap(roll(score), roll(other)) < 0.5 for other in held):
            held.append(score)
    assert len(held) >= 4
    return made, critic, held[:10]


def looped(score):
    """Its first sounding bar, again and again."""
    lines = score.bars()
    bar = int(np.searchsorted(lines, score.notes["onset"][0], side="right")) - 1
    one = score.slice(int(lines[bar]), int(lines[bar + 1]), cut=True)
    size, copies = int(lines[bar + 1] - lines[bar]), []
    for place in range(8):
        notes = one.notes.copy()
        notes["onset"] += place * size
        copies.append(notes)
    return score.replace(notes=np.concatenate(copies))


def random_notes(score):
    """As many notes, at random places, of random pitch."""
    rng, notes = np.random.default_rng(0), score.notes.copy()
    notes["onset"] = rng.integers(0, score.end, len(notes))
    notes["pitch"] = rng.integers(21, 108, len(notes))
    return score.replace(notes=notes).without_overlaps()


def test_loops_noise_and_silence_come_last_among_real_music(pop):
    made, critic, held = pop
    bad = [looped(held[0]), random_notes(held[1]), held[2].replace(notes=())]
    found = rank(made, [*bad, *held], critic=critic)
    last = [id(one.take) for one in found[-3:]]
    assert {id(score) for score in bad} == {*last}
    assert found[-1].score == 0 and found[-1].reasons == "silent" and last[-1] == id(bad[2])
    by_take = {id(one.take): one for one in found}
    assert by_take[id(bad[0])].off["repetition"] > 2 and "repetitive" in by_take[id(bad[0])].reasons
    assert by_take[id(bad[1])].off["chords"] > 2 and "off its chords" in by_take[id(bad[1])].reasons
    assert all(0 <= one.score <= 1 for one in found)


def test_without_critic_and_corpus_loops_noise_and_silence_come_last_all_the_same(pop, monkeypatch):
    made, _, held = pop
    monkeypatch.setattr(ranking, "find_corpus", lambda folder, facts: None)
    monkeypatch.setattr(type(made), "model", None)  # nothing listens
    bad = [looped(held[0]), random_notes(held[1]), held[2].replace(notes=())]
    found = rank(made, [*bad, *held])
    assert {id(one.take) for one in found[-3:]} == {id(score) for score in bad} and found[-1].reasons == "silent"
    assert all({*one.off} <= {"chords", "repetition", "statistics", "guard"} for one in found)
    assert open_critic(made) is None and "--corpus CORPUS" in str(unlearned(made))
    short = unlearned(made)
    assert set(distances(short, {"chord_adherence": 0.9, "bass_adherence": 0.8, "empty_bars": 0.0}).values()) == {0.0}


def test_without_critic_a_take_that_the_guard_gave_up_goes_down(pop):
    made, _, held = pop
    events = {"sound": (), "mended": ({"back_to": 3},), "left": ({"back_to": 3}, {"back_to": None})}
    takes = {name: Take(held[0], 9, 1, 1.0, {}, guarded=told) for name, told in events.items()}
    found = {name: rank(made, [take], critic=unlearned(made))[0].score for name, take in takes.items()}
    assert found["sound"] == found["mended"] > found["left"]


def test_parts_without_a_bass_are_not_blamed_for_having_none(pop):
    made, _, held = pop
    off = held[0].replace(chords=held[0].transpose(1).chords)
    asked = ({}, {"parts": ("bass",)}, {"parts": ["melody"]}, {"parts": ("melody",), "prompt": "song.mid"})
    found = [rank(made, [Take(off, 9, 1, 1.0, settings)], critic=unlearned(made))[0] for settings in asked]
    assert ["bass" in one.reasons for one in found] == [True, True, False, True]


def test_the_order_of_the_takes_does_not_matter(pop):
    made, critic, held = pop
    found = rank(made, held, critic=critic)
    shuffled = [held[n] for n in np.random.default_rng(1).permutation(len(held))]
    again = rank(made, shuffled, critic=critic)
    assert [id(one.take) for one in again] == [id(one.take) for one in found]
    assert [one.score for one in again] == [one.score for one in found]


def test_nearly_equal_takes_are_not_both_on_top(pop):
    made, critic, held = pop
    best = rank(made, held, critic=critic)[0].take
    notes = best.notes.copy()
    notes["velocity"] += 1
    copies = [best.replace(notes=notes), best.transpose(2)]
    found = rank(made, [*held, *copies], critic=critic)
    alike = [n for n, one in enumerate(found) if overlap(roll(one.take), roll(best)) > 0.9]
    assert alike[0] == 0 and alike[1] > 2
    assert all("nearly the same as number" in found[n].reasons for n in alike[1:])
    assert rank(made, [*held, *copies], critic=critic, best=3) == found[:3]


@settings(max_examples=30)
@given(scores(free=False))
def test_overlap_beside_counting_and_in_another_key(score):
    other = score.replace(notes=score.notes[::2])
    cells = [
        {(round(float(o) * 12 / s.ticks_per_quarter), int(p)) for o, p in pitched(s)[["onset", "pitch"]].tolist()}
        for s in (score, other)
    ]
    moved = [{(o, p + by) for o, p in cells[1]} for by in range(-127, 128)]
    naive = max((len(cells[0] & m) / len(cells[0] | m) if cells[0] | m else 1.0) for m in moved)
    assert overlap(roll(score), roll(other)) == pytest.approx(naive, abs=1e-6)


def test_distances_are_counted_in_half_widths_beyond_the_middle():
    names = ("notes_per_bar", "chord_adherence", "polyphony")
    values = np.stack([np.arange(101.0), np.linspace(0, 1, 101), np.full(101, np.nan)], axis=1)
    critic = Critic(values, None, {"names": names})
    low, high = np.percentile(values[:, 0], [100 / 6, 500 / 6])
    far = distances(critic, {"notes_per_bar": high + (high - low), "chord_adherence": 0.0, "polyphony": 1.0})
    assert far == {"notes_per_bar": pytest.approx(2), "chord_adherence": pytest.approx(-0.5, abs=0.01)}
    assert distances(critic, {"notes_per_bar": 50.0}) == {"notes_per_bar": 0}
    assert distances(critic, {"notes_per_bar": -1e9}) == {"notes_per_bar": -ranking.FARTHEST}
    assert distances(critic, {"chord_adherence": 1e9}) == {"chord_adherence": 0}  # never too much of it


def test_the_score_is_weighted_by_what_the_critic_thinks(pop):
    made, critic, held = pop
    width = 2 * made.model().config.hidden_size
    plain = {id(one.take): one for one in rank(made, held, critic=critic)}

    def scores(bias):
        told = Classifier(np.zeros(width), np.ones(width), np.zeros(width), np.array([bias]))
        asked = replace(critic, classifier=told, facts=critic.facts | {"auc": 0.9})
        ranked = rank(made, held, critic=asked)
        assert all("typical of your pieces" in one.reasons for one in ranked)
        return {id(one.take): one.score for one in ranked}

    for bias, share in ((np.log(3), 0.75), (-np.log(3), 0.25), (60.0, 1.0)):
        assert scores(bias) == {take: pytest.approx(share * one.score) for take, one in plain.items()}


def test_a_copy_of_a_training_piece_goes_down(pop):
    made, critic, held = pop

    class Suspicious:
        def repeats(self, score, start=0):
            return type("Repeats", (), {"flagged": score is held[0]})

    plain = {id(one.take): one for one in rank(made, held, critic=critic)}
    strict = {id(one.take): one for one in rank(made, held, critic=critic, index=Suspicious())}
    assert strict[id(held[0])].score < plain[id(held[0])].score
    assert "copies a training piece" in strict[id(held[0])].reasons
    assert all(strict[id(score)].score >= plain[id(score)].score for score in held[1:])
    told = [Take(score, 9, 1, 1.0, {}, originality=Suspicious().repeats(score)) for score in held]
    assert [one.score for one in rank(made, told, critic=critic)] == [
        one.score for one in rank(made, held, critic=critic, index=Suspicious())
    ]


def test_of_a_take_with_a_prompt_what_was_written_is_judged(pop):
    made, critic, held = pop
    whole = held[0].merge(held[1].slice(0, held[1].end))
    begin = int(whole.bars()[4])
    take = Take(whole, 9, 1, 1.0, {}, region=(begin, whole.end))
    alone = rank(made, [whole.slice(begin, whole.end, cut=True)], critic=critic)[0]
    assert rank(made, [take], critic=critic)[0].score == alone.score


def test_sections_that_were_asked_to_come_back_are_no_fault(pop, tmp_path):
    made, critic, held = pop
    bar = int(held[0].bars()[1])
    notes = held[0].slice(0, bar, cut=True).notes.tolist()
    loop = held[0].replace(notes=[(at + n * bar, *rest) for n in range(8) for at, *rest in notes])
    forms = {"AABA": True, "ABC": False, "A": False}
    takes = [Take(loop, 9, 1, 1.0, {"form": form}) for form in forms]
    facts = {"settings": {"form": "AABA"}, "seed": 1, "run": "made", "region_quarters": None}
    write_midi(loop, tmp_path / "a.mid")
    (tmp_path / "a.json").write_text(json.dumps(facts))
    found = rank(made, [*takes, loop, tmp_path / "a.mid"], critic=critic)
    excused = [forms[one.take.settings["form"]] if isinstance(one.take, Take) else one.take != loop for one in found]
    assert sorted(excused) == [False] * 3 + [True] * 2
    for one, free in zip(found, excused, strict=True):
        told = any(word in one.reasons for word in ("repetitive", "stuck in one bar"))
        assert ("repetition" in one.off, told) == (not free, not free)


# --- the whole way, for both tokenizers -----------------------------------------------------------------------


@pytest.fixture
def mine(run, tmp_path, monkeypatch):
    """A copy of the run with takes of its own, and a critic that is made quickly."""
    shutil.copytree(run.parent, tmp_path / "home")
    folder = tmp_path / "home" / "run"
    opened = open_run(folder)
    monkeypatch.setattr("woodshed.symbolic.playing.critic.TAKES", 2)
    for name in ("BARS", "SECONDS"):
        monkeypatch.setattr(f"woodshed.symbolic.playing.critic.{name}", 2)
    monkeypatch.setattr("woodshed.symbolic.playing.critic.FEWEST", 99)
    (tmp_path / "takes").mkdir()
    asked = {"bars": 2} if opened.tokenizer.needs_bars else {"seconds": 4}
    for take in generate(opened, takes=2, seed=1, **asked):
        take.write(tmp_path / "takes" / f"take-{take.seed}")
    write_midi(tune(3, 48), tmp_path / "takes" / "found.mid")  # nobody knows where it comes from
    return folder, tmp_path / "takes"


def test_the_command_makes_the_critic_once_and_ranks(mine, tmp_path, capsys):
    run, takes = mine
    corpus, elsewhere = run.parent / "corpus", tmp_path / "far" / "away" / "corpus"
    elsewhere.parent.mkdir(parents=True)
    corpus.rename(elsewhere)
    main(["rank", str(run), str(takes)])
    told = capsys.readouterr().out.splitlines()
    assert "none, and no corpus" in told[0] and "--corpus" in told[0] and len(told) == 4
    assert not (run / "critic").exists()
    elsewhere.rename(corpus)
    before = sorted(takes.rglob("*"))
    main(["rank", str(run), str(takes), "--json", str(tmp_path / "out.json")])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("style critic") and len(told) == 4
    assert all(f"  {n}  " in line and ".mid: " in line for n, line in enumerate(told[1:], 1))
    facts = json.loads((tmp_path / "out.json").read_text())
    assert [row["score"] for row in facts["takes"]] and facts["critic"]["pieces"]
    stored = run / "critic" / "critic.safetensors"
    made = stored.read_bytes()
    found, told = [], ranking.rank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "woodshed.cli.rank.rank", lambda *some, **more: found.append(more["index"]) or told(*some, **more)
        )
        main(["rank", str(run), str(takes), "--best", "1"])
    assert found[0] is not None  # copies of the corpus that it has learned go down
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert stored.read_bytes() == made and sorted(takes.rglob("*")) == before
    assert open_run(run).model() is not None  # the critic beside the weights does no harm


def test_what_cannot_be_ranked_is_told_in_one_line(mine, tmp_path):
    run, takes = mine
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no music")
    for folder in ("empty", "other"):
        with pytest.raises(InputError, match=r"no takes to rank"):
            rank(run, tmp_path / folder)
    with pytest.raises(FileError, match="no such folder"):
        rank(run, tmp_path / "nowhere")
    with pytest.raises(InputError, match="--best 0"):
        rank(run, takes, best=0)
    with pytest.raises(InputError, match="--device meta: choose from auto"):
        rank(run, takes, device="meta")
    (takes / "broken.mid").write_bytes(b"MThd")
    with pytest.raises(FileError, match="broken"):
        rank(run, takes)


def test_a_run_of_other_tokens_is_refused(pop, mine):
    run, takes = mine
    foreign = open_run(run)
    if foreign.tokenizer.name == "remi":
        with pytest.raises(FileError, match="free time"):
            rank(foreign, [tune(0).freed()])
    else:
        with pytest.raises(RunError, match="its tokens are"):
            rank(foreign, takes, corpus=pop[0].folder.parent / "corpus")
