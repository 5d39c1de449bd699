/* The Curate tab's script: which pair is in hand, what comes next, and how the page stays true.

   The next pairs come from the server, a few ahead with their pictures, so that they are there when they are needed.
   Decisions are in curate-decisions.js, keys and buttons in curate-hands.js; other people's work shows at a poll. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const AHEAD = 6;
  const POLL = 3000; // milliseconds

  const saved = (key, otherwise) => JSON.parse(sessionStorage.getItem(key) || 'null') ?? otherwise;
  const save = (key, value) => sessionStorage.setItem(key, JSON.stringify(value));

  class Curation extends studio.CurateDecisions {
    constructor(root) {
      super();
      this.root = root;
      this.project = root.dataset.project;
      this.base = `studio/curation/${this.project}`;
      this.at = Object.assign((name) => root.querySelector(`[data-is="${name}"]`), { root });
      this.at.all = (name) => root.querySelectorAll(`[data-is="${name}"]`);
      this.stage = new studio.Stage(
        this.at('stage'),
        () => (this.wasRevealed = true),
        (verdict) => this.decide(verdict),
      );
      this.known = new Map(); // pairs by id, as last seen
      this.deck = []; // ids that come next
      this.past = [];
      this.future = [];
      this.lists = new studio.CurateLists(this);
      const before = saved(`duo-curate:${this.project}`, {});
      this.query = before.query || null;
      this.startAt = before.current || '';
      this.done = before.done || []; // own decisions, newest last: what U takes back
      this.desk = saved('duo-curate-desk', null) || studio.newId();
      save('duo-curate-desk', this.desk);
      this.stops = new studio.CurateStops(this);
      this.care = new studio.CurateCare(this);
      this.hands = new studio.CurateHands(this);
      this.polling = setInterval(() => this.poll(), POLL);
      this.start();
    }

    /* -- asking the server -------------------------------------------------------------------------------------- */

    async ask(path, parameters = {}) {
      const response = await fetch(
        `${this.base}/${path}?${new URLSearchParams({ reviewer: this.reviewer(), ...parameters })}`,
      );
      const answer = await response.json();
      if (answer.care && response.status === 403 && this.care.open) this.poll(); // the notice, or the end of the day
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
        const untold = studio.outbox.about(pair.id).at(-1);
        const shown = !untold ? {} : own.id ? { decision: own.decision, again: own.again } : this.told(untold);
        this.known.set(pair.id, Object.assign(own, pair, shown));
      }
      return pairs.map((pair) => pair.id);
    }

    count(answer) {
      if (!answer.counts) return;
      this.counts = answer.counts;
      this.mark = answer.mark;
      studio.curateView.progress(this.at, this.root, this.counts);
      this.stops.noticed(this.counts.stopped);
      this.care.heard(answer.care);
    }

    async start() {
      try {
        this.care.open = true; // until the answer says otherwise
        this.count(await this.ask('counts', { desk: this.desk }));
        if (!this.care.open) return;
        this.care.sign();
        if (!this.query) {
          const { left, by_detector: byDetector, ready } = this.counts;
          const shows = left > 0 || !ready ? 'undecided' : byDetector ? 'detector' : 'undecided';
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
      const { query } = this;
      this.past = [];
      this.future = [];
      this.deck = [];
      this.current = null;
      let pair = pairId && (await this.fetched(pairId).catch(() => null));
      if (query !== this.query) return; // another list was chosen meanwhile
      if (pair && this.goesOn() && this.query.shows === 'undecided' && this.isDone(pair)) pair = null;
      if (pair) this.show(pair.id);
      await this.refill();
      if (query !== this.query) return;
      if (!this.current) this.show(this.deck.shift());
      if (innerWidth < 640 && this.current && this.visible()) this.at('desk').scrollIntoView({ block: 'start' });
      await this.lists.fill();
      await this.lists.fillFailed();
    }

    isDone(pair) {
      return pair.again || pair.waits === 'conflict' || (pair.decision && pair.decision.verdict !== 'skip');
    }

    async fetched(pairId) {
      if (!this.known.has(pairId)) this.learn([await this.ask(`pair/${pairId}`)]);
      return this.known.get(pairId);
    }

    /* Ask what comes next, and fetch its pictures ahead. */
    async refill() {
      const { query } = this;
      const after = this.current ? this.current.id : '';
      const answer = await this.list('next', { limit: AHEAD, desk: this.desk, ...(after && { after }) });
      this.count(answer);
      if (query !== this.query || after !== (this.current ? this.current.id : '')) return; // another answer is coming
      const waiting = (id) => this.query.shows === 'undecided' && this.isDone(this.known.get(id));
      this.deck = this.learn(answer.pairs).filter((id) => id !== after && !waiting(id));
      this.preloaded = this.deck.flatMap((id) => this.stage.shown.map((side) => this.fetchPicture(id, side)));
    }

    fetchPicture(id, side) {
      const image = new Image();
      image.src = this.known.get(id)[side].src;
      return image;
    }

    /* After a decision: the next pair, or the same one where the visitor goes on by hand. */
    advance() {
      if (this.goesOn() && this.care.atTheEnd()) this.waits = true; // for the answer
      else if (this.goesOn()) return this.next();
      this.paint();
      return this.remember();
    }

    goesOn() {
      return this.at('auto').checked;
    }

    async poll() {
      if (document.hidden || !this.visible() || !this.counts) return;
      try {
        const before = this.mark;
        const answer = await this.ask('counts', { desk: this.desk });
        const shown = this.care.open;
        this.count(answer);
        if (shown && this.care.open && this.mark !== before && !this.stops.busy) await this.catchUp();
      } catch {
        /* the next poll tries again; what is unsaved says so itself */
      }
    }

    /* Something changed that this page did not do. */
    async catchUp() {
      if (this.current) {
        this.learn([await this.ask(`pair/${this.current.id}`)]);
        if (this.current.state === 'purged') return this.withdrawn(this.current.id);
        if (this.current.version !== this.stage.version) this.show(this.current.id);
        this.paint();
      }
      await this.refill();
      if (!this.current && this.deck.length) this.show(this.deck.shift());
      if (!this.current) this.paint();
      await this.lists.fill(this.lists.ids[0]);
      return this.lists.fillFailed();
    }

    /* Another name: in a sensitive project, what was shown to the one before is forgotten. */
    renamed() {
      if (this.care.open && !this.at('notice')) return this.catchUp();
      this.startAt = this.current ? this.current.id : '';
      this.clear();
      this.care.sight = '';
      return this.start();
    }

    /* Nothing of any pair stays on the page. */
    clear() {
      if (this.query) this.query = { ...this.query }; // what is on its way is not shown any more
      [this.past, this.future, this.deck, this.preloaded] = [[], [], [], []];
      this.lists.show([], false, false);
      this.known.clear();
      this.current = null;
      this.stage.clear();
      this.root.querySelectorAll('.cur-facts [data-is]:not([data-is="auto"])').forEach((place) => (place.textContent = ''));
      this.at('failed-list').textContent = '';
      this.at('told').textContent = '';
    }

    /* A pair was stopped, shown again, or its pictures deleted: nothing that this page remembers may show it. */
    async withdrawn(gone) {
      const id = this.current && this.current.id !== gone && this.current.id;
      this.clear();
      this.show(null);
      await this.stops.forget();
      const pair = id && (await this.fetched(id).catch(() => null));
      if (pair) this.show(pair.id);
      await this.refill();
      if (!this.current) this.show(this.deck.shift());
      await this.lists.fill();
      await this.lists.fillFailed();
    }

    /* -- the pair in hand --------------------------------------------------------------------------------------- */

    show(id) {
      this.current = id ? this.known.get(id) : null;
      this.since = performance.now();
      this.hands.tellReveal();
      this.wasRevealed = false;
      if (this.current) this.stage.show(this.current);
      else this.stage.clear();
      this.at('told').textContent = this.current ? studio.curateView.spoken(this.current) : '';
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
      this.lists.mark();
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
      if (this.current && !this.lists.ids.includes(this.current.id)) this.lists.fill(this.current.id).catch(() => {});
      // after a decision, what comes next is asked for when it is saved
      return studio.outbox.letters.length ? null : this.refill().catch(() => {});
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

    /* -- the rest ----------------------------------------------------------------------------------------------- */

    choose(change) {
      if (!this.care.open) return;
      this.query = { ...this.query, ...change };
      this.at('shows').value = this.query.shows;
      const keep = this.query.prompts && this.current ? this.current.id : '';
      this.open(keep).catch(() => this.say('The server does not answer. Choose again in a moment.'));
    }

    /* All pairs of this prompt, or back to the list before. */
    only() {
      if (this.query.prompts) this.choose({ shows: this.listBefore || 'undecided', prompts: '' });
      else if (this.current) {
        this.listBefore = this.query.shows;
        this.choose({ shows: 'all', prompts: this.current.prompts.id });
      }
    }

    jump(id) {
      if (this.current && this.current.id === id) return;
      if (this.current) this.past.push(this.current.id);
      this.future = [];
      this.show(id);
      this.refill().catch(() => {});
    }

    reviewer() {
      return this.at('reviewer').value.trim() || 'you';
    }

    say(words) {
      this.at('said').textContent = words;
    }

    visible() {
      return this.root.isConnected && this.root.offsetParent !== null;
    }

    close() {
      clearInterval(this.polling);
      clearTimeout(this.later);
      this.care.close();
    }
  }

  /* One at a time: opening another project puts a new frame in the place of the old one. */
  let open = null;
  studio.outbox = new studio.Outbox({
    heard: (letter, answer) => open && open.heard(letter, answer),
    refused: (letter, why) => open && open.refused(letter, why),
    changed: (number, trouble) => open && open.unsaved(number, trouble),
  }); // before the tab is opened: an earlier page may have left decisions to tell
  studio.curate = (element) => {
    const root = element.querySelector('.duo-curate');
    if (!root || (open && open.root === root)) return;
    if (open) open.close();
    open = new Curation(root);
  };
  /* From another view. */
  studio.lookAt = (id) => open && open.fetched(id).then(() => open.jump(id), () => open.say('The server does not answer.'));
  const live = () => open && open.visible() && !document.querySelector('.str-dialog');
  const away = () => open && open.hands.letAllGo();
  document.addEventListener('keydown', (event) => live() && open.hands.down(event), true);
  document.addEventListener('keyup', (event) => live() && open.hands.up(event), true);
  window.addEventListener('blur', away);
  document.addEventListener('visibilitychange', away);
})();
