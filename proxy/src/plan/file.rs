//! The last good plan on disk: what a proxy starts with.
//!
//! Replaced as a whole ([`disk::replace`]). A head names what it is, how long, and a checksum (xxh3), so that a file that
//! was torn, or is somebody else's, is told from a plan, and a proxy starts without it rather than with half of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use foreshade_contract::Plan;
use foreshade_contract::wire::{MESSAGE_BYTES_MAX, WireError, decode_plan, encode_plan};
use xxhash_rust::xxh3::xxh3_64;

use crate::disk;

/// What the file begins with: whose it is, and in which format.
const MAGIC: &[u8; 16] = b"foreshade plan 1";

/// Magic, length, checksum.
const HEAD_BYTES: usize = 32;

/// Where the last good plan lies.
#[derive(Clone, Debug)]
pub struct PlanFile {
    path: PathBuf,
}

/// Why there is no plan on disk, or none that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the plan file cannot be read")]
    Read(#[source] io::Error),
    /// It cannot be written.
    #[error("the plan file cannot be written")]
    Write(#[source] io::Error),
    /// It is something else.
    #[error("the plan file holds something else than a plan")]
    Foreign,
    /// It is not whole.
    #[error("the plan file is torn: its checksum is not that of its content")]
    Torn,
    /// It is whole, and no plan that this version understands.
    #[error("the plan file holds no plan")]
    Malformed(#[source] WireError),
}

impl PlanFile {
    /// At this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What lies there; `None` where there is no file.
    ///
    /// # Errors
    /// When there is one, and it is not a whole plan.
    pub fn load(&self) -> Result<Option<Plan>, FileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::Read(error)),
        };
        let mut bytes = Vec::new();
        let most = (HEAD_BYTES + MESSAGE_BYTES_MAX) as u64;
        // One byte more than allowed shows that it is too long, however long it is.
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(FileError::Read)?;
        read(&bytes).map(Some)
    }

    /// Puts a plan there, in place of what lies there.
    ///
    /// # Errors
    /// When it cannot be written. What lay there before still does.
    pub fn store(&self, plan: &Plan) -> Result<(), FileError> {
        // For the owner only: names of clusters and endpoints are not for everybody.
        disk::replace(&self.path, &written(plan)).map_err(FileError::Write)
    }
}

fn written(plan: &Plan) -> Vec<u8> {
    let body = encode_plan(plan);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend(MAGIC);
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(xxh3_64(&body).to_le_bytes());
    bytes.extend(&body);
    bytes
}

fn read(bytes: &[u8]) -> Result<Plan, FileError> {
    let rest = match bytes.strip_prefix(MAGIC) {
        Some(rest) => rest,
        // A file that ends within the magic was ours once.
        None if MAGIC.starts_with(bytes) => return Err(FileError::Torn),
        None => return Err(FileError::Foreign),
    };
    let (length, rest) = rest.split_first_chunk().ok_or(FileError::Torn)?;
    let (checksum, body) = rest.split_first_chunk().ok_or(FileError::Torn)?;
    let is_whole =
        u64::from_le_bytes(*length) == body.len() as u64 && u64::from_le_bytes(*checksum) == xxh3_64(body);
    if !is_whole {
        return Err(FileError::Torn);
    }
    decode_plan(body).map_err(FileError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Folder, id, pair, plan};
    use super::*;
    use std::fs;

    fn a_plan(generation: u64) -> Plan {
        plan(id(7, generation), vec![pair("a"), pair("b")])
    }

    #[test]
    fn a_plan_is_there_after_a_restart_and_the_last_one_counts() {
        let folder = Folder::new();
        let file = PlanFile::new(folder.file());
        assert!(file.load().unwrap().is_none());
        file.store(&a_plan(1)).unwrap();
        file.store(&a_plan(2)).unwrap();
        assert_eq!(file.load().unwrap(), Some(a_plan(2)));
        assert_eq!(
            fs::read_dir(&folder.path).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_file_that_was_torn_anywhere_or_has_another_bit_is_refused() {
        let whole = written(&a_plan(1));
        for length in 0..whole.len() {
            assert!(matches!(read(&whole[..length]), Err(FileError::Torn)), "{length}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(read(&longer), Err(FileError::Torn)));
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0x10;
            assert!(
                matches!(read(&other), Err(FileError::Torn | FileError::Foreign)),
                "{at}"
            );
        }
    }

    #[test]
    fn what_is_whole_and_no_plan_is_refused_as_that() {
        let body = b"\xffnot protobuf";
        let mut bytes = MAGIC.to_vec();
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(xxh3_64(body).to_le_bytes());
        bytes.extend(body);
        assert!(matches!(read(&bytes), Err(FileError::Malformed(_))));
        assert!(matches!(
            read(b"apiVersion: foreshade/v1\n"),
            Err(FileError::Foreign)
        ));
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = Folder::new();
        let file = PlanFile::new(folder.file());
        file.store(&a_plan(1)).unwrap();
        // Nothing can be written where a folder is.
        fs::create_dir(folder.path.join("plan.new")).unwrap();
        assert!(matches!(file.store(&a_plan(2)), Err(FileError::Write(_))));
        assert_eq!(file.load().unwrap(), Some(a_plan(1)));
    }
}
