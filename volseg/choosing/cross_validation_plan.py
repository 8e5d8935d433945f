"""What a cross-validation is told to do, and whether it can be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from volseg.bundle import Bundle, compose, composition_of
from volseg.choosing.decisions import THRESHOLD_METRICS
from volseg.data import fold_cases, read_datalist
from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.training.copying import begun_from
from volseg.training.run_settings import require_run_settings

CHOICES = ("threshold", "temperature", "cleaning")


@dataclass(frozen=True)
class CrossValidationPlan:
    """What a cross-validation does.

    Attributes:
        bundle: Folder of the bundle that is trained.
        data: Folder of the data set that it lists.
        folds: Each is held out once.
        settings: Of training, instead of the bundle's own.
        choices: What is chosen on held-out cases: ``threshold``, ``temperature``, ``cleaning``.
        metric: What a threshold is chosen by.
        probabilities: Whether those of held-out cases are written, too.
        ensemble: Whether the folds become one bundle.
        configs_sha256: Of what a training of the bundle is begun from.
    """

    bundle: str
    data: str
    folds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    metric: str = "dice"
    probabilities: bool = False
    ensemble: bool = False
    configs_sha256: str = ""

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> CrossValidationPlan:
        """Return what `CrossValidationFolder.begin` wrote."""
        tuples = {name: tuple(entries[name]) for name in ("folds", "choices")}
        names = cls.__dataclass_fields__
        return cls(**{**{name: entries[name] for name in names}, **tuples})


def plan_cross_validation(
    bundle: Bundle,
    data: str | Path,
    *,
    folds: Iterable[int] | None,
    settings: Mapping[str, Any],
    choices: Iterable[str],
    metric: str,
    probabilities: bool,
    ensemble: bool,
) -> CrossValidationPlan:
    """Return what is to be done; the arguments are those of `cross_validate`.

    What would fail later is refused, so that nothing is begun that cannot end.

    Raises:
        InputError: A file or a folder of the data is not there, a setting is none of the bundle's,
            or a choice cannot be made with these folds or classes.
        BundleError: The bundle cannot be composed again, so that nothing can be stored in it.
    """
    plan = CrossValidationPlan(
        bundle=str(bundle.folder),
        data=str(Path(data).resolve()),
        folds=_folds(bundle, folds),
        settings=json.loads(json.dumps(dict(settings))),  # as it is read again
        choices=_known("choice", choices, CHOICES),
        metric=_known("metric", [metric], THRESHOLD_METRICS)[0],
        probabilities=probabilities,
        ensemble=ensemble,
        configs_sha256=begun_from(bundle)[0],
    )
    _require_possible(plan, bundle)
    return plan


def _folds(bundle: Bundle, folds: Iterable[int] | None) -> tuple[int, ...]:
    datalist = read_datalist(bundle.folder / "configs" / "datalist.json")
    known = sorted({case.fold for case in datalist})
    chosen = known if folds is None else sorted(set(folds))
    unknown = [fold for fold in chosen if fold not in known]
    if unknown or not chosen:
        raise InputError(
            f"the bundle {bundle.name} lists the folds {', '.join(map(str, known))}, not "
            f"{', '.join(map(str, unknown)) or 'none'}: choose some of them."
        )
    strange = [case.case for case in datalist if Path(case.case).name != case.case]
    if strange:
        raise InputError(
            f"the case {strange[0]!r} of {bundle.name} cannot name a file: give it a plain name."
        )
    return tuple(chosen)


def _known(kind: str, names: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(names))
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return given


def _require_possible(plan: CrossValidationPlan, bundle: Bundle) -> None:
    require_run_settings(bundle, {**plan.settings, "fold": plan.folds[0]})
    _require_untold(plan, bundle)
    for held_out in (True, False):  # together all cases: each has its files
        datalist = bundle.folder / "configs" / "datalist.json"
        fold_cases(datalist, plan.data, fold=plan.folds[0], held_out=held_out)
    if plan.ensemble and len(plan.folds) < 2:
        raise InputError("an ensemble needs at least two folds, got one: leave --ensemble out.")
    decides = {"threshold", "temperature"} & set(plan.choices)
    if decides and len(plan.folds) < 2:
        raise InputError(
            f"{' and '.join(sorted(decides))} of a fold are chosen on the others, got one fold: "
            "ask for two at least."
        )
    if "threshold" in decides and not bundle.regions and bundle.out_channels > 2:
        raise InputError(
            f"the bundle {bundle.name} has {bundle.out_channels} classes that compete, of which "
            "the most probable one wins: a threshold is for two classes, or for regions."
        )
    if plan.choices or plan.ensemble:
        _require_composed(bundle)


def _require_untold(plan: CrossValidationPlan, bundle: Bundle) -> None:
    """Refuse weights that the held-out cases choose: their scores would be of what they chose."""
    own = ConfigParser.load_config_file(bundle.config("train"))
    for name, independent in (("patience", None), ("final_weights", "last")):
        found = plan.settings.get(name, own.get(name, independent))
        if found != independent:
            told = "null" if independent is None else independent
            raise InputError(
                f"with {name} {found} the held-out cases decide when a training is good, and their "
                f"scores say no more what it does to others: add --set {name}={told}, and say how "
                "long to train by epochs."
            )


def _require_composed(bundle: Bundle) -> None:
    """Refuse a bundle in which nothing that is chosen can be stored."""
    if "composition" not in bundle.metadata:
        raise BundleError(
            f"the metadata of {bundle.name} do not say what it was composed of, so that nothing "
            "chosen can be stored in it: leave the choices and the ensemble out."
        )
    path = bundle.config("inference")
    composed = compose(composition_of(bundle.metadata, bundle.name))["inference.yaml"]
    if path.read_text(encoding="utf-8") != composed:
        raise BundleError(
            f"{path} is not what the bundle was composed of: it was edited, or composed by another "
            "version of volseg, so that nothing chosen can be stored in it; leave the choices and "
            "the ensemble out, or compose the bundle again."
        )
