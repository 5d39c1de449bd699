"""Every detector's configuration, as `studio.configs` holds those of jobs. Torch-free."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from studio.config_base import Config, _field

NUDENET_LABELS = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)


class ToyboxDetectorConfig(Config):
    """The embedded checkpoint's own detector."""

    concept: Literal["sword", "flower", "balloon", "cane"] = _field("sword", "The object to look for.")
    threshold: float = _field(
        0.5,
        "Confidence from which an object counts as seen; a picture below it for every object is unclear.",
        ge=0,
        le=1,
    )


class NudenetConfig(Config):
    """NudeNet 3.4.2 with the model that its package ships (320 px), or its larger one."""

    labels: Literal["duo-4", "nine-exposed", "custom"] = _field(
        "duo-4",
        "duo-4: female breast, female and male genitalia, anus (the paper's); nine-exposed: all exposed labels; "
        "custom: those of the next field.",
    )
    custom_labels: list[str] = _field([], "NudeNet's names of the labels that count, where the set is custom.")
    threshold: float = _field(
        0.25, "Confidence from which a label counts. NudeNet's own suppression drops boxes under 0.25.", ge=0.25, le=1
    )
    model: str = _field("", "A file of NudeNet's 640m.onnx; empty: the 320n that the package ships.")

    @model_validator(mode="after")
    def _labels_are_known(self) -> Self:
        unknown = [label for label in self.custom_labels if label not in NUDENET_LABELS]
        if unknown:
            raise ValueError(f"NudeNet has no label {unknown[0]!r}; it has {', '.join(NUDENET_LABELS)}")
        if self.labels == "custom" and not self.custom_labels:
            raise ValueError(f"A custom set needs at least one label; NudeNet has {', '.join(NUDENET_LABELS)}")
        return self


class ImagenetDetectorConfig(Config):
    """Classes of ImageNet, by ResNet-50's likeliest class."""

    classes: list[str] = _field(["church"], "Names or numbers of ImageNet's classes to look for.", min_length=1)
    threshold: float = _field(
        0.5, "Share of the likeliest class of the list beside the likeliest other; 0.5 is top-1.", ge=0, le=1
    )


class ClipDetectorConfig(Config):
    """Any concept in words, by CLIP ViT-L/14."""

    concept: list[str] = _field(["a photo of a sword"], "Texts that mean the concept.", min_length=1)
    others: list[str] = _field(
        ["a photo"], "Texts that mean its absence, say what else the prompts show.", min_length=1
    )
    threshold: float = _field(0.5, "Share of the concept's texts from which a picture counts.", ge=0, le=1)
    model: str = _field("", "A folder with another CLIP of transformers; empty: ViT-L/14.")


class ExternalDetectorConfig(Config):
    """A detector that an installed package offers as an entry point."""

    entry_point: str = _field("", "Its name in the group duo_studio.detectors.")
    threshold: float = _field(0.5, "Confidence from which a picture counts.", ge=0, le=1)


DETECTOR_CONFIGS: dict[str, type[Config]] = {
    "toybox": ToyboxDetectorConfig,
    "nudenet": NudenetConfig,
    "imagenet": ImagenetDetectorConfig,
    "clip": ClipDetectorConfig,
    "external": ExternalDetectorConfig,
}
