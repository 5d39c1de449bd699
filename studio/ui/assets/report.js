/* Report: a point of the curve leads to its model's pictures, which then are framed. The page's address stays as it is. */
(() => {
  const ID = 'pictures-of-';

  document.addEventListener('click', (event) => {
    const point = event.target.closest(`.duo-report a[href^="#${ID}"]`);
    if (!point) return;
    event.preventDefault();
    const id = point.getAttribute('href').slice(1);
    const place = document.getElementById(id);
    const gallery = place && place.closest('.duo-gallery');
    if (!gallery) return;
    gallery.dataset.picked = id.slice(ID.length);
    gallery.scrollIntoView({ block: 'start' });
  });
})();
