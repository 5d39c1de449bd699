/* What every tab may use: light or dark, and links that open a tab, <a href="#" data-open-tab="Curate">, or an
   accordion on it, <a href="#" data-open-panel="its id">. */
(() => {
  const KEY = 'duo-studio-theme';
  const TAB = 'duo-studio-tab'; // of this window
  const NEWS = 1500; // milliseconds between two looks for news
  const PATIENCE = 10_000; // milliseconds; a comparison that has not come back then is asked for again
  const LATEST = 20_000; // milliseconds; a page whose server does not fill it may at least be tried

  function openTab(name) {
    const tab = [...document.querySelectorAll('button[role="tab"]')].find((one) => one.textContent.trim() === name);
    if (tab) tab.click();
  }

  /* Who signed in reviews under that name: the server puts it into every request, the page only shows it. */
  const cookie = document.cookie.split('; ').find((one) => one.startsWith('duo_name='));
  const signedIn = cookie ? decodeURIComponent(cookie.slice('duo_name='.length)) : '';
  if (signedIn) localStorage.setItem('duo-curate-reviewer', signedIn);

  window.duoStudio = Object.assign(window.duoStudio || {}, {
    openTab,
    signedIn,
    showTheme() {
      const chosen = localStorage.getItem(KEY);
      if (chosen) document.body.classList.toggle('dark', chosen === 'dark');
      document.documentElement.lang = 'en';
    },
    /* The page is filled and listens; until then it takes no click, which would be lost. One that was reloaded, by
       the visitor or since the server was started anew, opens at the tab where it was. */
    ready() {
      if (document.documentElement.dataset.duo) return;
      document.documentElement.dataset.duo = 'ready';
      const tab = sessionStorage.getItem(TAB);
      if (tab && performance.getEntriesByType('navigation')[0]?.type === 'reload') openTab(tab);
    },
    /* The project that the page shows, by its id; nothing of it is known to be shown as it is. */
    follow(project) {
      news.project = project || '';
      news.mark = '';
    },
    /* The page has been compared with what the last mark stood for. */
    looked() {
      news.mark = news.asked;
      news.since = 0;
    },
    /* One file, as it is; `told` hears how many bytes of it are there. Rejects with the server's own words. */
    putFile(address, file, told) {
      return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.open('PUT', address);
        request.upload.onprogress = ({ loaded }) => told(loaded);
        request.onerror = () => reject(new Error('The server does not answer. Try again.'));
        request.onload = () => {
          if (request.status < 300) return resolve();
          let why = `The server refused it (${request.status}).`;
          try {
            why = JSON.parse(request.responseText).error;
          } catch {
            /* its words are not ours */
          }
          return reject(new Error(why));
        };
        request.send(file);
      });
    },
    toggleTheme() {
      const dark = document.body.classList.toggle('dark');
      localStorage.setItem(KEY, dark ? 'dark' : 'light');
    },
  });

  setTimeout(window.duoStudio.ready, LATEST);

  /* A page at rest asks for one word. Nobody looks at a hidden one: it asks when it is looked at again. */
  const news = { project: '', mark: '', asked: '', since: 0, server: '' };

  async function look() {
    if (document.hidden || !news.project || Date.now() - news.since < PATIENCE) return;
    try {
      const answer = await fetch(`studio/news/${encodeURIComponent(news.project)}`, { cache: 'no-store' });
      if (!answer.ok) return;
      const { mark, server } = await answer.json();
      if (news.server && news.server !== server) location.reload();
      news.server = server;
      if (mark === news.mark) return;
      news.asked = mark;
      news.since = Date.now();
      document.getElementById('duo-look')?.click();
    } catch {
      /* the server is away: the next look may find it again */
    }
  }

  setInterval(look, NEWS);
  document.addEventListener('visibilitychange', look);

  function openPanel(id) {
    const panel = document.getElementById(id);
    const head = panel?.querySelector('button.label-wrap');
    if (head && !head.classList.contains('open')) head.click();
    head?.focus({ preventScroll: true });
    panel?.scrollIntoView({ block: 'start' });
  }

  document.addEventListener('click', (event) => {
    const tab = event.target.closest('button[role="tab"]');
    if (tab) sessionStorage.setItem(TAB, tab.textContent.trim());
    const link = event.target.closest('[data-open-tab], [data-open-panel]');
    if (!link) return;
    event.preventDefault();
    if (link.dataset.openTab) openTab(link.dataset.openTab);
    else openPanel(link.dataset.openPanel);
  });
})();
