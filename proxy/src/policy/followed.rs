//! Whether a file that operators replace has changed since it was read, and what is said of it.
//!
//! Known by its time and length, looked at when somebody asks. One that is broken leaves what was read last in force, and
//! is told of once; it is tried again each time, because what was in the way need not show in its times.

use std::error::Error;
use std::path::Path;
use std::time::SystemTime;

/// When a file was written, and its length.
type Stamp = (SystemTime, u64);

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// What it was like when it was read.
    read: Option<Stamp>,
    /// What it was like when it was told last that it cannot be read.
    told: Option<Option<Stamp>>,
}

impl Followed {
    /// What is in the file, where that is new and sound. `kept` says whether something is in force without it.
    pub(super) fn news<T, E: Error + 'static>(
        &mut self,
        path: &Path,
        kept: bool,
        load: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Option<T> {
        let found = std::fs::metadata(path).and_then(|found| Ok((found.modified()?, found.len())));
        let stamp = found.ok();
        if stamp.is_some() && stamp == self.read {
            return None;
        }
        match load(path) {
            Ok(content) => {
                tracing::info!(path = %path.display(), "a policy's file is read");
                (self.read, self.told) = (stamp, None);
                Some(content)
            }
            Err(error) => {
                if self.told != Some(stamp) {
                    self.told = Some(stamp);
                    let error = &error as &dyn Error;
                    tracing::error!(path = %path.display(), error, kept, "a policy's file cannot be read: nobody new is let in");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_could_not_be_read_is_tried_again_and_what_was_read_is_not() {
        let path = std::env::temp_dir().join(format!("foreshade-followed-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let mut followed = Followed::default();
        let fails = |_: &Path| Err::<String, _>(io::Error::other("too many open files"));
        assert_eq!(followed.news(&path, false, fails), None);
        let reads = |path: &Path| std::fs::read_to_string(path);
        assert_eq!(
            followed.news(&path, false, reads).as_deref(),
            Some("one"),
            "nothing in its times has changed"
        );
        assert_eq!(followed.news(&path, true, reads), None);
        std::fs::write(&path, "three").unwrap();
        assert_eq!(followed.news(&path, true, reads).as_deref(), Some("three"));
        std::fs::remove_file(&path).unwrap();
    }
}
