/** Our icons; the colours follow the theme through Lab's `jp-icon3`. */

import { LabIcon } from '@jupyterlab/ui-components';

/** A detector's box around a thing. */
const BOX =
  '<path class="jp-icon3" fill="#616161" d="M3 3h6v2H5v4H3zM15 3h6v6h-2V5h-4zM3 15h2v4h4v2H3zM19 15h2v6h-6v-2h4z"/>';

export const notebookIcon = new LabIcon({
  name: 'taomagic:notebook',
  svgstr:
    `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">${BOX}` +
    '<path class="jp-icon-brand0 jp-icon-selectable" fill="#0d7f72" d="M7.5 15.5l2.2-5.2c.2-.5.7-.8 1.2-.8h2.2c.5 0 1 .3 1.2.8l2.2 5.2v2.2h-1.7v-1H9.2v1H7.5zm2.3-1h4.4l-1.3-3.2h-1.8z"/></svg>'
});

export const jobsIcon = new LabIcon({
  name: 'taomagic:jobs',
  svgstr:
    `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">${BOX}` +
    '<path class="jp-icon3" fill="#616161" d="M9.5 8v8l6.5-4z"/></svg>'
});
