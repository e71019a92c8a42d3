//! A process that writes and is killed with signal 9, again and again, on the same file. What it had acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::{KeyRange, ReadAt, Redb, Revision, Store, Txn};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bench::{block_on, put};

/// Where the child finds its file. This program is parent and child.
const FILE: &str = "FORESHADE_TEST_STORE_FILE";

/// How often it is killed.
const KILLS: u64 = 8;

/// Whether this process is the child.
pub(crate) fn is_child() -> bool {
    std::env::var_os(FILE).is_some()
}

/// The child: writes by four at a time, and says what was acknowledged: revision, key, value.
pub(crate) fn write_until_killed() -> ! {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Redb::open(std::env::var_os(FILE).unwrap()).await.unwrap());
        let begun = store.status().await.unwrap().revision;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for n in 0.. {
                        let name = format!("{writer}/{}", n % 50);
                        let text = format!("{begun}-{n}");
                        let done = store.txn(Txn::new().then(put(&name, &text))).await.unwrap();
                        // One write, so that lines of several writers do not mix.
                        let line = format!("wrote {} {name} {text}\n", done.revision);
                        if std::io::stdout().write_all(line.as_bytes()).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
    exit(0);
}

/// The parent.
pub(crate) fn kill_9_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.redb");
    let mut rng = StdRng::seed_from_u64(9);
    let mut acknowledged: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for _ in 0..KILLS {
        // At least one; the moment between two writes is chance.
        let lines = rng.random_range(1..150);
        write_and_kill(
            &file,
            lines,
            Duration::from_micros(rng.random_range(0..5_000)),
            &mut acknowledged,
        );
        block_on(compare(&file, &acknowledged));
    }
    assert!(acknowledged.len() as u64 > KILLS, "{} writes", acknowledged.len());
}

fn write_and_kill(
    file: &Path,
    lines: usize,
    pause: Duration,
    acknowledged: &mut BTreeMap<u64, (String, String)>,
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(FILE, file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut take = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        // The last line may be half a line.
        if let ["wrote", revision, key, text] = words[..] {
            let before = acknowledged.insert(revision.parse().unwrap(), (key.to_owned(), text.to_owned()));
            assert_eq!(before, None, "revision {revision} was given twice");
        }
    };
    for line in output.by_ref().take(lines) {
        take(line.unwrap());
    }
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    output.map_while(Result::ok).for_each(take);
}

/// Each acknowledged write is found at its revision.
async fn compare(file: &Path, acknowledged: &BTreeMap<u64, (String, String)>) {
    let store = Redb::open(file).await.unwrap();
    let latest = store.status().await.unwrap().revision.number();
    assert!(
        acknowledged
            .last_key_value()
            .is_none_or(|(last, _)| *last <= latest)
    );
    for (revision, (name, text)) in acknowledged {
        let range = KeyRange::key(&crate::bench::key(name));
        let at = ReadAt::Revision(Revision::new(*revision));
        let found = store.range(range, at, 1).await.unwrap();
        let entry = found.entries.first().expect("an acknowledged write is there");
        assert_eq!(
            (entry.modified.number(), entry.value.as_bytes()),
            (*revision, text.as_bytes())
        );
    }
    store.close().await;
}
