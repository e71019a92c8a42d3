//! What is kept of an authority: the account with its key, and certificates with theirs, one file each, for the owner only.
//!
//! A certificate and its key are in one file, because two files cannot be replaced together, and one that was renewed
//! without the other is a listener that cannot be loaded. A lock keeps two processes from ordering at once, as they would
//! in an upgrade: it ends with the process that holds it, whatever happens to that.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::disk::Replacement;

/// Largest file of an account: some hundred bytes.
const ACCOUNT_BYTES_MAX: u64 = 64 * 1024;

/// Room for one.
const ACCOUNT_ROOM_BYTES: usize = 4 * 1024;

/// A folder of an authority.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// Nobody else orders while this is kept.
#[derive(Debug)]
pub(super) struct Locked(#[expect(dead_code, reason = "the lock ends with it")] Flock<File>);

impl Store {
    /// The folder, made where it is not there.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Keeps others from ordering; `None` where one of them does.
    pub(super) fn lock(&self) -> io::Result<Option<Locked>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.folder.join("lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Locked(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// The account, as it was kept; `None` before the first order.
    pub(super) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.account_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(ACCOUNT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Room for an account, before one is asked for.
    pub(super) fn prepare_account(&self) -> io::Result<Replacement> {
        Replacement::prepare(&self.account_file(), ACCOUNT_ROOM_BYTES)
    }

    /// Puts the account aside, because its authority does not know it. Its key is kept.
    pub(super) fn set_account_aside(&self) -> io::Result<()> {
        std::fs::rename(self.account_file(), self.folder.join("account.json.unknown"))
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join("account.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_at_a_time_has_the_lock_and_files_are_for_the_owner_only() {
        let folder = std::env::temp_dir().join(format!("foreshade-acme-{}", std::process::id()));
        let store = Store::open(&folder.join("authority")).unwrap();
        let first = store.lock().unwrap().expect("nobody has it");
        assert!(store.lock().unwrap().is_none());
        drop(first);
        assert!(store.lock().unwrap().is_some());
        assert_eq!(store.account().unwrap(), None);
        store.prepare_account().unwrap().put(b"{}").unwrap();
        assert_eq!(store.account().unwrap().as_deref(), Some(&b"{}"[..]));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.account_file()), 0o600);
        assert_eq!(mode(&store.folder), 0o700);
        store.set_account_aside().unwrap();
        assert_eq!(store.account().unwrap(), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
