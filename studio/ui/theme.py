"""The studio's look: two inks (pine for calm, clay for "the concept is there") on cool paper, light and dark.

Every text and background pair here has a contrast of at least 4.5 to 1; the browser tests check the page itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).parent / "assets"

PINE = gr.themes.Color(
    name="pine",
    c50="#eef7f5",
    c100="#dff0ec",
    c200="#bfe0d9",
    c300="#8fcabf",
    c400="#58b3a3",
    c500="#2a9483",
    c600="#0e6a5e",
    c700="#0b574d",
    c800="#0a463e",
    c900="#093a34",
    c950="#05211d",
)
SLATE = gr.themes.Color(
    name="slate",
    c50="#f6f8f7",
    c100="#eef2f0",
    c200="#dde5e2",
    c300="#c3cfcb",
    c400="#93a39e",
    c500="#667772",
    c600="#4c5c57",
    c700="#33403c",
    c800="#1f2a27",
    c900="#16201d",
    c950="#0e1513",
)

# What follows the theme in style.css too: name -> (light, dark).
COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f3f6f5", "#0e1513"),
    "panel": ("#ffffff", "#161f1c"),
    "raised": ("#f6f8f7", "#1d2825"),
    "line": ("#dbe3e0", "#2b3733"),
    "line-strong": ("#7d8c87", "#71827c"),
    "ink": ("#14201d", "#e7eeeb"),
    "muted": ("#4f5f5a", "#a4b4af"),
    "pine": ("#0e6a5e", "#63cdbb"),
    "on-pine": ("#ffffff", "#05211d"),
    "pine-soft": ("#e3f2ee", "#12302b"),
    "clay": ("#9b2f1b", "#ffb19d"),
    "clay-soft": ("#fdebe5", "#3c1a13"),
    "amber": ("#6d5200", "#ecd58a"),
    "amber-soft": ("#fbf2d6", "#322a10"),
}


def studio_theme() -> gr.themes.Base:
    """The Gradio theme: quiet surfaces, one accent, room to breathe."""
    theme = gr.themes.Base(
        primary_hue=PINE,
        secondary_hue=PINE,
        neutral_hue=SLATE,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        # weights: the 600 file that Gradio 6.31 ships lacks most letters
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"),
    )
    theme.name = "duo-studio"
    return theme.set(**_both(_SURFACES), **_FORM)


def _both(names: dict[str, str]) -> dict[str, Any]:
    """Gradio's variables with their dark twins, from names of COLOURS."""
    values: dict[str, Any] = {}
    for variable, colour in names.items():
        values[variable], values[f"{variable}_dark"] = COLOURS[colour]
    return values


_SURFACES = {
    "body_background_fill": "page",
    "body_text_color": "ink",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "panel",
    "background_fill_secondary": "raised",
    "border_color_primary": "line",
    "border_color_accent": "pine",
    "block_background_fill": "panel",
    "block_border_color": "line",
    "block_info_text_color": "muted",
    "block_title_text_color": "ink",
    "block_label_text_color": "muted",
    "block_label_background_fill": "panel",
    "panel_background_fill": "panel",
    "panel_border_color": "line",
    "accordion_text_color": "ink",
    "link_text_color": "pine",
    "link_text_color_hover": "pine",
    "link_text_color_visited": "pine",
    "input_background_fill": "panel",
    "input_background_fill_focus": "panel",
    "input_border_color": "line-strong",
    "input_border_color_focus": "pine",
    "input_placeholder_color": "muted",
    "checkbox_background_color": "panel",
    "checkbox_background_color_selected": "pine",
    "checkbox_border_color": "line-strong",
    "checkbox_border_color_selected": "pine",
    "checkbox_label_background_fill": "panel",
    "checkbox_label_background_fill_hover": "raised",
    "checkbox_label_background_fill_selected": "pine-soft",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_selected": "pine",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "slider_color": "pine",
    "loader_color": "pine",
    "button_primary_background_fill": "pine",
    "button_primary_background_fill_hover": "pine",
    "button_primary_text_color": "on-pine",
    "button_primary_text_color_hover": "on-pine",
    "button_primary_border_color": "pine",
    "button_secondary_background_fill": "panel",
    "button_secondary_background_fill_hover": "raised",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "button_secondary_border_color": "line-strong",
    "error_background_fill": "clay-soft",
    "error_border_color": "clay",
    "error_text_color": "clay",
    "error_icon_color": "clay",
}
_FORM: dict[str, Any] = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_title_text_size": "*text_sm",
    "block_title_text_weight": "600",
    "block_info_text_size": "*text_sm",
    "button_border_width": "1px",
    "button_large_radius": "10px",
    "button_medium_radius": "8px",
    "button_small_radius": "8px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "checkbox_label_padding": "7px 10px",
    "checkbox_label_border_width": "1px",
    "checkbox_label_shadow": "none",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_radius": "8px",
    "form_gap_width": "0px",
    "layout_gap": "18px",
}


def style_sheet() -> str:
    """Every style sheet of assets/ with the colours above as --duo-… variables in front."""
    light = "".join(f"--duo-{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--duo-{name}:{pair[1]};" for name, pair in COLOURS.items())
    return f":root{{color-scheme:light;{light}}}\n.dark{{color-scheme:dark;{dark}}}\n" + "\n".join(_assets("*.css"))


def scripts() -> str:
    """Every script of assets/, each in a <script> of its own, for the page's head."""
    return "".join(f"<script>{text}</script>" for text in _assets("*.js"))


def _assets(pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob(pattern))]
