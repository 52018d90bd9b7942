/** The sidebar with the running and finished jobs. */

import { ReactWidget, refreshIcon, UseSignal } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import type { Job } from './api';
import { DetailsView } from './details';
import { ago, duration, figure, isRunning, SIGNS } from './format';
import { jobsIcon } from './icons';
import type { JobsModel } from './model';
import { say } from './words';

/** What the buttons do. */
export interface Actions {
  stop(job: Job): void;
  openLog(job: Job): void;
  /** Show a folder, or open a file, by its path in the file browser. */
  browse(path: string): void;
}

export class Sidebar extends ReactWidget {
  constructor(
    private readonly model: JobsModel,
    private readonly actions: Actions
  ) {
    super();
    this.id = 'taomagic-jobs';
    this.addClass('jp-TaoJobs');
    this.title.icon = jobsIcon;
    this.node.setAttribute('role', 'region');
    this.label();
    model.changed.connect(this.label, this);
  }

  protected override render(): React.ReactElement {
    return (
      <UseSignal signal={this.model.changed}>
        {() => <JobsView model={this.model} actions={this.actions} />}
      </UseSignal>
    );
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.model.watched = true;
  }

  protected override onBeforeHide(message: Message): void {
    super.onBeforeHide(message);
    this.model.watched = false;
  }

  /** Name the tab, and give it a badge with the number of running jobs. */
  private label(): void {
    const n = this.model.running.length;
    this.title.caption = n ? say('TAO jobs ({n} running)', { n }) : say('TAO jobs');
    // Lab keeps the tab's id there.
    const { 'tao-running': _, ...others } = this.title.dataset;
    this.title.dataset = n ? { ...others, 'tao-running': String(n) } : others;
    this.node.setAttribute('aria-label', say('TAO jobs'));
  }
}

interface Shared {
  model: JobsModel;
  actions: Actions;
}

function JobsView({ model, actions }: Shared): React.ReactElement {
  const [open, setOpen] = React.useState('');
  const section = (title: string, jobs: Job[]) =>
    jobs.length > 0 && (
      <section>
        <h3 className="jp-TaoJobs-heading">
          {title} <span className="jp-TaoJobs-count">{jobs.length}</span>
        </h3>
        <ul className="jp-TaoJobs-list">
          {jobs.map(job => (
            <JobView
              key={job.id}
              job={job}
              model={model}
              actions={actions}
              open={open === job.id}
              toggle={() => setOpen(open === job.id ? '' : job.id)}
            />
          ))}
        </ul>
      </section>
    );
  return (
    <>
      <header className="jp-TaoJobs-header">
        <h2>{say('TAO jobs')}</h2>
        <button
          className="jp-TaoJobs-button"
          title={say('Refresh')}
          aria-label={say('Refresh')}
          onClick={() => void model.refresh()}
        >
          <refreshIcon.react tag="span" elementSize="normal" />
        </button>
      </header>
      {model.problem && (
        <p className="jp-TaoJobs-problem" role="alert">
          {model.problem}
        </p>
      )}
      {model.known || model.problem || <p className="jp-TaoJobs-empty">{say('Reading …')}</p>}
      {model.known && model.jobs.length === 0 && (
        <p className="jp-TaoJobs-empty">
          {say(
            'No jobs yet. What you start with %tao or tao in a folder of this server shows up here, and stays when the kernel ends.'
          )}
        </p>
      )}
      {section(say('Running'), model.running)}
      {section(say('Finished'), model.finished)}
      {model.older > 0 && <p className="jp-TaoJobs-empty">{say('and {n} older', { n: model.older })}</p>}
    </>
  );
}

interface RowProps extends Shared {
  job: Job;
  open: boolean;
  toggle: () => void;
}

function JobView({ job, model, actions, open, toggle }: RowProps): React.ReactElement {
  const label = job.label;
  const state = job.stopping ? 'stopping' : job.state;
  const running = isRunning(job);
  const place = job.project === '' ? '/' : job.project;
  const told = [
    running ? say('for {time}', { time: duration(job.seconds) }) : say('took {time}', { time: duration(job.seconds) }),
    job.map === null ? '' : `mAP ${figure(job.map, 'mAP')}`,
    place,
    running ? '' : ago(job.age - job.seconds)
  ].filter(Boolean);
  return (
    <li className="jp-TaoJobs-job" data-job={job.id} data-state={state}>
      <button
        className="jp-TaoJobs-title"
        aria-expanded={open}
        aria-label={`${label}: ${say(state)}. ${say('Details of {label}', { label })}`}
        onClick={toggle}
      >
        <span className="jp-TaoJobs-arrow" aria-hidden="true">
          {open ? '▾' : '▸'}
        </span>
        <span className="jp-TaoJobs-label">{label}</span>
        <span className="jp-TaoJobs-state">
          <span aria-hidden="true">{SIGNS[state]}</span> {say(state)}
        </span>
      </button>
      <code className="jp-TaoJobs-command" title={job.command}>
        {job.command}
      </code>
      {running && <ProgressView job={job} />}
      <div className="jp-TaoJobs-facts">
        {told.map((text, index) => (
          <span key={index}>{text}</span>
        ))}
      </div>
      <div className="jp-TaoJobs-actions">
        {running && (
          <button
            className="jp-TaoJobs-button jp-mod-stop"
            aria-label={say('Stop {label}', { label })}
            disabled={job.stopping}
            onClick={() => actions.stop(job)}
          >
            {say('Stop')}
          </button>
        )}
        <button
          className="jp-TaoJobs-button"
          aria-label={say('Open the log of {label}', { label })}
          onClick={() => actions.openLog(job)}
        >
          {say('Log')}
        </button>
        {job.project !== null && (
          <button
            className="jp-TaoJobs-button"
            aria-label={say('Show the folder of {label}', { label })}
            onClick={() => actions.browse(job.project!)}
          >
            {say('Folder')}
          </button>
        )}
      </div>
      {job.stop_problem && (
        <p className="jp-TaoJobs-problem" role="alert">
          {say('The job was not stopped')}: {job.stop_problem}
        </p>
      )}
      {open && <DetailsView job={job} api={model.api} browse={actions.browse} />}
    </li>
  );
}

function ProgressView({ job }: { job: Job }): React.ReactElement {
  const percent = job.fraction === null ? null : Math.round(100 * job.fraction);
  const told = [
    job.epoch !== null && job.epochs ? say('epoch {epoch} of {epochs}', { epoch: job.epoch, epochs: job.epochs }) : '',
    job.activity,
    percent === null ? '' : `${percent} %`,
    job.eta_s === null ? '' : say('{time} left', { time: duration(job.eta_s) })
  ].filter(Boolean);
  return (
    <>
      <div
        className={`jp-TaoJobs-bar${percent === null ? ' jp-mod-unknown' : ''}`}
        role="progressbar"
        aria-label={say('Progress of {label}', { label: job.label })}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent ?? undefined}
        aria-valuetext={told.join(', ') || undefined}
      >
        <div style={percent === null ? undefined : { width: `${percent}%` }} />
      </div>
      {told.length > 0 && <div className="jp-TaoJobs-progress">{told.join(' · ')}</div>}
    </>
  );
}
