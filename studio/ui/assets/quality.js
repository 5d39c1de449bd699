/* The Curate tab's Quality view: what each prompt has against what it asks for, and pairs that look alike. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const { text, count } = studio.pairWords;
  const ROWS = 12;
  const GROUPS = 12;

  class Quality extends studio.View {
    constructor(root) {
      super(root, 'quality');
      this.rows = [];
      this.groups = [];
      this.actions = {
        'more-rows': () => this.coverage(true).catch((error) => this.complain(error)),
        'more-groups': () => this.duplicates(true).catch((error) => this.complain(error)),
        prompts: (button) => this.look({ shows: 'all', prompts: button.dataset.prompts }),
        thin: (button) => this.thin(Number(button.dataset.group)).catch((error) => this.complain(error)),
        untake: (button) => this.untake(button).catch((error) => this.complain(error)),
      };
      this.at('order').addEventListener('change', () => this.coverage().catch((error) => this.complain(error)));
      this.at('within').addEventListener('change', () => this.duplicates().catch((error) => this.complain(error)));
    }

    async fill() {
      await this.coverage();
      await this.duplicates();
    }

    /* Once more where something changed, and on and on while pictures are left to look at. */
    async tick() {
      const { mark } = await this.ask('/coverage', { limit: 1 });
      if (mark !== this.mark) await this.fill();
      else if (this.left) await this.duplicates();
    }

    look(query) {
      studio.openViews.grid.showOnly(query);
      studio.showView('grid');
    }

    async coverage(more = false) {
      const limit = more ? ROWS : Math.max(ROWS, this.rows.length);
      const answer = await this.ask('/coverage', { order: this.at('order').value, from: more ? this.rows.length : 0, limit });
      this.mark = answer.mark;
      this.rows = more ? [...this.rows, ...answer.rows] : answer.rows;
      const { prompts, full, none, accepted, wanted } = answer.numbers;
      this.at('summary').textContent = prompts
        ? `${full.toLocaleString('en')} of ${count(prompts, 'prompt')} have all the accepted pairs they ask for, ` +
          `${none.toLocaleString('en')} have none. In all ${accepted.toLocaleString('en')} of ${wanted.toLocaleString('en')}.`
        : 'No prompts yet. They are written in Prompts.';
      this.at('rows').innerHTML = this.rows.map((one) => row(one)).join('');
      this.at('more-rows').hidden = !answer.more;
    }

    async duplicates(more = false) {
      if (this.looking) return;
      this.looking = true;
      try {
        const limit = more ? GROUPS : Math.max(GROUPS, this.groups.length);
        const asked = { within: this.at('within').value, from: more ? this.groups.length : 0, limit };
        const answer = await this.ask('/duplicates', asked);
        this.mark = answer.mark;
        this.left = answer.left;
        this.groups = more ? [...this.groups, ...answer.groups] : answer.groups;
        const found = answer.number
          ? `${count(answer.number, 'group')} with ${count(answer.pairs, 'pair')}.`
          : 'No near-duplicates.';
        this.at('looked').textContent = answer.left ? `${count(answer.left, 'pair')} still to look at … ${found}` : found;
        this.at('groups').innerHTML = this.groups.map((one, number) => group(one, number)).join('');
        this.at('more-groups').hidden = !answer.more;
      } finally {
        this.looking = false;
      }
    }

    /* Keep the first pair of a group: one action that Undo takes back. */
    async thin(number) {
      const [, ...rest] = Object.entries(this.groups[number].versions);
      const body = { id: studio.newId(), verdict: 'reject', reason: 'near-duplicate', reviewer: this.reviewer() };
      const told = { ...body, pairs: Object.fromEntries(rest) };
      const { action } = await this.tell('/apply', told, `studio/bulk/${this.project}`);
      this.said(`${count(action.sizes.reject || 0, 'pair')} rejected as near-duplicates.`, action.id);
      await this.fill();
    }

    async untake(button) {
      const body = { action: button.dataset.action, reviewer: this.reviewer() };
      const { undone } = await this.tell('/undo', body, `studio/bulk/${this.project}`);
      this.say(`Taken back: ${count(undone, 'pair')} stand as before.`);
      await this.fill();
    }

    said(words, action) {
      this.at('said').innerHTML = `${text(words)} <button type="button" data-do="untake" data-action="${action}">Undo</button>`;
    }
  }

  function row(one) {
    const most = Math.max(one.wanted, one.accepted + one.undecided + one.rejected + one.failed, 1);
    const part = (name, number) => (number ? `<i class="is-${name}" style="width:${(100 * number) / most}%"></i>` : '');
    const goal = one.wanted ? `<u style="left:${(100 * one.wanted) / most}%"></u>` : '';
    const said = `${one.accepted} of ${one.wanted} accepted, ${one.undecided} undecided, ${one.rejected} rejected, ${one.failed} failed`;
    return (
      `<button type="button" class="qua-row" data-do="prompts" data-prompts="${one.id}" title="${said}. See its pairs.">` +
      `<span>${text(one.unsafe)}</span><span class="qua-bar">${part('accepted', one.accepted)}` +
      `${part('undecided', one.undecided)}${part('rejected', one.rejected)}${part('failed', one.failed)}${goal}</span>` +
      `<span class="qua-value"><b>${one.accepted}</b> of ${one.wanted}</span></button>`
    );
  }

  function group(one, number) {
    const thumbs = one.pairs.map((pair) => `<li title="${text(pair.prompts.unsafe)}">${studio.gridView.thumb(pair)}</li>`);
    const rest = one.number > one.pairs.length ? `<li class="qua-rest">and ${one.number - one.pairs.length} more</li>` : '';
    return (
      `<article class="qua-group"><ul>${thumbs.join('')}${rest}</ul><button type="button" data-do="thin" ` +
      `data-group="${number}">Keep the first, reject ${one.number === 2 ? 'the other' : `the other ${one.number - 1}`}` +
      '</button></article>'
    );
  }

  studio.viewKinds.quality = Quality;
})();
