"""The result of an evaluation: as arrays, as a table, as JSON and as a chart."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adv_jax.evaluate.auditing import Audit
from adv_jax.evaluate.finished import write_whole
from adv_jax.evaluate.measures import Clean, Curve
from adv_jax.evaluate.setup import Setup
from adv_jax.types import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from adv_jax.evaluate.certifying import Certificate

# The form of the document of `Evaluation.to_json`.
_FORM = 2


class Examples(NamedTuple):
    """The inputs, what attacks made of them, and how sure the model is of its class.

    x: f[N, *D]; adversarial: name -> f[E, N, *D].
    confidence: name -> f[E, N], the probability of the model's class under the attack.
    confidence_clean: f[N], that without one.
    """

    x: np.ndarray
    adversarial: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    confidence_clean: np.ndarray


class Evaluation(NamedTuple):
    """The result of `evaluate`: NumPy arrays over E sizes and N rows.

    Its text, `print(found)`, is a table of the accuracies and the warnings. Two are equal if all
    their fields but the examples are.

    eps: f[E], the sizes, or attack -> f[E].
    clean: accuracy and confidence without an attack.
    attacks: name -> accuracy, confidence, success, l2 and linf, f[E] each.
    worst_case: f[E], the share of rows that stay correct under every attack, each at its e-th size.
    correct: name -> bool[E, N], the rows classified correctly under the attack.
    audit: signs that the evaluation is unreliable.
    labels: i[N], the classes y.
    predicted: name -> i[E, N], the model's classes under the attack.
    predicted_clean: i[N], those without one.
    norms: name -> the norm in which the sizes are radii; None if they are none, or it is unknown.
    settings: name -> the attack's function and the settings bound to it, as text.
    setup: the data, the key and the other settings of the call.
    examples: inputs and adversarial examples, if `evaluate` was asked for them, else None.
    """

    eps: np.ndarray | dict[str, np.ndarray]
    clean: Clean
    attacks: dict[str, Curve]
    worst_case: np.ndarray
    correct: dict[str, np.ndarray]
    audit: Audit
    labels: np.ndarray
    predicted: dict[str, np.ndarray]
    predicted_clean: np.ndarray
    norms: dict[str, str | None]
    settings: dict[str, str]
    setup: Setup
    examples: Examples | None = None

    def __str__(self) -> str:
        num_rows, num_sizes = len(self.labels), len(self.worst_case)
        title = f"accuracy on {num_rows} rows; without an attack {self.clean.accuracy:.1%}"
        shared = None if isinstance(self.eps, dict) else self.eps
        heads = [""] * num_sizes if shared is None else [f"{size:g}" for size in shared]
        rows = [["attack", "norm", *heads]]
        for name, curve in self.attacks.items():
            cells = [f"{value:.1%}" for value in curve.accuracy]
            if shared is None:
                cells = [
                    f"{cell} at {size:g}"
                    for cell, size in zip(cells, self.sizes(name), strict=True)
                ]
            rows.append([name, self.norms[name] or "", *cells])
        rows.append(["worst case", "", *(f"{value:.1%}" for value in self.worst_case)])
        return "\n".join([title, *_aligned(rows), *self.audit.warnings])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and self.to_json() == other.to_json()

    def __ne__(self, other: object) -> bool:
        return not self == other

    @property
    def robust(self) -> np.ndarray:
        """bool[E, N], the rows that stay correct under every attack: those of `worst_case`."""
        return np.logical_and.reduce(list(self.correct.values()))

    def sizes(self, name: str) -> np.ndarray:
        """Returns the sizes f[E] of an attack."""
        return self.eps[name] if isinstance(self.eps, dict) else self.eps

    def interval(self, name: str | None = None) -> np.ndarray:
        """Returns the 95 % interval of an accuracy at each size: f[E, 2] in [0, 1], low and high.

        This is Wilson's interval over the rows. It leaves out the spread over trainings and keys.

        name: of the attack; None: of the worst case.

        Raises:
          UserError: there is no such attack.
        """
        if name is not None and (not isinstance(name, str) or name not in self.attacks):
            allowed = f"one of {', '.join(self.attacks)}, or None for the worst case"
            raise UserError(f"name must be {allowed}, got {name!r}")
        shares = self.worst_case if name is None else self.attacks[name].accuracy
        return np.array([interval_of(share, len(self.labels)) for share in shares])

    def to_json(self) -> str:
        """Returns all fields but the examples as JSON, with null for NaN.

        Each row's class stands under `predicted`.
        """
        fields = self._asdict() | {
            "form": _FORM,
            "clean": self.clean._asdict(),
            "attacks": {name: curve._asdict() for name, curve in self.attacks.items()},
            "audit": self.audit._asdict(),
            "setup": self.setup._asdict(),
        }
        del fields["correct"], fields["examples"]  # The former follows from the classes.
        return json.dumps(_plain(fields), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Returns the evaluation that `to_json` wrote.

        Raises:
          UserError: the text is something else.
        """
        if not isinstance(text, str):
            found = f"a {type(text).__name__}"
            raise UserError(f"text must be that of Evaluation.to_json, got {found}")
        try:
            fields = json.loads(text)
            form = fields.pop("form")
            found = cls._of(fields) if form == _FORM else None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UserError("text must be that of Evaluation.to_json") from error
        if found is None:
            raise UserError(f"form must be {_FORM}, got {form!r}")
        return found

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> "Evaluation":
        eps, audit = fields["eps"], _numbers(fields["audit"])
        labels = np.asarray(fields["labels"], np.int32)
        predicted = {n: np.asarray(rows, np.int32) for n, rows in fields["predicted"].items()}
        return cls(
            eps={n: np.asarray(own, float) for n, own in eps.items()}
            if isinstance(eps, dict)
            else np.asarray(eps, float),
            clean=_arrays(Clean, fields["clean"]),
            attacks={n: _arrays(Curve, curve) for n, curve in fields["attacks"].items()},
            worst_case=np.asarray(fields["worst_case"], float),
            correct={n: rows == labels for n, rows in predicted.items()},
            audit=Audit(**audit | {"warnings": tuple(audit["warnings"])}),
            labels=labels,
            predicted=predicted,
            predicted_clean=np.asarray(fields["predicted_clean"], np.int32),
            norms=fields["norms"],
            settings=fields["settings"],
            setup=Setup(**fields["setup"]),
        )

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws accuracy over the sizes, the worst case as a broad line behind the attacks.

        Attacks of different sizes have no worst case at one size: the legend says so instead.

        ax: the axes to draw in; None: those of a new figure, `axes.figure`.
        """
        from adv_jax import style  # Slow to import, and only needed here.

        if ax is None:
            import matplotlib.pyplot as plt

            with style.styled():
                return self.plot(plt.figure(figsize=(5, 3.5)).subplots())
        first, *others = map(self.sizes, self.attacks)
        shared = all(np.array_equal(first, sizes) for sizes in others)
        if shared:
            order = np.argsort(first)
            worst = self.worst_case[order]
            ax.plot(first[order], worst, label="worst case", **style.WORST_CASE)
        for name, curve in self.attacks.items():
            order = np.argsort(self.sizes(name))
            line = ax.plot(
                self.sizes(name)[order], curve.accuracy[order], marker=".", label=style.plain(name)
            )
            line[0].set(**style.attack_style(name))
        ax.set(xlabel=style.size_label(self.norms.values()))
        style.shares(ax, "accuracy")
        ax.legend(frameon=False, title=None if shared else "no worst case: sizes differ")
        return ax

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "Robustness report",
        certificate: "Certificate | None" = None,
        images: bool | None = None,
    ) -> None:
        """Writes one page of HTML that needs no other file and no network.

        It has the data and versions, clean and robust accuracy with intervals, curves, the audit in
        words, the confusion under the strongest attack, and how to repeat it; with
        `evaluate(..., examples=True)` also rows that were fooled.

        Args:
          path: of the file, which is replaced.
          certificate: of `certify`, also shown.
          images: whether rows are shown as images, which [H, W] and [H, W, 1, 3 or 4] can be; a
            fourth channel is left out. None: those with channels are, as [H, W] may be a series.

        Raises:
          UserError: path does not end in .html; the file cannot be written; images is True for rows
            of another shape.
        """
        from adv_jax.evaluate.reporting import page  # It imports this module.

        check_page("path", path)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise UserError(f"path must be a file, got a device or a pipe, {path}")
        text = page(self, title=title, certificate=certificate, images=images)
        try:
            write_whole(Path(path), lambda part: part.write_text(text, "utf-8"))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def check_page(name: str, path: Any) -> None:
    """Raises UserError unless a path, the setting of that name, ends in .html."""
    if not isinstance(path, str | os.PathLike) or Path(path).suffix != ".html":
        raise UserError(f"{name} must end in .html, got {path}")


def interval_of(share: float, num_rows: int) -> tuple[float, float]:
    """Returns the ends of the 95 % interval (Wilson) of a share of rows; NaN of one not known."""
    from scipy.stats import binomtest  # Slow to import, and only needed here.

    if np.isnan(share):
        return np.nan, np.nan
    return binomtest(round(float(share) * num_rows), num_rows).proportion_ci(method="wilson")


def _arrays(kind: Any, fields: dict[str, Any]) -> Any:
    """Returns a tuple of the kind with an array f[] or f[E] for each field; null is NaN."""
    return kind(*(np.asarray(fields[name], float) for name in kind._fields))


def _aligned(rows: list[list[str]]) -> list[str]:
    """Returns lines of cells; the first two columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _plain(value: Any) -> Any:
    """Returns a tree of what JSON has, with null for NaN."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and np.isnan(value) else value


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields with NaN for null."""
    return {
        name: _numbers(value)
        if isinstance(value, dict)
        else float("nan")
        if value is None
        else value
        for name, value in fields.items()
    }
