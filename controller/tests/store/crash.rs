//! Power cuts: a disk that keeps what was synced, and of the rest whatever chance leaves, in any order, torn at sectors.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use foreshade_controller::store::redb::medium::{File, Medium};
use foreshade_controller::store::{Redb, Store, StoreError, Txn};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

use crate::bench::{PROGRESS_EVERY, block_on, put};
use crate::recorded::{Notes, crowd};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Power cuts that are tried. Each is at another point, with another chance of what is left.
const CUTS: u64 = 40;

/// A disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<(Mutex<Platter>, Condvar)>);

#[derive(Debug)]
struct Platter {
    /// What survives a power cut.
    synced: Vec<u8>,
    /// What was written since.
    unsynced: Vec<Change>,
    /// What is read: all of it.
    seen: Vec<u8>,
    /// How many more operations there is power for; nothing: enough.
    power: Option<u64>,
    /// The power is gone.
    dark: bool,
    /// How often it was synced.
    syncs: usize,
    /// Syncs wait.
    busy: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    /// With an empty store on it.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        Redb::on(Arc::new(File::new(&path)), PROGRESS_EVERY)
            .await
            .unwrap()
            .close()
            .await;
        let bytes = std::fs::read(path).unwrap();
        Self(Arc::new((
            Mutex::new(Platter {
                synced: bytes.clone(),
                unsynced: Vec::new(),
                seen: bytes,
                power: None,
                dark: false,
                syncs: 0,
                busy: false,
            }),
            Condvar::new(),
        )))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().unwrap()
    }

    /// How often it was synced.
    pub(crate) fn syncs(&self) -> usize {
        self.platter().syncs
    }

    /// Lets syncs wait, or go on.
    pub(crate) fn keep_busy(&self, busy: bool) {
        self.platter().busy = busy;
        self.0.1.notify_all();
    }

    /// The power goes after so many more operations.
    fn cut_power_after(&self, operations: u64) {
        self.platter().power = Some(operations);
    }

    /// The power is back. Of what was not synced, some is there: in another order, and torn.
    fn power_on(&self, rng: &mut StdRng) {
        let mut platter = self.platter();
        let changes = std::mem::take(&mut platter.unsynced);
        let (lengths, mut writes): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| matches!(change, Change::Length(_)));
        // File systems keep the order of lengths, and of nothing else.
        let some = rng.random_range(0..=lengths.len());
        for change in &lengths[..some] {
            change.apply(&mut platter.synced);
        }
        writes.shuffle(rng);
        let kept = rng.random_range(0.0..=1.0);
        for change in writes {
            match &change {
                Change::Write(at, data) if rng.random_bool(0.5) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if rng.random_bool(kept) {
                            Change::Write(at + n * SECTOR, sector.to_vec()).apply(&mut platter.synced);
                        }
                    }
                }
                change if rng.random_bool(kept) => change.apply(&mut platter.synced),
                _ => {}
            }
        }
        platter.seen = platter.synced.clone();
        (platter.power, platter.dark) = (None, false);
    }
}

impl Platter {
    /// An error when the power is gone, or goes with this operation.
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => self.dark = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.check()
    }

    fn check(&self) -> io::Result<()> {
        if self.dark {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.check()?;
        let spent = self.spend();
        // What was under way when the power went may be there, too.
        change.apply(&mut self.seen);
        self.unsynced.push(change);
        spent
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        platter.check()?;
        let at = offset as usize;
        let bytes = platter.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.platter().change(Change::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let waiting = self.0.1.wait_while(self.platter(), |platter| platter.busy);
        let mut platter = waiting.unwrap();
        platter.spend()?;
        platter.syncs += 1;
        let changes = std::mem::take(&mut platter.unsynced);
        for change in changes {
            change.apply(&mut platter.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.platter()
            .change(Change::Write(offset as usize, data.to_vec()))
    }
}

impl Medium for Disk {
    fn open(&self) -> Result<Box<dyn StorageBackend>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn bytes(&self) -> u64 {
        self.platter().seen.len() as u64
    }
}

async fn open(disk: &Disk) -> Arc<dyn Store> {
    Arc::new(Redb::on(Arc::new(disk.clone()), PROGRESS_EVERY).await.unwrap())
}

/// Every acknowledged write is there after the power is back, every read and every watch from before fits to what is there
/// now, and what nobody was told of is there whole or not at all. Three times in a row on the same disk, because recovery
/// can be cut, too.
pub(crate) fn a_power_cut_at_any_point_loses_nothing() {
    let mut acknowledged = 0;
    for seed in 0..CUTS {
        acknowledged += block_on(cut(seed));
    }
    // Else it would have proven little.
    assert!(
        acknowledged > CUTS as usize * 20,
        "{acknowledged} writes were acknowledged"
    );
}

async fn cut(seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = Disk::new().await;
    let notes = Arc::new(Notes::default());
    for round in 0..3 {
        // Opening and closing cost some operations, a batch some dozen.
        disk.cut_power_after(rng.random_range(1..400));
        if let Ok(store) = Redb::on(Arc::new(disk.clone()), PROGRESS_EVERY).await {
            let store: Arc<dyn Store> = Arc::new(store);
            short_crowd(&store, &notes, seed * 10 + round).await;
        }
        disk.power_on(&mut rng);
    }
    let store = open(&disk).await;
    notes.judge(store.as_ref()).await;
    // And it goes on.
    store.txn(Txn::new().then(put("after", ""))).await.unwrap();
    notes.acknowledged()
}

async fn short_crowd(store: &Arc<dyn Store>, notes: &Arc<Notes>, seed: u64) {
    let working = crowd(store, notes, seed, 4, (20, Duration::ZERO));
    tokio::time::timeout(Duration::from_secs(20), working)
        .await
        .unwrap();
}
