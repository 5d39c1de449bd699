"""The unlearning methods there are: one file each, listed here by hand."""

from __future__ import annotations

from studio.methods.advunlearn import AdvUnlearn
from studio.methods.base import UnlearningMethod
from studio.methods.concept_ablation import ConceptAblation
from studio.methods.duo import Duo
from studio.methods.esd import Esd
from studio.methods.forget_me_not import ForgetMeNot
from studio.methods.rece import Rece
from studio.methods.salun import Salun
from studio.methods.selective_amnesia import SelectiveAmnesia
from studio.methods.spm import Spm
from studio.methods.uce import Uce

METHODS: tuple[UnlearningMethod, ...] = (
    Duo(),
    Esd(),
    Uce(),
    Rece(),
    Spm(),
    ConceptAblation(),
    ForgetMeNot(),
    SelectiveAmnesia(),
    AdvUnlearn(),
    Salun(),
)


def get_method(name: str) -> UnlearningMethod:
    """The method of that name.

    Raises:
        ValueError: there is none.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise ValueError(f"There is no method {name!r}; use {', '.join(method.name for method in METHODS)}.")
