/** How times and numbers are written. */

import type { Job } from './api';
import { say } from './words';

/** A sign for each state, so that nothing is told by colour alone; the same as in notebooks and shells. */
export const SIGNS: Record<Job['state'] | 'stopping', string> = {
  starting: '…',
  running: '▶',
  stopping: '◼',
  succeeded: '✓',
  failed: '✗',
  stopped: '■',
  lost: '?'
};

export function isRunning(job: Job): boolean {
  return job.state === 'starting' || job.state === 'running';
}

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return say('{n} s', { n: whole });
  }
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) {
    return say('{m} min {s} s', { m: minutes, s: two(whole % 60) });
  }
  return say('{h} h {m} min', { h: Math.floor(minutes / 60), m: two(minutes % 60) });
}

/** Return how long ago something was, in one unit. */
export function ago(seconds: number): string {
  if (seconds < 45) {
    return say('just now');
  }
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 60) {
    return say('{time} ago', { time: say('{n} min', { n: minutes }) });
  }
  const hours = Math.round(minutes / 60);
  if (hours < 24) {
    return say('{time} ago', { time: say('{n} h', { n: hours }) });
  }
  const days = Math.round(hours / 24);
  return say('{time} ago', { time: days === 1 ? say('1 day') : say('{n} days', { n: days }) });
}

/** Return a metric with the digits that matter; learning rates in powers of ten. */
export function figure(value: number | null, name = ''): string {
  if (value === null) {
    return '–';
  }
  if (/^(lr|learning_rate)$/.test(name)) {
    return value.toExponential(2);
  }
  return Number.isInteger(value) && !/^(mAP|AP)|loss/.test(name) ? String(value) : value.toFixed(4);
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
