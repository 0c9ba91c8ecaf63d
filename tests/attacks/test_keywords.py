"""A keyword of another library, or a misspelled one, is refused with ours."""

import inspect
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from adv_jax import attacks, evaluate
from adv_jax.suggestions import OTHER_NAMES, suggestion
from adv_jax.types import UserError

GUIDE = Path(attacks.__file__).parent / "README.md"
X, Y = jnp.float32([[0.2, 0.4], [0.6, 0.1]]), jnp.array([0, 1])
PUBLIC = [*attacks.__all__, "adversarial_patch", "feature_adversary", "universal_perturbation"]
PUBLIC += ["class_jacobian", "fooling_images", "place_patch"]
PUBLIC += ["expectation", "straight_through", "input_diversity", "translation_invariance"]
ENTRIES = ["evaluate", "evaluate_batches", "benchmark", "minimal_eps", "transfer"]
ENTRIES += ["certify", "certify_smoothed"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_attack_suggests_its_own_word_for_a_keyword_of_another_library(name):
    attack = getattr(attacks, name)
    own = inspect.signature(attack).parameters
    for other, ours in {**OTHER_NAMES, "targetd": ("targeted",), "boundz": ("bounds",)}.items():
        expected = next((word for word in ours if word in own), None)
        if expected is None or other in own:
            continue
        with pytest.raises(UserError) as error:
            attack(lambda x: x, X, Y, **{other: 1})
        said = f"{name} must get keywords of its own, got {other!r}; did you mean {expected!r}?"
        assert str(error.value) == said


@pytest.mark.parametrize("name", ENTRIES)
def test_every_evaluation_refuses_an_unknown_keyword(name):
    with pytest.raises(UserError, match=f"{name} must get keywords of its own, got 'batchsize'; "):
        getattr(evaluate, name)(lambda x: x, X, Y, batchsize=1)
    with pytest.raises(UserError, match=rf"{name} must get keywords of its own \(.*, got 'zzz'$"):
        getattr(evaluate, name)(lambda x: x, X, Y, zzz=1)


def test_the_message_for_the_commonest_words_names_ours():
    legal = ["eps", "step_size", "num_steps", "restarts", "bounds"]
    for other, ours in [
        ("steps", "num_steps"),
        ("alpha", "step_size"),
        ("epsilon", "eps"),
        ("nb_iter", "num_steps"),
        ("n_restarts", "restarts"),
        ("clip_max", "bounds"),
    ]:
        assert suggestion(other, legal) == f"; did you mean {ours!r}?"
    for other in ("FGSM", "Square", "CW"):
        ours = {"CW": "carlini_wagner"}.get(other, other.lower())
        assert suggestion(other, attacks.__all__) == f"; did you mean {ours!r}?"


def test_the_names_of_the_guide_are_those_of_the_messages():
    table = GUIDE.read_text().partition("## Names in other libraries")[2].partition("\n\n`pgd`")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 15
    checked = 0
    for ours, *others in rows:
        own = re.findall(r"\w+", ours.partition(" of ")[0])
        for cell in others:
            for name in re.findall(r"`(\w+)`", cell.partition(";")[0]):
                no_keyword = name[0].isupper() or name.startswith("set_mode") or cell[1] == "("
                if name in own or no_keyword:
                    continue
                assert set(OTHER_NAMES[name]) & {*own}, (name, own)
                checked += 1
    assert checked > 30
