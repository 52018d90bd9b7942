/** A tab with a job's log: its end, what follows, and on demand what came before. */

import type { Message } from '@lumino/messaging';
import { Poll } from '@lumino/polling';
import { Widget } from '@lumino/widgets';

import type { Api } from './api';
import { jobsIcon } from './icons';
import { say } from './words';

const PIECE = 64 * 1024;
/** Characters kept on the page; beyond, the oldest go. */
const MOST = 4 * 1024 * 1024;
const CODES = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;

export class LogPanel extends Widget {
  constructor(
    private readonly api: Api,
    readonly job: string,
    readonly label: string
  ) {
    super();
    this.id = `taomagic-log-${job}`;
    this.addClass('jp-TaoLog');
    this.title.label = say('Log: {label}', { label });
    this.title.caption = say('Log of {label} ({id})', { label, id: job });
    this.title.icon = jobsIcon;
    this.title.closable = true;

    const bar = document.createElement('div');
    bar.className = 'jp-TaoLog-toolbar';
    this.follow = checkbox(bar, say('Follow'), true);
    const wrap = checkbox(bar, say('Wrap lines'), true);
    this.earlier = document.createElement('button');
    this.earlier.className = 'jp-TaoJobs-button';
    this.earlier.textContent = say('Show earlier lines');
    this.earlier.hidden = true;
    this.told = document.createElement('span');
    this.told.className = 'jp-TaoLog-state';
    this.told.setAttribute('role', 'status');
    bar.append(this.earlier, this.told);

    this.text = document.createElement('div');
    this.text.className = 'jp-TaoLog-text';
    this.text.tabIndex = 0;
    this.text.setAttribute('role', 'log');
    this.text.setAttribute('aria-live', 'off'); // a training prints more than anybody wants to hear
    this.text.setAttribute('aria-label', this.title.caption);
    this.lines = document.createElement('span');
    this.open = document.createElement('span');
    this.text.append(this.lines, this.open);
    this.node.append(bar, this.text);

    wrap.addEventListener('change', () => this.text.classList.toggle('jp-mod-wide', !wrap.checked));
    this.follow.addEventListener('change', () => this.toEnd());
    this.text.addEventListener('scroll', () => {
      // Whoever scrolls up wants to read; whoever comes back to the end wants to follow again.
      const { scrollTop, scrollHeight, clientHeight } = this.text;
      this.follow.checked = scrollHeight - scrollTop - clientHeight < 24;
    });
    this.earlier.addEventListener('click', () => void this.readBefore());

    this.poll = new Poll<void>({
      name: `taomagic:log:${job}`,
      factory: () => this.readOn(),
      frequency: { interval: 1000, backoff: true, max: 15000 },
      standby: () => (this.isVisible ? 'when-hidden' : true)
    });
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.poll.dispose();
      super.dispose();
    }
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    if (!this.whole) {
      void this.poll.refresh();
    }
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.text.focus();
  }

  /** Read what is new. */
  private async readOn(): Promise<void> {
    try {
      // Not for ever: a fast job must not keep the page from drawing.
      for (let pieces = 0; pieces < 8; pieces++) {
        const piece = await this.api.log(this.job, this.end, this.end === undefined ? PIECE : 4 * PIECE);
        if (this.isDisposed) {
          return;
        }
        if (this.end === undefined) {
          this.start = piece.start;
          this.earlier.hidden = this.start === 0;
        }
        this.end = piece.end;
        this.append(piece.text);
        this.told.textContent = piece.finished ? say('ended') : piece.size ? '' : say('Nothing has been printed yet.');
        if (piece.end >= piece.size) {
          this.whole = piece.finished;
          break;
        }
      }
    } catch (error) {
      this.told.textContent = (error as Error).message;
      throw error;
    }
    if (this.whole) {
      void this.poll.stop();
    }
  }

  /** Put the piece before the first one on top, without moving what is being read. */
  private async readBefore(): Promise<void> {
    const from = Math.max(0, this.start - 4 * PIECE);
    const piece = await this.api.log(this.job, from, this.start - from);
    const { scrollHeight, scrollTop } = this.text;
    let text = piece.text;
    this.start = from;
    if (from > 0) {
      const line = text.indexOf('\n') + 1;
      this.start += new TextEncoder().encode(text.slice(0, line)).length;
      text = text.slice(line);
    }
    this.follow.checked = false;
    this.lines.prepend(document.createTextNode(clean(text)));
    this.earlier.hidden = this.start === 0;
    this.text.scrollTop = scrollTop + this.text.scrollHeight - scrollHeight;
  }

  private append(text: string): void {
    if (!text) {
      return;
    }
    const all = this.rest + text;
    const cut = all.lastIndexOf('\n') + 1;
    this.rest = all.slice(cut);
    if (cut) {
      this.lines.append(document.createTextNode(clean(all.slice(0, cut))));
    }
    this.open.textContent = clean(this.rest);
    let held = this.lines.textContent!.length;
    while (held > MOST && this.lines.childNodes.length > 1) {
      const oldest = this.lines.firstChild!;
      held -= oldest.textContent!.length;
      oldest.remove();
      this.earlier.hidden = true; // what was before is no longer next to what is shown
    }
    this.toEnd();
  }

  private toEnd(): void {
    if (this.follow.checked) {
      this.text.scrollTop = this.text.scrollHeight;
    }
  }

  private readonly poll: Poll<void>;
  private readonly follow: HTMLInputElement;
  private readonly earlier: HTMLButtonElement;
  private readonly told: HTMLElement;
  private readonly text: HTMLElement;
  private readonly lines: HTMLElement;
  /** The last line, which hasn't ended yet. */
  private readonly open: HTMLElement;
  private rest = '';
  private start = 0;
  private end: number | undefined;
  private whole = false;
}

/** Leave out terminal codes, and what a carriage return has overwritten. */
function clean(text: string): string {
  return text
    .replace(CODES, '')
    .replace(/\r+\n/g, '\n')
    .replace(/\r+$/, '')
    .replace(/[^\n]*\r/g, '');
}

function checkbox(parent: HTMLElement, text: string, checked: boolean): HTMLInputElement {
  const label = document.createElement('label');
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = checked;
  label.append(box, ` ${text}`);
  parent.append(label);
  return box;
}
