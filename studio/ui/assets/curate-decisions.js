/* Decisions of the Curate tab: shown at once, told to the server behind it, taken back one by one. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const REASON_TIME = 1500; // milliseconds for which a digit after R is the reason of that rejection

  /* The half of a curation that changes something; the other half, in curate.js, knows which pair is in hand. */
  class Decisions {
    decide(verdict, reason = '') {
      const pair = this.current;
      if (!pair) return;
      if (!this.stage.ready && verdict === 'accept') {
        this.say('The pictures are not shown yet, so this pair cannot be accepted.');
        return;
      }
      const milliseconds = Math.round(performance.now() - this.since);
      this.tell(pair, verdict, reason, milliseconds, this.wasRevealed);
      this.rejected = verdict === 'reject' && !reason ? { pair, at: performance.now() } : null;
      this.say(`${studio.curateView.WORDS[verdict]}${reason ? `: ${reason}` : ''}. ${this.undoWords()}`);
      this.advance();
    }

    tell(pair, verdict, reason, milliseconds, revealed) {
      const id = studio.newId();
      const reviewer = this.reviewer();
      const before = pair.decision;
      const last = this.done.at(-1);
      if (last && this.rejected && this.rejected.pair === pair) last.ids.push(id);
      else this.done.push({ pair: pair.id, ids: [id], reviewer, before });
      pair.decision = { id, verdict, by: reviewer, reason, when: 'just now', detector: false };
      const body = { id, pair: pair.id, version: pair.version, verdict, reason, reviewer, revealed, milliseconds };
      studio.outbox.post(`${this.base}/decide`, body, { pair: pair.id, project: this.project });
      this.lists.mark();
    }

    /* A digit: the reason of the rejection just made with R, or else a rejection with its reason. */
    reject(reason) {
      const just = this.rejected;
      if (!just || performance.now() - just.at > REASON_TIME) return this.decide('reject', reason);
      this.tell(just.pair, 'reject', reason, 0, false);
      this.rejected = null;
      return this.say(`Rejected: ${reason}. ${this.undoWords()}`);
    }

    undoWords() {
      return `${this.hands.keys.name('undo')} takes it back.`;
    }

    async undo() {
      this.rejected = null;
      const last = this.done.pop();
      const pair = last ? await this.fetched(last.pair).catch(() => null) : this.current;
      if (!pair) {
        if (last) this.done.push(last);
        return this.say(last ? 'The server does not answer. Try again.' : 'There is nothing to take back.');
      }
      if (!last && (!pair.decision || pair.decision.detector || pair.decision.by !== this.reviewer())) {
        return this.say('There is no decision of yours to take back.');
      }
      const reviewer = last ? last.reviewer : this.reviewer();
      for (const supersedes of last ? last.ids.reverse() : [pair.decision.id]) {
        const body = { id: studio.newId(), pair: pair.id, supersedes, reviewer };
        studio.outbox.post(`${this.base}/undo`, body, { pair: pair.id, project: this.project });
      }
      pair.decision = last ? last.before : null;
      this.say('Taken back.');
      if (this.current && this.current.id !== pair.id) {
        this.future.push(this.current.id);
        if (this.past.at(-1) === pair.id) this.past.pop();
        this.show(pair.id);
      } else if (!this.current) this.show(pair.id);
      this.remember();
      return this.paint();
    }

    redo() {
      if (!this.current) return;
      if (this.current.origin === 'brought') {
        this.say('Both pictures were brought from outside: there is nothing to make again.');
        return;
      }
      this.again(this.current);
      this.say('It will be made again, with another seed and more strength.');
      this.advance();
    }

    again(pair) {
      pair.again = true;
      const pairs = { [pair.id]: pair.version };
      studio.outbox.post(`${this.base}/redo`, { pairs }, { pair: pair.id, project: this.project, redo: true });
    }

    allAgain() {
      studio.outbox.post(`${this.base}/redo`, { failed: true }, { project: this.project, redo: true });
      this.say('All failed pairs will be made again.');
    }

    /* What a letter that an earlier page left behind makes of its pair. */
    told({ body, about }) {
      if (about.redo) return { again: true };
      const decision = { ...body, by: body.reviewer, when: 'just now', detector: false };
      return { decision: body.verdict ? decision : null };
    }

    heard(letter, answer) {
      if (letter.about.project !== this.project) return;
      this.count(answer);
      if (answer.pair) this.learn([answer.pair]);
      if (this.current && this.current.id === letter.about.pair) this.paint();
      this.lists.mark();
      if (this.waits && this.care.open) this.next();
      this.waits = false;
      if (letter.about.redo) this.lists.fillFailed().catch(() => {});
      if (!this.care.open) return;
      this.refill().then(() => !this.current && this.show(this.deck.shift())).catch(() => {});
    }

    async refused(letter, why) {
      if (letter.about.project !== this.project) return;
      this.done = this.done.filter((one) => !one.ids.includes(letter.id));
      this.say(`Not saved: ${why}`);
      try {
        this.learn([await this.ask(`pair/${letter.about.pair}`)]);
        if (!this.current || this.current.id === letter.about.pair) this.show(letter.about.pair);
      } catch {
        /* the pair is gone with the rest */
      }
      this.lists.mark();
    }

    unsaved(number, trouble) {
      const line = this.at('unsaved');
      line.hidden = !(number && trouble);
      const decisions = `${number} decision${number === 1 ? '' : 's'}`;
      line.textContent = `${decisions} not saved yet: the server does not answer. Trying again …`;
    }
  }

  studio.CurateDecisions = Decisions;
})();
