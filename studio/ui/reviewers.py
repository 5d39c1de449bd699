"""The frame of the Curate tab's Reviewers view; assets/reviewers.js fills it from `studio.ui.reviewing`."""

from __future__ import annotations

from studio.records import Project
from studio.ui.words import escape


def reviewers_frame(project: Project) -> str:
    return (
        f'<div class="duo-view duo-reviewers" data-project="{escape(project.id)}">'
        '<p class="rev-said" data-is="said" role="status">&nbsp;</p>'
        f'<div class="rev-columns"><section aria-label="Second reviews"><h3>Second reviews</h3>{_share()}'
        '<div data-is="reviews"></div></section>'
        '<section aria-label="Agreement"><h3>Agreement</h3><div data-is="agreement"></div></section></div>'
        '<section data-is="queue" aria-label="Disagreements" hidden>'
        '<h3>Disagreements <small data-is="open"></small></h3><p class="rev-note">Two people judged these pairs '
        "differently. Your word counts; until then a pair is left out.</p>"
        '<div class="rev-conflicts" data-is="conflicts"></div>'
        '<button type="button" data-do="more" data-is="more" hidden>Show more</button></section>'
        '<section aria-label="Work"><h3>Work</h3><p class="rev-note" data-is="work-note"></p>'
        '<div data-is="work"></div></section></div>'
    )


def _share() -> str:
    return (
        '<p class="rev-note">On a share of the pairs, always the same ones, two people must agree. Whoever is '
        "second does not see the first verdict. Where they disagree, the owner decides.</p>"
        '<form class="rev-share" data-is="share-form" hidden><label>Share of the pairs '
        '<input type="number" min="0" max="100" step="1" data-is="share" inputmode="numeric"> %</label>'
        '<button type="submit">Set</button></form>'
    )
