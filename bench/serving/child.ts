/** Another process, which has nothing but the store: receives a Job, answers with ms or an error, and ends. */
import { inAnotherProcess, type Job } from './prefix.js';

process.once('message', (job) => {
  inAnotherProcess(job as Job)
    .then(
      (ms) => ({ ms }),
      (error: unknown) => ({ error: (error as Error).message }),
    )
    .then((answer) => process.send!(answer, () => process.disconnect()));
});
