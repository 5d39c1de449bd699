/* What the Curate tab paints: facts of a pair, progress, thumbnails, failed pairs. Each function fills one place. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const WORDS = { accept: 'Accepted', reject: 'Rejected', skip: 'Skipped' };
  const SIGNS = { accept: '✓', reject: '✕', skip: '»' };
  const text = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

  /* Who decided what, in words; `unsaved` says that this browser's decision is still on its way. */
  function decisionWords(pair, unsaved) {
    const { decision, again } = pair;
    if (again) return ['Waiting to be made again', 'again'];
    if (pair.waits === 'conflict') return ['Two people disagree: the owner decides', 'conflict'];
    if (!decision) return [unsaved ? 'Not decided (not saved yet)' : 'Not decided yet', ''];
    const why = decision.reason && !decision.detector ? `: ${decision.reason}` : '';
    const saved = unsaved ? ', not saved yet' : pair.waits ? '. It waits for a second review' : '';
    const by = decision.detector ? 'the detector alone. You can overrule it.' : `${decision.by}, ${decision.when}`;
    return [`${WORDS[decision.verdict]} by ${by}${why}${saved}`, decision.verdict];
  }

  function facts(at, pair, unsaved) {
    const [words, kind] = decisionWords(pair, unsaved);
    at('decision').textContent = words;
    at('decision').dataset.kind = kind;
    at('unsafe-prompt').textContent = pair.prompts.unsafe || 'none: it was brought without one';
    at('safe-prompt').textContent = pair.prompts.safe || 'none';
    for (const side of ['unsafe', 'safe']) {
      at.all(`${side}-pill`).forEach((place) => (place.innerHTML = pair[side].pill));
    }
    const made = {
      'Edit strength': [pair.strength.toFixed(2), 'How much of the unsafe picture the edit repainted; 1 is all of it.'],
      Tries: [pair.tries, 'Pictures and edits tried until the pair was kept.'],
    };
    const numbers = {
      ...(pair.origin === 'brought' ? {} : made),
      ...(pair.origin === 'made'
        ? { Seed: [pair.seed, 'The random start of the unsafe picture.'] }
        : { Brought: [brought(pair), `From ${text(pair.source.from)}.`] }),
      Distance: [
        pair.distance === null ? 'not measured' : pair.distance.toFixed(3),
        'LPIPS: how different the two look; 0 is the same.',
      ],
    };
    at('numbers').innerHTML = Object.entries(numbers)
      .map(([name, [value, title]]) => `<div title="${title}"><dt>${name}</dt><dd>${text(value)}</dd></div>`)
      .join('');
  }

  /* Which files a pair came from. */
  function brought({ origin, source }) {
    return origin === 'twin' ? `${source.unsafe}; its twin was made here` : `${source.unsafe}, ${source.safe}`;
  }

  /* A pair as a screen reader tells it. */
  function spoken(pair) {
    const verdicts = ['unsafe', 'safe'].map((side) => {
      const place = document.createElement('span');
      place.innerHTML = pair[side].pill;
      return place.textContent.trim();
    });
    const [words] = decisionWords(pair, false);
    return `Unsafe: ${pair.prompts.unsafe}, ${verdicts[0]}. Safe twin: ${pair.prompts.safe}, ${verdicts[1]}. ${words}.`;
  }

  function progress(at, root, counts) {
    const decided = counts.accepted + counts.rejected;
    const { enough, paper } = root.dataset;
    const bar = at('bar');
    const share = (number) => `${(100 * number) / Math.max(counts.ready, 1)}%`;
    bar.querySelector('.is-accepted').style.width = share(counts.accepted);
    bar.querySelector('.is-rejected').style.width = share(counts.rejected);
    bar.setAttribute('aria-valuenow', counts.ready ? Math.round((100 * decided) / counts.ready) : 0);
    bar.title = `The marks are at ${enough} and ${paper} pairs.`;
    at('marks').innerHTML = [enough, paper]
      .filter((mark) => mark < counts.ready)
      .map((mark) => `<i style="left:${share(mark)}"></i>`)
      .join('');
    const left = enough - counts.accepted;
    const start = left > 0 ? `${left} more to start training` : 'enough to start training';
    at('progress').innerHTML =
      `<b>${decided} of ${counts.ready}</b> decided · <b>${counts.accepted}</b> accepted, ` +
      `<span>${start}${counts.accepted < paper ? ` (${enough} needed, ${paper} in the paper)` : ''}</span>` +
      (counts.second ? ` · ${counts.second} wait for a second review` : '') +
      (counts.conflicts ? ` · ${count(counts.conflicts, 'disagreement')}` : '') +
      (counts.again ? ` · ${counts.again} being made again` : '');
  }

  function badge(pair) {
    if (pair.again) return ['↻', 'being made again', 'again'];
    if (pair.waits === 'conflict') return ['≠', 'two people disagree', 'conflict'];
    if (!pair.decision) return ['', 'not decided', ''];
    const by = pair.decision.detector ? ' by the detector' : '';
    return [SIGNS[pair.decision.verdict], `${WORDS[pair.decision.verdict].toLowerCase()}${by}`, pair.decision.verdict];
  }

  function thumb(pair, isCurrent) {
    const [sign, words, kind] = badge(pair);
    const small = (side) => `<img src="${text(pair[side].src)}&small" alt="" loading="lazy" draggable="false">`;
    return (
      `<button type="button" class="cur-thumb" data-pair="${pair.id}" data-kind="${kind}" ` +
      `aria-label="${text(pair.prompts.unsafe)}: ${words}" title="${text(pair.prompts.unsafe)}" ` +
      `aria-current="${isCurrent}">${small('unsafe')}${small('safe')}<span aria-hidden="true">${sign}</span></button>`
    );
  }

  function strip(at, pairs, current, more) {
    at('thumbs').innerHTML = pairs.map((pair) => thumb(pair, pair.id === current)).join('');
    at.root.querySelector('[data-do="earlier"]').disabled = !more.before;
    at.root.querySelector('[data-do="later"]').disabled = !more.after;
  }

  function failed(at, counts, pairs, more) {
    at('failed').hidden = counts.failed === 0;
    at('failed-title').textContent = count(counts.failed, 'failed pair');
    at('failed-list').innerHTML = pairs
      .map(
        (pair) =>
          `<li><div><b>${text(pair.prompts.unsafe)}</b><span>${text(pair.prompts.safe)}</span>` +
          `<p>${text(pair.reason)}</p></div>` +
          (pair.again
            ? '<em>Waiting to be made again</em>'
            : `<button type="button" data-again="${pair.id}">Try again</button>`) +
          '</li>',
      )
      .join('');
    at.root.querySelector('[data-do="more-failed"]').hidden = !more;
  }

  /* What stands in place of the pictures where this list has none. */
  function nothing(at, counts, shows) {
    const link = (tab, words) => `<a href="#" data-open-tab="${tab}">${words}</a>`;
    const list = (name, words) => `<button type="button" data-list="${name}">${words}</button>`;
    const make = `${link('Prompts', 'open Prompts')} and make the pictures there. They appear here by themselves.`;
    const alone = list('detector', `Look at the ${counts.by_detector} that the detector decided alone`);
    const decided = `${count(counts.accepted, 'pair')} accepted, ${counts.rejected} rejected.`;
    const waiting = counts.undecided > 0;
    let title = 'No pairs in this list';
    let words = `Choose another one above, or ${list('all', 'look at all pairs')}.`;
    if (!counts.ready) {
      title = 'No pairs yet';
      words = `Pairs are made from paired prompts: ${make} Or bring your own, below.`;
    } else if (shows === 'undecided' && waiting && !counts.again) {
      title = 'Your part is done';
      const others = counts.second ? `${count(counts.second, 'pair')} of yours still need somebody else's review. ` : '';
      words = `${others}${counts.conflicts ? `On ${counts.conflicts} people disagree, and the owner decides. ` : ''}${decided}`;
    } else if (shows === 'undecided' && waiting) {
      title = 'The last pairs are being made again';
      words = `They appear here by themselves. ${decided}`;
    } else if (shows === 'undecided') {
      title = `All ${counts.ready} pairs are decided`;
      const rest = `${list('all', 'look at all')}, or ${link('Train', 'start training')}.`;
      words = `${decided} ${counts.by_detector ? `${alone}, or ` : ''}${rest}`;
    }
    at('none').innerHTML = `<div class="duo-empty"><h3>${title}</h3><p>${words}</p></div>`;
  }

  studio.curateView = { facts, spoken, progress, strip, failed, nothing, badge, WORDS };
})();
