/* How the grid looks: cells, numbers, what is chosen, previews. Each function fills one place. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const { text, count } = studio.pairWords;
  const WORDS = { accept: 'accepted', reject: 'rejected', skip: 'skipped' };
  const SIGNS = { accept: '✓', reject: '✕', skip: '»' };
  const VERBS = { accept: 'Accept', reject: 'Reject', skip: 'Skip' };

  /* Sign, words and kind of what a pair's decision is. */
  function stand(pair) {
    if (pair.again) return ['↻', 'being made again', 'again'];
    if (pair.waits === 'conflict') return ['≠', 'two people disagree', 'conflict'];
    if (!pair.decision) return ['', 'not decided', ''];
    const { verdict, by, detector } = pair.decision;
    const waits = pair.waits ? ', waits for a second review' : '';
    return [SIGNS[verdict], `${WORDS[verdict]} by ${detector ? 'the detector' : by}${waits}`, verdict];
  }

  function thumb(pair) {
    const small = (side) => `<img src="${text(pair[side].src)}&small" alt="" loading="lazy" draggable="false">`;
    return `<span class="pair-thumb">${small('unsafe')}${small('safe')}</span>`;
  }

  function scores(pair) {
    const both = `${pair.unsafe.score.toFixed(2)} → ${pair.safe.score.toFixed(2)}`;
    return pair.distance === null ? both : `${both} · d ${pair.distance.toFixed(2)}`;
  }

  function html(pair) {
    const [sign, words, kind] = stand(pair);
    const proposal = pair.proposal === 'none' ? '' : pair.proposal;
    const proposed = proposal ? `, proposed to ${proposal}` : '';
    const title = `${pair.prompts.unsafe}. Detector: ${pair.unsafe.score.toFixed(2)} in the unsafe picture, ${pair.safe.score.toFixed(2)} in its twin`;
    return (
      `<div role="option" class="grd-cell" tabindex="-1" data-pair="${pair.id}" data-kind="${kind}" ` +
      `data-proposal="${proposal}" aria-selected="false" title="${text(title)}" ` +
      `aria-label="${text(`${title}; ${words}${proposed}`)}">${thumb(pair)}` +
      `<span class="grd-scores" aria-hidden="true">${scores(pair)}</span>` +
      `<span class="grd-sign" aria-hidden="true">${sign}</span></div>`
    );
  }

  function cells(grid) {
    const held = document.activeElement && document.activeElement.closest('.grd-cell');
    grid.at('cells').innerHTML = grid.ids.map((id) => html(grid.known.get(id))).join('');
    foot(grid);
    if (held && grid.ids.includes(grid.focus)) cell(grid, grid.focus).focus({ preventScroll: true });
  }

  function append(grid, ids) {
    grid.at('cells').insertAdjacentHTML('beforeend', ids.map((id) => html(grid.known.get(id))).join(''));
    foot(grid);
    mark(grid);
  }

  function foot(grid) {
    grid.at('more').hidden = !grid.goesOn;
    grid.at('none').hidden = grid.ids.length > 0;
    grid.at('none').innerHTML =
      '<div class="duo-empty"><h3>No pairs in this list</h3>' +
      '<p>Choose another list above, or take a filter away.</p></div>';
  }

  const cell = (grid, id) => grid.at('cells').querySelector(`[data-pair="${id}"]`);

  function mark(grid) {
    for (const one of grid.at('cells').children) {
      const { pair } = one.dataset;
      one.setAttribute('aria-selected', grid.everything || grid.chosen.has(pair));
      one.tabIndex = pair === grid.focus ? 0 : -1;
    }
    const number = grid.everything ? grid.numbers.match : grid.chosen.size;
    grid.at('chosen').hidden = !number;
    grid.at('chosen-count').innerHTML = grid.everything
      ? `<b>All ${count(number, 'pair')}</b> that match`
      : `<b>${count(number, 'pair')}</b> chosen`;
    grid.at('redo').hidden = grid.everything;
    grid.at('strengths').hidden = grid.everything || number !== 1;
    const all = grid.at('all');
    all.hidden = grid.everything || !grid.numbers || grid.numbers.match <= number;
    if (!all.hidden) all.textContent = `Choose all ${grid.numbers.match.toLocaleString('en')} that match`;
  }

  function numbers(grid) {
    const { match, proposals, reviewers } = grid.numbers;
    const only = grid.query.prompts
      ? ' of one prompt <button type="button" data-do="any-prompt">All prompts</button>'
      : '';
    grid.at('count').innerHTML = `<b>${count(match, 'pair')}</b>${only}`;
    const by = grid.at('by');
    const names = ['', ...reviewers, ...(grid.query.by ? [grid.query.by] : [])];
    if ([...by.options].map((one) => one.value).join('\n') !== [...new Set(names)].join('\n')) {
      by.innerHTML = [...new Set(names)]
        .map((name) => `<option value="${text(name)}">${text(name || 'Anybody')}</option>`)
        .join('');
      by.value = grid.query.by || '';
    }
    grid.at('take').disabled = !proposals || !(proposals.accept + proposals.reject);
    if (proposals) {
      grid.at('proposals').innerHTML =
        `<b class="is-accept">${count(proposals.accept, 'pair')}</b> to accept, ` +
        `<b class="is-reject">${proposals.reject.toLocaleString('en')}</b> to reject, ` +
        `${proposals.none.toLocaleString('en')} left to people. These are proposals: nothing is decided yet.`;
    } else {
      grid.at('proposals').textContent =
        'Set a threshold: the grid then marks what it proposes. Nothing is decided until you say so.';
    }
    if (grid.everything) mark(grid);
  }

  function preview(grid, parts) {
    const some = parts.filter((part) => part.number);
    const apply = grid.at('apply');
    apply.disabled = !some.length;
    grid.at('preview-body').innerHTML = some.length ? some.map((part) => previewPart(part)).join('') : '<h3>No pair</h3>';
    const verbs = some.map((part) => `${VERBS[part.verdict].toLowerCase()} ${part.number.toLocaleString('en')}`);
    const words = verbs.join(' and ') || 'nothing to decide';
    apply.textContent = `${words[0].toUpperCase()}${words.slice(1)}`;
    apply.className = some.length && some.every((part) => part.verdict === 'reject') ? 'is-reject' : 'is-accept';
  }

  function previewPart({ verdict, number, reason, replaces, first }) {
    const names = Object.entries(replaces).map(([name, n]) => `${text(name)} on ${n.toLocaleString('en')}`);
    const replaced = names.length ? `<p class="grd-warn">This replaces what was decided by ${names.join(', ')}.</p>` : '';
    const shown = first.map((pair) => `<li title="${text(pair.prompts.unsafe)}">${thumb(pair)}</li>`).join('');
    const rest = number > first.length ? `<p>The first ${first.length} of them, in the order of the list.</p>` : '';
    return (
      `<section><h3>${VERBS[verdict]} ${count(number, 'pair')}</h3>` +
      `${reason ? `<p>Reason kept with each: ${text(reason)}</p>` : ''}${replaced}` +
      `<ul class="grd-first">${shown}</ul>${rest}</section>`
    );
  }

  function actions(grid, list) {
    grid.at('actions').hidden = !list.length;
    grid.at('action-list').innerHTML = list
      .map((one) => {
        const sizes = Object.entries(one.sizes).map(([verdict, number]) => `${number.toLocaleString('en')} ${WORDS[verdict]}`);
        const state = one.undone ? 'taken back' : one.done ? '' : 'not finished';
        return (
          `<li><div><b>${text(one.words)}</b><span>${sizes.join(', ') || 'no pair'} · ${text(one.by)}, ${one.when}` +
          `${state ? ` · ${state}` : ''}</span></div>` +
          (one.undone
            ? ''
            : `<button type="button" data-do="undo-action" data-action="${one.id}" ` +
              `aria-label="Undo: ${text(one.words)}">Undo</button>`) +
          '</li>'
        );
      })
      .join('');
  }

  studio.gridView = { cells, append, cell, mark, numbers, preview, actions, thumb };
})();
