/** The list of jobs, asked for again and again: often while somebody looks at a running one, seldom otherwise. */

import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Api, isMissing, Job } from './api';
import { isRunning } from './format';
import { say } from './words';

const OFTEN_MS = 2000;
const SELDOM_MS = 15000;

export class JobsModel {
  constructor(readonly api: Api) {
    this.poll = new Poll<void>({
      name: 'taomagic:jobs',
      factory: () => this.ask(),
      frequency: { interval: SELDOM_MS, backoff: true, max: 8 * SELDOM_MS },
      standby: 'when-hidden'
    });
  }

  jobs: Job[] = [];
  older = 0;
  /** Whether there has been an answer. */
  known = false;
  /** Why there is none; empty where there is one. */
  problem = '';

  get running(): Job[] {
    return this.jobs.filter(isRunning);
  }

  get finished(): Job[] {
    return this.jobs.filter(job => !isRunning(job));
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Whether somebody sees the list. */
  set watched(watched: boolean) {
    this._watched = watched;
    this.hurry();
    if (watched) {
      void this.refresh();
    }
  }

  /** Ask at once. */
  refresh(): Promise<void> {
    return this.poll.refresh();
  }

  private async ask(): Promise<void> {
    try {
      const listing = await this.api.jobs();
      this.jobs = listing.jobs;
      this.older = listing.older;
      this.complete = listing.complete;
      this.known = true;
      this.problem = '';
    } catch (error) {
      this.problem = isMissing(error)
        ? say(
            'The server does not know TAO jobs. Run `jupyter server extension enable taomagic.server` and start it again.'
          )
        : say('The server does not answer: {message}', { message: (error as Error).message });
      throw error; // the poll asks less and less often then
    } finally {
      this.hurry();
      this._changed.emit();
    }
  }

  private hurry(): void {
    const busy = this._watched && (this.running.length > 0 || !this.complete);
    this.poll.frequency = { ...this.poll.frequency, interval: busy ? OFTEN_MS : SELDOM_MS };
  }

  private readonly poll: Poll<void>;
  private readonly _changed = new Signal<this, void>(this);
  private complete = true;
  private _watched = false;
}
