// Preloaded: this process sends itself SIGNAL the first time that what it has written to stderr matches SIGNAL_AFTER.
const { SIGNAL, SIGNAL_AFTER } = process.env;
const { stderr } = process;
const write = stderr.write.bind(stderr);
let said = '';
let sent = false;
stderr.write = (text, ...more) => {
  said += text;
  const written = write(text, ...more);
  if (!sent && new RegExp(SIGNAL_AFTER).test(said)) {
    sent = true;
    process.kill(process.pid, SIGNAL);
  }
  return written;
};
