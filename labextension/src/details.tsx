/** What is known about one job, below its line in the sidebar. */

import * as React from 'react';

import type { Api, Details, Job } from './api';
import { figure } from './format';
import { say } from './words';

/** Files that are shown at once; a training writes one in each epoch. */
const LATEST = 5;

interface Props {
  job: Job;
  api: Api;
  browse: (path: string) => void;
}

export function DetailsView({ job, api, browse }: Props): React.ReactElement {
  const [details, setDetails] = React.useState<Details | null>(null);
  const [problem, setProblem] = React.useState('');
  React.useEffect(() => {
    let current = true;
    api.details(job.id).then(
      found => current && (setDetails(found), setProblem('')),
      error => current && setProblem((error as Error).message)
    );
    return () => {
      current = false;
    };
    // Once more when there may be something new: an epoch has ended, or the job has.
  }, [job.id, job.state, job.epoch, job.activity, job.map]);
  if (problem || details === null) {
    return <p className="jp-TaoJobs-empty">{problem || say('Reading …')}</p>;
  }
  const earlier = Math.max(0, details.artefacts.length - LATEST);
  return (
    <div className="jp-TaoJobs-details">
      {details.problem && <Fact name={say('Problem')}>{details.problem}</Fact>}
      {details.hints.map(hint => (
        <Fact key={hint} name={say('Hint')}>
          {hint}
        </Fact>
      ))}
      <Figures title={say('Metrics')} values={details.metrics} />
      <Figures title={say('AP by class')} values={details.per_class_ap} kind="AP" />
      {details.artefacts.length > 0 && (
        <Fact name={say('Files')}>
          {earlier > 0 && (
            <details>
              <summary>{say('{n} earlier ones', { n: earlier })}</summary>
              <Files files={details.artefacts.slice(0, earlier)} browse={browse} />
            </details>
          )}
          <Files files={details.artefacts.slice(earlier)} browse={browse} />
        </Fact>
      )}
      {details.notes.length > 0 && <Fact name={say('Notes')}>{details.notes.join(' ')}</Fact>}
      <Fact name={say('Command')}>
        <code>{details.command}</code>
      </Fact>
      {details.exit_code !== null && <Fact name={say('Exit code')}>{details.exit_code}</Fact>}
      <Fact name={say('Runs in')}>{details.backend === 'docker' ? say('a container') : say('a process')}</Fact>
      <Fact name={say('Job')}>
        <code>{details.id}</code>
      </Fact>
    </div>
  );
}

function Files({ files, browse }: { files: Details['artefacts']; browse: Props['browse'] }): React.ReactElement {
  return (
    <ul>
      {files.map(({ name, path, container }) => (
        <li key={container} title={`${say('in the container')}: ${container}`}>
          {path === null ? (
            name
          ) : (
            <button className="jp-TaoJobs-link" onClick={() => browse(path)}>
              {name}
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }): React.ReactElement {
  return (
    <div className="jp-TaoJobs-fact">
      <h4>{name}</h4>
      <div>{children}</div>
    </div>
  );
}

interface FiguresProps {
  title: string;
  values: Record<string, number | null>;
  /** What all of them are, where the names don't tell. */
  kind?: string;
}

function Figures({ title, values, kind }: FiguresProps): React.ReactElement | null {
  const names = Object.keys(values);
  if (names.length === 0) {
    return null;
  }
  return (
    <Fact name={title}>
      <table>
        <tbody>
          {names.map(name => (
            <tr key={name}>
              <th scope="row">{name.replace(/_/g, ' ')}</th>
              <td>{figure(values[name], kind ?? name)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Fact>
  );
}
