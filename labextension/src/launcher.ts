/** The launcher's cards, and the same as commands. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette, showErrorMessage } from '@jupyterlab/apputils';
import type { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import type { ILauncher } from '@jupyterlab/launcher';

import type { Api } from './api';
import { notebookIcon } from './icons';
import { language, say } from './words';

const CREATE = 'taomagic:create-notebook';
const EMPTY = 'empty';
/** Networks as their authors write them; others go by the name of their task. */
const NAMES: Record<string, string> = { ssd: 'SSD', detectnet_v2: 'DetectNet_v2' };

export interface Places {
  launcher: ILauncher | null;
  palette: ICommandPalette | null;
  browser: IDefaultFileBrowser | null;
}

/** Offer the notebooks that the server has. */
export function offerNotebooks(app: JupyterFrontEnd, api: Api, kinds: string[], places: Places): void {
  const name = (kind: unknown) => NAMES[String(kind)] ?? String(kind);
  app.commands.addCommand(CREATE, {
    label: args => {
      if (args.kind === EMPTY) {
        return args.palette ? say('New TAO notebook') : say('TAO notebook');
      }
      const net = name(args.kind);
      return args.palette ? say('New TAO notebook: {net}', { net }) : say('{net} notebook', { net });
    },
    caption: args =>
      args.kind === EMPTY
        ? say('An empty notebook with %tao loaded')
        : say('A sample notebook for {net}, with its spec files', { net: name(args.kind) }),
    icon: args => (args.palette ? undefined : notebookIcon),
    execute: async args => {
      const { contents } = app.serviceManager;
      const here = typeof args.cwd === 'string' ? args.cwd : (places.browser?.model.path ?? '');
      try {
        if (!['', 'RTC'].includes(contents.driveName(here))) {
          throw new Error(say('The file browser shows a drive that is not on this server.'));
        }
        const made = await api.createNotebook(String(args.kind), contents.localPath(here), language());
        await places.browser?.model.refresh();
        return await app.commands.execute('docmanager:open', { path: made.path });
      } catch (error) {
        await showErrorMessage(say('The notebook was not created'), error as Error);
        return undefined;
      }
    }
  });
  kinds.forEach((kind, rank) => {
    places.launcher?.add({ command: CREATE, args: { kind }, category: 'TAO', rank });
    places.palette?.addItem({ command: CREATE, args: { kind, palette: true }, category: 'TAO' });
  });
}
