/* Compare: the page's address follows what is drawn, and progress is read out. */
(() => {
  const LONGEST = 6000; // characters of an address: more is refused by some proxies

  function address(query) {
    const text = query.toString();
    history.replaceState(history.state, '', location.pathname + (text ? '?' + text : '') + location.hash);
  }

  function link(values) {
    const [project, view, left, right, mode, text, attempt, models, seed, count, steps, guidance] = values;
    const query = new URLSearchParams();
    const add = (name, value) => { if (value !== null && value !== undefined) query.append(name, value); };
    add('project', project);
    const alone = mode === 'Break it';
    if (alone) add('mode', 'break');
    (alone ? [attempt] : (text || '').split('\n')).map((line) => (line || '').trim()).filter(Boolean)
      .forEach((line) => add('prompt', line));
    (models || []).forEach((key) => add('model', key));
    add('seed', seed); add('count', count); add('steps', steps); add('guidance', guidance);
    add('view', view); add('left', left); add('right', right);
    return query;
  }

  /* Enter while the last attempt is still being drawn, which Gradio would lose: what is typed follows after it, unless
     it is changed, the drawing is stopped, or another project is opened. */
  const LOOK = 150, AGAIN = 900; // milliseconds between two looks, and two presses
  const PRESSES = 3; // at most: Gradio loses one where it has not yet put the last event away
  let next = null; // {timer, clicked, presses} of the attempt that waits
  let stopping = false;

  function visible(id) {
    const element = document.getElementById(id);
    return element !== null && element.offsetParent !== null;
  }

  function forget() {
    if (next) clearInterval(next.timer);
    next = null;
    document.querySelectorAll('.duo-next').forEach((said) => said.remove());
  }

  function follow() {
    if (!visible('duo-attempt')) forget();
    else if (!visible('duo-stop-drawing') && performance.now() - next.clicked > AGAIN) {
      if (next.presses === PRESSES) return forget();
      next.presses += 1;
      next.clicked = performance.now();
      document.getElementById('duo-go').click(); // once it is taken, `started` forgets it
    }
  }

  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    const field = event.target.closest('#duo-attempt');
    if (!visible('duo-stop-drawing')) stopping = false;
    else if (field && !next && !stopping && event.target.value.trim()) {
      const said = document.createElement('p');
      said.className = 'duo-next';
      said.setAttribute('role', 'status');
      said.textContent = 'Drawn next, as soon as the last one is done.';
      field.append(said);
      next = {timer: setInterval(follow, LOOK), clicked: -Infinity, presses: 0};
    }
  });
  document.addEventListener('input', (event) => {
    if (event.target.closest('#duo-attempt')) forget();
  });
  document.addEventListener('click', (event) => {
    if (!event.target.closest('#duo-stop-drawing')) return;
    stopping = true;
    forget();
  });

  const compare = {
    /* The Compare button: write the address, bring the results into sight, hand the inputs on. */
    started(values) {
      forget();
      if (!values[0]) return values; // no project is open yet
      const query = link(values);
      if (query.toString().length <= LONGEST) address(query);
      else address(new URLSearchParams({project: values[0]}));
      const place = document.getElementById('duo-results');
      const top = place.getBoundingClientRect().top;
      if (top < 0 || top > innerHeight / 2) place.scrollIntoView({block: 'start'});
      return values;
    },
    /* Another view of the same pictures. */
    looked(values) {
      const query = new URLSearchParams(location.search);
      ['view', 'left', 'right'].forEach((name, place) => {
        const value = values[place + 1];
        if (query.has('prompt') && value !== null && value !== undefined) query.set(name, value);
      });
      address(query);
      return values;
    },
    /* Another project: what the address said of the one before does not hold for it. */
    opened(id) {
      forget();
      if (id && new URLSearchParams(location.search).get('project') !== id) {
        address(new URLSearchParams({project: id}));
      }
    },
  };
  window.duoStudio = Object.assign(window.duoStudio || {}, {compare});

  async function copyLink(button) {
    const said = button.parentElement.querySelector('[role="status"]');
    const complete = new URLSearchParams(location.search).has('prompt');
    let words = 'Copied.';
    if (!complete) words = 'Too many prompts for a link: save them to a shelf instead.';
    else {
      try { await navigator.clipboard.writeText(location.href); }
      catch { words = 'This browser does not allow it: copy the address above instead.'; }
    }
    said.textContent = words;
  }

  document.addEventListener('click', (event) => {
    const button = event.target.closest && event.target.closest('[data-copy-link]');
    if (button) copyLink(button);
  });

  /* Progress is replaced as a whole, so the place that stays is what screen readers listen to. */
  const watch = new MutationObserver(() => {
    const status = document.getElementById('duo-status');
    if (!status) return;
    status.setAttribute('aria-live', 'polite');
    watch.disconnect();
  });
  watch.observe(document.documentElement, {childList: true, subtree: true});
})();
