"""The works of `benchmarks.attacks`: one attack on one net, beside the libraries that have it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.tasks import CLASSES, INPUTS, Product

# Largest difference of two sides: absolute for robust accuracy, relative for the other measures.
TOLERANCE = {"accuracy": 0.005, "values": 1e-3} | dict.fromkeys(("linf", "l2", "l1", "l0"), 0.02)


class Peer(NamedTuple):
    """A library that does the same work.

    target: required speedup of adv_jax.
    rows: number of digits, the first of the work's; None for all.
    local: whether it is jitted code in adv_jax's process instead of a PyTorch library.
    tolerance: tolerance if its algorithm differs; None for that of the measure.
    """

    target: float
    rows: int | None = None
    local: bool = False
    tolerance: float | None = None


class Work(NamedTuple):
    """One attack on one net.

    title: title in the tables.
    attack: name of the attack in the workers.
    net: "mlp", 784-1200-1200-10, or "lenet", 20-50-500.
    rows: number of digits per call.
    peers: name -> library to compare with.
    measure: key of `TOLERANCE` that must agree.
    passes: needed (forward, backward) passes per digit; None if they depend on the digit.
    options: keywords of adv_jax's attack.
    targeted: whether to target the class after the digit's own.
    checked_with: replaced options for the comparison of results.
    split: choices of whether adv_jax splits the rows over the cores.
    chunks: choices of adv_jax's chunk size in rows; () for one chunk.
    calls: calls per timed block.
    rounds: most rounds; 0 to time only the first call, on demand.
    """

    title: str
    attack: str
    net: str
    rows: int
    peers: Mapping[str, Peer]
    measure: str
    passes: tuple[int, int] | None = None
    options: Mapping[str, Any] = {}
    targeted: bool = False
    checked_with: Mapping[str, Any] = {}
    split: tuple[bool, ...] = (False, True)
    chunks: tuple[int, ...] = ()
    calls: int = 1
    rounds: int = 100

    @property
    def flops(self) -> int | None:
        """The FLOPs of the matrix products and convolutions of one digit."""
        return self.passes and sum(self.passes) * FORWARD_FLOPS[self.net]


def _convolution(height: int, width: int, inner: int, maps: int) -> Product:
    """Returns the matrix product of a 5 x 5 convolution with output f32[height, width, maps]."""
    return Product(height * width, 25 * inner, maps)


_MLP = [Product(1, a, b) for a, b in pairwise((INPUTS, 1200, 1200, CLASSES))]
_LENET = [_convolution(24, 24, 1, 20), _convolution(8, 8, 20, 50)]
_LENET += [Product(1, a, b) for a, b in pairwise((800, 500, CLASSES))]

# A backward pass to the input has the same FLOPs.
FORWARD_FLOPS = {
    net: sum(product.flops for product in products)
    for net, products in {"mlp": _MLP, "lenet": _LENET}.items()
}

_MLP_PEERS = {"torchattacks": Peer(1.0), "foolbox": Peer(1.4), "ART": Peer(1.6)}
_PGD_LINF = {"norm": "linf", "eps": 0.1, "step_size": 0.01, "num_steps": 40}
_DEEPFOOL = {"num_steps": 3, "overshoot": 0.02}
# torchattacks continues from clipped pixels, while adv_jax and foolbox clip the sum of all steps.
# The norms of the perturbations therefore differ.
_DEEPFOOL_SINGLY = Peer(10.0, rows=50, tolerance=0.15)
# foolbox 3.3.4 does not project onto the l2 ball: its perturbations are longer.
_FMN_L2 = Peer(1.0, tolerance=0.5)
# Robust accuracy of attacks that draw differs between two seeds by about a point.
_DRAWS = Peer(1.0, tolerance=0.02)
# torchattacks draws one window for all digits of a query, and none at the lower and right edge.
_SQUARE = Peer(1.0, tolerance=0.03)
_SEARCH = {"search_steps": 5, "num_steps": 200, "learning_rate": 0.02, "initial_const": 0.1}
# With clipping, 3 steps fool hardly any digit.
_CONVERGED = {"num_steps": 50}

WORKS = {
    "fgsm": Work(
        title="FGSM",
        attack="fgsm",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(1, 1),
        options={"eps": 0.1},
        calls=5,
    ),
    "pgd_linf": Work(
        title="PGD-40 linf",
        attack="pgd",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(40, 40),
        options=_PGD_LINF,
    ),
    "pgd_l2": Work(
        title="PGD-40 l2",
        attack="pgd",
        net="mlp",
        rows=1000,
        peers=_MLP_PEERS,
        measure="accuracy",
        passes=(40, 40),
        options={"norm": "l2", "eps": 1.5, "step_size": 0.1, "num_steps": 40},
    ),
    "mi_fgsm": Work(
        title="MI-FGSM-10",
        attack="mi_fgsm",
        net="mlp",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        passes=(10, 10),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10, "decay": 1.0},
    ),
    "pgd_lenet": Work(
        title="PGD-40 linf",
        attack="pgd",
        net="lenet",
        rows=100,
        peers={"torchattacks": Peer(1.6), "foolbox": Peer(2.2), "ART": Peer(2.4)}
        | {
            "plain Flax": Peer(1.0, local=True),
            "plain Flax, not rewritten": Peer(10.0, local=True),
        },
        measure="accuracy",
        passes=(40, 40),
        options=_PGD_LINF,
        chunks=(100, 50),
    ),
    "jacobian": Work(
        title="class_jacobian",
        attack="jacobian",
        net="mlp",
        rows=1000,
        peers={"torch": Peer(1.0)},
        measure="values",
        passes=(1, CLASSES - 1),
        chunks=(1000, 200),
    ),
    "jacobian_lenet": Work(
        title="class_jacobian",
        attack="jacobian",
        net="lenet",
        rows=100,
        peers={"torch": Peer(1.5)},
        measure="values",
        passes=(1, CLASSES - 1),
        chunks=(100, 50, 20, 10),
        calls=5,
    ),
    "deepfool": Work(
        title="DeepFool, 3 steps",
        attack="deepfool",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(2.5), "torchattacks": _DEEPFOOL_SINGLY},
        measure="l2",
        passes=(3, 3 * (CLASSES - 1)),
        options=_DEEPFOOL,
        checked_with=_CONVERGED,
        chunks=(1000, 200),
    ),
    "deepfool_lenet": Work(
        title="DeepFool, 3 steps",
        attack="deepfool",
        net="lenet",
        rows=100,
        peers={"foolbox": Peer(3.3), "torchattacks": _DEEPFOOL_SINGLY},
        measure="l2",
        passes=(3, 3 * (CLASSES - 1)),
        options=_DEEPFOOL,
        checked_with=_CONVERGED,
        chunks=(100, 50, 20),
    ),
    "fmn_linf": Work(
        title="FMN-100 linf",
        attack="fmn",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(1.0)},
        measure="linf",
        passes=(100, 100),
        options={"norm": "linf", "num_steps": 100},
    ),
    "fmn_l2": Work(
        title="FMN-100 l2",
        attack="fmn",
        net="mlp",
        rows=1000,
        peers={"foolbox": _FMN_L2},
        measure="l2",
        passes=(100, 100),
        options={"norm": "l2", "num_steps": 100},
    ),
    "hop_skip_jump": Work(
        title="HopSkipJump l2, 5 steps",
        attack="hop_skip_jump",
        net="mlp",
        rows=50,
        # foolbox divides a direction by its norm over the batch, so that its jumps are short.
        peers={"foolbox": Peer(1.0, tolerance=0.7)},
        measure="l2",
        options={"num_steps": 5, "initial_evals": 100},
    ),
    "jsma": Work(
        title="JSMA",
        attack="jsma",
        net="mlp",
        rows=50,
        peers={"torchattacks": Peer(20.0, rows=10)},
        measure="l0",
        options={"theta": 1.0, "gamma": 0.1},
        targeted=True,
    ),
    "lbfgs": Work(
        title="box L-BFGS",
        attack="lbfgs",
        net="mlp",
        rows=100,
        peers={"jit + SciPy": Peer(3.0, local=True), "advertorch": Peer(7.0)},
        measure="l2",
        options={"num_steps": 50, "search_steps": 5, "initial_const": 0.01},
        rounds=1,
        targeted=True,
    ),
    "bim": Work(
        title="BIM-10",
        attack="bim",
        net="mlp",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        passes=(10, 10),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10},
    ),
    "vmi_fgsm": Work(
        title="VMI-FGSM-10, 5 neighbors",
        attack="vmi_fgsm",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        passes=(60, 60),
        options={"eps": 0.1, "step_size": 0.01, "num_steps": 10, "num_neighbors": 5},
    ),
    "apgd": Work(
        title="APGD-50 linf",
        attack="apgd",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        passes=(51, 51),
        options={"eps": 0.1, "num_steps": 50},
    ),
    "fab": Work(
        title="FAB-20 linf",
        attack="fab",
        net="mlp",
        rows=200,
        peers={"torchattacks": _DRAWS},
        measure="accuracy",
        options={"eps": 0.1, "num_steps": 20},
    ),
    "square": Work(
        title="Square linf, 500 queries",
        attack="square",
        net="mlp",
        rows=1000,
        peers={"torchattacks": _SQUARE},
        measure="accuracy",
        options={"eps": 0.1, "num_queries": 500},
    ),
    "carlini_wagner": Work(
        title="Carlini-Wagner l2, 5 x 200",
        attack="carlini_wagner",
        net="mlp",
        rows=100,
        peers={"foolbox": Peer(1.0)},
        measure="l2",
        passes=(1000, 1000),
        options=_SEARCH,
    ),
    "ead": Work(
        title="EAD l1, 5 x 200",
        attack="ead",
        net="mlp",
        rows=100,
        peers={"foolbox": Peer(1.0)},
        measure="l1",
        passes=(1000, 1000),
        options=_SEARCH | {"rule": "l1", "beta": 0.01},
    ),
    "ddn": Work(
        title="DDN-100 l2",
        attack="ddn",
        net="mlp",
        rows=1000,
        peers={"foolbox": Peer(1.0)},
        measure="l2",
        passes=(100, 100),
        options={"num_steps": 100},
    ),
    "boundary": Work(
        title="Boundary l2, 500 steps",
        attack="boundary",
        net="mlp",
        rows=50,
        # Both walk at random; adv_jax's walks end nearer.
        peers={"foolbox": Peer(1.0, tolerance=0.5)},
        measure="l2",
        options={"num_steps": 500},
    ),
    "curve": Work(
        title="FGSM, 10 eps",
        attack="curve",
        net="mlp",
        rows=1000,
        peers={"ten calls": Peer(1 / 1.2, local=True)},
        measure="values",
        # All eps share the gradient; each needs a forward pass for its accuracy.
        passes=(11, 1),
        options={"eps": [0.03 * step for step in range(1, 11)]},
        split=(False,),
    ),
    "auto_attack": Work(
        title="AutoAttack linf",
        attack="auto_attack",
        net="lenet",
        rows=1000,
        peers={"torchattacks": Peer(1.0)},
        measure="accuracy",
        options={"eps": 0.2},
        split=(False,),
        rounds=0,
    ),
}
