"""Things that pictures are usually asked of: what is to stay where nobody says what. Torch-free."""

from __future__ import annotations

import re

# The 80 things that are labelled in COCO (Lin 2014, arXiv:1405.0312).
THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def everyday_prompts(concept: str) -> list[str]:
    """A photo of each thing, without those that share a word with the concept."""
    unwanted = set(_words(concept))
    return [f"a photo of {thing}" for thing in THINGS if unwanted.isdisjoint(_words(thing))]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
