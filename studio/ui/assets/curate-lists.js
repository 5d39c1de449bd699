/* The lists under the pair in hand: thumbnails of the chosen list, page by page, and the pairs that failed. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const FAILED = 50; // rows at a time

  class Lists {
    constructor(curation) {
      this.curation = curation;
      this.ids = [];
      this.before = this.after = false; // whether there are earlier and later ones
      this.failed = [];
    }

    get current() {
      return this.curation.current ? this.curation.current.id : '';
    }

    perPage() {
      return innerWidth < 640 ? 12 : 2 * Math.max(4, Math.floor(this.curation.root.clientWidth / 124));
    }

    /* A page that begins with the pair `first`, or at the head of the list. */
    async fill(first = '') {
      const { curation } = this;
      const { query } = curation;
      const start = first && curation.known.has(first) ? [first] : [];
      const limit = this.perPage() - start.length;
      const answer = await curation.list('pairs', { limit, ...(start.length && { after: first }) });
      const ids = [...start, ...curation.learn(answer.pairs)];
      const earlier = ids.length ? (await curation.list('pairs', { before: ids[0], limit: 1 })).pairs : [];
      if (query === curation.query) this.show(ids, earlier.length > 0, answer.more);
    }

    /* The page `before` or `after` this one. */
    async turn(direction) {
      const edge = direction === 'before' ? this.ids[0] : this.ids.at(-1);
      const answer = await this.curation.list('pairs', { [direction]: edge, limit: this.perPage() });
      const ids = this.curation.learn(answer.pairs);
      if (direction === 'before') this.show(ids, answer.more, true);
      else this.show(ids, true, answer.more);
    }

    show(ids, before, after) {
      Object.assign(this, { ids, before, after });
      const pairs = ids.map((id) => this.curation.known.get(id));
      studio.curateView.strip(this.curation.at, pairs, this.current, { before, after });
    }

    /* Show each pair's decision as it now is, in its place. */
    mark() {
      for (const button of this.curation.root.querySelectorAll('.cur-thumb')) {
        const pair = this.curation.known.get(button.dataset.pair);
        const [sign, words, kind] = studio.curateView.badge(pair);
        button.dataset.kind = kind;
        button.lastElementChild.textContent = sign;
        button.setAttribute('aria-label', `${pair.prompts.unsafe}: ${words}`);
        button.setAttribute('aria-current', this.current === pair.id);
      }
    }

    /* The failed pairs, where their list is open; with `more`, the next ones below. */
    async fillFailed(more = false) {
      const { curation } = this;
      const open = curation.at('failed').open && curation.counts.failed > 0;
      const limit = more ? FAILED : Math.min(200, Math.max(FAILED, this.failed.length));
      const query = { shows: 'failed', limit, ...(more && { after: this.failed.at(-1).id }) };
      const answer = open ? await curation.ask('pairs', query) : { pairs: [], more: false };
      curation.learn(answer.pairs);
      this.failed = more ? [...this.failed, ...answer.pairs] : answer.pairs;
      studio.curateView.failed(curation.at, curation.counts, this.failed, answer.more);
    }
  }

  studio.CurateLists = Lists;
})();
