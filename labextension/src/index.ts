/** taomagic in JupyterLab: cards in the launcher, and a sidebar of jobs that outlive their kernels. */

import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import {
  Dialog,
  ICommandPalette,
  MainAreaWidget,
  showDialog,
  showErrorMessage,
  WidgetTracker
} from '@jupyterlab/apputils';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { ITranslator } from '@jupyterlab/translation';

import { Api, Job } from './api';
import { offerNotebooks } from './launcher';
import { LogPanel } from './log';
import { JobsModel } from './model';
import { Sidebar } from './sidebar';
import { choose, say } from './words';

const SHOW = 'taomagic:show-jobs';
const OPEN_LOG = 'taomagic:open-log';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'taomagic:plugin',
  description: 'Cards for TAO notebooks, and a sidebar of TAO jobs.',
  autoStart: true,
  optional: [ILauncher, ICommandPalette, IDefaultFileBrowser, ILayoutRestorer, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    launcher: ILauncher | null,
    palette: ICommandPalette | null,
    browser: IDefaultFileBrowser | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null
  ) => {
    const api = new Api(app.serviceManager.serverSettings);
    choose(translator?.languageCode ?? document.documentElement.lang);
    const sidebar = addSidebar(app, api, restorer);
    palette?.addItem({ command: SHOW, category: 'TAO' });
    api.offer().then(
      offer => {
        if (offer.language) {
          choose(offer.language);
          sidebar.update();
        }
        offerNotebooks(app, api, offer.kinds, { launcher, palette, browser });
      },
      // The sidebar says what is wrong, where a person looks for it.
      error => console.warn('taomagic: the server offers no notebooks.', error)
    );
  }
};

function addSidebar(app: JupyterFrontEnd, api: Api, restorer: ILayoutRestorer | null): Sidebar {
  const { commands, shell } = app;
  const model = new JobsModel(api);
  const sidebar = new Sidebar(model, {
    stop: job => void stop(job, model),
    openLog: job => void commands.execute(OPEN_LOG, { job: job.id, label: job.label }),
    browse: path => void browse(app, path)
  });
  shell.add(sidebar, 'left', { rank: 250 });
  restorer?.add(sidebar, sidebar.id);
  commands.addCommand(SHOW, {
    label: () => say('Show TAO jobs'),
    execute: () => shell.activateById(sidebar.id)
  });

  const logs = new WidgetTracker<MainAreaWidget<LogPanel>>({ namespace: 'taomagic-log' });
  commands.addCommand(OPEN_LOG, {
    label: args => say('Log: {label}', { label: String(args.label ?? '') }),
    execute: async args => {
      const id = String(args.job);
      let panel = logs.find(widget => widget.content.job === id);
      if (!panel) {
        const content = new LogPanel(api, id, String(args.label));
        panel = new MainAreaWidget({ content });
        panel.id = `${content.id}-tab`;
        panel.toolbar.hide();
        shell.add(panel, 'main');
        await logs.add(panel);
      }
      shell.activateById(panel.id);
      return panel;
    }
  });
  void restorer?.restore(logs, {
    command: OPEN_LOG,
    args: widget => ({ job: widget.content.job, label: widget.content.label }),
    name: widget => widget.content.job
  });
  return sidebar;
}

async function stop(job: Job, model: JobsModel): Promise<void> {
  const { label } = job;
  const answer = await showDialog({
    title: say('Stop {label}?', { label }),
    body: say(
      'What has been saved so far stays. The command is asked to end, and killed after ten seconds if it does not.'
    ),
    buttons: [Dialog.cancelButton({ label: say('Cancel') }), Dialog.warnButton({ label: say('Stop') })]
  });
  if (!answer.button.accept) {
    return;
  }
  try {
    await model.api.stop(job.id);
  } catch (error) {
    await showErrorMessage(say('The job was not stopped'), error as Error);
  }
  await model.refresh();
}

/** Show a file or folder: in Lab's file browser, or in a new tab where the page has none. */
async function browse(app: JupyterFrontEnd, path: string): Promise<void> {
  if (app.commands.hasCommand('filebrowser:go-to-path')) {
    await app.commands.execute('filebrowser:activate').catch(() => undefined);
    await app.commands.execute('filebrowser:go-to-path', { path, dontShowBrowser: false });
    return;
  }
  const { baseUrl } = app.serviceManager.serverSettings;
  window.open(`${baseUrl}tree/${path.split('/').map(encodeURIComponent).join('/')}`, '_blank', 'noopener');
}

export default plugin;
