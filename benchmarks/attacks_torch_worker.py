"""Worker that runs the attacks of PyTorch libraries as their documentation shows.

A library is imported when its attack is built: `benchmarks.accelerator` does without some.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import torch_worker
from benchmarks.tasks import CHECKED
from benchmarks.timing import seconds_of, serve

BOUNDS = (0.0, 1.0)
IMAGE, CLASSES = (1, 28, 28), 10
TRIALS = 2  # calls per chunk size or layout; the best counts
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}

Options = Mapping[str, Any]
Attack = Callable[[Tensor, Tensor], Tensor]  # (x f32[B, 1, 28, 28], y i64[B]) -> result


def of_torchattacks(name: str, net: nn.Module, options: Options) -> Attack:
    import torchattacks

    match name:
        case "fgsm":
            return torchattacks.FGSM(net, eps=options["eps"])
        case "pgd":
            kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[options["norm"]]
            steps = {"alpha": options["step_size"], "steps": options["num_steps"]}
            return kind(net, eps=options["eps"], **steps, random_start=False)
        case "mi_fgsm":
            steps = {"alpha": options["step_size"], "steps": options["num_steps"]}
            return torchattacks.MIFGSM(net, eps=options["eps"], **steps, decay=options["decay"])
        case "bim":
            return torchattacks.BIM(net, options["eps"], options["step_size"], options["num_steps"])
        case "vmi_fgsm":
            steps = {"alpha": options["step_size"], "steps": options["num_steps"]}
            neighbors = options["num_neighbors"]
            return torchattacks.VMIFGSM(net, eps=options["eps"], **steps, N=neighbors)
        case "apgd":
            return torchattacks.APGD(net, eps=options["eps"], steps=options["num_steps"])
        case "fab":
            return torchattacks.FAB(net, eps=options["eps"], steps=options["num_steps"])
        case "square":
            return torchattacks.Square(net, eps=options["eps"], n_queries=options["num_queries"])
        case "deepfool":
            overshoot = options["overshoot"]
            return torchattacks.DeepFool(net, steps=options["num_steps"], overshoot=overshoot)
        case "jsma":
            attack = torchattacks.JSMA(net, theta=options["theta"], gamma=options["gamma"])
            attack.set_mode_targeted_by_label(quiet=True)
            return attack
        case "auto_attack":
            numbers = {key: options[key] for key in ("num_steps", "num_queries") if key in options}
            return auto_attack(net, options["eps"], **numbers)
    raise ValueError(name)


def auto_attack(
    net: nn.Module, eps: float, *, num_steps: int = 100, num_queries: int = 5000
) -> Attack:
    """Builds the standard ensemble with 100 steps each; torchattacks' AutoAttack has 10."""
    import torchattacks

    common = {"norm": "Linf", "eps": eps, "seed": 0}
    every_class = {"steps": num_steps, "n_classes": CLASSES}
    members = [
        torchattacks.APGD(net, **common, steps=num_steps),
        torchattacks.APGDT(net, **common, **every_class),
        torchattacks.FAB(net, **common, **every_class, multi_targeted=True),
        torchattacks.Square(net, **common, n_queries=num_queries),
    ]
    return torchattacks.MultiAttack(members)


def of_foolbox(name: str, net: nn.Module, options: Options) -> Attack:
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=BOUNDS, device=next(net.parameters()).device)
    match name:
        case "fgsm":
            attack = foolbox.attacks.LinfFastGradientAttack()
        case "pgd":
            kind = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[options["norm"]]
            steps = {"abs_stepsize": options["step_size"], "steps": options["num_steps"]}
            attack = kind(**steps, random_start=False)
        case "deepfool":
            steps = {"steps": options["num_steps"], "overshoot": options["overshoot"]}
            attack = foolbox.attacks.L2DeepFoolAttack(**steps, candidates=CLASSES)
        case "fmn":
            kinds = {"linf": foolbox.attacks.LInfFMNAttack, "l2": foolbox.attacks.L2FMNAttack}
            attack = kinds[options["norm"]](steps=options["num_steps"])
        case "ddn":
            attack = foolbox.attacks.DDNAttack(steps=options["num_steps"])
        case "carlini_wagner":
            attack = foolbox.attacks.L2CarliniWagnerAttack(
                stepsize=options["learning_rate"], **_searched(options)
            )
        case "ead":
            attack = foolbox.attacks.EADAttack(
                initial_stepsize=options["learning_rate"],
                regularization=options["beta"],
                decision_rule=options["rule"].upper(),
                **_searched(options),
            )
        case "boundary":
            return _from_digits(foolbox.attacks.BoundaryAttack(steps=options["num_steps"]), model)
        case "hop_skip_jump":
            evals = options["initial_evals"]
            attack = foolbox.attacks.HopSkipJumpAttack(
                steps=options["num_steps"], initial_gradient_eval_steps=evals
            )
            return _from_digits(attack, model)
        case _:
            raise ValueError(name)
    return lambda x, y: attack(model, x, y, epsilons=options.get("eps"))[1]


def _searched(options: Options) -> dict[str, Any]:
    """Returns the options of a search of the constant, which always takes all steps."""
    steps = {"binary_search_steps": options["search_steps"], "steps": options["num_steps"]}
    return {**steps, "initial_const": options["initial_const"], "abort_early": False}


def _from_digits(attack: Any, model: Any) -> Attack:
    """Returns an attack by classes alone, which starts at digits of another class."""
    return lambda x, y: attack(model, x, y, epsilons=None, starting_points=another_class(x, y))[1]


def another_class(x: Tensor, y: Tensor) -> Tensor:
    """Returns for each row the first digit, or the first of another class than it."""
    other = y != y[0]
    return torch.where(other.view(-1, 1, 1, 1), x[:1], x[other][:1])


def of_art(name: str, net: nn.Module, options: Options) -> Attack:
    """Wraps an attack of ART, which takes and returns NumPy arrays."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    loss = nn.CrossEntropyLoss()
    model = PyTorchClassifier(net, loss, IMAGE, CLASSES, clip_values=BOUNDS, device_type="cpu")
    common = {"eps": options["eps"], "batch_size": options["batch_size"]}
    match name:
        case "fgsm":
            attack = evasion.FastGradientMethod(model, **common)
        case "pgd":
            attack = evasion.ProjectedGradientDescent(
                model,
                **common,
                norm={"linf": np.inf, "l2": 2}[options["norm"]],
                eps_step=options["step_size"],
                max_iter=options["num_steps"],
                verbose=False,
            )
        case _:
            raise ValueError(name)
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def of_advertorch(name: str, net: nn.Module, options: Options) -> Attack:
    # advertorch imports torchvision and a function that PyTorch has removed, but uses neither.
    sys.modules["torch.autograd.gradcheck"].zero_gradients = None
    with mock.patch.dict(sys.modules, {"torchvision": mock.MagicMock()}):
        from advertorch.attacks import LBFGSAttack

    attack = LBFGSAttack(
        net,
        CLASSES,
        batch_size=options["batch_size"],
        binary_search_steps=options["search_steps"],
        max_iterations=options["num_steps"],
        initial_const=options["initial_const"],
        targeted=True,
    )
    return attack.perturb


def backward_passes(net: nn.Module, x: Tensor, chunk: int) -> Tensor:
    """Returns the Jacobian of the probabilities, f32[B, K, *D], by K - 1 backward passes.

    As probabilities sum to 1, the last class's derivative is minus the sum of the others.
    """
    jacobian = torch.empty(len(x), CLASSES, *x.shape[1:], device=x.device)
    for rows, filled in zip(x.split(chunk), jacobian.split(chunk), strict=True):
        rows = rows.detach().requires_grad_()
        probs = net(rows).softmax(1)
        for k in range(CLASSES - 1):
            ahead = k < CLASSES - 2  # The last backward pass frees the graph.
            (filled[:, k],) = torch.autograd.grad(probs[:, k].sum(), rows, retain_graph=ahead)
        filled[:, -1] = -filled[:, :-1].sum(1)
    return jacobian


LIBRARIES: dict[str, Callable[[str, nn.Module, Options], Attack]] = {
    "torchattacks": of_torchattacks,
    "foolbox": of_foolbox,
    "ART": of_art,
    "advertorch": of_advertorch,
}


def mlp(params: Mapping[str, Tensor]) -> nn.Sequential:
    layers = [_linear(params, name) for name in ("hidden1", "hidden2", "logits")]
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def lenet(params: Mapping[str, Tensor]) -> nn.Sequential:
    """Builds LeNet with pooling before the ReLU, as in adv_jax."""
    maps = params["hidden2/kernel"].shape[3]
    full = _linear(params, "hidden3")
    # adv_jax orders its inputs (y, x, map), PyTorch (map, y, x).
    weight = full.weight.view(len(full.weight), 4, 4, maps)
    full.weight = nn.Parameter(weight.permute(0, 3, 1, 2).flatten(1).contiguous())
    return nn.Sequential(
        _conv(params, "hidden1"),
        nn.MaxPool2d(2),
        nn.ReLU(),
        _conv(params, "hidden2"),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        full,
        nn.ReLU(),
        _linear(params, "logits"),
    )


NETS = {"mlp": mlp, "lenet": lenet}


class Side:
    """The handlers of this worker; adv_jax's worker writes to the exchange folder."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Callable[[], Tensor]] = {}
        self._outputs: dict[tuple[str, str], np.ndarray] = {}

    def start(self, exchange: str, threads: int, tuned: bool, nets: list[str]) -> dict[str, Any]:
        """Loads the nets; returns the largest differences of logits from adv_jax's."""
        torch_worker.configure(threads)
        self._exchange = Path(exchange)
        self._peak = partial(torch_worker.Side().run, "peak")
        with np.load(self._exchange / "data.npz") as arrays:
            x = torch.from_numpy(arrays["x"]).movedim(-1, 1).contiguous()
            self._y = torch.from_numpy(arrays["y"]).long()
        self._nets, self._x, apart, layouts = {}, {}, {}, {}
        for name in nets:
            self._x[name] = x
            with np.load(self._exchange / f"{name}.npz") as arrays:
                leaves = {key: torch.from_numpy(arrays[key]) for key in arrays}
            self._nets[name] = NETS[name](leaves).eval()
            if tuned:
                layouts[name] = self._tune(name)
            with torch.no_grad():
                logits = self._nets[name](self._x[name][:CHECKED])
            apart[name] = (logits - leaves["logits"]).abs().max().item()
        threads = torch.get_num_threads()
        return {"threads": threads, "tuned": tuned, "layouts": layouts, "logits_apart": apart}

    def _tune(self, name: str) -> dict[str, float]:
        """Freezes the parameters and keeps the faster layout of a net and its images.

        Returns the seconds of an input gradient in each layout.
        """
        net, seconds = self._nets[name].requires_grad_(False), {}

        def gradient() -> None:
            x = self._x[name][:CHECKED].detach().requires_grad_()
            torch.autograd.grad(net(x).sum(), x)

        for layout in LAYOUTS:
            self._lay_out(name, layout)
            gradient()  # The first call chooses algorithms.
            seconds[layout] = min(seconds_of(gradient) for _ in range(TRIALS))
        self._lay_out(name, min(seconds, key=seconds.get))
        return seconds

    def _lay_out(self, name: str, layout: str) -> None:
        memory_format = LAYOUTS[layout]
        self._nets[name].to(memory_format=memory_format)
        self._x[name] = self._x[name].contiguous(memory_format=memory_format)

    def prepare(self, name: str, peer: str, work: dict[str, Any], rows: int) -> dict[str, Any]:
        """Builds the attack, and chooses the chunk size of `backward_passes`."""
        net, x, y = self._nets[work["net"]], self._x[work["net"]][:rows], self._y[:rows]
        if work["targeted"]:
            y = (y + 1) % CLASSES
        if peer != "torch":
            options = {**work["options"], "batch_size": rows}
            attack = LIBRARIES[peer](work["attack"], net, options)
            self._runs[name, peer] = lambda: attack(x, y)
            return {}
        seconds = {
            chunk: min(
                seconds_of(lambda c=chunk: backward_passes(net, x, c)) for _ in range(TRIALS)
            )
            for chunk in work["chunks"]
        }
        best = min(seconds, key=seconds.get)
        self._runs[name, peer] = lambda: backward_passes(net, x, best)
        return {"chunk": best, "choice_seconds": seconds}

    def run(self, name: str, peer: str, calls: int) -> float:
        """Returns the mean seconds of a call; keeps the last output."""
        if name == "peak":
            return self._peak()
        run, found = self._runs[name, peer], []

        def block() -> None:
            found.extend(run() for _ in range(calls))

        seconds = seconds_of(block)
        self._outputs[name, peer] = found[-1].detach().cpu().numpy()
        return seconds / calls

    def save(self, name: str, peer: str) -> None:
        """Writes the last output, with channels last as in adv_jax."""
        images = np.moveaxis(self._outputs[name, peer], -3, -1)
        np.save(self._exchange / f"{name}_{peer}.npy", images)


def _linear(params: Mapping[str, Tensor], name: str) -> nn.Linear:
    kernel = params[f"{name}/kernel"]
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), params[f"{name}/bias"]
    return layer


def _conv(params: Mapping[str, Tensor], name: str) -> nn.Conv2d:
    kernel = params[f"{name}/kernel"].permute(3, 2, 0, 1)
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:])
    layer.weight.data, layer.bias.data = kernel.contiguous(), params[f"{name}/bias"]
    return layer


if __name__ == "__main__":
    serve(Side())
