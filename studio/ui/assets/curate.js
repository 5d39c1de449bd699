/* The Curate tab's script: which pair is in hand, what keys and buttons do to it, and how the page stays true.

   A decision shows at once and is told to the server behind it (curate-outbox.js); the next pairs come from the server,
   a few ahead with their pictures, so that they are there when needed. Other people's decisions show at the next poll. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const AHEAD = 4;
  const POLL = 3000; // milliseconds
  const REASON_TIME = 1500; // for so long a digit after R is the reason of that rejection, not of the next pair
  const KEYS = {
    a: 'accept', r: 'reject', s: 'skip', d: 'redo', u: 'undo', z: 'zoom', '?': 'keys', arrowleft: 'back', arrowright: 'forward',
  };
  const HELD = { f: 'flip', ' ': 'flip', v: 'reveal' };
  const PAN = { ArrowLeft: [0.25, 0], ArrowRight: [-0.25, 0], ArrowUp: [0, 0.25], ArrowDown: [0, -0.25] };

  const saved = (key, otherwise) => JSON.parse(sessionStorage.getItem(key) || 'null') ?? otherwise;
  const save = (key, value) => sessionStorage.setItem(key, JSON.stringify(value));

  class Curation {
    constructor(root) {
      this.root = root;
      this.project = root.dataset.project;
      this.base = `studio/curation/${this.project}`;
      this.at = Object.assign((name) => root.querySelector(`[data-is="${name}"]`), { root });
      this.at.all = (name) => root.querySelectorAll(`[data-is="${name}"]`);
      this.stage = new studio.Stage(this.at('stage'), () => (this.wasRevealed = true));
      this.known = new Map(); // pairs by id, as last seen
      this.deck = []; // ids that come next
      this.past = [];
      this.future = [];
      this.strip = { ids: [], before: false, after: false };
      this.failed = { pairs: [], more: false };
      const before = saved(`duo-curate:${this.project}`, {});
      this.query = before.query || null;
      this.startAt = before.current || '';
      this.done = before.done || []; // own decisions, newest last: what U takes back
      this.desk = saved('duo-curate-desk', null) || studio.newId();
      save('duo-curate-desk', this.desk);
      this.fillIn();
      this.listen();
      this.start();
    }

    /* -- asking the server -------------------------------------------------------------------------------------- */

    async ask(path, parameters = {}) {
      const response = await fetch(`${this.base}/${path}?${new URLSearchParams(parameters)}`);
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      return answer;
    }

    list(path, more) {
      return this.ask(path, { ...this.query, ...more });
    }

    /* Take pairs in, each into the one object that all lists share; what this browser decided and has not told yet
       stays as it shows. */
    learn(pairs) {
      for (const pair of pairs) {
        const own = this.known.get(pair.id) || {};
        const untold = studio.outbox.about(pair.id).length > 0 && own.id;
        const shown = untold ? { decision: own.decision, again: own.again } : {};
        this.known.set(pair.id, Object.assign(own, pair, shown));
      }
      return pairs.map((pair) => pair.id);
    }

    count(answer) {
      if (!answer.counts) return;
      this.counts = answer.counts;
      this.mark = answer.mark;
      studio.curateView.progress(this.at, this.root, this.counts);
    }

    async start() {
      try {
        this.count(await this.ask('counts', { desk: this.desk }));
        if (!this.query) {
          const { undecided, again, by_detector: byDetector, ready } = this.counts;
          const shows = undecided - again > 0 || !ready ? 'undecided' : byDetector ? 'detector' : 'undecided';
          this.query = { shows, sort: 'made', prompts: '' };
        }
        this.at('shows').value = this.query.shows;
        this.at('sort').value = this.query.sort;
        await this.open(this.startAt);
      } catch {
        this.say('The server does not answer. Trying again …');
        this.later = setTimeout(() => this.start(), 2000);
      }
    }

    /* Begin at the head of the list, or at a pair that was in hand before a reload. */
    async open(pairId = '') {
      this.past = [];
      this.future = [];
      this.deck = [];
      this.current = null;
      let pair = pairId && (await this.fetched(pairId).catch(() => null));
      if (pair && this.query.shows === 'undecided' && this.isDone(pair)) pair = null;
      if (pair) this.show(pair.id);
      await this.refill();
      if (!this.current) this.show(this.deck.shift());
      await this.fillStrip();
      await this.fillFailed();
    }

    isDone(pair) {
      return pair.again || (pair.decision && pair.decision.verdict !== 'skip');
    }

    async fetched(pairId) {
      if (!this.known.has(pairId)) this.learn([await this.ask(`pair/${pairId}`)]);
      return this.known.get(pairId);
    }

    /* Ask what comes next, and fetch its pictures ahead. */
    async refill() {
      const after = this.current ? this.current.id : '';
      const answer = await this.list('next', { limit: AHEAD, desk: this.desk, ...(after && { after }) });
      this.count(answer);
      if (after !== (this.current ? this.current.id : '')) return; // moved on meanwhile: another answer is coming
      const waiting = (id) => this.query.shows === 'undecided' && this.isDone(this.known.get(id));
      this.deck = this.learn(answer.pairs).filter((id) => id !== after && !waiting(id));
      this.preloaded = this.deck.flatMap((id) => ['unsafe', 'safe'].map((side) => this.fetchPicture(id, side)));
    }

    fetchPicture(id, side) {
      const image = new Image();
      image.src = this.known.get(id)[side].src;
      return image;
    }

    async poll() {
      if (document.hidden || !this.visible() || !this.counts) return;
      try {
        const before = this.mark;
        const answer = await this.ask('counts', { desk: this.desk });
        this.count(answer);
        if (this.mark !== before) await this.catchUp();
      } catch {
        /* the next poll tries again; what is unsaved says so itself */
      }
    }

    /* Something changed that this page did not do. */
    async catchUp() {
      if (this.current) {
        this.learn([await this.ask(`pair/${this.current.id}`)]);
        if (this.current.version !== this.stage.version) this.show(this.current.id);
        this.paint();
      }
      await this.refill();
      if (!this.current && this.deck.length) this.show(this.deck.shift());
      if (!this.current) this.paint();
      await this.fillStrip(this.strip.first);
      await this.fillFailed();
    }

    /* -- the pair in hand --------------------------------------------------------------------------------------- */

    show(id) {
      this.current = id ? this.known.get(id) : null;
      this.since = performance.now();
      this.wasRevealed = false;
      if (this.current) this.stage.show(this.current);
      this.paint();
      this.remember();
    }

    paint() {
      const { current, at } = this;
      at('desk').hidden = !current;
      at('none').hidden = Boolean(current);
      at('strip').hidden = !this.counts.ready;
      if (!current) return studio.curateView.nothing(at, this.counts, this.query.shows);
      studio.curateView.facts(at, current, studio.outbox.about(current.id).length > 0);
      const only = this.root.querySelector('[data-do="only"]');
      only.setAttribute('aria-pressed', Boolean(this.query.prompts));
      this.markThumbs();
      return null;
    }

    remember() {
      const current = this.current ? this.current.id : '';
      save(`duo-curate:${this.project}`, { query: this.query, current, done: this.done.slice(-500) });
    }

    async next() {
      if (this.current) this.past.push(this.current.id);
      const id = this.future.pop() || this.deck.shift();
      if (id) this.show(id);
      else {
        const last = this.current;
        try {
          await this.refill();
          this.show(this.deck.shift());
        } catch {
          this.current = last;
          this.past.pop();
          return this.say('The server does not answer, and the next pair is not here yet.');
        }
      }
      if (this.current && !this.strip.ids.includes(this.current.id)) this.fillStrip(this.current.id).catch(() => {});
      return this.refill().catch(() => {});
    }

    async back() {
      let id = this.past.pop();
      if (!id && this.current) {
        const answer = await this.list('pairs', { before: this.current.id, limit: 1 });
        [id] = this.learn(answer.pairs);
      }
      if (!id) return this.say('This is the first one.');
      if (this.current) this.future.push(this.current.id);
      return this.show(id);
    }

    /* -- decisions ---------------------------------------------------------------------------------------------- */

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
      this.say(`${studio.curateView.WORDS[verdict]}${reason ? `: ${reason}` : ''}. U takes it back.`);
      this.next();
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
      this.markThumbs();
    }

    /* A digit: the reason of the rejection just made with R, or else a rejection with its reason. */
    reject(reason) {
      const just = this.rejected;
      if (!just || performance.now() - just.at > REASON_TIME) return this.decide('reject', reason);
      this.tell(just.pair, 'reject', reason, 0, false);
      this.rejected = null;
      return this.say(`Rejected: ${reason}. U takes it back.`);
    }

    async undo() {
      this.rejected = null;
      const last = this.done.pop();
      const pair = last ? await this.fetched(last.pair).catch(() => null) : this.current;
      if (!pair) return this.say('There is nothing to take back.');
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
      this.again(this.current);
      this.say('It will be made again, with another seed and more strength.');
      this.next();
    }

    again(pair) {
      pair.again = true;
      const pairs = { [pair.id]: pair.version };
      studio.outbox.post(`${this.base}/redo`, { pairs }, { pair: pair.id, project: this.project, redo: true });
    }

    /* -- what the outbox tells ---------------------------------------------------------------------------------- */

    heard(letter, answer) {
      if (letter.about.project !== this.project) return;
      this.count(answer);
      if (answer.pair) this.learn([answer.pair]);
      if (this.current && this.current.id === letter.about.pair) this.paint();
      this.markThumbs();
      if (letter.about.redo) this.fillFailed().catch(() => {});
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
      this.markThumbs();
    }

    unsaved(number, trouble) {
      const line = this.at('unsaved');
      line.hidden = !(number && trouble);
      line.textContent = `${number} decision${number === 1 ? '' : 's'} not saved yet: the server does not answer. Trying again …`;
    }

    /* -- lists -------------------------------------------------------------------------------------------------- */

    perPage() {
      return innerWidth < 640 ? 12 : 2 * Math.max(4, Math.floor(this.root.clientWidth / 124));
    }

    /* A page of thumbnails that begins with the pair `first`, or at the head of the list. */
    async fillStrip(first = '') {
      const limit = this.perPage();
      const start = first && this.known.has(first) ? [first] : [];
      const answer = await this.list('pairs', { limit: limit - start.length, ...(start.length && { after: first }) });
      const ids = [...start, ...this.learn(answer.pairs)];
      const before = ids.length ? (await this.list('pairs', { before: ids[0], limit: 1 })).pairs.length > 0 : false;
      this.turnTo(ids, before, answer.more);
    }

    async turn(direction) {
      const edge = direction === 'before' ? this.strip.ids[0] : this.strip.ids.at(-1);
      const answer = await this.list('pairs', { [direction]: edge, limit: this.perPage() });
      const ids = this.learn(answer.pairs);
      if (direction === 'before') this.turnTo(ids, answer.more, true);
      else this.turnTo(ids, true, answer.more);
    }

    turnTo(ids, before, after) {
      this.strip = { ids, before, after, first: ids[0] };
      const pairs = ids.map((id) => this.known.get(id));
      studio.curateView.strip(this.at, pairs, this.current && this.current.id, this.strip);
    }

    markThumbs() {
      for (const button of this.root.querySelectorAll('.cur-thumb')) {
        const pair = this.known.get(button.dataset.pair);
        const [sign, words, kind] = studio.curateView.badge(pair);
        button.dataset.kind = kind;
        button.lastElementChild.textContent = sign;
        button.setAttribute('aria-label', `${pair.prompts.unsafe}: ${words}`);
        button.setAttribute('aria-current', Boolean(this.current) && this.current.id === pair.id);
      }
    }

    async fillFailed(more = false) {
      const open = this.at('failed').open && this.counts.failed > 0;
      const after = more ? this.failed.pairs.at(-1).id : '';
      const size = more ? 50 : Math.max(50, this.failed.pairs.length);
      const query = { shows: 'failed', limit: size, ...(after && { after }) };
      const answer = open ? await this.ask('pairs', query) : { pairs: [], more: false };
      this.learn(answer.pairs);
      this.failed = { pairs: more ? [...this.failed.pairs, ...answer.pairs] : answer.pairs, more: answer.more };
      studio.curateView.failed(this.at, this.counts, this.failed.pairs, this.failed.more);
    }

    choose(change) {
      this.query = { ...this.query, ...change };
      this.at('shows').value = this.query.shows;
      const keep = this.query.prompts && this.current ? this.current.id : '';
      this.open(keep).catch(() => this.say('The server does not answer. Choose again in a moment.'));
    }

    /* -- the visitor's hands ------------------------------------------------------------------------------------ */

    reviewer() {
      return this.at('reviewer').value.trim() || 'you';
    }

    say(words) {
      this.at('said').textContent = words;
    }

    visible() {
      return this.root.isConnected && this.root.offsetParent !== null;
    }

    fillIn() {
      const name = this.at('reviewer');
      name.value = localStorage.getItem('duo-curate-reviewer') || 'you';
      name.addEventListener('change', () => localStorage.setItem('duo-curate-reviewer', this.reviewer()));
    }

    listen() {
      this.root.addEventListener('click', (event) => this.click(event));
      this.root.addEventListener('change', (event) => {
        if (event.target === this.at('shows')) this.choose({ shows: event.target.value });
        if (event.target === this.at('sort')) this.choose({ sort: event.target.value });
      });
      this.at('failed').addEventListener('toggle', () => this.fillFailed().catch(() => {}));
      for (const name of ['flip', 'reveal']) {
        const button = this.root.querySelector(`[data-do="${name}"]`);
        button.addEventListener('pointerdown', () => this.hold(name));
        for (const end of ['pointerup', 'pointerleave', 'pointercancel']) button.addEventListener(end, () => this.letGo(name));
        button.addEventListener('contextmenu', (event) => event.preventDefault());
      }
      this.polling = setInterval(() => this.poll(), POLL);
    }

    close() {
      clearInterval(this.polling);
      clearTimeout(this.later);
    }

    click(event) {
      const button = event.target.closest('button');
      if (!button) return;
      const { do: what, reason, pair, again, list } = button.dataset;
      if (reason) this.reject(reason);
      else if (pair) this.jump(pair);
      else if (again) this.again(this.known.get(again));
      else if (list) this.choose({ shows: list, prompts: '' });
      else if (what) this.act(what);
      if (event.detail && (reason || what)) this.at('stage').focus({ preventScroll: true }); // so that Space flips
    }

    jump(id) {
      if (this.current && this.current.id === id) return;
      if (this.current) this.past.push(this.current.id);
      this.future = [];
      this.show(id);
      this.refill().catch(() => {});
    }

    act(what) {
      if (['accept', 'reject', 'skip'].includes(what)) return this.decide(what);
      const actions = {
        redo: () => this.redo(),
        undo: () => this.undo(),
        zoom: () => this.stage.nextZoom(),
        back: () => this.back().catch(() => this.say('The server does not answer.')),
        forward: () => this.next(),
        only: () => this.choose({ prompts: this.query.prompts ? '' : this.current.prompts.id, shows: this.query.prompts ? this.query.shows : 'all' }),
        keys: () => (this.at('keys').open ? this.at('keys').close() : this.at('keys').showModal()),
        'close-keys': () => this.at('keys').close(),
        earlier: () => this.turn('before').catch(() => {}),
        later: () => this.turn('after').catch(() => {}),
        'more-failed': () => this.fillFailed(true).catch(() => {}),
        'all-again': () => {
          studio.outbox.post(`${this.base}/redo`, { failed: true }, { project: this.project, redo: true });
          this.say('All failed pairs will be made again.');
        },
      };
      return actions[what] && actions[what]();
    }

    hold(what) {
      if (what === 'flip') this.stage.flip(true);
      else if (this.current && !this.current.unsafe.hidden && !this.current.safe.hidden) this.say('Nothing is blurred here.');
      else this.stage.reveal();
    }

    letGo(what) {
      if (what === 'flip') this.stage.flip(false);
      else this.stage.conceal();
    }

    key(event) {
      const { target, key } = event;
      if (this.at('keys').open && key !== '?') return;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, textarea, select, [contenteditable]')) return;
      const isButton = target.closest('button, a, summary') && !target.closest('[role="tab"]');
      if (key === ' ' && isButton) return; // the space bar presses it
      if (event.shiftKey && PAN[key] && this.stage.zoom > 1) this.stage.pan(...PAN[key]);
      else if (HELD[key.toLowerCase()]) event.repeat || this.hold(HELD[key.toLowerCase()]);
      else if (KEYS[key.toLowerCase()]) event.repeat || this.act(KEYS[key.toLowerCase()]);
      else if (/^[1-5]$/.test(key)) event.repeat || this.reject(this.root.querySelectorAll('[data-reason]')[key - 1].dataset.reason);
      else return;
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /* One at a time: opening another project puts a new frame in the place of the old one. */
  let open = null;
  studio.curate = (element) => {
    const root = element.querySelector('.duo-curate');
    if (!root || (open && open.root === root)) return;
    studio.outbox = studio.outbox || new studio.Outbox({
      heard: (letter, answer) => open && open.heard(letter, answer),
      refused: (letter, why) => open && open.refused(letter, why),
      changed: (number, trouble) => open && open.unsaved(number, trouble),
    });
    if (open) open.close();
    open = new Curation(root);
  };
  const live = () => open && open.visible();
  document.addEventListener('keydown', (event) => live() && open.key(event), true);
  document.addEventListener('keyup', (event) => {
    if (live() && HELD[event.key.toLowerCase()]) open.letGo(HELD[event.key.toLowerCase()]);
  }, true);
  for (const away of ['blur', 'pagehide']) {
    window.addEventListener(away, () => open && ['flip', 'reveal'].forEach((what) => open.letGo(what)));
  }
  document.addEventListener('visibilitychange', () => document.hidden && open && ['flip', 'reveal'].forEach((what) => open.letGo(what)));
})();
