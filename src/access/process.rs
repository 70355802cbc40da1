//! A command that runs: its input, its output, what it says on its standard error, and its end.
//!
//! Each runs in a process group of its own, so that a Ctrl-C at the terminal is Belay's to answer. A guard ends the group when
//! the job is cancelled, or when a read or a write has waited for too long.

use super::command::{Command, compose};
use super::error::Ending;
use super::{Access, AccessError};
use crate::model::event::Cancel;
use crate::model::via::Via;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How often the guard looks.
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// On the way from a program that gives a stream: as much as a system allows anybody, unless it was told otherwise.
const STREAM_BYTES: usize = 1024 * 1024;
/// Of such a stream so much is taken at a time, if it comes soon: programs write a few KiB at once, and to be woken for each of
/// them costs both sides more than the work on them.
const WORTH_WAKING_BYTES: u64 = 128 * 1024;
const SOON: Duration = Duration::from_millis(1);
/// Kept of what a command says: what it said first, which is the reason, and what it said last.
const KEPT_FIRST_BYTES: usize = 16 * 1024;
const KEPT_LAST_BYTES: usize = 16 * 1024;

/// A command that was started.
pub struct Running {
    program: String,
    via: Via,
    child: Child,
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<JoinHandle<Said>>,
    guard: Guard,
    secrets: Vec<Zeroizing<String>>,
}

/// A command that ended well.
#[derive(Debug)]
pub struct Finished {
    /// What it said on its standard error, secrets blacked out, with a note where something was left out.
    pub said: String,
}

/// What a command takes.
pub struct Input {
    pipe: ChildStdin,
    watch: Arc<Watch>,
}

/// What a command gives.
pub struct Output {
    pipe: ChildStdout,
    watch: Arc<Watch>,
    gathers: bool,
}

/// What the guard and the streams tell each other.
struct Watch {
    begun: Instant,
    /// Milliseconds after `begun` at which a read or write began that still waits; zero where none does.
    waits_since: [AtomicU64; 2],
    cancelled: AtomicBool,
    silent: AtomicBool,
    /// Nobody wants it any more.
    stopped: AtomicBool,
}

/// Ends a command that nobody waits for any longer. That is no fault of its own.
pub struct Stopper(Arc<Watch>);

impl Stopper {
    /// End it.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
    }
}

impl Watch {
    fn waiting<T>(&self, side: usize, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let now = self.begun.elapsed().as_millis() as u64;
        self.waits_since[side].store(now + 1, Ordering::SeqCst);
        let result = work();
        self.waits_since[side].store(0, Ordering::SeqCst);
        result
    }

    fn longest_wait(&self) -> Duration {
        let now = self.begun.elapsed().as_millis() as u64;
        let since = |side: &AtomicU64| match side.load(Ordering::SeqCst) {
            0 => 0,
            since => (now + 1).saturating_sub(since),
        };
        Duration::from_millis(self.waits_since.iter().map(since).max().unwrap_or(0))
    }
}

impl Output {
    /// Let much be on its way, so that a program that gives a stream goes on while what it gave is worked on.
    #[must_use]
    pub fn buffered(mut self) -> Self {
        // Where the system allows less, the pipe stays as it is.
        self.gathers = rustix::pipe::fcntl_setpipe_size(&self.pipe, STREAM_BYTES).is_ok();
        self
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_little = |waiting| waiting < WORTH_WAKING_BYTES;
        if self.gathers && rustix::io::ioctl_fionread(&self.pipe).is_ok_and(is_little) {
            std::thread::sleep(SOON);
        }
        self.watch.waiting(0, || self.pipe.read(buffer))
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.watch.waiting(1, || self.pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// Ends the process group when it is time, until it is dropped.
struct Guard {
    watch: Arc<Watch>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    fn start(group: Pid, silence: Duration, cancel: &Cancel) -> io::Result<Self> {
        let watch = Arc::new(Watch {
            begun: Instant::now(),
            waits_since: Default::default(),
            cancelled: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (stop, stopped) = channel();
        let (watched, cancel) = (Arc::clone(&watch), cancel.clone());
        let thread = std::thread::Builder::new()
            .name("guard".into())
            .spawn(move || guard(group, silence, &cancel, &watched, &stopped))?;
        Ok(Self { watch, stop: Some(stop), thread: Some(thread) })
    }

    /// The group's number may soon be another's: nothing is signalled from here on.
    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only waits and signals.
            let _ = thread.join();
        }
    }
}

fn guard(group: Pid, silence: Duration, cancel: &Cancel, watch: &Watch, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOKS_EVERY) {
        if cancel.is_cancelled() {
            watch.cancelled.store(true, Ordering::SeqCst);
        } else if watch.longest_wait() > silence {
            watch.silent.store(true, Ordering::SeqCst);
        } else if !watch.stopped.load(Ordering::SeqCst) {
            continue;
        }
        // It may have ended by itself at this moment.
        let _ = kill_process_group(group, Signal::KILL);
        return;
    }
}

/// The beginning and the end of what was said.
#[derive(Default)]
struct Said {
    first: Vec<u8>,
    last: std::collections::VecDeque<u8>,
    left_out: u64,
}

impl Said {
    fn listen(mut pipe: ChildStderr) -> Self {
        let mut said = Self::default();
        let mut buffer = [0; 4096];
        // A pipe that cannot be read says no more.
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            said.add(&buffer[..count]);
        }
        said
    }

    fn add(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT_FIRST_BYTES - self.first.len()));
        self.first.extend(first);
        self.last.extend(rest);
        let over = self.last.len().saturating_sub(KEPT_LAST_BYTES);
        self.last.drain(..over);
        self.left_out += over as u64;
    }

    fn text(&self, secrets: &[Zeroizing<String>]) -> String {
        let mut bytes = self.first.clone();
        if self.left_out > 0 {
            bytes.extend(format!("\n[{} bytes left out]\n", self.left_out).bytes());
        }
        bytes.extend(&self.last);
        let mut text = String::from_utf8_lossy(&bytes).trim().to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "…");
        }
        text
    }
}

impl Access {
    /// Start a command. Its input is closed where `with_input` is false.
    pub fn start(&self, command: &Command, with_input: bool) -> Result<Running, AccessError> {
        self.cancel.check()?;
        let composed = compose(self, command)?;
        let mut starting = composed.command;
        let has_input = with_input || !composed.preamble.is_empty();
        starting
            .stdin(if has_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let program = starting.get_program().to_string_lossy().into_owned();
        let via = self.via.clone();
        let failed = |source| AccessError::Start { program, via, source };
        let started = starting.spawn().and_then(|mut child| {
            match Guard::start(Pid::from_child(&child), command.silence, &self.cancel) {
                Ok(guard) => Ok((child, guard)),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    Err(error)
                }
            }
        });
        let (mut child, guard) = started.map_err(failed)?;
        let stderr = child.stderr.take().expect("it is piped");
        let watch = &guard.watch;
        let stdin = child.stdin.take().map(|pipe| Input { pipe, watch: Arc::clone(watch) });
        let stdout = child.stdout.take().map(|pipe| Output {
            pipe,
            watch: Arc::clone(watch),
            gathers: false,
        });
        let secrets = command.secrets.iter().map(|(_, value)| value.clone()).collect();
        let mut running = Running {
            program: command.program(),
            via: self.via.clone(),
            child,
            stdin,
            stdout,
            stderr: Some(std::thread::spawn(move || Said::listen(stderr))),
            guard,
            secrets,
        };
        if let Some(input) = &mut running.stdin {
            // A program that ended already tells why when it is finished.
            let _ = input.write_all(&composed.preamble);
        }
        if !with_input {
            running.stdin = None;
        }
        Ok(running)
    }

    /// Run a command with this input to its end, and return what it gave: at most `limit` bytes.
    pub fn run(
        &self,
        command: &Command,
        input: &[u8],
        limit: u64,
    ) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        let mut running = self.start(command, !input.is_empty())?;
        let stdin = running.stdin.take();
        let mut stdout = running.stdout().take(limit + 1);
        let mut output = Zeroizing::new(Vec::new());
        let read = std::thread::scope(|scope| {
            scope.spawn(move || {
                // One that did not want its input tells so by its status, where it matters.
                let _ = stdin.map(|mut stdin| stdin.write_all(input));
            });
            let read = stdout.read_to_end(&mut output);
            drop(stdout);
            read
        });
        let strange = |source| AccessError::Stream {
            action: "read from",
            program: command.program(),
            via: self.via.clone(),
            source,
        };
        let is_too_much = output.len() as u64 > limit;
        let finished = running.finish();
        if is_too_much {
            return Err(AccessError::TooMuch {
                program: command.program(),
                via: self.via.clone(),
                limit,
            });
        }
        finished?;
        read.map_err(strange)?;
        Ok(output)
    }
}

impl Running {
    /// What it takes; once.
    pub fn stdin(&mut self) -> Input {
        self.stdin.take().expect("it was started with an input, which was not taken yet")
    }

    /// What it gives; once.
    pub fn stdout(&mut self) -> Output {
        self.stdout.take().expect("it was not taken yet")
    }

    /// What can end it while another thread reads or waits.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.guard.watch))
    }

    /// Wait for its end, which is an error where it is not a good one. What it still gives is not read.
    pub fn finish(mut self) -> Result<Finished, AccessError> {
        drop((self.stdin.take(), self.stdout.take()));
        let status = self.guard.watch.waiting(0, || self.child.wait());
        self.guard.end();
        let said = self.said();
        let (program, via) = (self.program.clone(), self.via.clone());
        let watch = &self.guard.watch;
        if watch.cancelled.load(Ordering::SeqCst) {
            return Err(crate::model::event::Cancelled.into());
        }
        if watch.silent.load(Ordering::SeqCst) {
            let after = watch.begun.elapsed();
            return Err(AccessError::Silent { program, via, after, said });
        }
        let status = status.map_err(|source| AccessError::Stream {
            action: "wait for",
            program,
            via,
            source,
        })?;
        if status.success() || watch.stopped.load(Ordering::SeqCst) {
            return Ok(Finished { said });
        }
        Err(AccessError::Failed {
            program: self.program.clone(),
            via: self.via.clone(),
            ending: ending(status),
            said,
        })
    }

    /// What it said, up to its end.
    fn said(&mut self) -> String {
        let said = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        said.text(&self.secrets)
    }
}

impl Drop for Running {
    /// One that was not finished is ended.
    fn drop(&mut self) {
        self.guard.end();
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Status(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}
