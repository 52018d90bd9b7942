/** The server's routes, as `taomagic/server/handlers.py` describes them. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { language } from './words';

export type State = 'starting' | 'running' | 'succeeded' | 'failed' | 'stopped' | 'lost';

/** A job, as in the list. Times are in seconds; `null` is unknown. */
export interface Job {
  id: string;
  label: string;
  /** As typed, the key masked. */
  command: string;
  backend: string;
  /** Of the file browser; `null` where it doesn't show the project's folder. */
  project: string | null;
  state: State;
  stopping: boolean;
  /** Why it wasn't stopped though somebody asked for it, or nothing. */
  stop_problem: string;
  /** Since the start. */
  age: number;
  /** From the start to the end, or to now. */
  seconds: number;
  fraction: number | null;
  epoch: number | null;
  epochs: number | null;
  activity: string;
  eta_s: number | null;
  map: number | null;
}

export interface Listing {
  jobs: Job[];
  /** Finished jobs that are left out. */
  older: number;
  /** Whether all logs have been read. */
  complete: boolean;
}

export interface Details extends Job {
  exit_code: number | null;
  metrics: Record<string, number | null>;
  per_class_ap: Record<string, number | null>;
  artefacts: { name: string; path: string | null; container: string }[];
  problem: string;
  hints: string[];
  notes: string[];
}

/** A piece of a log; offsets are in bytes. */
export interface Piece {
  text: string;
  start: number;
  end: number;
  size: number;
  finished: boolean;
}

export interface Offer {
  kinds: string[];
  /** What `TAO_LANG` asks for, or nothing. */
  language: string;
}

export class Api {
  constructor(readonly settings: ServerConnection.ISettings) {}

  offer(): Promise<Offer> {
    return this.ask<Offer>('notebooks');
  }

  createNotebook(kind: string, folder: string, language: string): Promise<{ path: string }> {
    return this.ask('notebooks', { method: 'POST', body: JSON.stringify({ kind, folder, language }) });
  }

  jobs(): Promise<Listing> {
    return this.ask<Listing>('jobs');
  }

  details(id: string): Promise<Details> {
    return this.ask<Details>(`jobs/${id}`);
  }

  stop(id: string): Promise<Job> {
    return this.ask<Job>(`jobs/${id}/stop`, { method: 'POST' });
  }

  /** Without an offset: the end of the log. */
  log(id: string, offset?: number, limit?: number): Promise<Piece> {
    const query = URLExt.objectToQueryString({
      ...(offset === undefined ? {} : { offset }),
      ...(limit === undefined ? {} : { limit })
    });
    return this.ask<Piece>(`jobs/${id}/log${query}`);
  }

  private async ask<T>(path: string, init: RequestInit = {}): Promise<T> {
    // What the server says in words, it says in the language of the page.
    const asked = `${path}${path.includes('?') ? '&' : '?'}lang=${language()}`;
    const url = URLExt.join(this.settings.baseUrl, 'taomagic', 'api') + '/' + asked;
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (!response.ok) {
      throw await ServerConnection.ResponseError.create(response);
    }
    return (await response.json()) as T;
  }
}

/** Whether the server doesn't know our routes at all: its extension isn't enabled. */
export function isMissing(error: unknown): boolean {
  return error instanceof ServerConnection.ResponseError && error.response.status === 404;
}
