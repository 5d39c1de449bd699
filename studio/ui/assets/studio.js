/* What every tab may use: light or dark, and links that open a tab: <a href="#" data-open-tab="Curate">. */
(() => {
  const KEY = 'duo-studio-theme';

  function openTab(name) {
    const tab = [...document.querySelectorAll('button[role="tab"]')].find((one) => one.textContent.trim() === name);
    if (tab) tab.click();
  }

  window.duoStudio = Object.assign(window.duoStudio || {}, {
    openTab,
    showTheme() {
      const chosen = localStorage.getItem(KEY);
      if (chosen) document.body.classList.toggle('dark', chosen === 'dark');
      document.documentElement.lang = 'en';
    },
    toggleTheme() {
      const dark = document.body.classList.toggle('dark');
      localStorage.setItem(KEY, dark ? 'dark' : 'light');
    },
  });

  document.addEventListener('click', (event) => {
    const link = event.target.closest('[data-open-tab]');
    if (!link) return;
    event.preventDefault();
    openTab(link.dataset.openTab);
  });
})();
