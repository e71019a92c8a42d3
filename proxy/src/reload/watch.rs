//! Whether the configuration's file has changed, or one of the certificates that it names.
//!
//! Looked at once a second rather than watched by inotify: editors write a new file and rename it, Kubernetes exchanges a
//! symbolic link two folders above, and network file systems tell nobody. What a name leads to in the end, its size and
//! its time, costs one system call and sees all of them.

use std::fs;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Origin;

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// All files that the configuration is made of.
#[derive(Debug)]
pub(super) struct Watch(Vec<FileWatch>);

impl Watch {
    /// A watch that has not looked yet.
    pub(super) fn new(origin: &Origin) -> Self {
        let mut watch = Self(Vec::new());
        watch.follow(origin);
        watch
    }

    /// Looks after the files that the configuration has now, and forgets the others.
    pub(super) fn follow(&mut self, origin: &Origin) {
        let files = origin.config.files();
        let mut wanted: Vec<&Path> = iter::once(origin.path.as_path()).chain(files).collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.0.retain(|file| wanted.contains(&file.path.as_path()));
        for path in wanted {
            if self.0.iter().all(|file| file.path != path) {
                self.0.push(FileWatch::new(path.to_owned()));
            }
        }
    }

    /// Looks once at each. True when one of them has changed.
    pub(super) fn have_changed(&mut self) -> bool {
        // Every one of them is looked at, whatever the others say.
        self.0
            .iter_mut()
            .fold(false, |changed, file| file.has_changed() | changed)
    }
}

/// One file.
#[derive(Debug)]
struct FileWatch {
    path: PathBuf,
    /// At the last look.
    seen: Option<Looks>,
    /// When it was last said to have changed.
    told: Option<Looks>,
}

impl FileWatch {
    /// A watch that has not looked yet. The first looks count as a change, because the file may have changed since it was
    /// read.
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: None,
            told: None,
        }
    }

    /// Looks once. True when the file has changed and looks as it did the time before: whoever writes is done. A file that
    /// is not there has not changed; it may be about to be replaced.
    fn has_changed(&mut self) -> bool {
        let looks = fs::metadata(&self.path).ok().map(|data| Looks {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
        });
        let settled = std::mem::replace(&mut self.seen, looks) == looks;
        let changed = settled && looks.is_some() && looks != self.told;
        if changed {
            self.told = looks;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn changes(watch: &mut FileWatch) -> [bool; 3] {
        std::array::from_fn(|_| watch.has_changed())
    }

    #[test]
    fn a_change_is_told_once_when_the_writer_is_done() {
        let folder = std::env::temp_dir().join(format!("foreshade-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("foreshade.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(file.clone());
        assert_eq!(changes(&mut watch), [false, true, false]);
        fs::write(&file, "half of two").unwrap();
        assert!(!watch.has_changed());
        fs::write(&file, "the whole of two").unwrap();
        assert_eq!(changes(&mut watch), [false, true, false]);
        // As editors do it.
        fs::write(folder.join("new"), "the whole of two").unwrap();
        fs::rename(folder.join("new"), &file).unwrap();
        assert_eq!(changes(&mut watch), [false, true, false]);
        fs::remove_file(&file).unwrap();
        assert_eq!(changes(&mut watch), [false; 3]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let folder = std::env::temp_dir().join(format!("foreshade-link-{}", std::process::id()));
        for version in ["..1", "..2"] {
            fs::create_dir_all(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("foreshade.yaml"), "same size").unwrap();
        }
        // As Kubernetes mounts a ConfigMap.
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/foreshade.yaml", folder.join("foreshade.yaml")).unwrap();
        let mut watch = FileWatch::new(folder.join("foreshade.yaml"));
        assert_eq!(changes(&mut watch), [false, true, false]);
        symlink("..2", folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
        assert_eq!(changes(&mut watch), [false, true, false]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
