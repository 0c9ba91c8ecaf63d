"""Configs refuse bad options in one line."""

import pytest
from config_files import config_of

from configs.common import parse_options


@pytest.mark.parametrize("more", ["table=15", "training=supervised"])
def test_options_of_conv_small_are_refused_with_conv_fc(more):
    with pytest.raises(ValueError, match="^net must be small with table= or training=superv"):
        config_of("ladder_conv_mnist", f"net=fc,{more}")


@pytest.mark.parametrize(("name", "few"), [("ladder_conv_mnist", 100), ("ladder_cifar10", 4000)])
def test_all_labels_are_refused_without_supervised_training(name, few):
    words = f"^labels must be {few} without training=supervised, got 'full'$"
    with pytest.raises(ValueError, match=words):
        config_of(name, "labels=full")


@pytest.mark.parametrize(("name", "table"), [("ladder_conv_mnist", 15), ("ladder_cifar10", 16)])
def test_a_block_of_a_search_is_refused_without_its_table(name, table):
    with pytest.raises(ValueError, match=f"^block must be left out without table={table}, got 'l"):
        config_of(name, "block=last")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("method=distillation", "source must be the workdir of a run with method=distillation"),
        ("source=RUN", "source must be left out without method=distillation or dae, got 'RUN'"),
        ("method=dae", "source must be the workdir of a run with method=dae, got none"),
        ("method=dae,source=RUN,model=maxout", "model must be left out with method=dae"),
        ("method=vat,temperature=3", "temperature must be left out without method=teacher or dist"),
        ("method=vat,form=uniform", "form must be left out without method=smoothing, got 'unif"),
    ],
)
def test_options_of_goodfellow_mnist_that_do_not_fit_are_refused(mode, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        config_of("goodfellow_mnist", mode)


def test_a_deep_autoencoder_is_not_stacked():
    words = "^net must be wide or dbn with training=stacked, got 'deep'$"
    with pytest.raises(ValueError, match=words):
        config_of("autoencoder_mnist", "training=stacked,net=deep")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (
            "optimizer=adam,regularizer=l1",
            "optimizer must be a form of SGD with regularizer=l1, got 'adam'",
        ),
        (
            "net=residual,regularizer=dropconnect",
            "net must be mlp, average or inception with regularizer=dropconnect, got 'residual'",
        ),
    ],
)
def test_regularizers_that_a_net_or_an_optimizer_lacks_are_refused(mode, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        config_of("rules_mnist", mode)


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        ("quickstart", "quik", "mode must be paper or quick, got 'quik'; did you mean 'quick'?"),
        ("quickstart", "net=fc", "option must be mode, got 'net'"),
        ("quickstart", "quick,", "mode must be paper or quick, got ''"),
        ("quickstart", "quick,paper", "mode must be given once, got 'quick,paper'"),
        (
            "backprop_cifar10",
            "conv",
            "mode must be paper or quick, got 'conv'; did you mean 'net=conv'?",
        ),
        ("backprop_cifar10", "net=", "net must be conv or fc, got ''"),
        ("backprop_cifar10", "net=fc,net=fc", "net must be given once, got 'net=fc,net=fc'"),
        (
            "backprop_cifar10",
            "quick,nett=fc",
            "option must be mode, net, method or preprocess, got 'nett'; did you mean 'net'?",
        ),
        (
            "goodfellow_mnist",
            "method=teaching",
            "method must be plain, adversarial, iterative, smoothing, teacher, distillation, vat "
            "or dae, got 'teaching'; did you mean 'teacher'?",
        ),
        (
            "goodfellow_mnist",
            "temperature=hot",
            "temperature must be a decimal number of at least 0, got 'hot'",
        ),
        (
            "goodfellow_mnist",
            "temperature=²",
            "temperature must be a decimal number of at least 0, got '²'",
        ),
        (
            "odm_mnist",
            "weight=-1",
            "weight must be a decimal number of at least 0, got '-1'; did you mean '1'?",
        ),
        ("odm_mnist", "weight=1/0", "weight must be a decimal number of at least 0, got '1/0'"),
        (
            "odm_mnist",
            "weight=8//255",
            "weight must be a decimal number of at least 0, got '8//255'",
        ),
        ("odm_mnist", "weight=nan", "weight must be a decimal number of at least 0, got 'nan'"),
        ("huang_mlp_mnist", "fixed=", "fixed must be a path, got ''"),
        ("ladder_mnist", "std=None", "std must be 0.3, 0.25, 0.2 or 0, got 'None'"),
        ("ladder_cifar10", "table=4", "table must be 16, 27 or 28, got '4'"),
        ("shallow_mnist", "width=0", "width must be a whole number from 1 on, got '0'"),
    ],
)
def test_an_option_that_is_not_legal_is_refused_in_one_line(name, mode, says):
    with pytest.raises(ValueError) as error:
        config_of(name, mode)
    assert str(error.value) == says


def test_an_option_may_be_a_fraction():
    assert parse_options("weight=8/255", weight=(1.0, float)).weight == 8 / 255
    assert parse_options("weight=.5/2", weight=(1.0, float)).weight == 0.25
