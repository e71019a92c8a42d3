//! Ctrl-C, noticed between two measurements: what was found so far is written, and children and files go as at any end.
//!
//! A terminal sends it to the children as well, so the measurement at hand fails at once, with whatever error that makes
//! at its callers, and is thrown away. Who asks a second time ends the program on the spot; the kernel ends its children
//! then, and the files stay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Exit status of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Whether somebody wants this to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Somebody wants this to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// Takes SIGINT and SIGTERM over from now on.
    ///
    /// # Errors
    /// When the thread that waits for them cannot be made.
    pub fn watch() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&asked);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new()
            .name("interrupt".into())
            .spawn(move || {
                runtime.block_on(async move {
                    loop {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                        }
                        if noted.swap(true, Ordering::Relaxed) {
                            std::process::exit(INTERRUPTED);
                        }
                    }
                });
            })?;
        Ok(Self(asked))
    }

    /// Asks for it, as a signal would.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails if it was asked for.
    ///
    /// # Errors
    /// If it was.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_asked() { Err(Interrupted) } else { Ok(()) }
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
