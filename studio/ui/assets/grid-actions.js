/* What the grid does with many pairs: a look at what will happen, one action, one undo. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const UNASKED = 60; // chosen pairs, all of which can be seen, are decided on without a preview
  const TRIES = 8; // of an action whose answer does not come; it carries its own id
  const REDO = 200; // pairs in one request
  const DONE = { accept: 'accepted', reject: 'rejected', skip: 'skipped' };
  const wait = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds));

  class Actions extends studio.View {
    doings() {
      const quietly = (what) => () => what().catch((error) => this.complain(error));
      return {
        accept: quietly(() => this.decide('accept')),
        reject: quietly(() => this.decide('reject')),
        skip: quietly(() => this.decide('skip')),
        triage: quietly(() => this.offer({ verdict: 'triage', which: this.which() })),
        apply: quietly(() => this.apply(this.offered)),
        undo: quietly(() => this.undo(this.last)),
        'undo-action': (button) => this.undo(button.dataset.action).catch((error) => this.complain(error)),
        redo: quietly(() => this.redo()),
        strengths: () => studio.strengths(this.project, [...this.chosen.keys()][0]),
      };
    }

    which() {
      return { ...this.query, reviewer: this.reviewer() };
    }

    async decide(verdict) {
      if (!this.everything && !this.chosen.size) return this.say('Choose pairs first: click on them, or press Space.');
      const reason = verdict === 'reject' ? this.at('reason').value : '';
      const target = this.everything ? { which: this.which() } : { pairs: Object.fromEntries(this.chosen) };
      const body = { verdict, reason, ...target };
      return this.everything || this.chosen.size > UNASKED ? this.offer(body) : this.apply(body);
    }

    /* Say how many and which; nothing is decided yet. */
    async offer(body) {
      const asked = { ...body, reviewer: this.reviewer() };
      const { parts, until } = await this.tell('/preview', asked);
      this.offered = body.which ? { ...body, until } : body;
      studio.gridView.preview(this, parts);
      this.at('preview').showModal();
    }

    async apply(body) {
      this.at('preview').close();
      const told = { id: studio.newId(), reviewer: this.reviewer(), ...body };
      this.say('Deciding …');
      this.root.classList.add('is-busy');
      try {
        const { action } = await this.persist('/apply', told);
        this.last = action.id;
        this.choose([]);
        await this.fill();
        const sizes = Object.entries(action.sizes).map(([verdict, number]) => `${this.words(number)} ${DONE[verdict]}`);
        this.say(`${sizes.join(', ') || 'Nothing was left to decide'}.`);
        this.at('undo').hidden = !sizes.length;
      } finally {
        this.root.classList.remove('is-busy');
      }
    }

    /* Told again under the same id until there is an answer: it then goes on where it was. */
    async persist(path, body) {
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.tell(path, body);
        } catch (error) {
          if (error.told || tries === TRIES) throw error;
          this.say('The server does not answer. Trying again …');
          await wait(Math.min(tries, 5));
        }
      }
    }

    async undo(action) {
      if (!action) return this.say('There is no action to take back here; older ones are listed below.');
      this.say('Taking back …');
      const { undone } = await this.persist('/undo', { action, reviewer: this.reviewer() });
      if (action === this.last) this.last = '';
      await this.fill();
      this.at('undo').hidden = !this.last;
      return this.say(`Taken back: ${this.words(undone)} stand as before.`);
    }

    async redo() {
      const ids = [...this.chosen.entries()];
      for (let start = 0; start < ids.length; start += REDO) {
        const pairs = Object.fromEntries(ids.slice(start, start + REDO));
        await this.tell('/redo', { pairs }, `studio/curation/${this.project}`);
      }
      this.choose([]);
      await this.fill();
      this.say(`${this.words(ids.length)} will be made again, with another seed and more strength.`);
    }

    async listActions() {
      const { actions } = await this.ask('/actions');
      studio.gridView.actions(this, actions);
    }
  }

  studio.GridActions = Actions;
})();
