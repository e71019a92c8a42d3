//! From the workers' buffers to the file: one thread, that may wait for the disk as long as it likes.
//!
//! Each worker has a lane of its own to the writer, so that workers share no lock and no queue: full buffers go one way,
//! empty ones come back. A worker only ever tries: a lane that is full costs the worker lines, which are counted, and
//! nothing else. A file that cannot be written (a full disk, a reader of standard output that went away) costs lines, too,
//! and is tried again with every buffer.
//!
//! Opening anew (after `logrotate` has moved the file away) happens between two buffers. The file is created for its owner
//! and group only: lines name users. Pipes and sockets are refused: to open one can block for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::config::{AccessLog, Sink};

use super::Logger;

/// Size of a buffer: at least three lines of the longest kind, and more than a hundred of the usual.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// Buffers on their way to the writer, per worker: 8 MiB, a second of lines at 20,000 requests per second. A disk that
/// stalls for longer than that loses lines.
pub const CHUNKS_MAX: usize = 64;

/// Empty buffers that wait for their next use, per worker; what a stall needed beyond them is given back.
const SPARES_MAX: usize = 4;

/// How long the end of the process waits for lines to be written.
const END_MAX: Duration = Duration::from_secs(2);

/// A buffer and how many lines are in it.
pub(super) type Chunk = (Vec<u8>, u64);

/// What became of lines, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written.
    pub written: u64,
    /// Dropped because the writer was behind.
    pub dropped_behind: u64,
    /// Dropped because the file could not be written.
    pub dropped_failed: u64,
}

/// The writer's thread, seen from outside.
#[derive(Clone, Debug)]
pub struct Writing {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    failed: AtomicU64,
    /// By worker; each is written by its worker only, and only when lines are lost.
    behind: Vec<AtomicU64>,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// One worker's end of its lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// `None` once the worker has ended.
    full: Option<SyncSender<Chunk>>,
    empty: Receiver<Vec<u8>>,
    worker: usize,
    writing: Writing,
}

/// The writer's end.
#[derive(Debug)]
struct Incoming {
    full: Receiver<Chunk>,
    empty: SyncSender<Vec<u8>>,
}

/// Opens the log and starts its writer: what each worker needs, and what the process needs.
///
/// # Errors
/// When the file cannot be opened, or there is no thread to be had.
pub fn start(settings: AccessLog, workers: usize) -> io::Result<(Vec<Logger>, Writing, JoinHandle<()>)> {
    start_on(open(&settings.sink)?, settings, workers)
}

/// The same on an open file.
pub(super) fn start_on(
    file: File,
    settings: AccessLog,
    workers: usize,
) -> io::Result<(Vec<Logger>, Writing, JoinHandle<()>)> {
    let shared = Arc::new(Shared {
        behind: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        ..Shared::default()
    });
    let (mut ends, mut incoming) = (Vec::new(), Vec::new());
    for _ in 0..workers {
        let (give_full, full) = sync_channel(CHUNKS_MAX);
        let (give_empty, empty) = sync_channel(SPARES_MAX);
        ends.push((give_full, empty));
        incoming.push(Incoming {
            full,
            empty: give_empty,
        });
    }
    let writer = Writer {
        file,
        sink: settings.sink.clone(),
        shared: shared.clone(),
        torn: false,
        failing: 0,
    };
    let thread = thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || writer.run(&incoming))?;
    let writing = Writing {
        shared,
        thread: thread.thread().clone(),
    };
    let settings = Arc::new(settings);
    let loggers = ends.into_iter().enumerate().map(|(worker, (full, empty))| {
        let lane = Lane {
            full: Some(full),
            empty,
            worker,
            writing: writing.clone(),
        };
        Logger::new(settings.clone(), lane)
    });
    Ok((loggers.collect(), writing, thread))
}

impl Writing {
    /// The file is opened anew before anything else is written.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// What became of lines so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            written: count(&self.shared.written),
            dropped_behind: self.shared.behind.iter().map(count).sum(),
            dropped_failed: count(&self.shared.failed),
        }
    }

    /// Has what waits written, and ends the writer; a disk that hangs is left to itself.
    pub fn end(&self, thread: JoinHandle<()>) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
        let limit = Instant::now() + END_MAX;
        while !thread.is_finished() && Instant::now() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

impl Lane {
    /// An empty buffer: one that came back, or a new one. How many there are is bounded by the way of the full ones.
    pub(super) fn empty_buffer(&self) -> Vec<u8> {
        self.empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES))
    }

    /// Gives a buffer to the writer, or gives it back where too many wait already.
    pub(super) fn hand_over(&self, chunk: Chunk) -> Result<(), Chunk> {
        let given = match &self.full {
            Some(full) => full.try_send(chunk),
            None => return Ok(()),
        };
        self.writing.thread.unpark();
        given.map_err(|refused| match refused {
            TrySendError::Full(chunk) | TrySendError::Disconnected(chunk) => chunk,
        })
    }

    /// Lines that nobody will read.
    pub(super) fn lose(&self, lines: u64) {
        if let Some(counter) = self.writing.shared.behind.get(self.worker) {
            counter.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // First the lane ends, then the writer looks: the other way round it would miss the end.
        self.full = None;
        self.writing.thread.unpark();
    }
}

struct Writer {
    file: File,
    sink: Sink,
    shared: Arc<Shared>,
    /// The file ends in the middle of a line.
    torn: bool,
    /// Lines lost since the file could last be written.
    failing: u64,
}

impl Writer {
    /// Writes until all workers have ended, or it is told to stop.
    fn run(mut self, lanes: &[Incoming]) {
        loop {
            // Read before the lanes: what is handed over before the order to stop is written.
            let stop = self.shared.stop.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            let mut open = false;
            for lane in lanes {
                open |= self.empty(lane);
            }
            if stop || !open {
                return;
            }
            thread::park();
        }
    }

    /// Writes everything that waits in a lane. False once the lane has ended.
    fn empty(&mut self, lane: &Incoming) -> bool {
        loop {
            match lane.full.try_recv() {
                Ok((mut buffer, lines)) => {
                    self.write(&buffer, lines);
                    buffer.clear();
                    // Enough wait already: this one is given back to the allocator.
                    let _ = lane.empty.try_send(buffer);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn write(&mut self, buffer: &[u8], lines: u64) {
        let mut rest = buffer;
        // After half a line comes its end, so that the next one is whole.
        let mut failed = if self.torn {
            self.file.write_all(b"\n").err()
        } else {
            None
        };
        self.torn &= failed.is_some();
        while failed.is_none() && !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
        }
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        let written = buffer.get(..buffer.len() - rest.len()).unwrap_or_default();
        self.torn |= written.last().is_some_and(|byte| *byte != b'\n');
        self.shared.written.fetch_add(lines - lost, Ordering::Relaxed);
        self.shared.failed.fetch_add(lost, Ordering::Relaxed);
        self.tell(lost, failed);
    }

    /// One line when it begins to fail, one when it works again.
    fn tell(&mut self, lost: u64, failed: Option<io::Error>) {
        match failed {
            Some(error) if self.failing == 0 => {
                tracing::warn!(%error, lines = lost, "the access log cannot be written, lines are lost");
                self.failing = lost;
            }
            Some(_) => self.failing += lost,
            None if self.failing > 0 => {
                tracing::info!(lost = self.failing, "the access log can be written again");
                self.failing = 0;
            }
            None => {}
        }
    }

    /// A file that cannot be opened anew is no reason to lose the old one.
    fn reopen(&mut self) {
        match open(&self.sink) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
                tracing::info!("access log opened anew");
            }
            Err(error) => {
                tracing::warn!(%error, "the access log cannot be opened anew, the old file is kept")
            }
        }
    }
}

fn open(sink: &Sink) -> io::Result<File> {
    match sink {
        // A descriptor of its own, without the buffer that cuts at newlines.
        Sink::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Sink::File(path) => open_file(path),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    if let Ok(found) = path.metadata() {
        let kind = found.file_type();
        if kind.is_fifo() || kind.is_socket() {
            return Err(io::Error::other(
                "it is a pipe or a socket; log to stdout instead",
            ));
        }
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
