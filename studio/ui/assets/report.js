/* Report: a point of the curve leads to its model's pictures, which then are framed. The page's address stays as it is.
   The curve's file comes as PNG too, <a href="….svg" data-png="its name">, drawn here, black on white. */
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

  const WIDTH = 2100; // pixels: five times the view box, 300 dpi in a column of a paper

  async function savePng(link) {
    const answer = await fetch(link.href);
    if (!answer.ok) throw new Error(`The server refused the curve (${answer.status}). Reload the page.`);
    const figure = new DOMParser().parseFromString(await answer.text(), 'image/svg+xml').documentElement;
    const [, , across, down] = figure.getAttribute('viewBox').split(' ').map(Number);
    const canvas = Object.assign(document.createElement('canvas'), { width: WIDTH, height: (WIDTH * down) / across });
    figure.setAttribute('width', canvas.width);
    figure.setAttribute('height', canvas.height);
    const picture = new Image();
    picture.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(figure))}`;
    await picture.decode();
    const ground = canvas.getContext('2d');
    ground.fillStyle = '#fff';
    ground.fillRect(0, 0, canvas.width, canvas.height);
    ground.drawImage(picture, 0, 0);
    const data = await new Promise((done) => canvas.toBlob(done, 'image/png'));
    const address = URL.createObjectURL(data);
    Object.assign(document.createElement('a'), { href: address, download: link.dataset.png }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-png]');
    if (!link) return;
    event.preventDefault();
    savePng(link).catch((error) => {
      link.textContent = `No PNG: ${error.message}`;
    });
  });
})();
