//! What a store in a file stands on: where its bytes are, and how they are opened again after a failure.

use std::fmt;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::blame;
use super::ledger::initialise;
use crate::store::error::StoreError;

/// What every redb file begins with.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Where the bytes of a store are. Opened anew after a failure, because redb takes no more writes after one.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Opens it, initialised.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self) -> Result<Box<dyn StorageBackend>, StoreError>;

    /// Bytes that it takes.
    fn bytes(&self) -> u64;
}

/// A file.
#[derive(Clone, Debug)]
pub struct File(PathBuf);

impl File {
    /// The file at this path; made when it is not there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the file, whole or not at all: under another name first, and under its own once it is initialised and on
    /// disk. A link, and not a new name, because that would replace what another process has made meanwhile.
    fn create(&self) -> Result<(), StoreError> {
        let io = |error: io::Error| blame(redb::Error::Io(error));
        let mut name = self.0.clone().into_os_string();
        name.push(format!(".new-{}", process::id()));
        let unfinished = PathBuf::from(name);
        let folder = self.0.parent().filter(|p| !p.as_os_str().is_empty());
        let made = initialise(&Database::create(&unfinished).map_err(blame)?)
            .and_then(|()| match fs::hard_link(&unfinished, &self.0) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io(error)),
                _ => Ok(()),
            })
            .and_then(|()| sync_folder(folder.unwrap_or(Path::new("."))).map_err(io));
        // What is left of it would only be in the way of people.
        let _ = fs::remove_file(&unfinished);
        made
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

impl Medium for File {
    fn open(&self) -> Result<Box<dyn StorageBackend>, StoreError> {
        let io = |error: io::Error| blame(redb::Error::Io(error));
        if !self.0.try_exists().map_err(io)? {
            self.create()?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.0)
            .map_err(io)?;
        // Our own lock: whether redb takes one depends on how and by which version of it a file is opened.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        Ok(Box::new(FileBackend::new(file).map_err(blame)?))
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |meta| meta.len())
    }
}

/// Opens the database on a medium, if it is one. A file that is not is left as it is.
pub(super) fn open(medium: &dyn Medium, cache_bytes: usize) -> Result<Database, StoreError> {
    open_backend(Backend(medium.open()?), cache_bytes)
}

/// Opens it so that nothing reaches the medium: what opening writes stays in memory. For reading, when the medium takes no
/// writes at all.
pub(super) fn open_untouched(medium: &dyn Medium, cache_bytes: usize) -> Result<Database, StoreError> {
    let overlay = Overlay {
        below: medium.open()?,
        above: Mutex::default(),
    };
    open_backend(overlay, cache_bytes)
}

fn open_backend(backend: impl StorageBackend, cache_bytes: usize) -> Result<Database, StoreError> {
    let foreign = || StoreError::Foreign("the file is not a store of ours".to_owned());
    let length = backend.len().map_err(|error| blame(redb::Error::Io(error)))?;
    let mut begin = [0; MAGIC.len()];
    if length < MAGIC.len() as u64 {
        return Err(foreign());
    }
    backend
        .read(0, &mut begin)
        .map_err(|error| blame(redb::Error::Io(error)))?;
    if begin != MAGIC {
        return Err(foreign());
    }
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder.create_with_backend(backend).map_err(blame)
}

/// A medium, and what was not written to it. Nobody commits on it, so this is what opening writes: a header, and what
/// mends a crash.
#[derive(Debug)]
struct Overlay {
    below: Box<dyn StorageBackend>,
    above: Mutex<Above>,
}

#[derive(Debug, Default)]
struct Above {
    /// In the order in which it was written, by where.
    writes: Vec<(u64, Vec<u8>)>,
    /// How long it is, if that was changed.
    length: Option<u64>,
}

impl Overlay {
    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        match self.above().length {
            Some(length) => Ok(length),
            None => self.below.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let there = self.below.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        if let Some(part) = out.get_mut(..there) {
            self.below.read(offset, part)?;
        }
        let end = offset + out.len() as u64;
        for (at, data) in &self.above().writes {
            let (from, to) = (offset.max(*at), end.min(*at + data.len() as u64));
            if from >= to {
                continue;
            }
            let within = |base: u64| {
                let index = |position: u64| usize::try_from(position - base).unwrap_or(usize::MAX);
                index(from)..index(to)
            };
            if let (Some(target), Some(source)) = (out.get_mut(within(offset)), data.get(within(*at))) {
                target.copy_from_slice(source);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.above().length = Some(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.above().writes.push((offset, data.to_vec()));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }
}

/// Any backend, where redb wants a type.
#[derive(Debug)]
struct Backend(Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn an_overlay_shows_what_was_written_and_keeps_it_from_the_medium() {
        let below = InMemoryBackend::new();
        below.set_len(8).unwrap();
        below.write(0, b"abcdefgh").unwrap();
        let overlay = Overlay {
            below: Box::new(below),
            above: Mutex::default(),
        };
        overlay.write(2, b"XY").unwrap();
        overlay.write(3, b"Z").unwrap();
        overlay.set_len(10).unwrap();
        overlay.write(9, b"!").unwrap();
        let mut all = [0; 10];
        overlay.read(0, &mut all).unwrap();
        assert_eq!(&all, b"abXZefgh\0!");
        let mut part = [0; 3];
        overlay.read(3, &mut part).unwrap();
        assert_eq!(&part, b"Zef");
        assert_eq!((overlay.len().unwrap(), overlay.below.len().unwrap()), (10, 8));
        let mut below = [0; 8];
        overlay.below.read(0, &mut below).unwrap();
        assert_eq!(&below, b"abcdefgh");
    }
}
