"""The frame of the Curate tab's Quality view; assets/quality.js fills it from `studio.ui.quality_routes`."""

from __future__ import annotations

from studio.records import Project
from studio.ui.words import escape

ALIKE = {2: "Exactly, or as good as", 5: "Hardly different", 8: "Similar"}  # bits of 128 that may differ


def quality_frame(project: Project) -> str:
    options = "".join(
        f'<option value="{bits}"{" selected" if bits == 5 else ""}>{words}</option>' for bits, words in ALIKE.items()
    )
    return (
        f'<div class="duo-view duo-quality" data-project="{escape(project.id)}">'
        '<p class="qua-said" data-is="said" role="status">&nbsp;</p>'
        '<section aria-label="Coverage"><div class="qua-head"><h3>Coverage</h3>'
        '<label>Order<select data-is="order"><option value="need">Least covered first</option>'
        '<option value="table">As in the table</option></select></label></div>'
        '<p class="qua-note" data-is="summary">&nbsp;</p><div class="qua-rows" data-is="rows"></div>'
        '<button type="button" data-do="more-rows" data-is="more-rows" hidden>Show more</button></section>'
        '<section aria-label="Near-duplicates"><div class="qua-head"><h3>Near-duplicates</h3>'
        f'<label>Alike<select data-is="within">{options}</select></label></div>'
        '<p class="qua-note">Pairs of which both pictures look alike, by difference hashes of 64 bits each. With '
        "them a training sees one scene several times. Rejected pairs are left out.</p>"
        '<p class="qua-note" data-is="looked">&nbsp;</p><div class="qua-groups" data-is="groups"></div>'
        '<button type="button" data-do="more-groups" data-is="more-groups" hidden>Show more</button></section></div>'
    )
